#include "seqvae/kernels/optimizer.hpp"

#include "host/cpu/plain/optimizer.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/optimizer.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_rows-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

/// The plain loop's operations in its order: the same bits.
void adamw_float(const AdamWArgs<float>& a) {
  const double norm = *a.norm = plain::global_norm(a.gradients, a.count);
  if (!std::isfinite(norm)) return;
  const plain::AdamWFactors<float> f(a, norm);
  for_columns(a.count, [&](std::int64_t i, auto lanes) HWY_ATTR {
    const V p = lanes.load(a.parameters + i);
    V g = lanes.load(a.gradients + i);
    if (f.limit > 0) g = hn::Max(set(-f.limit), hn::Min(set(f.limit), g));
    V l2 = set(f.l2), decay = set(f.decay);
    if (a.decay_mask != nullptr) {
      const V decays = lanes.load(a.decay_mask + i);
      l2 = hn::Mul(l2, decays), decay = hn::Mul(decay, decays);
    }
    g = hn::Add(hn::Mul(set(f.scale), g), hn::Mul(l2, p));
    const V m = hn::Add(hn::Mul(set(f.beta1), lanes.load(a.m + i)), hn::Mul(set(f.rest1), g));
    const V v =
        hn::Add(hn::Mul(set(f.beta2), lanes.load(a.v + i)), hn::Mul(hn::Mul(set(f.rest2), g), g));
    const V root = hn::Add(hn::Mul(hn::Sqrt(v), set(f.root2)), set(f.epsilon));
    const V moved = hn::Sub(p, hn::Div(hn::Mul(set(f.step), m), root));
    lanes.store(m, a.m + i);
    lanes.store(v, a.v + i);
    lanes.store(hn::Sub(moved, hn::Mul(decay, p)), a.parameters + i);
  });
}

#else
void adamw_float(const AdamWArgs<float>& a) { plain::adamw(a); }
#endif
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(adamw_float);

template <>
void adamw(const AdamWArgs<float>& a) {
  check(a);
  check(*a.step);
  HWY_DYNAMIC_DISPATCH(adamw_float)(a);
}
template <>
void adamw(const AdamWArgs<double>& a) {
  check(a);
  check(*a.step);
  plain::adamw(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

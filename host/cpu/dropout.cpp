#include "seqvae/kernels/dropout.hpp"

#include "host/cpu/plain/dropout.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/dropout.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_noise-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

void dropout_float(const DropoutArgs<float>& a) {
  const V rate = set(a.rate), factor = set(1 / (1 - a.rate));
  for_noise<Uniforms>(
      a.noise, a.D,
      [&](std::int64_t row, std::int64_t d0, std::int64_t width, const float* uniforms) HWY_ATTR {
        float* y = a.y[row] + d0;
        if (uniforms == nullptr) return static_cast<void>(std::fill(y, y + width, 0.0f));
        const float* x = a.x[row] + d0;
        for_columns(width, [&](std::int64_t d, auto lanes) HWY_ATTR {
          const auto keeps = hn::Ge(lanes.load(uniforms + d), rate);
          lanes.store(hn::IfThenElseZero(keeps, hn::Mul(factor, lanes.load(x + d))), y + d);
        });
      });
}

#else
void dropout_float(const DropoutArgs<float>& a) { plain::dropout(a); }
#endif
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(dropout_float);

template <>
void dropout(const DropoutArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(dropout_float)(a);
}
template <>
void dropout(const DropoutArgs<double>& a) {
  check(a);
  plain::dropout(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

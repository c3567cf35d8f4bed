#include "seqvae/kernels/arithmetic.hpp"

#include "host/cpu/plain/arithmetic.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/arithmetic.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_rows-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

void multiply_add_float(const MultiplyAddArgs<float>& args) {
  const Shape shape = flat(args.rows, args.D, args.a, args.b, args.c, args.y);
  const V alpha = set(args.alpha), beta = set(args.beta);
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    const float* a = args.a[r];
    const float* b = args.b ? args.b[r] : nullptr;
    const float* c = args.c ? args.c[r] : nullptr;
    float* y = args.y[r];
    for_columns(shape.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V scaled = hn::Mul(alpha, lanes.load(a + d));
      if (c == nullptr) {
        lanes.store(b != nullptr ? hn::Mul(scaled, lanes.load(b + d)) : scaled, y + d);
      } else {
        const V addend = hn::Mul(beta, lanes.load(c + d));
        lanes.store(
            b != nullptr ? hn::MulAdd(scaled, lanes.load(b + d), addend) : hn::Add(scaled, addend),
            y + d);
      }
    });
  }
}

void gated_mix_float(const GatedMixArgs<float>& args) {
  const Shape shape = flat(args.rows, args.D, args.g, args.a, args.b, args.y);
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    const float *g = args.g[r], *a = args.a[r], *b = args.b[r];
    float* y = args.y[r];
    for_columns(shape.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V gate = lanes.load(g + d), first = lanes.load(a + d);
      const V rest = hn::Mul(hn::Sub(set(1.0f), gate), first);
      lanes.store(hn::MulAdd(gate, lanes.load(b + d), rest), y + d);
    });
  }
}

void gated_mix_backward_float(const GatedMixBackwardArgs<float>& args) {
  const Shape shape = flat(args.rows, args.D, args.g, args.a, args.b, args.grad_y, args.grad_g,
                           args.grad_a, args.grad_b);
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    const float *g = args.g[r], *a = args.a[r], *b = args.b[r], *grad_y = args.grad_y[r];
    float* grad_g = args.grad_g ? args.grad_g[r] : nullptr;
    float* grad_a = args.grad_a ? args.grad_a[r] : nullptr;
    float* grad_b = args.grad_b ? args.grad_b[r] : nullptr;
    for_columns(shape.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V gate = lanes.load(g + d), grad = lanes.load(grad_y + d);
      const V difference = hn::Sub(lanes.load(b + d), lanes.load(a + d));
      if (grad_g != nullptr) lanes.store(hn::Mul(difference, grad), grad_g + d);
      if (grad_a != nullptr) lanes.store(hn::Mul(hn::Sub(set(1.0f), gate), grad), grad_a + d);
      if (grad_b != nullptr) lanes.store(hn::Mul(gate, grad), grad_b + d);
    });
  }
}

#else
void multiply_add_float(const MultiplyAddArgs<float>& a) { plain::multiply_add(a); }
void gated_mix_float(const GatedMixArgs<float>& a) { plain::gated_mix(a); }
void gated_mix_backward_float(const GatedMixBackwardArgs<float>& a) {
  plain::gated_mix_backward(a);
}
#endif
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(multiply_add_float);
HWY_EXPORT(gated_mix_float);
HWY_EXPORT(gated_mix_backward_float);

template <>
void multiply_add(const MultiplyAddArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(multiply_add_float)(a);
}
template <>
void multiply_add(const MultiplyAddArgs<double>& a) {
  check(a);
  plain::multiply_add(a);
}

template <>
void gated_mix(const GatedMixArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gated_mix_float)(a);
}
template <>
void gated_mix(const GatedMixArgs<double>& a) {
  check(a);
  plain::gated_mix(a);
}

template <>
void gated_mix_backward(const GatedMixBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gated_mix_backward_float)(a);
}
template <>
void gated_mix_backward(const GatedMixBackwardArgs<double>& a) {
  check(a);
  plain::gated_mix_backward(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

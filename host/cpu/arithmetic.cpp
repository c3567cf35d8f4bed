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

void select_float(const SelectArgs<float>& args) {
  // By rows: each has a condition of its own.
  const Shape shape = args.by_row ? Shape{args.rows, args.D}
                                  : flat(args.rows, args.D, args.condition, args.a, args.b, args.y);
  const V zero = hn::Zero(F());
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    const float* condition = args.condition[r];
    const float* a = args.a ? args.a[r] : nullptr;
    const float* b = args.b ? args.b[r] : nullptr;
    float* y = args.y[r];
    const V of_row = set(shape.D > 0 ? condition[0] : 0.0f);
    for_columns(shape.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V chooses = args.by_row ? of_row : lanes.load(condition + d);
      lanes.store(hn::IfThenElse(nonzero(chooses), a != nullptr ? lanes.load(a + d) : zero,
                                 b != nullptr ? lanes.load(b + d) : zero),
                  y + d);
    });
  }
}

void clamp_float(const ClampArgs<float>& args) {
  const Shape shape = flat(args.rows, args.D, args.x, args.y);
  const V low = set(args.low), high = set(args.high);
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    const float* from = args.x[r];
    float* y = args.y[r];
    for_columns(shape.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V x = lanes.load(from + d);
      const V above = hn::IfThenElse(hn::Lt(x, low), low, x);
      lanes.store(hn::IfThenElse(hn::Gt(x, high), high, above), y + d);
    });
  }
}

void clamp_backward_float(const ClampBackwardArgs<float>& args) {
  const Shape shape = flat(args.rows, args.D, args.x, args.grad_y, args.grad_x);
  const V low = set(args.low), high = set(args.high), zero = hn::Zero(F());
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    const float *from = args.x[r], *grad_y = args.grad_y[r];
    float* grad_x = args.grad_x[r];
    for_columns(shape.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V x = lanes.load(from + d);
      const V above = hn::IfThenElse(hn::Lt(x, low), zero, lanes.load(grad_y + d));
      lanes.store(hn::IfThenElse(hn::Gt(x, high), zero, above), grad_x + d);
    });
  }
}

#else
void select_float(const SelectArgs<float>& a) { plain::select(a); }
void clamp_float(const ClampArgs<float>& a) { plain::clamp(a); }
void clamp_backward_float(const ClampBackwardArgs<float>& a) { plain::clamp_backward(a); }
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
HWY_EXPORT(select_float);
HWY_EXPORT(clamp_float);
HWY_EXPORT(clamp_backward_float);

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

template <>
void select(const SelectArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(select_float)(a);
}
template <>
void select(const SelectArgs<double>& a) {
  check(a);
  plain::select(a);
}

template <>
void clamp(const ClampArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(clamp_float)(a);
}
template <>
void clamp(const ClampArgs<double>& a) {
  check(a);
  plain::clamp(a);
}

template <>
void clamp_backward(const ClampBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(clamp_backward_float)(a);
}
template <>
void clamp_backward(const ClampBackwardArgs<double>& a) {
  check(a);
  plain::clamp_backward(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

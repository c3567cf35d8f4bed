#include "seqvae/kernels/gaussian.hpp"

#include "host/cpu/plain/gaussian.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/gaussian_head.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_rows-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

constexpr float kLargestLogvar = static_cast<float>(plain::kLargestLogvar);

void gaussian_head_float(const GaussianHeadArgs<float>& a) {
  const Shape shape = flat(a.rows, a.D, a.raw, a.logvar);
  const V zero = hn::Zero(F()), shift = set(a.shift), floor = set(a.floor);
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    const float* raw = a.raw[r];
    float* logvar = a.logvar[r];
    for_columns(shape.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      V x = lanes.load(raw + d);
      if (a.map == ScaleMap::exp) {  // in this order NaN stays NaN
        x = hn::Max(set(-kLargestLogvar), hn::Min(set(kLargestLogvar), x));
        lanes.store(x, logvar + d);
        return;
      }
      if (a.map == ScaleMap::softplus_std) x = hn::Add(x, shift);
      V log;
      if (a.map == ScaleMap::softplus_std && a.floor > 0) {
        log = log_positive(hn::Add(softplus(x), floor));
      } else {  // log(softplus(x)) = log(scaled) + min(x, 0)
        const V scaled = scaled_softplus(x, exp_minus_abs(x));
        log = hn::Add(log_positive(scaled), hn::Min(x, zero));
      }
      lanes.store(a.map == ScaleMap::softplus_std ? hn::Add(log, log) : log, logvar + d);
    });
  }
}

void gaussian_head_backward_float(const GaussianHeadBackwardArgs<float>& a) {
  const Shape shape = flat(a.rows, a.D, a.raw, a.grad_logvar, a.grad_raw);
  const V one = set(1.0f), shift = set(a.shift), floor = set(a.floor);
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    const float *raw = a.raw[r], *grad_logvar = a.grad_logvar[r];
    float* grad_raw = a.grad_raw[r];
    for_columns(shape.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      V x = lanes.load(raw + d), grad = lanes.load(grad_logvar + d);
      if (a.map == ScaleMap::exp) {
        const auto inside = hn::Le(hn::Abs(x), set(kLargestLogvar));
        lanes.store(hn::IfThenElseZero(inside, grad), grad_raw + d);
        return;
      }
      if (a.map == ScaleMap::softplus_std) {
        x = hn::Add(x, shift);
        grad = hn::Add(grad, grad);
      }
      const V u = exp_minus_abs(x);
      if (a.map == ScaleMap::softplus_std && a.floor > 0) {
        const V positive = hn::MulAdd(u, log1p_ratio(u), hn::Max(x, hn::Zero(F())));
        grad = hn::Div(hn::Mul(grad, sigmoid_of(x, u)), hn::Add(positive, floor));
      } else {  // sigmoid / softplus: exp(min(x, 0)) cancels
        grad = hn::Div(grad, hn::Mul(hn::Add(one, u), scaled_softplus(x, u)));
      }
      lanes.store(grad, grad_raw + d);
    });
  }
}

#else
void gaussian_head_float(const GaussianHeadArgs<float>& a) { plain::gaussian_head(a); }
void gaussian_head_backward_float(const GaussianHeadBackwardArgs<float>& a) {
  plain::gaussian_head_backward(a);
}
#endif
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(gaussian_head_float);
HWY_EXPORT(gaussian_head_backward_float);

template <>
void gaussian_head(const GaussianHeadArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gaussian_head_float)(a);
}
template <>
void gaussian_head(const GaussianHeadArgs<double>& a) {
  check(a);
  plain::gaussian_head(a);
}

template <>
void gaussian_head_backward(const GaussianHeadBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gaussian_head_backward_float)(a);
}
template <>
void gaussian_head_backward(const GaussianHeadBackwardArgs<double>& a) {
  check(a);
  plain::gaussian_head_backward(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

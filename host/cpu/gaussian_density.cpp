#include "seqvae/kernels/gaussian.hpp"

#include "host/cpu/plain/gaussian.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/gaussian_density.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_rows-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

/// Lanes that are observed.
template <class Lanes>
HWY_INLINE Mask observed(const float* mask, std::int64_t d, Lanes lanes) {
  return nonzero(lanes.load(mask + d));
}

void gaussian_log_density_float(const GaussianLogDensityArgs<float>& a) {
  const V log_2_pi = set(static_cast<float>(plain::kLog2Pi));
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const float *x = a.x[r], *mu = a.mu[r], *logvar = a.logvar[r];
    const float* mask = a.mask ? a.mask[r] : nullptr;
    const float sum = sum_columns(a.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V lv = lanes.load(logvar + d);
      const V scaled =
          hn::Mul(hn::Sub(lanes.load(x + d), lanes.load(mu + d)), exp(hn::Mul(set(-0.5f), lv)));
      const V term = hn::MulAdd(scaled, scaled, hn::Add(log_2_pi, lv));
      return mask != nullptr ? hn::IfThenElseZero(observed(mask, d, lanes), term) : term;
    });
    a.log_density[r][0] = -0.5f * sum;
  }
}

void gaussian_log_density_backward_float(const GaussianLogDensityBackwardArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const float *x = a.x[r], *mu = a.mu[r], *logvar = a.logvar[r];
    const float* mask = a.mask ? a.mask[r] : nullptr;
    const V grad = set(a.grad_log_density[r][0]), half = set(0.5f * a.grad_log_density[r][0]);
    float* grad_x = a.grad_x ? a.grad_x[r] : nullptr;
    float* grad_mu = a.grad_mu ? a.grad_mu[r] : nullptr;
    float* grad_logvar = a.grad_logvar ? a.grad_logvar[r] : nullptr;
    for_columns(a.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V root = exp(hn::Mul(set(-0.5f), lanes.load(logvar + d)));
      const V scaled = hn::Mul(hn::Sub(lanes.load(x + d), lanes.load(mu + d)), root);
      V by_mu = hn::Mul(hn::Mul(grad, scaled), root);
      V by_logvar = hn::Mul(half, hn::MulSub(scaled, scaled, set(1.0f)));
      if (mask != nullptr) {
        const Mask seen = observed(mask, d, lanes);
        by_mu = hn::IfThenElseZero(seen, by_mu);
        by_logvar = hn::IfThenElseZero(seen, by_logvar);
      }
      if (grad_x != nullptr) lanes.store(hn::Neg(by_mu), grad_x + d);
      if (grad_mu != nullptr) lanes.store(by_mu, grad_mu + d);
      if (grad_logvar != nullptr) lanes.store(by_logvar, grad_logvar + d);
    });
  }
}

#else
void gaussian_log_density_float(const GaussianLogDensityArgs<float>& a) {
  plain::gaussian_log_density(a);
}
void gaussian_log_density_backward_float(const GaussianLogDensityBackwardArgs<float>& a) {
  plain::gaussian_log_density_backward(a);
}
#endif
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(gaussian_log_density_float);
HWY_EXPORT(gaussian_log_density_backward_float);

template <>
void gaussian_log_density(const GaussianLogDensityArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gaussian_log_density_float)(a);
}
template <>
void gaussian_log_density(const GaussianLogDensityArgs<double>& a) {
  check(a);
  plain::gaussian_log_density(a);
}

template <>
void gaussian_log_density_backward(const GaussianLogDensityBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gaussian_log_density_backward_float)(a);
}
template <>
void gaussian_log_density_backward(const GaussianLogDensityBackwardArgs<double>& a) {
  check(a);
  plain::gaussian_log_density_backward(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

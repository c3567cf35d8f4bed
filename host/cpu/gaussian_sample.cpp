#include "seqvae/kernels/gaussian.hpp"

#include "host/cpu/plain/gaussian.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/gaussian_sample.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_noise-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

void gaussian_sample_float(const GaussianSampleArgs<float>& a) {
  for_noise(a.noise, a.D,
            [&](std::int64_t row, std::int64_t d0, std::int64_t width, const float* eps) HWY_ATTR {
              float* z = a.z[row] + d0;
              if (eps == nullptr) return static_cast<void>(std::fill(z, z + width, 0.0f));
              const float *mu = a.mu[row] + d0, *logvar = a.logvar[row] + d0;
              for_columns(width, [&](std::int64_t d, auto lanes) HWY_ATTR {
                const V std = exp(hn::Mul(set(0.5f), lanes.load(logvar + d)));
                lanes.store(hn::MulAdd(std, lanes.load(eps + d), lanes.load(mu + d)), z + d);
              });
            });
}

void gaussian_sample_backward_float(const GaussianSampleBackwardArgs<float>& a) {
  for_noise(a.noise, a.D,
            [&](std::int64_t row, std::int64_t d0, std::int64_t width, const float* eps) HWY_ATTR {
              float* grad_mu = a.grad_mu ? a.grad_mu[row] + d0 : nullptr;
              float* grad_logvar = a.grad_logvar[row] + d0;
              if (eps == nullptr) {
                if (grad_mu != nullptr) std::fill(grad_mu, grad_mu + width, 0.0f);
                std::fill(grad_logvar, grad_logvar + width, 0.0f);
                return;
              }
              const float *logvar = a.logvar[row] + d0, *grad_z = a.grad_z[row] + d0;
              for_columns(width, [&](std::int64_t d, auto lanes) HWY_ATTR {
                const V grad = lanes.load(grad_z + d), half = set(0.5f);
                const V std = exp(hn::Mul(half, lanes.load(logvar + d)));
                if (grad_mu != nullptr) lanes.store(grad, grad_mu + d);
                lanes.store(hn::Mul(hn::Mul(grad, lanes.load(eps + d)), hn::Mul(std, half)),
                            grad_logvar + d);
              });
            });
}

void gaussian_sample_kl_float(const GaussianSampleKlArgs<float>& a) {
  for_noise(a.noise, a.D,
            [&](std::int64_t row, std::int64_t d0, std::int64_t width, const float* eps) HWY_ATTR {
              float *z = a.z[row] + d0, *kl_sum = a.kl_sum[row];
              if (d0 == 0) *kl_sum = 0;
              if (eps == nullptr) return static_cast<void>(std::fill(z, z + width, 0.0f));
              const Pair<const float> q(a.mu_q, a.logvar_q, row, d0),
                  p(a.mu_p, a.logvar_p, row, d0);
              *kl_sum += sum_columns(width, [&](std::int64_t d, auto lanes) HWY_ATTR {
                const MuLogvar at_q = q.load(d, lanes);
                const V std = exp(hn::Mul(set(0.5f), at_q.logvar));
                lanes.store(hn::MulAdd(std, lanes.load(eps + d), at_q.mu), z + d);
                return kl_term(at_q, p.load(d, lanes), p.given());
              });
            });
}

void gaussian_sample_kl_backward_float(const GaussianSampleKlBackwardArgs<float>& a) {
  for_noise(a.noise, a.D,
            [&](std::int64_t row, std::int64_t d0, std::int64_t width, const float* eps) HWY_ATTR {
              const Pair<float> grad_q(a.grad_mu_q, a.grad_logvar_q, row, d0);
              const Pair<float> grad_p(a.grad_mu_p, a.grad_logvar_p, row, d0);
              if (eps == nullptr) {
                const V zero = hn::Zero(F());
                for_columns(width, [&](std::int64_t d, auto lanes) HWY_ATTR {
                  grad_q.store({zero, zero}, d, lanes);
                  grad_p.store({zero, zero}, d, lanes);
                });
                return;
              }
              const Pair<const float> q(a.mu_q, a.logvar_q, row, d0),
                  p(a.mu_p, a.logvar_p, row, d0);
              const float* grad_z = a.grad_z[row] + d0;
              const V grad_kl = set(a.grad_kl_sum[row][0]), half = set(0.5f);
              for_columns(width, [&](std::int64_t d, auto lanes) HWY_ATTR {
                const MuLogvar at_q = q.load(d, lanes);
                const KlGradient g = kl_gradient(at_q, p.load(d, lanes), p.given(), grad_kl);
                const V grad = lanes.load(grad_z + d), std = exp(hn::Mul(half, at_q.logvar));
                const V by_logvar = hn::Mul(hn::Mul(grad, lanes.load(eps + d)), hn::Mul(std, half));
                grad_q.store({hn::Add(grad, g.mu_q), hn::Add(by_logvar, g.logvar_q)}, d, lanes);
                grad_p.store({hn::Neg(g.mu_q), g.logvar_p}, d, lanes);
              });
            });
}

#else
void gaussian_sample_float(const GaussianSampleArgs<float>& a) { plain::gaussian_sample(a); }
void gaussian_sample_backward_float(const GaussianSampleBackwardArgs<float>& a) {
  plain::gaussian_sample_backward(a);
}
void gaussian_sample_kl_float(const GaussianSampleKlArgs<float>& a) {
  plain::gaussian_sample_kl(a);
}
void gaussian_sample_kl_backward_float(const GaussianSampleKlBackwardArgs<float>& a) {
  plain::gaussian_sample_kl_backward(a);
}
#endif
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(gaussian_sample_float);
HWY_EXPORT(gaussian_sample_backward_float);
HWY_EXPORT(gaussian_sample_kl_float);
HWY_EXPORT(gaussian_sample_kl_backward_float);

template <>
void gaussian_sample(const GaussianSampleArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gaussian_sample_float)(a);
}
template <>
void gaussian_sample(const GaussianSampleArgs<double>& a) {
  check(a);
  plain::gaussian_sample(a);
}

template <>
void gaussian_sample_backward(const GaussianSampleBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gaussian_sample_backward_float)(a);
}
template <>
void gaussian_sample_backward(const GaussianSampleBackwardArgs<double>& a) {
  check(a);
  plain::gaussian_sample_backward(a);
}

template <>
void gaussian_sample_kl(const GaussianSampleKlArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gaussian_sample_kl_float)(a);
}
template <>
void gaussian_sample_kl(const GaussianSampleKlArgs<double>& a) {
  check(a);
  plain::gaussian_sample_kl(a);
}

template <>
void gaussian_sample_kl_backward(const GaussianSampleKlBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gaussian_sample_kl_backward_float)(a);
}
template <>
void gaussian_sample_kl_backward(const GaussianSampleKlBackwardArgs<double>& a) {
  check(a);
  plain::gaussian_sample_kl_backward(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

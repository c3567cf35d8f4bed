#include "seqvae/kernels/gaussian.hpp"

#include "host/cpu/plain/gaussian.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/gaussian_kl.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_gaussian-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

void gaussian_kl_float(const GaussianKlArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Pair<const float> q(a.mu_q, a.logvar_q, r), p(a.mu_p, a.logvar_p, r);
    float* kl = a.kl ? a.kl[r] : nullptr;
    const float sum = sum_columns(a.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V term = kl_term(q.load(d, lanes), p.load(d, lanes), p.given());
      if (kl != nullptr) lanes.store(term, kl + d);
      return term;
    });
    if (a.kl_sum) a.kl_sum[r][0] = sum;
  }
}

void gaussian_kl_backward_float(const GaussianKlBackwardArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Pair<const float> q(a.mu_q, a.logvar_q, r), p(a.mu_p, a.logvar_p, r);
    const float* grad_kl = a.grad_kl ? a.grad_kl[r] : nullptr;
    const V grad_sum = set(a.grad_kl_sum ? a.grad_kl_sum[r][0] : 0.0f);
    const Pair<float> grad_q(a.grad_mu_q, a.grad_logvar_q, r),
        grad_p(a.grad_mu_p, a.grad_logvar_p, r);
    for_columns(a.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V grad = grad_kl != nullptr ? hn::Add(lanes.load(grad_kl + d), grad_sum) : grad_sum;
      const KlGradient g = kl_gradient(q.load(d, lanes), p.load(d, lanes), p.given(), grad);
      grad_q.store({g.mu_q, g.logvar_q}, d, lanes);
      grad_p.store({hn::Neg(g.mu_q), g.logvar_p}, d, lanes);
    });
  }
}

#else
void gaussian_kl_float(const GaussianKlArgs<float>& a) { plain::gaussian_kl(a); }
void gaussian_kl_backward_float(const GaussianKlBackwardArgs<float>& a) {
  plain::gaussian_kl_backward(a);
}
#endif
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(gaussian_kl_float);
HWY_EXPORT(gaussian_kl_backward_float);

template <>
void gaussian_kl(const GaussianKlArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gaussian_kl_float)(a);
}
template <>
void gaussian_kl(const GaussianKlArgs<double>& a) {
  check(a);
  plain::gaussian_kl(a);
}

template <>
void gaussian_kl_backward(const GaussianKlBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gaussian_kl_backward_float)(a);
}
template <>
void gaussian_kl_backward(const GaussianKlBackwardArgs<double>& a) {
  check(a);
  plain::gaussian_kl_backward(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

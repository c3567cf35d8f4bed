#include "seqvae/kernels/gaussian.hpp"

#include <cmath>

#include "host/cpu/plain_math.hpp"
#include "host/cpu/row_places.hpp"

namespace seqvae::cpu {
namespace {

constexpr double kLog2Pi = 1.8378770664093454836;
constexpr int kLargestLogvar = 15;  // of the map exp

/// eps of one component: given, or drawn; `random` holds the words of d's quad.
template <class Real>
Real noise_at(const NoiseArgs<Real>& noise, const RowPlace& place, std::int64_t D, std::int64_t d,
              Words& random) {
  if (noise.eps) return noise.eps[place.row][d];
  if (d % 4 == 0) random = noise_words(noise, place, D, d / 4);
  return static_cast<Real>(normal(random, static_cast<int>(d % 4)));
}

}  // namespace

template <class Real>
void gaussian_head(const GaussianHeadArgs<Real>& a) {
  check(a);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Real raw = a.raw[r][d];
      Real& logvar = a.logvar[r][d];
      switch (a.map) {
        case ScaleMap::exp:
          logvar = std::clamp(raw, Real(-kLargestLogvar), Real(kLargestLogvar));
          break;
        case ScaleMap::softplus_var:
          logvar = log_softplus(raw);
          break;
        case ScaleMap::softplus_std:
          logvar = 2 * (a.floor > 0 ? std::log(softplus(raw + a.shift) + a.floor)
                                    : log_softplus(raw + a.shift));
          break;
      }
    }
  }
}

template <class Real>
void gaussian_head_backward(const GaussianHeadBackwardArgs<Real>& a) {
  check(a);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Real raw = a.raw[r][d], grad = a.grad_logvar[r][d];
      Real& grad_raw = a.grad_raw[r][d];
      switch (a.map) {
        case ScaleMap::exp:
          grad_raw = std::abs(raw) <= kLargestLogvar ? grad : 0;
          break;
        case ScaleMap::softplus_var:
          grad_raw = grad * log_softplus_slope(raw);
          break;
        case ScaleMap::softplus_std: {
          const Real x = raw + a.shift;
          grad_raw = 2 * grad *
                     (a.floor > 0 ? sigmoid(x) / (softplus(x) + a.floor) : log_softplus_slope(x));
          break;
        }
      }
    }
  }
}

template <class Real>
void gaussian_sample(const GaussianSampleArgs<Real>& a) {
  check(a);
  for_each_row(a.noise.layout, [&](const RowPlace& place) {
    Words random{};
    for (std::int64_t d = 0; d < a.D; ++d) {
      Real& z = a.z[place.row][d];
      if (!place.valid) {
        z = 0;
        continue;
      }
      const Real eps = noise_at(a.noise, place, a.D, d, random);
      z = a.mu[place.row][d] + std::exp(a.logvar[place.row][d] / 2) * eps;
    }
  });
}

template <class Real>
void gaussian_sample_backward(const GaussianSampleBackwardArgs<Real>& a) {
  check(a);
  for_each_row(a.noise.layout, [&](const RowPlace& place) {
    Words random{};
    for (std::int64_t d = 0; d < a.D; ++d) {
      Real grad_z = 0, grad_logvar = 0;
      if (place.valid) {
        const Real eps = noise_at(a.noise, place, a.D, d, random);
        grad_z = a.grad_z[place.row][d];
        grad_logvar = grad_z * eps * std::exp(a.logvar[place.row][d] / 2) / 2;
      }
      if (a.grad_mu) a.grad_mu[place.row][d] = grad_z;
      a.grad_logvar[place.row][d] = grad_logvar;
    }
  });
}

template <class Real>
void gaussian_kl(const GaussianKlArgs<Real>& a) {
  check(a);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    Real sum = 0;
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Real mu_p = a.mu_p ? a.mu_p[r][d] : 0, logvar_p = a.logvar_p ? a.logvar_p[r][d] : 0;
      const Real ratio = a.logvar_q[r][d] - logvar_p;
      // exp(-logvar_p / 2) before the square: no 0 * inf where a variance is extreme.
      const Real scaled = (a.mu_q[r][d] - mu_p) * std::exp(-logvar_p / 2);
      // expm1(x) - x: where q is near p the terms would cancel.
      const Real kl = (std::expm1(ratio) - ratio + scaled * scaled) / 2;
      if (a.kl) a.kl[r][d] = kl;
      sum += kl;
    }
    if (a.kl_sum) a.kl_sum[r][0] = sum;
  }
}

template <class Real>
void gaussian_kl_backward(const GaussianKlBackwardArgs<Real>& a) {
  check(a);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Real mu_p = a.mu_p ? a.mu_p[r][d] : 0, logvar_p = a.logvar_p ? a.logvar_p[r][d] : 0;
      const Real grad =
          (a.grad_kl ? a.grad_kl[r][d] : 0) + (a.grad_kl_sum ? a.grad_kl_sum[r][0] : 0);
      const Real precision = std::exp(-logvar_p / 2);
      const Real scaled = (a.mu_q[r][d] - mu_p) * precision;
      const Real excess = std::expm1(a.logvar_q[r][d] - logvar_p);  // variance ratio - 1
      if (a.grad_mu_q) a.grad_mu_q[r][d] = grad * scaled * precision;
      if (a.grad_mu_p) a.grad_mu_p[r][d] = -grad * scaled * precision;
      if (a.grad_logvar_q) a.grad_logvar_q[r][d] = grad * excess / 2;
      if (a.grad_logvar_p) a.grad_logvar_p[r][d] = -grad * (excess + scaled * scaled) / 2;
    }
  }
}

template <class Real>
void gaussian_log_density(const GaussianLogDensityArgs<Real>& a) {
  check(a);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    Real sum = 0;
    for (std::int64_t d = 0; d < a.D; ++d) {
      if (a.mask && a.mask[r][d] == 0) continue;
      const Real logvar = a.logvar[r][d];
      const Real scaled = (a.x[r][d] - a.mu[r][d]) * std::exp(-logvar / 2);
      sum -= (Real(kLog2Pi) + logvar + scaled * scaled) / 2;
    }
    a.log_density[r][0] = sum;
  }
}

template <class Real>
void gaussian_log_density_backward(const GaussianLogDensityBackwardArgs<Real>& a) {
  check(a);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      const bool observed = !a.mask || a.mask[r][d] != 0;
      Real grad_mu = 0, grad_logvar = 0;
      if (observed) {
        const Real grad = a.grad_log_density[r][0];
        const Real root = std::exp(-a.logvar[r][d] / 2);
        const Real scaled = (a.x[r][d] - a.mu[r][d]) * root;
        grad_mu = grad * scaled * root;
        grad_logvar = grad * (scaled * scaled - 1) / 2;
      }
      if (a.grad_x) a.grad_x[r][d] = -grad_mu;
      if (a.grad_mu) a.grad_mu[r][d] = grad_mu;
      if (a.grad_logvar) a.grad_logvar[r][d] = grad_logvar;
    }
  }
}

template void gaussian_head(const GaussianHeadArgs<float>&);
template void gaussian_head(const GaussianHeadArgs<double>&);
template void gaussian_head_backward(const GaussianHeadBackwardArgs<float>&);
template void gaussian_head_backward(const GaussianHeadBackwardArgs<double>&);
template void gaussian_sample(const GaussianSampleArgs<float>&);
template void gaussian_sample(const GaussianSampleArgs<double>&);
template void gaussian_sample_backward(const GaussianSampleBackwardArgs<float>&);
template void gaussian_sample_backward(const GaussianSampleBackwardArgs<double>&);
template void gaussian_kl(const GaussianKlArgs<float>&);
template void gaussian_kl(const GaussianKlArgs<double>&);
template void gaussian_kl_backward(const GaussianKlBackwardArgs<float>&);
template void gaussian_kl_backward(const GaussianKlBackwardArgs<double>&);
template void gaussian_log_density(const GaussianLogDensityArgs<float>&);
template void gaussian_log_density(const GaussianLogDensityArgs<double>&);
template void gaussian_log_density_backward(const GaussianLogDensityBackwardArgs<float>&);
template void gaussian_log_density_backward(const GaussianLogDensityBackwardArgs<double>&);

}  // namespace seqvae::cpu

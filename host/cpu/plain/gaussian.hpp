// Diagonal Gaussians as their equations in index order: what double runs, and what the tuned float
// is held to.
#pragma once
#include "seqvae/kernels/gaussian.hpp"

#include <cmath>

#include "host/cpu/plain/math.hpp"
#include "host/cpu/plain/row_places.hpp"

namespace seqvae::cpu::plain {

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

template <class Real>
void gaussian_head(const GaussianHeadArgs<Real>& a) {
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

/// kl of one component.
template <class Real>
Real kl_term(Real mu_q, Real logvar_q, Real mu_p, Real logvar_p) {
  const Real ratio = logvar_q - logvar_p;
  // exp(-logvar_p / 2) before the square: no 0 * inf where a variance is extreme.
  const Real scaled = (mu_q - mu_p) * std::exp(-logvar_p / 2);
  // expm1(x) - x: where q is near p the terms would cancel.
  return (std::expm1(ratio) - ratio + scaled * scaled) / 2;
}

/// grad times the derivatives of kl; that by mu_p is that by mu_q with the other sign.
template <class Real>
struct KlGradient {
  Real mu_q, logvar_q, logvar_p;
};
template <class Real>
KlGradient<Real> kl_gradient(Real mu_q, Real logvar_q, Real mu_p, Real logvar_p, Real grad) {
  const Real root = std::exp(-logvar_p / 2), scaled = (mu_q - mu_p) * root;
  const Real excess = std::expm1(logvar_q - logvar_p);  // variance ratio - 1
  return {grad * scaled * root, grad * excess / 2, -grad * (excess + scaled * scaled) / 2};
}

template <class Real>
void gaussian_kl(const GaussianKlArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    Real sum = 0;
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Real mu_p = a.mu_p ? a.mu_p[r][d] : 0, logvar_p = a.logvar_p ? a.logvar_p[r][d] : 0;
      const Real kl = kl_term(a.mu_q[r][d], a.logvar_q[r][d], mu_p, logvar_p);
      if (a.kl) a.kl[r][d] = kl;
      sum += kl;
    }
    if (a.kl_sum) a.kl_sum[r][0] = sum;
  }
}

template <class Real>
void gaussian_kl_backward(const GaussianKlBackwardArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Real mu_p = a.mu_p ? a.mu_p[r][d] : 0, logvar_p = a.logvar_p ? a.logvar_p[r][d] : 0;
      const Real grad =
          (a.grad_kl ? a.grad_kl[r][d] : 0) + (a.grad_kl_sum ? a.grad_kl_sum[r][0] : 0);
      const KlGradient<Real> kl = kl_gradient(a.mu_q[r][d], a.logvar_q[r][d], mu_p, logvar_p, grad);
      if (a.grad_mu_q) a.grad_mu_q[r][d] = kl.mu_q;
      if (a.grad_logvar_q) a.grad_logvar_q[r][d] = kl.logvar_q;
      if (a.grad_mu_p) a.grad_mu_p[r][d] = -kl.mu_q;
      if (a.grad_logvar_p) a.grad_logvar_p[r][d] = kl.logvar_p;
    }
  }
}

template <class Real>
void gaussian_sample_kl(const GaussianSampleKlArgs<Real>& a) {
  gaussian_sample(GaussianSampleArgs<Real>{a.D, a.noise, a.mu_q, a.logvar_q, a.z});
  for_each_row(a.noise.layout, [&](const RowPlace& place) {
    Real& kl_sum = a.kl_sum[place.row][0];
    kl_sum = 0;
    for (std::int64_t d = 0; place.valid && d < a.D; ++d) {
      const Real mu_p = a.mu_p ? a.mu_p[place.row][d] : 0;
      const Real logvar_p = a.logvar_p ? a.logvar_p[place.row][d] : 0;
      kl_sum += kl_term(a.mu_q[place.row][d], a.logvar_q[place.row][d], mu_p, logvar_p);
    }
  });
}

template <class Real>
void gaussian_sample_kl_backward(const GaussianSampleKlBackwardArgs<Real>& a) {
  gaussian_sample_backward(GaussianSampleBackwardArgs<Real>{a.D, a.noise, a.logvar_q, a.grad_z,
                                                            a.grad_mu_q, a.grad_logvar_q});
  for_each_row(a.noise.layout, [&](const RowPlace& place) {
    const std::int64_t r = place.row;
    for (std::int64_t d = 0; d < a.D; ++d) {
      KlGradient<Real> kl{};
      if (place.valid) {
        kl = kl_gradient(a.mu_q[r][d], a.logvar_q[r][d], a.mu_p ? a.mu_p[r][d] : 0,
                         a.logvar_p ? a.logvar_p[r][d] : 0, a.grad_kl_sum[r][0]);
        a.grad_mu_q[r][d] += kl.mu_q;
        a.grad_logvar_q[r][d] += kl.logvar_q;
      }
      if (a.grad_mu_p) a.grad_mu_p[r][d] = -kl.mu_q;
      if (a.grad_logvar_p) a.grad_logvar_p[r][d] = kl.logvar_p;
    }
  });
}

template <class Real>
void gaussian_log_density(const GaussianLogDensityArgs<Real>& a) {
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

}  // namespace seqvae::cpu::plain

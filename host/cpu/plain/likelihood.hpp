// Likelihoods of discrete data as their equations in index order: what double runs, and what the
// tuned float is held to.
#pragma once
#include "seqvae/kernels/likelihood.hpp"

#include <math.h>  // lgamma_r: std::lgamma writes a global

#include <cmath>

#include "host/cpu/plain/categorical.hpp"

namespace seqvae::cpu::plain {

constexpr double kLargestInvertedRate = 64;

template <class Real>
Real log_factorial(Real x) {
  int sign;
  return static_cast<Real>(lgamma_r(static_cast<double>(x) + 1, &sign));
}

template <class Real>
Real bernoulli_log(Real x, Real l) {
  // x l - max(l, 0) is exact for x in {0, 1}: nothing cancels however large |l|.
  return (x * l - std::max(l, Real{0})) - std::log1p(std::exp(-std::abs(l)));
}

template <class Real>
Real poisson_log(Real x, Real l) {
  return (x == 0 ? 0 : x * l) - std::exp(l) - log_factorial(x);
}

/// The count whose cumulative probability first reaches the uniform.
inline double poisson_draw(double rate, Words random, int component) {
  if (!(rate < kLargestInvertedRate)) {
    return std::max(0.0, std::floor(rate + std::sqrt(rate) * normal(random, component) + 0.5));
  }
  const double u = uniform(random.w[component]);
  double probability = std::exp(-rate), cumulative = probability;
  int count = 0;
  // Past 512 no rate below 64 has any mass: the loop ends where rounding keeps the sum below u.
  while (u > cumulative && count < 512) {
    probability *= rate / ++count;
    cumulative += probability;
  }
  return count;
}

template <class Real>
void likelihood(const LikelihoodArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    Real sum = 0;
    if (a.kind == Likelihood::categorical) {
      if (a.D > 0 && !(a.mask && a.mask[r][0] == 0)) {
        const Real* l = a.logits[r];
        const Real largest = row_max(l, a.D);
        const Real log_sum = std::log(sum_of_exp(l, a.D, largest));
        for (std::int64_t d = 0; d < a.D; ++d) {
          if (a.x[r][d] != 0) sum += a.x[r][d] * ((l[d] - largest) - log_sum);
        }
      }
    } else {
      for (std::int64_t d = 0; d < a.D; ++d) {
        if (a.mask && a.mask[r][d] == 0) continue;
        const Real x = a.x[r][d], l = a.logits[r][d];
        sum += a.kind == Likelihood::bernoulli ? bernoulli_log(x, l) : poisson_log(x, l);
      }
    }
    a.log_likelihood[r][0] = sum;
  }
}

template <class Real>
void likelihood_mean(const LikelihoodMeanArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Real* l = a.logits[r];
    if (a.kind == Likelihood::categorical) {
      softmax_row(l, a.D, a.mean[r]);
    } else {
      for (std::int64_t d = 0; d < a.D; ++d) {
        a.mean[r][d] = a.kind == Likelihood::bernoulli ? sigmoid(l[d]) : std::exp(l[d]);
      }
    }
  }
}

template <class Real>
void likelihood_backward(const LikelihoodBackwardArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Real* l = a.logits[r];
    const bool categorical = a.kind == Likelihood::categorical;
    const Real largest = categorical ? row_max(l, a.D) : 0;
    const Real sum = categorical ? sum_of_exp(l, a.D, largest) : 1;
    for (std::int64_t d = 0; d < a.D; ++d) {
      if (a.mask && a.mask[r][categorical ? 0 : d] == 0) {
        a.grad_logits[r][d] = 0;
        continue;
      }
      const Real mean = a.kind == Likelihood::bernoulli ? sigmoid(l[d])
                        : categorical                   ? std::exp(l[d] - largest) / sum
                                                        : std::exp(l[d]);
      a.grad_logits[r][d] = a.grad_log_likelihood[r][0] * (a.x[r][d] - mean);
    }
  }
}

template <class Real>
void likelihood_sample(const LikelihoodSampleArgs<Real>& a) {
  for_each_row(a.noise.layout, [&](const RowPlace& place) {
    const Real* l = a.logits[place.row];
    Real* x = a.x[place.row];
    if (!place.valid) {
      std::fill(x, x + a.D, Real{0});
    } else if (a.kind == Likelihood::categorical) {
      const Real largest = row_max(l, a.D);
      draw_class([=](std::int64_t d) { return std::exp(l[d] - largest); }, a.D,
                 uniform(noise_words(a.noise, place, a.D, 0).w[0]), x);
    } else {
      Words random{};
      for (std::int64_t d = 0; d < a.D; ++d) {
        const int component = static_cast<int>(d % 4);
        if (component == 0) random = noise_words(a.noise, place, a.D, d / 4);
        if (a.kind == Likelihood::poisson) {
          x[d] = static_cast<Real>(poisson_draw(std::exp(l[d]), random, component));
        } else {
          const Real p = sigmoid(l[d]);
          x[d] = std::isnan(p) ? p : static_cast<Real>(uniform(random.w[component]) < p);
        }
      }
    }
  });
}

}  // namespace seqvae::cpu::plain

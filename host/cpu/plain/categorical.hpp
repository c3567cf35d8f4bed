// Categorical latents as their equations in index order: what double runs, and what the tuned float
// is held to.
#pragma once
#include "seqvae/kernels/categorical.hpp"

#include <cmath>
#include <limits>

#include "host/cpu/plain/math.hpp"
#include "host/cpu/plain/row_places.hpp"

namespace seqvae::cpu::plain {

/// max of a row, its NaN included.
template <class Real>
Real row_max(const Real* l, std::int64_t D) {
  Real largest = -std::numeric_limits<Real>::infinity();
  for (std::int64_t d = 0; d < D; ++d) largest = max_or_nan(largest, l[d]);
  return largest;
}

template <class Real>
Real sum_of_exp(const Real* l, std::int64_t D, Real largest) {
  Real sum = 0;
  for (std::int64_t d = 0; d < D; ++d) sum += std::exp(l[d] - largest);
  return sum;
}

template <class Real>
void softmax_row(const Real* l, std::int64_t C, Real* p) {
  const Real largest = row_max(l, C), sum = sum_of_exp(l, C, largest);
  for (std::int64_t c = 0; c < C; ++c) p[c] = std::exp(l[c] - largest) / sum;
}

/// The class whose cumulative weight(c) first reaches u times their sum, as a one-hot row.
template <class Real, class Weight>
void draw_class(Weight&& weight, std::int64_t C, float u, Real* y) {
  Real sum = 0;
  for (std::int64_t c = 0; c < C; ++c) sum += weight(c);
  const Real target = static_cast<Real>(u) * sum;
  Real cumulative = 0;
  std::int64_t chosen = -1;
  for (std::int64_t c = 0; c < C; ++c) {
    const Real w = weight(c);
    // Rounding may leave the whole sum below the target: then the last class with any weight.
    if (w > 0 && (chosen < 0 || cumulative < target)) chosen = c;
    cumulative += w;
  }
  const bool possible = sum > 0;  // not where there is a NaN
  std::fill(y, y + C, possible ? Real{0} : std::numeric_limits<Real>::quiet_NaN());
  if (possible) y[chosen] = 1;
}

template <class Real>
void softmax(const SoftmaxArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t g = 0; g < a.groups; ++g) {
      softmax_row(a.logits[r] + g * a.C, a.C, a.p[r] + g * a.C);
    }
  }
}

template <class Real>
void softmax_backward(const SoftmaxBackwardArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t g = 0; g < a.groups; ++g) {
      const Real *p = a.p[r] + g * a.C, *grad_p = a.grad_p[r] + g * a.C;
      Real mean = 0;
      for (std::int64_t c = 0; c < a.C; ++c) mean += grad_p[c] * p[c];
      for (std::int64_t c = 0; c < a.C; ++c) {
        a.grad_logits[r][g * a.C + c] = p[c] * (grad_p[c] - mean);
      }
    }
  }
}

template <class Real>
void one_hot_sample(const OneHotSampleArgs<Real>& a) {
  for_each_row(a.noise.layout, [&](const RowPlace& place) {
    Words random{};
    for (std::int64_t g = 0; g < a.groups; ++g) {
      Real* y = a.y[place.row] + g * a.C;
      if (!place.valid) {
        std::fill(y, y + a.C, Real{0});
        continue;
      }
      if (!a.noise.eps && g % 4 == 0) random = noise_words(a.noise, place, a.groups, g / 4);
      const float u =
          a.noise.eps ? static_cast<float>(a.noise.eps[place.row][g]) : uniform(random.w[g % 4]);
      const Real* p = a.p[place.row] + g * a.C;
      draw_class([p](std::int64_t c) { return p[c]; }, a.C, u, y);
    }
  });
}

/// One group's log q and log p are l - largest - log sum.
template <class Real>
struct CategoricalPair {
  const Real *q, *p;
  Real largest_q, largest_p, sum_q, log_sum_q, log_sum_p;

  CategoricalPair(const Real* logits_q, const Real* logits_p, std::int64_t C)
      : q(logits_q), p(logits_p), largest_q(row_max(q, C)), largest_p(row_max(p, C)) {
    sum_q = sum_of_exp(q, C, largest_q);
    log_sum_q = std::log(sum_q), log_sum_p = std::log(sum_of_exp(p, C, largest_p));
  }
  Real probability_q(std::int64_t c) const { return std::exp(q[c] - largest_q) / sum_q; }
  Real probability_p(std::int64_t c) const { return std::exp((p[c] - largest_p) - log_sum_p); }
  Real log_ratio(std::int64_t c) const {
    return ((q[c] - largest_q) - log_sum_q) - ((p[c] - largest_p) - log_sum_p);
  }
  /// q (log q - log p), which is 0 where q is.
  Real term(std::int64_t c) const {
    const Real probability = probability_q(c);
    return probability == 0 ? Real{0} : probability * log_ratio(c);
  }
};

template <class Real>
void categorical_kl(const CategoricalKlArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    Real sum = 0;
    for (std::int64_t g = 0; g < a.groups; ++g) {
      const CategoricalPair<Real> pair(a.logits_q[r] + g * a.C, a.logits_p[r] + g * a.C, a.C);
      for (std::int64_t c = 0; c < a.C; ++c) sum += pair.term(c);
    }
    a.kl_sum[r][0] = sum;
  }
}

template <class Real>
void categorical_kl_backward(const CategoricalKlBackwardArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t g = 0; g < a.groups; ++g) {
      const CategoricalPair<Real> pair(a.logits_q[r] + g * a.C, a.logits_p[r] + g * a.C, a.C);
      const Real grad = a.grad_kl_sum[r][0];
      Real kl = 0;
      for (std::int64_t c = 0; c < a.C; ++c) kl += pair.term(c);
      for (std::int64_t c = 0; c < a.C; ++c) {
        const std::int64_t d = g * a.C + c;
        const Real q = pair.probability_q(c), p = pair.probability_p(c), term = pair.term(c);
        if (a.grad_logits_q) a.grad_logits_q[r][d] = grad * (term - q * kl);
        if (a.grad_logits_p) a.grad_logits_p[r][d] = grad * (p - q);
      }
    }
  }
}

}  // namespace seqvae::cpu::plain

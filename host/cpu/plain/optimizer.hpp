// AdamW as their equations in index order: what double runs, and what the tuned float is held to.
#pragma once
#include "seqvae/kernels/optimizer.hpp"

#include <algorithm>
#include <cmath>

namespace seqvae::cpu::plain {

/// sqrt(sum g^2) in double: 8 partial sums, element i in sum i % 8, added in order.
template <class Real>
[[gnu::always_inline]] inline double global_norm(const Real* g, std::int64_t count) {
  double sums[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int j = 0; j < 8; ++j) sums[j] += static_cast<double>(g[i + j]) * g[i + j];
  }
  for (int j = 0; i + j < count; ++j) sums[j] += static_cast<double>(g[i + j]) * g[i + j];
  double sum = 0;
  for (const double part : sums) sum += part;
  return std::sqrt(sum);
}

template <class Real>
[[gnu::always_inline]] inline void adamw(const AdamWArgs<Real>& a) {
  const double norm = global_norm(a.gradients, a.count);
  *a.norm = norm;
  if (!std::isfinite(norm)) return;

  const bool clips_norm = a.clip_norm > 0 && norm + 1e-6 > a.clip_norm;
  const Real scale = static_cast<Real>(clips_norm ? a.clip_norm / (norm + 1e-6) : 1.0);
  const Real limit = static_cast<Real>(a.clip_value);
  const double updates = static_cast<double>(a.update);
  const Real beta1 = static_cast<Real>(a.beta1), rest1 = static_cast<Real>(1 - a.beta1);
  const Real beta2 = static_cast<Real>(a.beta2), rest2 = static_cast<Real>(1 - a.beta2);
  const Real step = static_cast<Real>(a.learning_rate / (1 - std::pow(a.beta1, updates)));
  const Real root2 = static_cast<Real>(1 / std::sqrt(1 - std::pow(a.beta2, updates)));
  const Real epsilon = static_cast<Real>(a.epsilon);
  const Real decay = static_cast<Real>(a.learning_rate * a.weight_decay);
  const Real l2 = static_cast<Real>(a.l2);
  for (std::int64_t i = 0; i < a.count; ++i) {
    const Real decays = a.decay_mask != nullptr ? a.decay_mask[i] : Real{1};
    Real g = a.gradients[i], p = a.parameters[i];
    if (limit > 0) g = std::clamp(g, -limit, limit);
    g = scale * g + l2 * decays * p;
    a.m[i] = beta1 * a.m[i] + rest1 * g;
    a.v[i] = beta2 * a.v[i] + rest2 * g * g;
    a.parameters[i] =
        p - step * a.m[i] / (std::sqrt(a.v[i]) * root2 + epsilon) - decay * decays * p;
  }
}

}  // namespace seqvae::cpu::plain

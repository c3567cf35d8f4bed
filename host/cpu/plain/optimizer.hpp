// AdamW as its equations in index order: what double runs, and what the tuned float is held to.
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

/// What an update multiplies by, each formed in double and rounded once.
template <class Real>
struct AdamWFactors {
  Real scale, limit, beta1, rest1, beta2, rest2, step, root2, epsilon, decay, l2;

  AdamWFactors(const AdamWArgs<Real>& a, double norm) {
    const bool clips = a.clip_norm > 0 && norm + 1e-6 > a.clip_norm;
    const double n = static_cast<double>(a.step->update);
    scale = static_cast<Real>(clips ? a.clip_norm / (norm + 1e-6) : 1.0);
    limit = static_cast<Real>(a.clip_value);
    beta1 = static_cast<Real>(a.beta1), rest1 = static_cast<Real>(1 - a.beta1);
    beta2 = static_cast<Real>(a.beta2), rest2 = static_cast<Real>(1 - a.beta2);
    step = static_cast<Real>(a.step->learning_rate / (1 - std::pow(a.beta1, n)));
    root2 = static_cast<Real>(1 / std::sqrt(1 - std::pow(a.beta2, n)));
    epsilon = static_cast<Real>(a.epsilon);
    decay = static_cast<Real>(a.step->learning_rate * a.weight_decay);
    l2 = static_cast<Real>(a.l2);
  }
};

template <class Real>
void adamw(const AdamWArgs<Real>& a) {
  const double norm = *a.norm = global_norm(a.gradients, a.count);
  if (!std::isfinite(norm)) return;
  const AdamWFactors<Real> f(a, norm);
  for (std::int64_t i = 0; i < a.count; ++i) {
    const Real decays = a.decay_mask != nullptr ? a.decay_mask[i] : Real{1};
    Real g = a.gradients[i], p = a.parameters[i];
    if (f.limit > 0) g = std::clamp(g, -f.limit, f.limit);
    g = f.scale * g + f.l2 * decays * p;
    a.m[i] = f.beta1 * a.m[i] + f.rest1 * g;
    a.v[i] = f.beta2 * a.v[i] + f.rest2 * g * g;
    a.parameters[i] =
        p - f.step * a.m[i] / (std::sqrt(a.v[i]) * f.root2 + f.epsilon) - f.decay * decays * p;
  }
}

}  // namespace seqvae::cpu::plain

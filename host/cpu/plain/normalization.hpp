// Normalised rows as their equations in index order: what double runs, and what the tuned float is
// held to.
#pragma once
#include "seqvae/kernels/normalization.hpp"

#include <cmath>

namespace seqvae::cpu::plain {

/// mean of a row (rms: 0) and s = 1 / sqrt(mean (x - mean)^2 + epsilon).
template <class Real>
struct RowScale {
  Real mean = 0, s = 0;

  RowScale(Normalization kind, Real epsilon, const Real* x, std::int64_t D) {
    if (kind == Normalization::layer) {
      for (std::int64_t d = 0; d < D; ++d) mean += x[d];
      mean /= static_cast<Real>(D);
    }
    Real square = 0;
    for (std::int64_t d = 0; d < D; ++d) square += (x[d] - mean) * (x[d] - mean);
    s = 1 / std::sqrt(square / static_cast<Real>(D) + epsilon);
  }
};

template <class Real>
void normalize(const NormalizeArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const RowScale<Real> row(a.kind, a.epsilon, a.x[r], a.D);
    for (std::int64_t d = 0; d < a.D; ++d) a.y[r][d] = (a.x[r][d] - row.mean) * row.s;
  }
}

template <class Real>
void normalize_backward(const NormalizeBackwardArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Real *x = a.x[r], *grad_y = a.grad_y[r];
    const RowScale<Real> row(a.kind, a.epsilon, x, a.D);
    Real mean_grad = 0, mean_grad_y = 0;  // of g and of g y
    for (std::int64_t d = 0; d < a.D; ++d) {
      if (a.kind == Normalization::layer) mean_grad += grad_y[d];
      mean_grad_y += grad_y[d] * ((x[d] - row.mean) * row.s);
    }
    mean_grad /= static_cast<Real>(a.D), mean_grad_y /= static_cast<Real>(a.D);
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Real y = (x[d] - row.mean) * row.s;
      a.grad_x[r][d] = row.s * (grad_y[d] - mean_grad - y * mean_grad_y);
    }
  }
}

}  // namespace seqvae::cpu::plain

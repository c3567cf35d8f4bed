// Sums, products, gated means, choices and bounds as their equations in index order: what double
// runs, and what the tuned float is held to.
#pragma once
#include "seqvae/kernels/arithmetic.hpp"

namespace seqvae::cpu::plain {

template <class Real>
void multiply_add(const MultiplyAddArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Real product = a.alpha * a.a[r][d] * (a.b ? a.b[r][d] : Real{1});
      a.y[r][d] = a.c ? product + a.beta * a.c[r][d] : product;
    }
  }
}

template <class Real>
void gated_mix(const GatedMixArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Real g = a.g[r][d];
      a.y[r][d] = (1 - g) * a.a[r][d] + g * a.b[r][d];
    }
  }
}

template <class Real>
void gated_mix_backward(const GatedMixBackwardArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Real g = a.g[r][d], difference = a.b[r][d] - a.a[r][d], grad_y = a.grad_y[r][d];
      if (a.grad_g) a.grad_g[r][d] = difference * grad_y;
      if (a.grad_a) a.grad_a[r][d] = (1 - g) * grad_y;
      if (a.grad_b) a.grad_b[r][d] = g * grad_y;
    }
  }
}

template <class Real>
void select(const SelectArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Rows<const Real>& chosen = a.condition[r][a.by_row ? 0 : d] != 0 ? a.a : a.b;
      a.y[r][d] = chosen ? chosen[r][d] : Real{0};
    }
  }
}

template <class Real>
void clamp(const ClampArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Real x = a.x[r][d];
      a.y[r][d] = x < a.low ? a.low : x > a.high ? a.high : x;
    }
  }
}

template <class Real>
void clamp_backward(const ClampBackwardArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      const Real x = a.x[r][d];
      a.grad_x[r][d] = x < a.low || x > a.high ? Real{0} : a.grad_y[r][d];
    }
  }
}

}  // namespace seqvae::cpu::plain

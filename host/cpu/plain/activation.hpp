// Activations as their equations in index order: what double runs, and what the tuned float is held
// to.
#pragma once
#include "seqvae/kernels/activation.hpp"

#include "host/cpu/plain/math.hpp"

namespace seqvae::cpu::plain {

template <class Real>
void activation(const ActivationArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) a.y[r][d] = activate(a.kind, a.x[r][d]);
  }
}

template <class Real>
void activation_backward(const ActivationBackwardArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      a.grad_x[r][d] = activation_slope(a.kind, a.y[r][d]) * a.grad_y[r][d];
    }
  }
}

}  // namespace seqvae::cpu::plain

// Gated recurrent cells as their equations in index order: what double runs, and what the tuned
// float is held to.
#pragma once
#include "seqvae/kernels/recurrent_cell.hpp"

#include <cmath>

#include "host/cpu/plain/math.hpp"

namespace seqvae::cpu::plain {

template <class Real>
void gru_cell(const GruCellArgs<Real>& a) {
  const std::int64_t H = a.H;
  for (std::int64_t i = 0; i < a.rows; ++i) {
    const Real *pre = a.a[i], *q = a.q[i];
    for (std::int64_t d = 0; d < H; ++d) {
      const Real r = sigmoid(pre[d] + q[d]);
      const Real z = sigmoid(pre[H + d] + q[H + d]);
      const Real n = std::tanh(pre[2 * H + d] + r * q[2 * H + d]);
      a.h_next[i][d] = (1 - z) * n + z * a.h[i][d];
      if (a.gates) a.gates[i][d] = r, a.gates[i][H + d] = z, a.gates[i][2 * H + d] = n;
    }
  }
}

template <class Real>
void gru_cell_backward(const GruCellBackwardArgs<Real>& a) {
  const std::int64_t H = a.H;
  for (std::int64_t i = 0; i < a.rows; ++i) {
    for (std::int64_t d = 0; d < H; ++d) {
      const Real r = a.gates[i][d], z = a.gates[i][H + d], n = a.gates[i][2 * H + d];
      const Real q_n = a.q[i][2 * H + d], h = a.h[i][d], grad = a.grad_h_next[i][d];
      const Real grad_n = grad * (1 - z) * (1 - n) * (1 + n);  // by what stands inside tanh
      const Real grad_r = grad_n * q_n * r * (1 - r);
      const Real grad_z = grad * (h - n) * z * (1 - z);
      a.grad_a[i][d] = grad_r, a.grad_a[i][H + d] = grad_z, a.grad_a[i][2 * H + d] = grad_n;
      a.grad_q[i][d] = grad_r, a.grad_q[i][H + d] = grad_z, a.grad_q[i][2 * H + d] = grad_n * r;
      a.grad_h[i][d] = z * grad;
    }
  }
}

template <class Real>
void lstm_cell(const LstmCellArgs<Real>& a) {
  const std::int64_t H = a.H;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const Real* pre = a.a[row];
    for (std::int64_t d = 0; d < H; ++d) {
      const Real i = sigmoid(pre[d]), f = sigmoid(pre[H + d]);
      const Real g = std::tanh(pre[2 * H + d]), o = sigmoid(pre[3 * H + d]);
      const Real c = f * a.c[row][d] + i * g;
      a.c_next[row][d] = c;
      a.h_next[row][d] = o * std::tanh(c);
      if (!a.gates) continue;
      Real* gates = a.gates[row];
      gates[d] = i, gates[H + d] = f, gates[2 * H + d] = g, gates[3 * H + d] = o;
    }
  }
}

template <class Real>
void lstm_cell_backward(const LstmCellBackwardArgs<Real>& a) {
  const std::int64_t H = a.H;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const Real* gates = a.gates[row];
    for (std::int64_t d = 0; d < H; ++d) {
      const Real i = gates[d], f = gates[H + d], g = gates[2 * H + d], o = gates[3 * H + d];
      const Real s = std::tanh(a.c_next[row][d]);
      const Real grad_h = a.grad_h_next ? a.grad_h_next[row][d] : 0;
      const Real grad_c =
          grad_h * o * (1 - s) * (1 + s) + (a.grad_c_next ? a.grad_c_next[row][d] : 0);
      Real* grad_a = a.grad_a[row];
      const Real c = a.c[row][d];
      grad_a[d] = grad_c * g * i * (1 - i);
      grad_a[H + d] = grad_c * c * f * (1 - f);
      grad_a[2 * H + d] = grad_c * i * (1 - g) * (1 + g);
      grad_a[3 * H + d] = grad_h * s * o * (1 - o);
      a.grad_c[row][d] = grad_c * f;
    }
  }
}

}  // namespace seqvae::cpu::plain

// The filter in reverse mode. With lambda and Lambda the gradients with respect to the mean and the
// covariance (Lambda symmetric), one observed component back is
//
//     v_ = k.lambda - kappa v / f,  f_ = -(k.lambda) v / f + k.Lambda k + kappa/2 (v^2/f^2 - 1/f)
//     w_ = lambda v / f - 2 Lambda k + f_ c
//     c_ = P w_ + f_ w - v_ m,  lambda -= v_ c,  Lambda += (w_ c^T + c w_^T) / 2
//
// and one prediction back, where Q_ = Lambda, b_ = lambda:
//
//     A_ = lambda m^T + 2 Lambda A P,  lambda = A^T lambda,  Lambda = A^T Lambda A.
//
// While diffuse, Lambda_X is the gradient with respect to X X^T and goes the same way.
#include "host/cpu/kalman_replay.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::Moments;

template <class Real>
struct BackwardScratch {
  cpu::kalman::Replay<Real> replay;
  Moments<Real> before;
  Real *lambda, *Lambda, *Lambda_X = nullptr;
  Real *w, *w_X, *q, *product, *second;
  Real *grad_c, *grad_e, *grad_h;        // [m][n], [m], [m] of the independent components
  Real *S = nullptr, *solved = nullptr;  // [m][m]  full R

  BackwardScratch(const KalmanBackwardArgs<Real>& a, Arena& arena)
      : replay(a.model, a.data, a.filtered, true, arena),
        before(a.model.n, a.model.diffuse != nullptr, arena) {
    const std::int64_t n = a.model.n, m = a.model.m;
    for (Real** p : {&lambda, &w, &w_X, &q}) *p = arena.take<Real>(n);
    for (Real** p : {&Lambda, &product, &second}) *p = arena.take<Real>(n * n);
    if (a.model.diffuse != nullptr) Lambda_X = arena.take<Real>(n * n);
    grad_c = arena.take<Real>(m * n);
    grad_e = arena.take<Real>(m);
    grad_h = arena.take<Real>(m);
    if (a.model.diagonal_R) return;
    S = arena.take<Real>(m * m);
    solved = arena.take<Real>(m * m);
  }
};

/// P += (x y^T + y x^T) / 2, with x overwritten.
template <class Real>
void add_half_symmetric(std::int64_t n, Real* x, const Real* y, Real* P) {
  for (std::int64_t i = 0; i < n; ++i) x[i] /= 2;
  cpu::add_symmetric(n, x, y, P);
}

/// Component i of a step back, kappa the gradient of its log-likelihood.
template <class Real>
void step_back(std::int64_t n, std::int64_t i, Real kappa, BackwardScratch<Real>& s) {
  using cpu::add_multiply_vector, cpu::axpy, cpu::dot, cpu::transposed_multiply_vector;
  const auto u = s.replay.update(i);
  const Real* c = s.replay.c(i);
  const Real kl = dot(n, u.k, s.lambda);
  transposed_multiply_vector(n, n, s.Lambda, u.k, s.q);
  Real* grad_c = s.grad_c + i * n;
  Real grad_v, grad_f;
  if (u.f_diffuse == 0) {
    const Real ratio = u.v / u.f;
    grad_v = kl - kappa * ratio;
    grad_f = dot(n, u.k, s.q) - kl * ratio + kappa / 2 * (ratio * ratio - 1 / u.f);
    for (std::int64_t j = 0; j < n; ++j) s.w[j] = s.lambda[j] * ratio - 2 * s.q[j];
    std::fill_n(grad_c, n, Real(0));
  } else {
    grad_v = kl;
    grad_f = dot(n, u.k, s.q);
    // Of the gain k = w_X / f_X, then of w_X, f_X.
    Real* grad_k = s.w_X;
    transposed_multiply_vector(n, n, s.Lambda, u.w, grad_k);
    for (std::int64_t j = 0; j < n; ++j) {
      grad_k[j] = s.lambda[j] * u.v - 2 * grad_k[j] + 2 * u.f * s.q[j];
      s.w[j] = -2 * s.q[j];
    }
    Real* q_X = grad_c;
    transposed_multiply_vector(n, n, s.Lambda_X, u.k, q_X);
    const Real grad_f_X = dot(n, u.k, q_X) - (dot(n, grad_k, u.k) + kappa / 2) / u.f_diffuse;
    for (std::int64_t j = 0; j < n; ++j) {
      s.w_X[j] = grad_k[j] / u.f_diffuse - 2 * q_X[j] + grad_f_X * c[j];
    }
    // c_ of X X^T c: X (X^T w_X) + f_X w.
    transposed_multiply_vector(n, n, s.replay.factor(i), s.w_X, s.q);
    for (std::int64_t j = 0; j < n; ++j) grad_c[j] = grad_f_X * u.w_diffuse[j];
    add_multiply_vector(n, n, s.replay.factor(i), s.q, grad_c);
    add_half_symmetric(n, s.w_X, c, s.Lambda_X);
  }
  axpy(n, grad_f, c, s.w);
  add_multiply_vector(n, n, s.replay.covariance(i), s.w, grad_c);
  axpy(n, grad_f, u.w, grad_c);
  axpy(n, -grad_v, s.replay.mean(i), grad_c);
  axpy(n, -grad_v, c, s.lambda);
  add_half_symmetric(n, s.w, c, s.Lambda);
  s.grad_e[i] = grad_v;
  s.grad_h[i] = grad_f;
}

/// From the independent components to C, y, d, D and R: c = L^-1 C, e = L^-1 (y - d - D u),
/// R = L diag(h) L^T. With G = c_ c^T + e_ e^T, dR = L^-T S L^-1 where S_ii = h_i_ and, below the
/// diagonal, S_ij = -G_ij / (2 h_j).
template <class Real>
void add_observation(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b,
                     BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, m = a.model.m, U = a.model.U, k = s.replay.count();
  const auto& observation = s.replay.observation();
  const KalmanGradient<Real>& g = a.grad;
  const Real* L = observation.L();
  if (g.R) {
    Real* R = cpu::kalman::at(g.R, layout, t, b);
    if (L == nullptr) {
      for (std::int64_t i = 0; i < k; ++i) R[observation.index(i)] += s.grad_h[i];
    } else {
      for (std::int64_t i = 0; i < k; ++i) {
        s.S[i * k + i] = s.grad_h[i];
        for (std::int64_t j = 0; j < i; ++j) {
          const Real G =
              cpu::dot(n, s.grad_c + i * n, observation.c(j)) + s.grad_e[i] * observation.e(j);
          const Real h = observation.h(j);
          s.S[i * k + j] = s.S[j * k + i] = h > 0 ? -G / (2 * h) : Real(0);
        }
      }
      for (int side = 0; side < 2; ++side) {  // S = L^-T S, turned, twice: L^-T S L^-1
        for (std::int64_t i = k - 1; i > 0; --i) {
          for (std::int64_t j = 0; j < i; ++j) {
            cpu::axpy(k, -L[i * k + j], s.S + i * k, s.S + j * k);
          }
        }
        cpu::transpose(k, k, s.S, s.solved);
        std::swap(s.S, s.solved);
      }
      for (std::int64_t i = 0; i < k; ++i) {
        for (std::int64_t j = 0; j < k; ++j) {
          R[observation.index(i) * m + observation.index(j)] += s.S[i * k + j];
        }
      }
    }
  }
  if (L != nullptr) {  // c_ = L^-T c_, e_ = L^-T e_
    for (std::int64_t i = k - 1; i > 0; --i) {
      for (std::int64_t j = 0; j < i; ++j) {
        const Real l = L[i * k + j];
        s.grad_e[j] -= l * s.grad_e[i];
        cpu::axpy(n, -l, s.grad_c + i * n, s.grad_c + j * n);
      }
    }
  }
  const std::int64_t row = cpu::kalman::row_of(layout, t, b);
  for (std::int64_t i = 0; i < k; ++i) {
    const std::int64_t j = observation.index(i);
    if (g.C) cpu::axpy(n, Real(1), s.grad_c + i * n, cpu::kalman::at(g.C, layout, t, b) + j * n);
    if (g.y) g.y[row][j] += s.grad_e[i];
    if (g.observation_offset) {
      cpu::kalman::at(g.observation_offset, layout, t, b)[j] -= s.grad_e[i];
    }
    if (g.D && U > 0) {
      cpu::axpy(U, -s.grad_e[i], a.data.u[row], cpu::kalman::at(g.D, layout, t, b) + j * U);
    }
  }
}

/// The prediction of step t back, or the prior of t = 0.
template <class Real>
void add_transition(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b,
                    BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, nn = n * n, U = a.model.U;
  const KalmanGradient<Real>& g = a.grad;
  if (t == 0) {
    const auto free = [&](std::int64_t i) {
      return a.model.diffuse == nullptr || a.model.diffuse[i] == 0;
    };
    for (std::int64_t i = 0; i < n; ++i) {
      if (!free(i)) continue;
      if (g.m0) cpu::kalman::at(g.m0, layout, 0, b)[i] += s.lambda[i];
      for (std::int64_t j = 0; g.P0 && j < n; ++j) {
        if (free(j)) cpu::kalman::at(g.P0, layout, 0, b)[i * n + j] += s.Lambda[i * n + j];
      }
    }
    return;
  }
  if (g.Q) cpu::axpy(nn, Real(1), s.Lambda, cpu::kalman::at(g.Q, layout, t, b));
  if (g.state_offset) {
    cpu::axpy(n, Real(1), s.lambda, cpu::kalman::at(g.state_offset, layout, t, b));
  }
  if (g.B && U > 0) {
    Real* B = cpu::kalman::at(g.B, layout, t, b);
    const Real* u = a.data.u[cpu::kalman::row_of(layout, t, b)];
    for (std::int64_t i = 0; i < n; ++i) cpu::axpy(U, s.lambda[i], u, B + i * U);
  }
  const Real* A = cpu::kalman::at(a.model.A, layout, t, b);
  const bool diffuse = s.replay.predicted().rank > 0;
  if (g.A) {
    Real* grad_A = cpu::kalman::at(g.A, layout, t, b);
    s.replay.filtered_moments(t - 1, b, s.before);
    for (std::int64_t i = 0; i < n; ++i) cpu::axpy(n, s.lambda[i], s.before.m, grad_A + i * n);
    const auto add = [&](const Real* weight, const Real* P) {  // 2 weight A P
      cpu::multiply(n, n, n, A, P, s.product, n);
      cpu::multiply(n, n, n, weight, s.product, s.second, n);
      cpu::axpy(nn, Real(2), s.second, grad_A);
    };
    add(s.Lambda, s.before.P);
    if (diffuse) {
      cpu::kalman::outer(n, s.before, s.replay.scratch());
      add(s.Lambda_X, s.replay.scratch());
    }
  }
  cpu::transposed_multiply_vector(n, n, A, s.lambda, s.q);
  std::copy_n(s.q, n, s.lambda);
  cpu::transposed_congruence(n, A, s.Lambda, s.product, s.replay.scratch());
  std::copy_n(s.product, nn, s.Lambda);
  if (diffuse) {
    cpu::transposed_congruence(n, A, s.Lambda_X, s.product, s.replay.scratch());
    std::copy_n(s.product, nn, s.Lambda_X);
  }
}

template <class Real>
void backward_sequence(const KalmanBackwardArgs<Real>& a, std::int64_t b,
                       BackwardScratch<Real>& s) {
  const std::int64_t n = a.model.n, nn = n * n;
  std::fill_n(s.lambda, n, Real(0));
  std::fill_n(s.Lambda, nn, Real(0));
  if (s.Lambda_X != nullptr) std::fill_n(s.Lambda_X, nn, Real(0));
  for (std::int64_t t = cpu::kalman::length_of(a.data.layout, b) - 1; t >= 0; --t) {
    const std::int64_t row = cpu::kalman::row_of(a.data.layout, t, b);
    if (a.grad_mean) cpu::axpy(n, Real(1), a.grad_mean[row], s.lambda);
    if (a.grad_covariance) cpu::axpy(nn, Real(1), a.grad_covariance[row], s.Lambda);
    const Real kappa = a.grad_log_likelihood ? *a.grad_log_likelihood[row] : Real(1);
    s.replay.run(t, b);
    for (std::int64_t i = s.replay.count() - 1; i >= 0; --i) step_back(n, i, kappa, s);
    add_observation(a, t, b, s);
    add_transition(a, t, b, s);
  }
}

/// Zeros in all that the layout's rows share.
template <class Real>
void clear(const StepArray<Real>& array, std::int64_t entries, const RowLayout& layout) {
  if (!array) return;
  const std::int64_t steps = array.step != 0 ? layout.T : 1;
  const std::int64_t sequences = array.sequence != 0 ? layout.B : 1;
  if (layout.offsets != nullptr && array.step != 0 && array.sequence != 0) {
    for (std::int64_t r = 0; r < layout.rows(); ++r) {
      std::fill_n(array.data + r * array.sequence, entries, Real(0));
    }
    return;
  }
  for (std::int64_t t = 0; t < steps; ++t) {
    for (std::int64_t b = 0; b < sequences; ++b) {
      std::fill_n(cpu::kalman::at(array, layout, t, b), entries, Real(0));
    }
  }
}

template <class Real>
void clear(const KalmanBackwardArgs<Real>& a) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, m = a.model.m, U = a.model.U;
  const KalmanGradient<Real>& g = a.grad;
  clear(g.A, n * n, layout);
  clear(g.B, n * U, layout);
  clear(g.state_offset, n, layout);
  clear(g.Q, n * n, layout);
  clear(g.C, m * n, layout);
  clear(g.D, m * U, layout);
  clear(g.observation_offset, m, layout);
  clear(g.R, a.model.diagonal_R ? m : m * m, layout);
  clear(StepArray<Real>(g.m0.data, 0, g.m0.sequence), n, layout);
  clear(StepArray<Real>(g.P0.data, 0, g.P0.sequence), n * n, layout);
  for (std::int64_t r = 0; g.y && r < layout.rows(); ++r) std::fill_n(g.y[r], m, Real(0));
}

}  // namespace

template <class Real>
std::size_t kalman_workspace_bytes(const KalmanBackwardArgs<Real>& args) {
  Arena arena;
  BackwardScratch<Real>(args, arena);
  return arena.used();
}

template std::size_t kalman_workspace_bytes(const KalmanBackwardArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanBackwardArgs<double>&);

namespace cpu {

template <class Real>
void kalman_backward(const KalmanBackwardArgs<Real>& a) {
  check(a);
  if (!a.accumulate) clear(a);
  Arena arena(a.workspace);
  BackwardScratch<Real> scratch(a, arena);
  for (std::int64_t b = 0; b < a.data.layout.B; ++b) backward_sequence(a, b, scratch);
}

template void kalman_backward(const KalmanBackwardArgs<float>&);
template void kalman_backward(const KalmanBackwardArgs<double>&);

}  // namespace cpu
}  // namespace seqvae

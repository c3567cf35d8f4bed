// What a step of the filter in reverse mode gives to the gradients.
//
// With lambda and Lambda the gradients with respect to the mean and the covariance (Lambda
// symmetric), one observed component back is
//
//     v_ = k.lambda - kappa v / f,  f_ = -(k.lambda) v / f + k.Lambda k + kappa/2 (v^2/f^2 - 1/f)
//     w_ = lambda v / f - 2 Lambda k + f_ c
//     c_ = P w_ + f_ w - v_ m,  lambda -= v_ c,  Lambda += (w_ c^T + c w_^T) / 2
//
// and one prediction back, where Q_ = Lambda, b_ = lambda:
//
//     A_ = lambda m^T + 2 Lambda A P,  lambda = A^T lambda,  Lambda = A^T Lambda A.
//
// Of the log-likelihood alone, kappa the same for all steps, lambda = kappa r and Lambda =
// kappa/2 (r r^T - N) with the smoother's r and N. While diffuse these go on given omega
// (kalman_replay.hpp), and the gradient is the expectation over omega of that given omega (Fisher's
// identity), where r moves with it by -N F. Where the covariances have settled, N with them, a
// step's gradient is outer products and a constant (SettledSums).
#pragma once
#include "host/cpu/kalman_reverse.hpp"
#include "host/cpu/kalman_reverse_chunks.hpp"
#include "host/cpu/kalman_smoothed.hpp"

namespace seqvae::cpu::kalman {

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
      std::fill_n(at(array, layout, t, b), entries, Real(0));
    }
  }
}

/// The same places; arrays of the prior have no steps.
template <class Real>
KalmanGradient<Real> without_prior_steps(KalmanGradient<Real> g) {
  g.m0.step = g.P0.step = 0;
  return g;
}

/// Calls visit(array, entries) for each array of a gradient but y.
template <class Real, class Visit>
void for_each_array(KalmanGradient<Real>& g, const KalmanModel<Real>& model, const Visit& visit) {
  const std::int64_t n = model.n, m = model.m, U = model.U;
  visit(g.A, n * n), visit(g.B, n * U), visit(g.state_offset, n), visit(g.Q, n * n);
  visit(g.C, m * n), visit(g.D, m * U), visit(g.observation_offset, m);
  visit(g.R, model.diagonal_R ? m : m * m), visit(g.m0, n), visit(g.P0, n * n);
}

/// Zeros where gradients go.
template <class Real>
void clear(KalmanGradient<Real> g, const KalmanModel<Real>& model, const RowLayout& layout) {
  for_each_array(g, model, [&](const StepArray<Real>& array, std::int64_t entries) {
    clear(array, entries, layout);
  });
  for (std::int64_t r = 0; g.y && r < layout.rows(); ++r) std::fill_n(g.y[r], model.m, Real(0));
}

/// Over steps with settled covariances, z the smoothed means and u = -d log p / d y:
///
///     A_ = sum r_t z_{t-1}^T - N A P,   Q_ = sum (r_t r_t^T - N) / 2,
///     C_ = sum u_t z_t^T + ..,          R_ = sum (u_t u_t^T - ..) / 2,
///
/// where r and N are those before the step's observation. The constants are what a step gives whose
/// r and innovations are zero; each step's is added to its products, so that no large sums cancel.
template <class Real>
struct SettledSums {
  struct Parts {
    Real *A, *Q, *C, *R;  // [n][n], [n][n], [m][n], [m][m] or its diagonal
  };
  Parts sums, constants;
  Real *z, *u, *half;  // z of the step to come, [m] u by component of y, half of u or r
  Real *r, *N;         // set aside

  SettledSums(const KalmanModel<Real>& model, Arena& arena) {
    const std::int64_t n = model.n, m = model.m;
    for (Parts* p : {&sums, &constants}) {
      p->A = arena.take<Real>(n * n), p->Q = arena.take<Real>(n * n);
      p->C = arena.take<Real>(m * n), p->R = arena.take<Real>(m * m);
    }
    z = arena.take<Real>(n), u = arena.take<Real>(m), half = arena.take<Real>(std::max(n, m));
    r = arena.take<Real>(n), N = arena.take<Real>(n * n);
  }
  static void clear(std::int64_t n, std::int64_t m, const Parts& p) {
    std::fill_n(p.A, n * n, Real(0));
    std::fill_n(p.Q, n * n, Real(0));
    std::fill_n(p.C, m * n, Real(0));
    std::fill_n(p.R, m * m, Real(0));
  }
};

/// Sequences that share their covariances: what a step gives to gradients is outer products of
/// each, summed over all, and one constant. Sequences side by side.
template <class Real>
struct GroupSums {
  Real *kappa, *z, *z_before;  // [most], [n][most] smoothed means of the step and the one before
  Real *weighted, *column;     // [n or m][most], [n or m]

  GroupSums(const KalmanModel<Real>& model, std::int64_t most, Arena& arena) {
    const std::int64_t n = model.n, wide = std::max(n, model.m);
    for (Real** p : {&z, &z_before}) *p = arena.take<Real>(most * n);
    kappa = arena.take<Real>(most), column = arena.take<Real>(wide);
    weighted = arena.take<Real>(wide * most);
  }

  /// factor kappa_g x_g, of which `add` takes the outer products: x[rows][count].
  void weigh(std::int64_t count, Real factor, std::int64_t rows, const Real* x) {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t g = 0; g < count; ++g) {
        weighted[i * count + g] = factor * kappa[g] * x[i * count + g];
      }
    }
  }
  /// to[rows][columns] += sum_g factor kappa_g x_g y_g^T, y[columns][count].
  void add(std::int64_t count, std::int64_t rows, std::int64_t columns, const Real* y, Real* to) {
    add_inner_products(rows, columns, count, weighted, y, to);
  }
};

/// Whether kalman_backward takes sequences of one length together: those that share their
/// covariances, where it is the gradient of their likelihoods alone.
template <class Real>
bool are_together(const KalmanBackwardArgs<Real>& a) {
  return covariances_are_shared(a.model, a.data) && !a.grad_mean && !a.grad_covariance &&
         !a.grad_smoothed_mean && !a.grad_smoothed_covariance && a.grad.A.sequence == 0 &&
         a.grad.Q.sequence == 0 && a.grad.C.sequence == 0 && a.grad.R.sequence == 0 &&
         a.grad.P0.sequence == 0;
}

template <class Real>
struct BackwardScratch {
  KalmanBackwardArgs<Real> args;  // whose gradients go where those of a part go
  Replay<Real> replay;
  GroupReverse<Real> reverse;
  SettledSums<Real> sums;
  GroupSums<Real> group;
  SmoothedGradient<Real> smoothed;
  ReverseSummariser<Real> summariser;
  Moments<Real> before;
  Real *lambda, *Lambda;
  Real *r, *N, *NF;
  Real *w, *q, *x, *product, *second;
  Real *grad_c, *grad_e, *grad_h;  // [m][n], [m], [m] of the independent components
  Real *S = nullptr, *solved = nullptr, *root = nullptr;  // [m][m]  full R

  /// For at most so many sequences together.
  BackwardScratch(const KalmanBackwardArgs<Real>& a, std::int64_t most, Arena& arena)
      : args(a),
        replay(args.model, args.data, args.filtered, true, arena),
        reverse(args.model, args.data, args.filtered, true, most, arena),
        sums(args.model, arena),
        group(args.model, most, arena),
        smoothed(args, arena),
        summariser(args.model, args.data, arena),
        before(a.model.n, a.model.diffuse != nullptr, arena) {
    const std::int64_t n = a.model.n, m = a.model.m;
    for (Real** p : {&lambda, &w, &q, &x, &r}) *p = arena.take<Real>(n);
    for (Real** p : {&Lambda, &product, &second, &N, &NF}) *p = arena.take<Real>(n * n);
    grad_c = arena.take<Real>(m * n);
    grad_e = arena.take<Real>(m);
    grad_h = arena.take<Real>(m);
    if (a.model.diagonal_R) return;
    for (Real** p : {&S, &solved, &root}) *p = arena.take<Real>(m * m);
  }
};

/// Component i of a step back, kappa the gradient of its log-likelihood.
template <class Real>
void step_back(std::int64_t n, std::int64_t i, Real kappa, BackwardScratch<Real>& s) {
  using cpu::axpy, cpu::dot;
  const auto u = s.replay.update(i);
  const Real* c = s.replay.c(i);
  const Real kl = dot(n, u.k, s.lambda), ratio = u.v / u.f;
  cpu::symmetric_multiply(n, s.Lambda, u.k, s.q);
  const Real grad_v = kl - kappa * ratio;
  const Real grad_f = dot(n, u.k, s.q) - kl * ratio + kappa / 2 * (ratio * ratio - 1 / u.f);
  for (std::int64_t j = 0; j < n; ++j) s.w[j] = s.lambda[j] * ratio - 2 * s.q[j] + grad_f * c[j];
  Real* grad_c = s.grad_c + i * n;
  cpu::symmetric_multiply(n, s.replay.covariance(i), s.w, grad_c);
  axpy(n, grad_f, u.w, grad_c);
  axpy(n, -grad_v, s.replay.mean(i), grad_c);
  axpy(n, -grad_v, c, s.lambda);
  for (std::int64_t j = 0; j < n; ++j) s.w[j] /= 2;
  cpu::add_symmetric(n, s.w, c, s.Lambda);
  s.grad_e[i] = grad_v;
  s.grad_h[i] = grad_f;
}

/// The same while diffuse, and of the likelihood alone, by r and N. With g = v / f - k.r, which
/// moves with omega by g_o = F'^T N k - a / f (F' after the component), and z = m + P r, which
/// moves by E = F - P N F':
///
///     e_ = -g,  h_ = 1/2 (g^2 + |g_o|^2 - 1/f - k.N k),  c_ = g z + E g_o + P N k + 2 h_ w
template <class Real>
void step_back_likelihood(std::int64_t n, std::int64_t i, Real kappa, BackwardScratch<Real>& s) {
  using cpu::add_multiply_vector, cpu::axpy, cpu::dot, cpu::transposed_multiply_vector;
  const auto u = s.replay.update(i);
  const std::int64_t dims = s.replay.predicted().q;
  const Real *c = s.replay.c(i), *F = s.replay.factor(i);
  const Real g = u.v / u.f - dot(n, u.k, s.r);
  cpu::symmetric_multiply(n, s.N, u.k, s.q);
  const Real kNk = dot(n, u.k, s.q);
  Real* g_o = s.product;
  transposed_multiply_vector(n, dims, F, s.q, g_o);
  axpy(dims, -kNk - 1 / u.f, u.a, g_o);
  const Real grad_h = (g * g + dot(dims, g_o, g_o) - 1 / u.f - kNk) / 2;
  // c_ = g m + F g_o + P (g r + N k - N F' g_o) + 2 h_ w, where F' g_o = F g_o - k (a.g_o).
  Real* grad_c = s.grad_c + i * n;
  cpu::multiply_vector(n, dims, F, g_o, grad_c);
  for (std::int64_t j = 0; j < n; ++j) s.w[j] = grad_c[j] - u.k[j] * dot(dims, u.a, g_o);
  cpu::symmetric_multiply(n, s.N, s.w, s.x);
  for (std::int64_t j = 0; j < n; ++j) s.x[j] = g * s.r[j] + s.q[j] - s.x[j];
  add_multiply_vector(n, n, s.replay.covariance(i), s.x, grad_c);
  axpy(n, g, s.replay.mean(i), grad_c);
  axpy(n, 2 * grad_h, u.w, grad_c);
  for (std::int64_t j = 0; j < n; ++j) grad_c[j] *= kappa;
  s.grad_e[i] = -kappa * g;
  s.grad_h[i] = kappa * grad_h;
  // r = r + g c, N = L^T N L + c c^T / f.
  axpy(n, g, c, s.r);
  for (std::int64_t j = 0; j < n; ++j) s.q[j] = (kNk + 1 / u.f) / 2 * c[j] - s.q[j];
  cpu::add_symmetric(n, c, s.q, s.N);
}

/// The gradient of a full R, by the innovations v of all components at once: y - C z - .. = W v
/// with W = L U unit lower triangular, U_ij = c_i.k_j, Cov(v) = diag(f), and m + sum_i k_i v_i
/// after them. With lambda and Lambda after the observation dR = W^-T M W^-1,
///
///     M_ij = k_i.Lambda k_j - (k_i.lambda v_j / f_j + k_j.lambda v_i / f_i) / 2
///            + kappa/2 (v_i v_j / (f_i f_j) - [i = j] / f_i)
///
/// and of the likelihood alone, with g and g_o as in step_back_likelihood but r, N and F' after the
/// observation, M_ij = kappa/2 (g_i g_j + g_oi.g_oj - k_i.N k_j - [i = j] / f_i). By way of L and
/// h, whose small entries have few digits, R nearly singular would leave it none.
template <class Real>
void add_full_noise(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b, bool by_r,
                    Real kappa, BackwardScratch<Real>& s) {
  using cpu::dot;
  const std::int64_t n = a.model.n, m = a.model.m, k = s.replay.count();
  const auto& observation = s.replay.observation();
  const Moments<Real>& after = s.replay.updated();
  Real *W = s.root, *M = s.S, *of_mean = s.grad_e, *of_delta = s.grad_c;  // not yet in use
  for (std::int64_t i = 0; i < k; ++i) {
    const auto u = s.replay.update(i);
    const Real ratio = u.v / u.f;
    of_mean[i] = by_r ? ratio - dot(n, u.k, s.r) : dot(n, u.k, s.lambda);
    cpu::symmetric_multiply(n, by_r ? s.N : s.Lambda, u.k, s.q);
    if (by_r) {
      cpu::transposed_multiply_vector(n, after.q, after.X, s.q, of_delta + i * n);
      cpu::axpy(after.q, -1 / u.f, u.a, of_delta + i * n);
    }
    for (std::int64_t j = 0; j <= i; ++j) {
      const auto other = s.replay.update(j);
      const Real kk = dot(n, other.k, s.q), other_ratio = other.v / other.f;
      Real value = by_r ? kappa / 2 *
                              (of_mean[i] * of_mean[j] - kk +
                               dot(after.q, of_delta + i * n, of_delta + j * n))
                        : kk - (of_mean[i] * other_ratio + of_mean[j] * ratio) / 2 +
                              kappa / 2 * ratio * other_ratio;
      if (i == j) value -= kappa / (2 * u.f);
      M[i * k + j] = M[j * k + i] = value;
    }
  }
  const Real* L = observation.L();
  for (std::int64_t j = 0; j < k; ++j) {  // W = L U, a column at a time
    const Real* gain = s.replay.update(j).k;
    for (std::int64_t i = j + 1; i < k; ++i) W[i * k + j] = dot(n, observation.c(i), gain);
    for (std::int64_t i = k - 1; i > j; --i) {
      for (std::int64_t p = j + 1; p < i; ++p) W[i * k + j] += L[i * k + p] * W[p * k + j];
      W[i * k + j] += L[i * k + j];
    }
  }
  for (int side = 0; side < 2; ++side) {  // M = W^-T M, turned, twice: W^-T M W^-1
    for (std::int64_t i = k - 1; i > 0; --i) {
      for (std::int64_t j = 0; j < i; ++j) cpu::axpy(k, -W[i * k + j], M + i * k, M + j * k);
    }
    cpu::transpose(k, k, M, s.solved);
    std::copy_n(s.solved, k * k, M);
  }
  Real* R = at(a.grad.R, a.data.layout, t, b);
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t j = 0; j < k; ++j) {
      R[observation.index(i) * m + observation.index(j)] += M[i * k + j];
    }
  }
}

/// From the independent components to C, y, d, D and a diagonal R: c = L^-1 C,
/// e = L^-1 (y - d - D u).
template <class Real>
void add_observation(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b,
                     BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, k = s.replay.count();
  const auto& observation = s.replay.observation();
  const KalmanGradient<Real>& g = a.grad;
  if (g.R && observation.L() == nullptr) {
    Real* R = at(g.R, layout, t, b);
    for (std::int64_t i = 0; i < k; ++i) R[observation.index(i)] += s.grad_h[i];
  }
  observation.decorrelate_transposed(n, s.grad_c);
  observation.decorrelate_transposed(1, s.grad_e);
  for (std::int64_t i = 0; g.C && i < k; ++i) {
    cpu::axpy(n, Real(1), s.grad_c + i * n, at(g.C, layout, t, b) + observation.index(i) * n);
  }
  add_residual(a, t, b, Real(1), s.grad_e, observation);
}

/// What b and B get of factor lambda, the gradient by the predicted mean.
template <class Real>
void add_state_inputs(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b,
                      Real factor, const Real* lambda) {
  const RowLayout& layout = a.data.layout;
  const KalmanGradient<Real>& g = a.grad;
  const std::int64_t n = a.model.n, U = a.model.U;
  if (g.state_offset) cpu::axpy(n, factor, lambda, at(g.state_offset, layout, t, b));
  if (!g.B || U == 0) return;
  Real* B = at(g.B, layout, t, b);
  const Real* u = a.data.u[row_of(layout, t, b)];
  for (std::int64_t i = 0; i < n; ++i) cpu::axpy(U, factor * lambda[i], u, B + i * U);
}

/// What the prediction of step t, or the prior of t = 0, gets of lambda and Lambda.
template <class Real>
void add_transition(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b, Real kappa,
                    BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, nn = n * n;
  const KalmanGradient<Real>& g = a.grad;
  if (t == 0) {
    const auto free = [&](std::int64_t i) {
      return a.model.diffuse == nullptr || a.model.diffuse[i] == 0;
    };
    for (std::int64_t i = 0; i < n; ++i) {
      if (!free(i)) continue;
      if (g.m0) at(g.m0, layout, 0, b)[i] += s.lambda[i];
      for (std::int64_t j = 0; g.P0 && j < n; ++j) {
        if (free(j)) at(g.P0, layout, 0, b)[i * n + j] += s.Lambda[i * n + j];
      }
    }
    return;
  }
  if (g.Q) cpu::axpy(nn, Real(1), s.Lambda, at(g.Q, layout, t, b));
  add_state_inputs(a, t, b, Real(1), s.lambda);
  if (!g.A) return;
  const Real* A = at(a.model.A, layout, t, b);
  Real* grad_A = at(g.A, layout, t, b);
  const bool diffuse = s.replay.diffuse(t, b);
  s.replay.filtered_moments(t - 1, b, diffuse, s.before);
  for (std::int64_t i = 0; i < n; ++i) cpu::axpy(n, s.lambda[i], s.before.m, grad_A + i * n);
  cpu::multiply(n, n, n, A, s.before.P, s.product);
  cpu::multiply(n, n, n, s.Lambda, s.product, s.second);
  cpu::axpy(nn, Real(2), s.second, grad_A);
  for (std::int64_t i = 0; diffuse && i < n; ++i) {  // Cov(r, m) = -N F F_before^T
    for (std::int64_t j = 0; j < n; ++j) {
      grad_A[i * n + j] -=
          kappa * cpu::dot(s.before.q, s.NF + i * s.before.q, s.before.X + j * s.before.q);
    }
  }
}

/// The gradients lambda and Lambda of the predicted moments from r and N: kappa r and
/// kappa/2 (r r^T - N), or their expectations.
template <class Real>
void expect_over_omega(std::int64_t n, Real kappa, BackwardScratch<Real>& s) {
  const Moments<Real>& predicted = s.replay.predicted();
  cpu::multiply(n, n, predicted.q, s.N, predicted.X, s.NF);
  for (std::int64_t i = 0; i < n; ++i) {
    s.lambda[i] = kappa * s.r[i];
    for (std::int64_t j = 0; j < n; ++j) {
      s.Lambda[i * n + j] = kappa / 2 *
                            (s.r[i] * s.r[j] - s.N[i * n + j] +
                             cpu::dot(predicted.q, s.NF + i * predicted.q, s.NF + j * predicted.q));
    }
  }
}

/// r = A^T r, N = A^T N A; so lambda and Lambda go back as well.
template <class Real>
void go_back(std::int64_t n, const Real* A, Real* r, Real* N, BackwardScratch<Real>& s) {
  cpu::transposed_multiply_vector(n, n, A, r, s.q);
  std::copy_n(s.q, n, r);
  cpu::transposed_congruence(n, A, N, s.product, s.replay.scratch());
  std::copy_n(s.product, n * n, N);
}

/// Step t of the likelihood alone, replayed, from r and N after its observation to those before.
template <class Real>
void add_likelihood_step(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b,
                         Real kappa, BackwardScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  if (a.grad.R && !a.model.diagonal_R) add_full_noise(a, t, b, true, kappa, s);
  for (std::int64_t i = s.replay.count() - 1; i >= 0; --i) step_back_likelihood(n, i, kappa, s);
  add_observation(a, t, b, s);
  expect_over_omega(n, kappa, s);
  add_transition(a, t, b, kappa, s);
}

}  // namespace seqvae::cpu::kalman

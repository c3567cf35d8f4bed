// The filter in reverse mode, backward in time (kalman_gradient.hpp has a step's part).
#include "host/cpu/kalman_gradient.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::BackwardScratch;
using cpu::kalman::SettledSums;

/// The constants of steps like t, of kappa = 1, and z, from r and N after the observation of t.
template <class Real>
void begin_settled(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b,
                   BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, row = cpu::kalman::row_of(layout, t, b);
  SettledSums<Real>& sums = s.sums;
  std::copy_n(a.filtered.mean[row], n, sums.z);
  cpu::add_multiply_vector(n, n, s.replay.covariance_of(t, b), s.r, sums.z);
  sums.clear(n, a.model.m, sums.sums);
  sums.clear(n, a.model.m, sums.constants);
  KalmanBackwardArgs<Real> constant = a;
  constant.grad = {};
  constant.grad.A = sums.constants.A, constant.grad.Q = sums.constants.Q;
  constant.grad.C = sums.constants.C, constant.grad.R = sums.constants.R;
  std::copy_n(s.r, n, sums.r);
  std::copy_n(s.N, n * n, sums.N);
  std::fill_n(s.r, n, Real(0));
  s.replay.forget_innovations();
  cpu::kalman::add_likelihood_step(constant, t, b, Real(1), s);
  std::copy_n(sums.r, n, s.r);
  std::copy_n(sums.N, n * n, s.N);
}

/// Step t by the map of settled covariances, into the sums.
template <class Real>
void add_settled_step(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b, Real kappa,
                      BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, m = a.model.m;
  SettledSums<Real>& sums = s.sums;
  const auto& constants = sums.constants;
  const auto& observation = s.replay.observation();
  const Real *seen = s.settled.u(), *r = s.settled.r_predicted();
  cpu::kalman::add_residual(a, t, b, -kappa, seen, observation);
  cpu::kalman::add_state_inputs(a, t, b, kappa, r);
  std::fill_n(sums.u, m, Real(0));
  for (std::int64_t i = 0; i < observation.count(); ++i) sums.u[observation.index(i)] = seen[i];
  if (a.grad.C) cpu::add_outer(m, n, sums.u, sums.z, constants.C, sums.sums.C);
  for (std::int64_t i = 0; i < m; ++i) sums.half[i] = sums.u[i] / 2;
  if (a.grad.R && !a.model.diagonal_R) {
    cpu::add_outer(m, m, sums.half, sums.u, constants.R, sums.sums.R);
  } else if (a.grad.R) {
    for (std::int64_t i = 0; i < m; ++i) {
      sums.sums.R[i] += sums.half[i] * sums.u[i] + constants.R[i];
    }
  }
  for (std::int64_t i = 0; i < n; ++i) sums.half[i] = r[i] / 2;
  if (a.grad.Q) cpu::add_outer(n, n, sums.half, r, constants.Q, sums.sums.Q);
  std::copy_n(a.filtered.mean[cpu::kalman::row_of(layout, t - 1, b)], n, sums.z);
  cpu::axpy(n, Real(1), s.settled.Pr(), sums.z);
  if (a.grad.A) cpu::add_outer(n, n, r, sums.z, constants.A, sums.sums.A);
}

/// The sums of settled steps, of which t is one, go where gradients go.
template <class Real>
void end_settled(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b, Real kappa,
                 BackwardScratch<Real>& s) {
  const std::int64_t n = a.model.n, m = a.model.m;
  const auto& sums = s.sums.sums;
  const auto add = [&](const StepArray<Real>& to, const Real* sum, std::int64_t count) {
    if (to) cpu::axpy(count, kappa, sum, cpu::kalman::at(to, a.data.layout, t, b));
  };
  add(a.grad.A, sums.A, n * n);
  add(a.grad.Q, sums.Q, n * n);
  add(a.grad.C, sums.C, m * n);
  add(a.grad.R, sums.R, a.model.diagonal_R ? m : m * m);
  s.settled.leave();
}

/// Steps back of a sequence's log-likelihood times kappa whose covariances have settled, N with
/// them: from t, with r and N after its observation, as far as they go. \return the next step
template <class Real>
std::int64_t add_settled_steps(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b,
                               Real kappa, BackwardScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  begin_settled(a, t, b, s);
  for (; s.replay.same_at(t, b); --t) {
    s.settled.step(t, b, s.r, s.replay);
    add_settled_step(a, t, b, kappa, s);
    std::copy_n(s.settled.r(), n, s.r);
  }
  end_settled(a, t + 1, b, kappa, s);
  return t;
}

/// The gradient of a sequence's log-likelihood times kappa, while diffuse, from r and N after the
/// observation of the last diffuse step on.
template <class Real>
void backward_diffuse(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b, Real kappa,
                      BackwardScratch<Real>& s) {
  s.replay.enter_diffuse(t, b, s.r, s.N);
  for (; t >= 0; --t) {
    s.replay.run(t, b);
    cpu::kalman::add_likelihood_step(a, t, b, kappa, s);
    if (t == 0) break;
    cpu::kalman::go_back(a.model.n, cpu::kalman::at(a.model.A, a.data.layout, t, b), s.r, s.N, s);
  }
}

/// r and N from lambda and Lambda, and back.
template <class Real>
void to_r(std::int64_t n, Real kappa, BackwardScratch<Real>& s) {
  for (std::int64_t i = 0; i < n; ++i) s.r[i] = s.lambda[i] / kappa;
  for (std::int64_t i = 0; i < n * n; ++i) {
    s.N[i] = s.r[i / n] * s.r[i % n] - 2 * s.Lambda[i] / kappa;
  }
}
template <class Real>
void to_lambda(std::int64_t n, Real kappa, BackwardScratch<Real>& s) {
  for (std::int64_t i = 0; i < n; ++i) s.lambda[i] = kappa * s.r[i];
  for (std::int64_t i = 0; i < n * n; ++i) {
    s.Lambda[i] = kappa / 2 * (s.r[i / n] * s.r[i % n] - s.N[i]);
  }
}

/// N goes back over a step whose gains are those of the step after.
template <class Real>
void follow_N(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b,
              BackwardScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  s.settled.before_step(s.N);
  for (std::int64_t i = s.replay.count() - 1; i >= 0; --i) {
    const auto u = s.replay.update(i);
    cpu::kalman::step_back_N(n, s.replay.c(i), u, s.N, s.q);
  }
  const Real* A = cpu::kalman::at(a.model.A, a.data.layout, t, b);
  cpu::transposed_congruence(n, A, s.N, s.product, s.replay.scratch());
  std::copy_n(s.product, n * n, s.N);
  s.settled.after_step(t, b, s.N, s.replay);
}

template <class Real>
void backward_sequence(const KalmanBackwardArgs<Real>& a, std::int64_t b,
                       BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, nn = n * n, length = cpu::kalman::length_of(layout, b);
  const KalmanGradient<Real>& g = a.grad;
  const auto weight = [&](std::int64_t t) {
    return a.grad_log_likelihood ? *a.grad_log_likelihood[cpu::kalman::row_of(layout, t, b)]
                                 : Real(1);
  };
  bool likelihood_alone = !a.grad_mean && !a.grad_covariance;
  for (std::int64_t t = 1; likelihood_alone && a.model.diffuse == nullptr && t < length; ++t) {
    likelihood_alone = weight(t) == weight(0);
  }
  if (likelihood_alone && (length == 0 || weight(0) == 0)) return;
  const bool may_settle =
      likelihood_alone && g.A.step == 0 && g.Q.step == 0 && g.C.step == 0 && g.R.step == 0;
  std::fill_n(s.lambda, n, Real(0));
  std::fill_n(s.Lambda, nn, Real(0));
  s.replay.forget();
  s.settled.start();
  bool follows_N = false;  // since step t + 1 or later each step's gains are those of the one after
  for (std::int64_t t = length - 1; t >= 0; --t) {
    const Real kappa = weight(a.model.diffuse != nullptr ? 0 : t);
    if (t == s.replay.last_diffuse(b)) {
      to_r(n, kappa, s);
      return backward_diffuse(a, t, b, kappa, s);
    }
    const bool same = may_settle && s.replay.same_at(t, b);
    if (same && follows_N && s.settled.settled() && s.settled.map(t, b, s.replay)) {
      for (std::int64_t i = 0; i < n; ++i) s.r[i] = s.lambda[i] / kappa;
      t = add_settled_steps(a, t, b, kappa, s) + 1;
      to_lambda(n, kappa, s);
      follows_N = false, s.settled.start();
      continue;
    }
    const std::int64_t row = cpu::kalman::row_of(layout, t, b);
    if (a.grad_mean) cpu::axpy(n, Real(1), a.grad_mean[row], s.lambda);
    if (a.grad_covariance) cpu::axpy(nn, Real(1), a.grad_covariance[row], s.Lambda);
    if (same && !follows_N) to_r(n, kappa, s);
    follows_N = same;
    s.replay.run(t, b);
    if (g.R && !a.model.diagonal_R) cpu::kalman::add_full_noise(a, t, b, false, kappa, s);
    for (std::int64_t i = s.replay.count() - 1; i >= 0; --i) cpu::kalman::step_back(n, i, kappa, s);
    cpu::kalman::add_observation(a, t, b, s);
    cpu::kalman::add_transition(a, t, b, kappa, s);
    if (t == 0) break;
    cpu::kalman::go_back(n, cpu::kalman::at(a.model.A, layout, t, b), s.lambda, s.Lambda, s);
    if (follows_N) {
      follow_N(a, t, b, s);
    } else {
      s.settled.start();
    }
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

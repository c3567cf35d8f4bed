// The gradient of likelihoods over steps whose covariances have settled, and of sequences that
// share their covariances: outer products of each, and a constant.
#pragma once
#include "host/cpu/kalman_gradient.hpp"

namespace seqvae::cpu::kalman {

/// The constants of steps like t, of kappa = 1, from N after the observation of t.
template <class Real>
void find_constants(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b,
                    BackwardScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  SettledSums<Real>& sums = s.sums;
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

/// Those, and z of step t.
template <class Real>
void begin_settled(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b,
                   BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, row = cpu::kalman::row_of(layout, t, b);
  SettledSums<Real>& sums = s.sums;
  std::copy_n(a.filtered.mean[row], n, sums.z);
  cpu::add_multiply_vector(n, n, s.replay.covariance_of(t, b), s.r, sums.z);
  sums.clear(n, a.model.m, sums.sums);
  find_constants(a, t, b, s);
}
/// Step t by the map of settled covariances, into the sums.
template <class Real>
void add_settled_step(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b, Real kappa,
                      BackwardScratch<Real>& s) {
  const std::int64_t n = a.model.n, m = a.model.m;
  SettledSums<Real>& sums = s.sums;
  const auto& constants = sums.constants;
  const auto& observation = s.replay.observation();
  const Real *seen = s.reverse.u(), *r = s.reverse.r_predicted();
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
  std::copy_n(s.reverse.mean_before(), n, sums.z);
  cpu::axpy(n, Real(1), s.reverse.Pr(), sums.z);
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
  s.reverse.leave();
}

/// Steps back of a sequence's log-likelihood times kappa whose covariances have settled, N with
/// them: from t, with r and N after its observation, as far as they go but not before `begin`.
/// \return the next step
template <class Real>
std::int64_t add_settled_steps(const KalmanBackwardArgs<Real>& a, std::int64_t t,
                               std::int64_t begin, std::int64_t b, Real kappa,
                               BackwardScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  begin_settled(a, t, b, s);
  std::copy_n(s.r, n, s.reverse.r());
  for (; t >= begin && s.replay.same_at(t, b); --t) {
    s.reverse.step(t, s.replay);
    add_settled_step(a, t, b, kappa, s);
  }
  std::copy_n(s.reverse.r(), n, s.r);
  end_settled(a, t + 1, b, kappa, s);
  return t;
}

/// Step t of a group, back, and z of the step before it.
template <class Real>
void step_group_back(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t first,
                     std::int64_t count, BackwardScratch<Real>& s) {
  const std::int64_t size = a.model.n * count;
  s.reverse.step(t, s.replay);
  if (t == 0) return;
  if (!s.reverse.mapped()) s.reverse.find_Pr(s.replay.covariance_of(t - 1, first));
  std::copy_n(s.reverse.mean_before(), size, s.group.z_before);
  cpu::axpy(size, Real(1), s.reverse.Pr(), s.group.z_before);
}

/// The outer products of a group at step t, and what is one sequence's.
template <class Real>
void add_group_products(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t first,
                        std::int64_t count, BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, m = a.model.m;
  const KalmanGradient<Real>& g = a.grad;
  GroupSums<Real>& group = s.group;
  const Real *u = s.reverse.u(), *r = s.reverse.r_predicted();
  const auto place = [&](const StepArray<Real>& to) {
    return cpu::kalman::at(to, layout, t, first);
  };
  group.weigh(count, 1, m, u);
  if (g.C) group.add(count, m, n, group.z, place(g.C));
  group.weigh(count, Real(0.5), m, u);
  if (g.R && !a.model.diagonal_R) {
    group.add(count, m, m, u, place(g.R));
  } else if (g.R) {
    for (std::int64_t j = 0; j < m; ++j) {
      cpu::add_inner_products(1, 1, count, group.weighted + j * count, u + j * count,
                              place(g.R) + j);
    }
  }
  group.weigh(count, 1, n, r);
  if (t > 0 && g.A) group.add(count, n, n, group.z_before, place(g.A));
  group.weigh(count, Real(0.5), n, r);
  const StepArray<Real>& noise = t == 0 ? g.P0 : g.Q;
  if (noise) group.add(count, n, n, r, place(noise));
  std::swap(group.z, group.z_before);
  for (std::int64_t i = 0; (g.y || g.D || g.observation_offset) && i < count; ++i) {
    take_column(m, count, i, u, group.column);
    cpu::kalman::add_residual(a, t, first + i, -group.kappa[i], group.column,
                              s.replay.observation());
  }
  const bool of_inputs = t > 0 && (g.B || g.state_offset), of_prior = t == 0 && g.m0;
  for (std::int64_t i = 0; (of_inputs || of_prior) && i < count; ++i) {
    take_column(n, count, i, r, group.column);
    if (of_inputs) cpu::kalman::add_state_inputs(a, t, first + i, group.kappa[i], group.column);
    if (of_prior) {
      cpu::axpy(n, group.kappa[i], group.column, cpu::kalman::at(g.m0, layout, 0, first + i));
    }
  }
}

/// The gradient of the log-likelihoods of sequences first .. first + count, of one length, times
/// group.kappa. Nothing is missing, so that components are the columns of y.
template <class Real>
void backward_group(const KalmanBackwardArgs<Real>& a, std::int64_t first, std::int64_t count,
                    BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, m = a.model.m;
  const KalmanGradient<Real>& g = a.grad;
  GroupSums<Real>& group = s.group;
  std::int64_t t = cpu::kalman::length_of(layout, first) - 1;
  Real kappas = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    kappas += group.kappa[i];
    put_column(n, a.filtered.mean[cpu::kalman::row_of(layout, t, first + i)], count, i, group.z);
  }
  std::fill_n(s.reverse.r(), count * n, Real(0));
  std::fill_n(s.N, n * n, Real(0));
  s.replay.forget();
  s.reverse.start(first, count);
  bool same = false;  // step t + 1 had the gains of t + 2, and P_t is P_{t+1}
  for (; t >= 0; --t) {
    const bool kept = same && s.reverse.settled();
    same = s.replay.same_at(t, first);
    if (!same) s.reverse.start_settling();
    if (kept && same && s.reverse.mapped()) {  // constants stand
    } else if (kept && same && s.reverse.map(t, s.replay)) {
      std::fill_n(s.r, n, Real(0));
      find_constants(a, t, first, s);
    } else {
      s.reverse.leave();
      s.replay.run(t, first);
    }
    step_group_back(a, t, first, count, s);
    add_group_products(a, t, first, count, s);
    if (s.reverse.mapped()) {
      const auto& constants = s.sums.constants;
      const auto add = [&](const StepArray<Real>& to, const Real* constant, std::int64_t size) {
        if (to) cpu::axpy(size, kappas, constant, cpu::kalman::at(to, layout, t, first));
      };
      add(g.A, constants.A, n * n), add(g.Q, constants.Q, n * n), add(g.C, constants.C, m * n);
      add(g.R, constants.R, a.model.diagonal_R ? m : m * m);
      continue;
    }
    KalmanBackwardArgs<Real> constant = a;
    constant.grad.y = {}, constant.grad.B = constant.grad.D = {};
    constant.grad.state_offset = constant.grad.observation_offset = constant.grad.m0 = {};
    std::fill_n(s.r, n, Real(0));
    s.replay.forget_innovations();
    if (same) s.reverse.before_step(s.N);
    cpu::kalman::add_likelihood_step(constant, t, first, kappas, s);
    if (t == 0) break;
    cpu::kalman::go_back(n, cpu::kalman::at(a.model.A, layout, t, first), s.r, s.N, s);
    if (same) s.reverse.after_step(t, s.N, s.replay);
  }
}

}  // namespace seqvae::cpu::kalman

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
/// them: from t, with r and N after its observation, as far as they go but not before `begin`.
/// \return the next step
template <class Real>
std::int64_t add_settled_steps(const KalmanBackwardArgs<Real>& a, std::int64_t t,
                               std::int64_t begin, std::int64_t b, Real kappa,
                               BackwardScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  begin_settled(a, t, b, s);
  for (; t >= begin && s.replay.same_at(t, b); --t) {
    s.settled.step(t, b, 1, s.r, s.replay);
    add_settled_step(a, t, b, kappa, s);
    std::copy_n(s.settled.r(), n, s.r);
  }
  end_settled(a, t + 1, b, kappa, s);
  return t;
}

/// u, r before the observation and z of the step before, of each sequence of a group at step t,
/// from r after the observation; r goes on to the step before.
template <class Real>
void step_group_back(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t first,
                     std::int64_t count, BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, m = a.model.m, seen = s.replay.count();
  GroupSums<Real>& group = s.group;
  const bool mapped = s.settled.mapped();
  if (mapped) s.settled.step(t, first, count, group.r, s.replay);
  for (std::int64_t g = 0; g < count; ++g) {
    Real *r = group.r + g * n, *u = group.u + g * m, *before = group.z_before + g * n;
    if (mapped) {
      std::copy_n(s.settled.u(g), seen, u);
      std::copy_n(s.settled.r_predicted(g), n, group.r_predicted + g * n);
      std::copy_n(s.settled.r(g), n, r);
      std::copy_n(s.settled.Pr(g), n, before);
    } else {
      if (g > 0) t == 0 ? s.replay.run(t, first + g) : s.replay.run_mean(t, first + g);
      for (std::int64_t i = seen - 1; i >= 0; --i) {
        const auto update = s.replay.update(i);
        u[i] = update.v / update.f - cpu::dot(n, update.k, r);
        cpu::axpy(n, u[i], s.replay.c(i), r);
      }
      s.replay.observation().decorrelate_transposed(1, u);
      std::copy_n(r, n, group.r_predicted + g * n);
      if (t == 0) continue;
      const Real* A = cpu::kalman::at(a.model.A, layout, t, first);
      cpu::transposed_multiply_vector(n, n, A, group.r_predicted + g * n, r);
      cpu::multiply_vector(n, n, s.replay.covariance_of(t - 1, first), r, before);
    }
    cpu::axpy(n, Real(1), a.filtered.mean[cpu::kalman::row_of(layout, t - 1, first + g)], before);
  }
}

/// The outer products of a group at step t.
template <class Real>
void add_group_products(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t first,
                        std::int64_t count, BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, m = a.model.m;
  const KalmanGradient<Real>& g = a.grad;
  GroupSums<Real>& group = s.group;
  const auto place = [&](const StepArray<Real>& to) {
    return cpu::kalman::at(to, layout, t, first);
  };
  for (std::int64_t i = 0; i < count; ++i) {
    cpu::kalman::add_residual(a, t, first + i, -group.kappa[i], group.u + i * m,
                              s.replay.observation());
  }
  if (g.C) group.add(count, 1, m, group.u, n, group.z, place(g.C));
  if (g.R && !a.model.diagonal_R) {
    group.add(count, Real(0.5), m, group.u, m, group.u, place(g.R));
  } else if (g.R) {
    for (std::int64_t i = 0; i < count; ++i) {
      const Real* u = group.u + i * m;
      for (std::int64_t j = 0; j < m; ++j) place(g.R)[j] += group.kappa[i] / 2 * u[j] * u[j];
    }
  }
  const Real* r = group.r_predicted;
  if (t == 0) {
    if (g.P0) group.add(count, Real(0.5), n, r, n, r, place(g.P0));
    for (std::int64_t i = 0; g.m0 && i < count; ++i) {
      cpu::axpy(n, group.kappa[i], r + i * n, cpu::kalman::at(g.m0, layout, 0, first + i));
    }
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    cpu::kalman::add_state_inputs(a, t, first + i, group.kappa[i], r + i * n);
  }
  if (g.Q) group.add(count, Real(0.5), n, r, n, r, place(g.Q));
  if (g.A) group.add(count, 1, n, r, n, group.z_before, place(g.A));
  std::swap(group.z, group.z_before);
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
    std::copy_n(a.filtered.mean[cpu::kalman::row_of(layout, t, first + i)], n, group.z + i * n);
  }
  std::fill_n(group.r, count * n, Real(0));
  std::fill_n(s.N, n * n, Real(0));
  s.replay.forget();
  s.settled.start();
  bool same = false;  // step t + 1 had the gains of t + 2, and P_t is P_{t+1}
  for (; t >= 0; --t) {
    const bool kept = same && s.settled.settled();
    same = s.replay.same_at(t, first);
    if (kept && same && s.settled.mapped()) {  // constants stand
    } else if (kept && same && s.settled.map(t, first, s.replay)) {
      std::fill_n(s.r, n, Real(0));
      find_constants(a, t, first, s);
    } else {
      s.settled.leave();
      s.replay.run(t, first);
    }
    step_group_back(a, t, first, count, s);
    add_group_products(a, t, first, count, s);
    if (s.settled.mapped()) {
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
    if (same) s.settled.before_step(s.N);
    cpu::kalman::add_likelihood_step(constant, t, first, kappas, s);
    if (t == 0) break;
    cpu::kalman::go_back(n, cpu::kalman::at(a.model.A, layout, t, first), s.r, s.N, s);
    if (same) {
      s.settled.after_step(t, first, s.N, s.replay);
    } else {
      s.settled.start();
    }
  }
}

}  // namespace seqvae::cpu::kalman

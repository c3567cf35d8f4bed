// The filter in reverse mode, backward in time (kalman_gradient.hpp has a step's part).
#include "host/cpu/kalman_gradient.hpp"
#include "host/cpu/kalman_threads.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::BackwardScratch;
using cpu::kalman::for_each_array;
using cpu::kalman::GroupSums;
using cpu::kalman::Parts;
using cpu::kalman::SettledSums;
using cpu::kalman::Threads;

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
/// them: from t, with r and N after its observation, as far as they go. \return the next step
template <class Real>
std::int64_t add_settled_steps(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b,
                               Real kappa, BackwardScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  begin_settled(a, t, b, s);
  for (; s.replay.same_at(t, b); --t) {
    s.settled.step(t, b, 1, s.r, s.replay);
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

/// Whether all rows of a sequence have the same gradient of their log-likelihood, and which.
template <class Real>
bool one_weight(const KalmanBackwardArgs<Real>& a, std::int64_t b, std::int64_t length,
                Real* weight) {
  const auto at = [&](std::int64_t t) {
    return a.grad_log_likelihood ? *a.grad_log_likelihood[cpu::kalman::row_of(a.data.layout, t, b)]
                                 : Real(1);
  };
  *weight = length > 0 ? at(0) : Real(0);
  for (std::int64_t t = 1; t < length; ++t) {
    if (at(t) != *weight) return false;
  }
  return true;
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
  Real first = 0;
  const bool likelihood_alone = !a.grad_mean && !a.grad_covariance && !s.smoothed.given() &&
                                (a.model.diffuse != nullptr || one_weight(a, b, length, &first));
  if (likelihood_alone && (length == 0 || weight(0) == 0)) return;
  const bool may_settle =
      likelihood_alone && g.A.step == 0 && g.Q.step == 0 && g.C.step == 0 && g.R.step == 0;
  if (s.smoothed.given()) s.smoothed.run(b, length, s.replay);
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
    if (s.smoothed.given()) s.smoothed.add_filtered(t, s.lambda, s.Lambda);
    if (same && !follows_N) to_r(n, kappa, s);
    follows_N = same;
    s.replay.run(t, b);
    if (g.R && !a.model.diagonal_R) cpu::kalman::add_full_noise(a, t, b, false, kappa, s);
    for (std::int64_t i = s.replay.count() - 1; i >= 0; --i) cpu::kalman::step_back(n, i, kappa, s);
    cpu::kalman::add_observation(a, t, b, s);
    if (s.smoothed.given()) s.smoothed.add_predicted(t, s.lambda, s.Lambda);
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

/// The gradient of a call, of parts of its sequences on threads. What all of them share is summed
/// part by part first.
template <class Real>
class Backward {
 public:
  Backward(const KalmanBackwardArgs<Real>& a, Arena& arena)
      : a_(a),
        together_(cpu::kalman::are_together(a)),
        grad_(cpu::kalman::without_prior_steps(a.grad)),
        parts_(parts_of(a, together_)),
        threads_(
            a.pool,
            [&a, most = together_ ? parts_.size : 1](Arena& from) {
              return BackwardScratch<Real>(a, most, from);
            },
            arena) {
    KalmanGradient<Real> shared = grad_;
    visit_shared(shared, [this](StepArray<Real>&, std::int64_t entries) { entries_ += entries; });
    if (parts_.count() > 1) sums_ = arena.take<Real>(parts_.count() * entries_);
  }

  void run() {
    if (!a_.accumulate) cpu::kalman::clear(grad_, a_.model, a_.data.layout);
    if (sums_ != nullptr) std::fill_n(sums_, parts_.count() * entries_, Real(0));
    threads_.deal(a_.workspace, parts_.count(), [this](std::int64_t i, BackwardScratch<Real>& s) {
      s.args.grad = grad_;
      if (sums_ != nullptr) {
        Real* sum = sums_ + i * entries_;
        visit_shared(s.args.grad, [&](StepArray<Real>& array, std::int64_t entries) {
          array.data = sum;
          sum += entries;
        });
      }
      run_part(i, s);
    });
    if (sums_ == nullptr) return;
    for (std::int64_t i = 0; i < parts_.count(); ++i) {
      const Real* sum = sums_ + i * entries_;
      visit_shared(grad_, [&](StepArray<Real>& array, std::int64_t entries) {
        cpu::axpy(entries, Real(1), sum, array.data);
        sum += entries;
      });
    }
  }

 private:
  static Parts parts_of(const KalmanBackwardArgs<Real>& a, bool together) {
    KalmanGradient<Real> g = cpu::kalman::without_prior_steps(a.grad);
    bool of_steps = false;  // a sum for each: no room for one a part
    for_each_array(g, a.model, [&](const StepArray<Real>& array, std::int64_t) {
      of_steps = of_steps || (array && array.sequence == 0 && array.step != 0);
    });
    const std::int64_t B = a.data.layout.B;
    return of_steps ? cpu::kalman::make_parts(B, B) : cpu::kalman::parts_to_sum(B, together);
  }
  /// Calls visit(array, entries) for each array that all sequences share.
  template <class Visit>
  void visit_shared(KalmanGradient<Real>& g, const Visit& visit) const {
    for_each_array(g, a_.model, [&](StepArray<Real>& array, std::int64_t entries) {
      if (array && array.sequence == 0) visit(array, entries);
    });
  }

  void run_part(std::int64_t part, BackwardScratch<Real>& s) const {
    const RowLayout& layout = a_.data.layout;
    const std::int64_t last = parts_.end(part);
    for (std::int64_t b = parts_.begin(part); b < last;) {
      // As many as are of one length and have one weight each.
      const std::int64_t length = cpu::kalman::length_of(layout, b);
      std::int64_t end = b;
      while (together_ && length > 0 && end < last &&
             cpu::kalman::length_of(layout, end) == length &&
             one_weight(a_, end, length, &s.group.kappa[end - b])) {
        ++end;
      }
      if (end - b > 1) {
        backward_group(s.args, b, end - b, s);
        b = end;
      } else {
        backward_sequence(s.args, b++, s);
      }
    }
  }

  const KalmanBackwardArgs<Real>& a_;
  bool together_;
  KalmanGradient<Real> grad_;
  Parts parts_;
  Threads<BackwardScratch<Real>> threads_;
  std::int64_t entries_ = 0;  // of all shared arrays
  Real* sums_ = nullptr;      // of each part, [parts][entries]
};

}  // namespace

template <class Real>
std::size_t kalman_workspace_bytes(const KalmanBackwardArgs<Real>& args) {
  Arena arena;
  Backward<Real>(args, arena);
  return arena.used();
}

template std::size_t kalman_workspace_bytes(const KalmanBackwardArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanBackwardArgs<double>&);

namespace cpu {

template <class Real>
void kalman_backward(const KalmanBackwardArgs<Real>& a) {
  check(a);
  Arena arena(a.workspace);
  Backward<Real>(a, arena).run();
}

template void kalman_backward(const KalmanBackwardArgs<float>&);
template void kalman_backward(const KalmanBackwardArgs<double>&);

}  // namespace cpu
}  // namespace seqvae

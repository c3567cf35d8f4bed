// The filter in reverse mode, backward in time (kalman_gradient.hpp has a step's part).
#include "host/cpu/kalman_gradient_settled.hpp"
#include "host/cpu/kalman_threads.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::BackwardScratch;
using cpu::kalman::for_each_array;
using cpu::kalman::Parts;
using cpu::kalman::Threads;

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
  s.reverse.before_step(s.N);
  for (std::int64_t i = s.replay.count() - 1; i >= 0; --i) {
    const auto u = s.replay.update(i);
    cpu::kalman::step_back_N(n, s.replay.c(i), u, s.N, s.q);
  }
  const Real* A = cpu::kalman::at(a.model.A, a.data.layout, t, b);
  cpu::transposed_congruence(n, A, s.N, s.product, s.replay.scratch());
  std::copy_n(s.product, n * n, s.N);
  s.reverse.after_step(t, s.N, s.replay);
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

/// The gradient of row t's log-likelihood; with diffuse states that of the sequence's first row.
template <class Real>
Real weight_of(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b) {
  if (!a.grad_log_likelihood) return 1;
  const std::int64_t row = a.model.diffuse != nullptr ? 0 : t;
  return *a.grad_log_likelihood[cpu::kalman::row_of(a.data.layout, row, b)];
}

/// What comes by row t's filtered moments, to s.lambda and s.Lambda.
template <class Real>
void add_moments(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b,
                 BackwardScratch<Real>& s) {
  const std::int64_t n = a.model.n, row = cpu::kalman::row_of(a.data.layout, t, b);
  if (a.grad_mean) cpu::axpy(n, Real(1), a.grad_mean[row], s.lambda);
  if (a.grad_covariance) cpu::axpy(n * n, Real(1), a.grad_covariance[row], s.Lambda);
}

/// Whether all steps add to one gradient, that of likelihoods alone.
template <class Real>
bool may_settle(const KalmanBackwardArgs<Real>& a) {
  const KalmanGradient<Real>& g = a.grad;
  return !a.grad_mean && !a.grad_covariance && !a.grad_smoothed_mean &&
         !a.grad_smoothed_covariance && g.A.step == 0 && g.Q.step == 0 && g.C.step == 0 &&
         g.R.step == 0;
}

/// Steps begin .. end of sequence b, from s.lambda and s.Lambda after them; where they have
/// settled, from s.r and s.N. With diffuse states, or gradients of smoothed moments: all of the
/// sequence. `stop` > 0: on to what is before the first step, a multiple of `stop` where steps have
/// settled. \return the first step
template <class Real>
std::int64_t backward_steps(const KalmanBackwardArgs<Real>& a, std::int64_t b, std::int64_t begin,
                            std::int64_t end, bool& settled, std::int64_t stop,
                            BackwardScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, length = cpu::kalman::length_of(layout, b);
  const KalmanGradient<Real>& g = a.grad;
  Real first = 0;
  const bool likelihood_alone = !a.grad_mean && !a.grad_covariance && !s.smoothed.given() &&
                                (a.model.diffuse != nullptr || one_weight(a, b, length, &first));
  if (likelihood_alone && (length == 0 || weight_of(a, 0, b) == 0)) return begin;
  const bool settles = likelihood_alone && may_settle(a);
  if (s.smoothed.given()) s.smoothed.run(b, length, s.replay);
  bool follows_N = settled;  // since step t + 1 or later the gains are those of the step after
  if (settled) {
    s.reverse.resume(end - 1, b, s.replay);
    to_lambda(n, weight_of(a, end - 1, b), s);
    settled = false;
  } else {
    s.replay.forget();
    s.reverse.start(b, 1);
  }
  for (std::int64_t t = end - 1; t >= begin; --t) {
    const Real kappa = weight_of(a, t, b);
    if (t == s.replay.last_diffuse(b)) {
      to_r(n, kappa, s);
      backward_diffuse(a, t, b, kappa, s);
      return begin;
    }
    const bool same = settles && s.replay.same_at(t, b);
    if (same && follows_N && s.reverse.settled() && s.reverse.map(t, s.replay)) {
      for (std::int64_t i = 0; i < n; ++i) s.r[i] = s.lambda[i] / kappa;
      const std::int64_t to = stop > 0 ? t / stop * stop : begin;
      t = add_settled_steps(a, t, to, b, kappa, s) + 1;
      settled = stop > 0 && t == to && t > 0;
      if (settled || t == begin) return t;
      to_lambda(n, kappa, s);
      follows_N = false, s.reverse.start_settling();
      continue;
    }
    add_moments(a, t, b, s);
    if (s.smoothed.given()) s.smoothed.add_filtered(t, s.lambda, s.Lambda);
    if (same && !follows_N) to_r(n, kappa, s);
    follows_N = same;
    if (!same) s.reverse.start_settling();
    s.replay.run(t, b);
    if (g.R && !a.model.diagonal_R) cpu::kalman::add_full_noise(a, t, b, false, kappa, s);
    for (std::int64_t i = s.replay.count() - 1; i >= 0; --i) cpu::kalman::step_back(n, i, kappa, s);
    cpu::kalman::add_observation(a, t, b, s);
    if (s.smoothed.given()) s.smoothed.add_predicted(t, s.lambda, s.Lambda);
    cpu::kalman::add_transition(a, t, b, kappa, s);
    if (t == 0 || (t == begin && stop == 0)) break;
    cpu::kalman::go_back(n, cpu::kalman::at(a.model.A, layout, t, b), s.lambda, s.Lambda, s);
    if (follows_N) follow_N(a, t, b, s);
  }
  return begin;
}

/// The same steps, begin >= 1, as a map of lambda and Lambda.
template <class Real>
void summarise(const KalmanBackwardArgs<Real>& a, std::int64_t b, std::int64_t begin,
               std::int64_t end, const cpu::kalman::ReverseSummary<Real>& summary,
               BackwardScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  std::fill_n(s.lambda, n, Real(0));
  std::fill_n(s.Lambda, n * n, Real(0));
  s.summariser.start(summary);
  s.replay.forget();
  for (std::int64_t t = end - 1; t >= begin; --t) {
    const Real kappa = weight_of(a, t, b);
    add_moments(a, t, b, s);
    s.replay.run(t, b);
    for (std::int64_t i = s.replay.count() - 1; i >= 0; --i) cpu::kalman::step_back(n, i, kappa, s);
    s.summariser.step(t, b, s.replay, true, summary);
    const Real* A = cpu::kalman::at(a.model.A, a.data.layout, t, b);
    cpu::kalman::go_back(n, A, s.lambda, s.Lambda, s);
  }
  std::copy_n(s.lambda, n, summary.w);
  std::copy_n(s.Lambda, n * n, summary.G);
}

/// The gradient of a call: of parts of its sequences on threads, or of their chunks. What several
/// of these add to is summed by each apart first, then in order.
template <class Real>
class Backward {
  using Scratch = BackwardScratch<Real>;

 public:
  Backward(const KalmanBackwardArgs<Real>& a, Arena& arena)
      : a_(a),
        together_(cpu::kalman::are_together(a)),
        grad_(cpu::kalman::without_prior_steps(a.grad)),
        one_for_all_(has_sums_of_steps()),
        parts_(one_for_all_ ? cpu::kalman::make_parts(a.data.layout.B, a.data.layout.B)
                            : cpu::kalman::parts_to_sum(a.data.layout.B, together_)),
        threads_(
            a.pool,
            [&a, most = together_ ? parts_.size : 1](Arena& from) {
              return Scratch(a, most, from);
            },
            arena),
        chunks_(a.model.n, a.data.layout, a.filtered, chunk_length(),
                cpu::kalman::is_constant(a.model, a.data) && may_settle(a), arena) {
    visit_summed(grad_, [this](StepArray<Real>&, std::int64_t entries) { entries_ += entries; });
    if (units() > 1) sums_ = arena.take<Real>(units() * entries_);
  }

  void run() {
    if (!a_.accumulate) cpu::kalman::clear(grad_, a_.model, a_.data.layout);
    if (sums_ != nullptr) std::fill_n(sums_, units() * entries_, Real(0));
    if (chunks_.count() > 1) find_starts();
    threads_.deal(a_.workspace, units(), [this](std::int64_t i, Scratch& s) {
      aim(i, s);
      chunks_.count() > 1 ? run_chunk(i, s) : run_part(i, s);
    });
    for (std::int64_t i = 0; sums_ != nullptr && i < units(); ++i) {
      const Real* sum = sums_ + i * entries_;
      visit_summed(grad_, [&](StepArray<Real>& array, std::int64_t entries) {
        cpu::axpy(entries, Real(1), sum, array.data + chunks_.sequence(i) * array.sequence);
        sum += entries;
      });
    }
  }

 private:
  std::int64_t units() const { return chunks_.count() > 1 ? chunks_.all() : parts_.count(); }
  /// What unit i finds goes to its own sums.
  void aim(std::int64_t i, Scratch& s) const {
    s.args.grad = grad_;
    if (sums_ == nullptr) return;
    Real* sum = sums_ + i * entries_;
    visit_summed(s.args.grad, [&](StepArray<Real>& array, std::int64_t entries) {
      array = StepArray<Real>(sum, 0, 0);
      sum += entries;
    });
  }

  /// Whether a gradient is summed over sequences for each step: there is no room for one a part.
  bool has_sums_of_steps() const {
    bool has = false;
    KalmanGradient<Real> g = grad_;
    for_each_array(g, a_.model, [&](const StepArray<Real>& array, std::int64_t) {
      has = has || (array && array.sequence == 0 && array.step != 0);
    });
    return has && a_.data.layout.B > 1;
  }
  /// All steps where sequences go together, or are diffuse, or their smoothed moments are asked
  /// for.
  std::int64_t chunk_length() const {
    const RowLayout& layout = a_.data.layout;
    if ((together_ && layout.B > 1) || one_for_all_ || a_.model.diffuse != nullptr ||
        a_.grad_smoothed_mean || a_.grad_smoothed_covariance) {
      return layout.T;
    }
    return a_.chunk > 0 ? a_.chunk
                        : cpu::kalman::default_chunk(a_.model, a_.data, threads_.count());
  }

  /// Calls visit(array, entries) for each array that several units add to: parts to what all
  /// sequences share, chunks to what all steps share.
  template <class Visit>
  void visit_summed(KalmanGradient<Real>& g, const Visit& visit) const {
    for_each_array(g, a_.model, [&](StepArray<Real>& array, std::int64_t entries) {
      if (array && (chunks_.count() > 1 ? array.step : array.sequence) == 0) visit(array, entries);
    });
  }

  void run_part(std::int64_t part, Scratch& s) const {
    const RowLayout& layout = a_.data.layout;
    const std::int64_t n = a_.model.n, last = parts_.end(part);
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
        std::fill_n(s.lambda, n, Real(0));
        std::fill_n(s.Lambda, n * n, Real(0));
        bool settled = false;
        backward_steps(s.args, b, 0, length, settled, 0, s);
        ++b;
      }
    }
  }

  void find_starts() const {
    const std::int64_t n = a_.model.n, B = a_.data.layout.B;
    if (chunks_.constant()) {
      threads_.deal(a_.workspace, B, [this](std::int64_t b, Scratch& s) { begin_chunks(b, s); });
    }
    threads_.deal(a_.workspace, chunks_.all(), [this, n](std::int64_t i, Scratch& s) {
      if (!chunks_.needs_summary(i)) return;
      const std::int64_t b = chunks_.sequence(i);
      if (!chunks_.is_settled(i)) {
        return summarise(a_, b, chunks_.begin(i), chunks_.end(i), chunks_.summary(i), s);
      }
      s.reverse.map_back(chunks_.begin(i), chunks_.end(i), b, s.replay);
      std::copy_n(s.reverse.r(), n, chunks_.summary(i).w);
    });
    threads_.deal(a_.workspace, B, [this, n](std::int64_t b, Scratch& s) {
      chunks_.find_starts(b, s.summariser, s.r, s.N, [&] {
        to_lambda(n, weight_of(a_, 0, b), s);
        std::copy_n(s.lambda, n, s.r);
        std::copy_n(s.Lambda, n * n, s.N);
      });
    });
  }
  /// The last chunks of sequence b, until they have settled; what they find is the last's.
  void begin_chunks(std::int64_t b, Scratch& s) const {
    const std::int64_t n = a_.model.n, length = cpu::kalman::length_of(a_.data.layout, b);
    const std::int64_t last = std::max<std::int64_t>(length - 1, 0) / chunks_.length();
    aim(b * chunks_.count() + last, s);
    std::fill_n(s.lambda, n, Real(0));
    std::fill_n(s.Lambda, n * n, Real(0));
    bool settled = false;
    const std::int64_t t =
        backward_steps(s.args, b, chunks_.begin_in_turn(b), length, settled, chunks_.length(), s);
    if (!settled) return chunks_.take(b, t, false, s.lambda, s.Lambda);
    chunks_.take(b, t, true, s.r, s.N);
    s.reverse.raise_transition(chunks_.length(), t, s.replay, chunks_.power(b));
  }
  void run_chunk(std::int64_t i, Scratch& s) const {
    if (!chunks_.is_left(i)) return;
    bool settled = chunks_.starts_settled(i);
    settled ? chunks_.read_start(i, s.r, s.N) : chunks_.read_start(i, s.lambda, s.Lambda);
    backward_steps(s.args, chunks_.sequence(i), chunks_.begin(i), chunks_.end(i), settled, 0, s);
  }

  const KalmanBackwardArgs<Real>& a_;
  bool together_;
  KalmanGradient<Real> grad_;
  bool one_for_all_;
  Parts parts_;
  Threads<Scratch> threads_;
  cpu::kalman::ReverseChunks<Real> chunks_;
  std::int64_t entries_ = 0;  // of all arrays that several units add to
  Real* sums_ = nullptr;      // of each unit, [units][entries]
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

// The smoother, backward in time: r and N with E[z_t | y] = m + P r and Cov[z_t | y] = P - P N P,
// where m and P are filtered moments (Durbin and Koopman 2012, section 4.4). While diffuse, m and P
// are those given omega (kalman_replay.hpp), and z_t moves with it by D = F - P N F. Where P, the
// gains and N have settled, so have the smoothed covariances: they are copied (kalman_reverse.hpp).
#include "host/cpu/kalman_reverse.hpp"
#include "host/cpu/kalman_reverse_chunks.hpp"
#include "host/cpu/kalman_threads.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::Moments;
using cpu::kalman::Parts;
using cpu::kalman::Threads;

template <class Real>
struct SmootherScratch {
  cpu::kalman::Replay<Real> replay;
  cpu::kalman::GroupReverse<Real> reverse;
  cpu::kalman::ReverseSummariser<Real> summariser;
  Moments<Real> filtered, before;  // of this step and of the one before it
  Real *N, *vector, *first, *second;
  Real *D = nullptr, *D_later = nullptr;  // of this step and of the one after it, [n][q]

  SmootherScratch(const KalmanSmootherArgs<Real>& a, std::int64_t most, Arena& arena)
      : replay(a.model, a.data, a.filtered, false, arena),
        reverse(a.model, a.data, a.filtered, false, most, arena),
        summariser(a.model, a.data, arena),
        filtered(a.model.n, a.model.diffuse != nullptr, arena),
        before(a.model.n, a.model.diffuse != nullptr, arena) {
    const std::int64_t n = a.model.n;
    vector = arena.take<Real>(n);
    for (Real** p : {&N, &first, &second}) *p = arena.take<Real>(n * n);
    if (a.model.diffuse == nullptr) return;
    for (Real** p : {&D, &D_later}) *p = arena.take<Real>(n * n);
  }
};

/// D = F - P N F
template <class Real>
void delta_moves(std::int64_t n, const Moments<Real>& s, SmootherScratch<Real>& scratch, Real* D) {
  cpu::multiply(n, n, s.q, scratch.N, s.X, scratch.first);
  cpu::multiply(n, n, s.q, s.P, scratch.first, scratch.second);
  for (std::int64_t i = 0; i < n * s.q; ++i) D[i] = s.X[i] - scratch.second[i];
}

/// out += D E^T
template <class Real>
void add_delta(std::int64_t n, std::int64_t q, const Real* D, const Real* E, Real* out) {
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) out[i * n + j] += cpu::dot(q, D + i * q, E + j * q);
  }
}

/// E[z_t | y] of sequences first .. first + count.
template <class Real>
void write_means(const KalmanSmootherArgs<Real>& a, std::int64_t t, std::int64_t first,
                 std::int64_t count, SmootherScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  if (!a.mean) return;
  const Real* Pr = s.reverse.mapped() ? s.reverse.Pr() : s.reverse.find_Pr(s.filtered.P);
  for (std::int64_t g = 0; g < count; ++g) {
    const std::int64_t row = cpu::kalman::row_of(a.data.layout, t, first + g);
    const Real* m = s.filtered.q > 0 ? s.filtered.m : a.filtered.mean[row];
    Real* mean = a.mean[row];
    for (std::int64_t i = 0; i < n; ++i) mean[i] = m[i] + Pr[i * count + g];
  }
}

template <class Real>
Real* covariance_of(const KalmanSmootherArgs<Real>& a, const Rows<Real>& out, std::int64_t t,
                    std::int64_t b) {
  return out[cpu::kalman::covariance_row(a.data.layout, a.shared_covariance, t, b)];
}

/// What stands at step t of the first of a group goes to the others.
template <class Real>
void copy_to_others(const KalmanSmootherArgs<Real>& a, const Rows<Real>& out, std::int64_t t,
                    std::int64_t first, std::int64_t count) {
  const Real* from = covariance_of(a, out, t, first);
  for (std::int64_t g = 1; !a.shared_covariance && g < count; ++g) {
    std::copy_n(from, a.model.n * a.model.n, covariance_of(a, out, t, first + g));
  }
}

template <class Real>
void write_covariance(const KalmanSmootherArgs<Real>& a, std::int64_t t, std::int64_t b,
                      SmootherScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  const Moments<Real>& f = s.filtered;
  Real* out = covariance_of(a, a.covariance, t, b);
  cpu::congruence(n, n, f.P, s.N, s.first, s.replay.scratch());
  for (std::int64_t i = 0; i < n * n; ++i) out[i] = f.P[i] - s.first[i];
  if (f.q > 0) add_delta(n, f.q, s.D, s.D, out);
}

/// Cov(z_t, z_{t-1} | y) = (I - P N) L A P' + D_t D_{t-1}^T with P and N after the observation of
/// t, L the product of its components' I - k c^T, and P' filtered at t - 1. It equals (I - P N) A
/// P' with those before the observation, where precise observations leave no digits of I - P N.
template <class Real>
void write_lag_one(const KalmanSmootherArgs<Real>& a, std::int64_t t, std::int64_t b,
                   SmootherScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  const Real* A = cpu::kalman::at(a.model.A, a.data.layout, t, b);
  Real* out = covariance_of(a, a.lag_one, t, b);
  s.replay.filtered_moments(t - 1, b, s.replay.diffuse(t, b), s.before);
  cpu::multiply(n, n, n, A, s.before.P, out);
  for (std::int64_t i = 0; i < s.replay.count(); ++i) {
    const Real* k = s.replay.update(i).k;
    cpu::transposed_multiply_vector(n, n, out, s.replay.c(i), s.vector);
    for (std::int64_t j = 0; j < n; ++j) cpu::axpy(n, -k[j], s.vector, out + j * n);
  }
  cpu::multiply(n, n, n, s.N, out, s.first);
  cpu::multiply(n, n, n, s.filtered.P, s.first, s.second);
  for (std::int64_t i = 0; i < n * n; ++i) out[i] -= s.second[i];
}

/// N from after the observation of step t >= 1 to that of t - 1. `same`: its gains are those of the
/// step after.
template <class Real>
void step_back_N(const KalmanSmootherArgs<Real>& a, std::int64_t t, std::int64_t b, bool same,
                 SmootherScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  if (same) s.reverse.before_step(s.N);
  for (std::int64_t i = s.replay.count() - 1; i >= 0; --i) {
    cpu::kalman::step_back_N(n, s.replay.c(i), s.replay.update(i), s.N, s.vector);
  }
  const Real* A = cpu::kalman::at(a.model.A, a.data.layout, t, b);
  cpu::transposed_congruence(n, A, s.N, s.first, s.replay.scratch());
  std::copy_n(s.first, n * n, s.N);
  if (same) s.reverse.after_step(t, s.N, s.replay);
}

/// Steps begin .. end of sequences first .. first + count from s.reverse.r() and s.N after them.
/// Diffuse states: one sequence, all of it. `like`: a step that settled with those after `end`, or
/// -1. `stop` > 0: on to r and N before the first step, which is a multiple of `stop` where steps
/// have settled. \return the first step
template <class Real>
std::int64_t smooth(const KalmanSmootherArgs<Real>& a, std::int64_t first, std::int64_t count,
                    std::int64_t begin, std::int64_t end, std::int64_t like, std::int64_t stop,
                    SmootherScratch<Real>& s) {
  const std::int64_t n = a.model.n, last = end - 1;
  auto& replay = s.replay;
  bool same = like >= 0;  // step t + 1 had the gains of t + 2, and P_t is P_{t+1}
  if (same) {
    s.reverse.resume(last, first, replay);
  } else {
    s.reverse.start(first, count);
    replay.forget();
  }
  const bool writes = !a.shared_covariance || first == 0;  // covariances
  const auto copy = [&](const Rows<Real>& out, std::int64_t t) {
    const std::int64_t from = t == last ? like : t + 1;
    std::copy_n(covariance_of(a, out, from, first), n * n, covariance_of(a, out, t, first));
  };
  for (std::int64_t t = last; t >= begin; --t) {
    if (t == replay.last_diffuse(first)) replay.enter_diffuse(t, first, s.reverse.r(), s.N);
    const bool diffuse = replay.diffuse(t, first);
    const bool kept = same && s.reverse.settled() && !diffuse;
    if (!kept || t == last) replay.filtered_moments(t, first, diffuse, s.filtered);
    if (s.filtered.q > 0) delta_moves(n, s.filtered, s, s.D);
    write_means(a, t, first, count, s);
    if (a.covariance && writes) {
      kept ? copy(a.covariance, t) : write_covariance(a, t, first, s);
      copy_to_others(a, a.covariance, t, first, count);
    }
    if (a.lag_one && t < last && replay.diffuse(t + 1, first)) {  // step t + 1 waited for D
      add_delta(n, s.filtered.q, s.D_later, s.D, covariance_of(a, a.lag_one, t + 1, first));
    }
    std::swap(s.D, s.D_later);
    same = replay.same_at(t, first);
    if (!same) s.reverse.start_settling();
    const bool mapped = kept && same && s.reverse.map(t, replay);
    if (!mapped) {
      s.reverse.leave();
      replay.run(t, first);
    }
    if (a.lag_one && writes) {
      if (t == 0) {
        std::fill_n(covariance_of(a, a.lag_one, t, first), n * n, Real(0));
      } else if (kept && same) {
        copy(a.lag_one, t);
      } else {
        write_lag_one(a, t, first, s);
      }
      copy_to_others(a, a.lag_one, t, first, count);
    }
    if (t == 0 || (t == begin && stop == 0)) break;
    s.reverse.step(t, replay);
    if (!mapped) step_back_N(a, t, first, same, s);
    if (stop > 0 && mapped && t % stop == 0) return t;
  }
  return begin;
}

/// Steps begin .. end of sequence b as a map of r and N.
template <class Real>
void summarise(const KalmanSmootherArgs<Real>& a, std::int64_t b, std::int64_t begin,
               std::int64_t end, const cpu::kalman::ReverseSummary<Real>& summary,
               SmootherScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  std::fill_n(s.reverse.r(), n, Real(0));
  std::fill_n(s.N, n * n, Real(0));
  s.reverse.start(b, 1);
  s.summariser.start(summary);
  s.replay.forget();
  for (std::int64_t t = end - 1; t >= begin; --t) {
    s.replay.run(t, b);
    s.summariser.step(t, b, s.replay, false, summary);
    s.reverse.step(t, s.replay);
    step_back_N(a, t, b, false, s);
  }
  std::copy_n(s.reverse.r(), n, summary.w);
  std::copy_n(s.N, n * n, summary.G);
}

/// The smoother of a call: sequences that share their covariances and are of one length go
/// together, others in chunks where that is asked for.
template <class Real>
class Smoother {
 public:
  Smoother(const KalmanSmootherArgs<Real>& a, Arena& arena)
      : a_(a),
        together_(cpu::kalman::covariances_are_shared(a.model, a.data)),
        parts_(cpu::kalman::parts_for(a.data.layout.B, together_,
                                      a.pool != nullptr ? a.pool->count() : 1)),
        threads_(
            a.pool,
            [&a, most = parts_.size](Arena& from) { return SmootherScratch<Real>(a, most, from); },
            arena),
        chunks_(a.model.n, a.data.layout, a.filtered, chunk_of(a, together_),
                cpu::kalman::is_constant(a.model, a.data), arena) {}

  void run() const {
    if (chunks_.count() > 1) return run_chunks();
    threads_.deal(a_.workspace, parts_.count(), [this](std::int64_t i, SmootherScratch<Real>& s) {
      for (std::int64_t b = parts_.begin(i); b < parts_.end(i);) {
        std::int64_t end = b + 1;
        while (together_ && end < parts_.end(i) && length(end) == length(b)) ++end;
        std::fill_n(s.reverse.r(), (end - b) * a_.model.n, Real(0));
        std::fill_n(s.N, a_.model.n * a_.model.n, Real(0));
        smooth(a_, b, end - b, 0, length(b), -1, 0, s);
        b = end;
      }
    });
  }

 private:
  /// One step after the other where sequences go together, or are diffuse.
  static std::int64_t chunk_of(const KalmanSmootherArgs<Real>& a, bool together) {
    const RowLayout& layout = a.data.layout;
    if ((together && layout.B > 1) || a.model.diffuse != nullptr) return layout.T;
    if (a.chunk > 0) return a.chunk;
    return cpu::kalman::default_chunk(a.model, a.data, a.pool != nullptr ? a.pool->count() : 1);
  }
  void run_chunks() const {
    using Scratch = SmootherScratch<Real>;
    if (chunks_.constant()) {
      threads_.deal(a_.workspace, a_.data.layout.B, [this](std::int64_t b, Scratch& s) {
        std::fill_n(s.reverse.r(), a_.model.n, Real(0));
        std::fill_n(s.N, a_.model.n * a_.model.n, Real(0));
        const std::int64_t t =
            smooth(a_, b, 1, chunks_.begin_in_turn(b), length(b), -1, chunks_.length(), s);
        const bool settled = t > 0 && s.reverse.mapped();
        chunks_.take(b, t, settled, s.reverse.r(), s.N);
        if (settled) {
          s.reverse.raise_transition(chunks_.length(), t, s.replay, chunks_.power(b));
        }
      });
    }
    threads_.deal(a_.workspace, chunks_.all(), [this](std::int64_t i, Scratch& s) {
      if (!chunks_.needs_summary(i)) return;
      const std::int64_t b = chunks_.sequence(i);
      if (!chunks_.is_settled(i)) {
        return summarise(a_, b, chunks_.begin(i), chunks_.end(i), chunks_.summary(i), s);
      }
      s.reverse.map_back(chunks_.begin(i), chunks_.end(i), b, s.replay);
      std::copy_n(s.reverse.r(), a_.model.n, chunks_.summary(i).w);
    });
    threads_.deal(a_.workspace, a_.data.layout.B, [this](std::int64_t b, Scratch& s) {
      chunks_.find_starts(b, s.summariser, s.reverse.r(), s.N, [] {});
    });
    threads_.deal(a_.workspace, chunks_.all(), [this](std::int64_t i, Scratch& s) {
      if (!chunks_.is_left(i)) return;
      const std::int64_t b = chunks_.sequence(i);
      const std::int64_t like = chunks_.starts_settled(i) ? chunks_.taken(b) : -1;
      chunks_.read_start(i, s.reverse.r(), s.N);
      smooth(a_, b, 1, chunks_.begin(i), chunks_.end(i), like, 0, s);
    });
  }
  std::int64_t length(std::int64_t b) const { return cpu::kalman::length_of(a_.data.layout, b); }

  const KalmanSmootherArgs<Real>& a_;
  bool together_;
  Parts parts_;
  Threads<SmootherScratch<Real>> threads_;
  cpu::kalman::ReverseChunks<Real> chunks_;
};

}  // namespace

template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSmootherArgs<Real>& args) {
  Arena arena;
  Smoother<Real>(args, arena);
  return arena.used();
}

template std::size_t kalman_workspace_bytes(const KalmanSmootherArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanSmootherArgs<double>&);

namespace cpu {

template <class Real>
void kalman_smoother(const KalmanSmootherArgs<Real>& a) {
  check(a);
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n;
  Arena arena(a.workspace);
  Smoother<Real>(a, arena).run();
  if (layout.offsets != nullptr) return;
  for (std::int64_t b = 0; b < layout.B; ++b) {
    for (std::int64_t t = kalman::length_of(layout, b); t < layout.T; ++t) {
      const std::int64_t row = t * layout.B + b;
      if (a.mean) std::fill_n(a.mean[row], n, Real(0));
      if (a.covariance) std::fill_n(a.covariance[row], n * n, Real(0));
      if (a.lag_one) std::fill_n(a.lag_one[row], n * n, Real(0));
    }
  }
}

template void kalman_smoother(const KalmanSmootherArgs<float>&);
template void kalman_smoother(const KalmanSmootherArgs<double>&);

}  // namespace cpu
}  // namespace seqvae

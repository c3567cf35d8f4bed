// A stretch of steps backward in time, as a map of what comes to it from later: r and N of the
// smoother, lambda and Lambda of the gradient,
//
//     r <- Phi^T r + w,   N <- Phi^T N Phi + G + sym(Phi^T r g^T),
//
// with Phi = prod_t (prod_i (I - k_i c_i^T)) A the state's own map through the stretch, w and G
// what the stretch gives to zeros, and g = 0 for the smoother; for the gradient, whose Lambda moves
// with lambda, g is what the stretch gives to a smoother's r of zero.
#pragma once
#include "host/cpu/kalman_replay.hpp"
#include "host/cpu/kalman_settled.hpp"

namespace seqvae::cpu::kalman {

/// In memory of the caller's: Phi and G [n][n], w and g [n].
template <class Real>
struct ReverseSummary {
  Real *Phi, *G, *w, *g;

  static std::int64_t size(std::int64_t n) { return 2 * n * n + 2 * n; }
  ReverseSummary(std::int64_t n, Real* memory)
      : Phi(memory), G(Phi + n * n), w(G + n * n), g(w + n) {}
};

template <class Real>
class ReverseSummariser {
 public:
  ReverseSummariser(const KalmanModel<Real>& model, const KalmanData<Real>& data, Arena& arena)
      : model_(model), data_(data) {
    const std::int64_t n = model.n;
    for (Real** p : {&step_, &product_}) *p = arena.take<Real>(n * n);
    scratch_ = arena.take<Real>(2 * n * n), vector_ = arena.take<Real>(n);
  }

  void start(const ReverseSummary<Real>& s) const {
    const std::int64_t n = model_.n;
    std::fill_n(s.Phi, ReverseSummary<Real>::size(n), Real(0));
    for (std::int64_t i = 0; i < n; ++i) s.Phi[i * (n + 1)] = 1;
  }
  /// One step further back, t, which was replayed: Phi, and `with_g` g.
  void step(std::int64_t t, std::int64_t b, const Replay<Real>& replay, bool with_g,
            const ReverseSummary<Real>& s) const {
    const std::int64_t n = model_.n;
    const Real* A = at(model_.A, data_.layout, t, b);
    write_transition(n, replay.observation(), replay.gains(), A, vector_, step_);
    multiply(n, n, n, s.Phi, step_, product_);
    std::copy_n(product_, n * n, s.Phi);
    if (!with_g) return;
    for (std::int64_t i = replay.count() - 1; i >= 0; --i) {
      const auto u = replay.update(i);
      axpy(n, u.v / u.f - dot(n, u.k, s.g), replay.c(i), s.g);
    }
    transposed_multiply_vector(n, n, A, s.g, vector_);
    std::copy_n(vector_, n, s.g);
  }
  /// r from after a stretch to before it, Phi not the summary's.
  void apply_settled(const ReverseSummary<Real>& s, const Real* Phi, Real* r) const {
    const std::int64_t n = model_.n;
    transposed_multiply_vector(n, n, Phi, r, vector_);
    for (std::int64_t i = 0; i < n; ++i) r[i] = vector_[i] + s.w[i];
  }
  /// r and N from after a stretch to before it.
  void apply(const ReverseSummary<Real>& s, Real* r, Real* N) const {
    const std::int64_t n = model_.n;
    transposed_multiply_vector(n, n, s.Phi, r, vector_);
    transposed_congruence(n, s.Phi, N, product_, scratch_);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const Real both = (vector_[i] * s.g[j] + s.g[i] * vector_[j]) / 2;
        N[i * n + j] = product_[i * n + j] + s.G[i * n + j] + both;
      }
      r[i] = vector_[i] + s.w[i];
    }
  }

 private:
  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  Real *step_, *product_, *scratch_, *vector_;
};

/// The chunks of every sequence, numbered b count + place, and a summary of each. In a model that
/// does not change the last go in turn, until the covariances and N have settled. From there on r
/// goes back over a chunk as Phi^T r + w, with one Phi for all, and N stays.
template <class Real>
class ReverseChunks {
 public:
  /// `length` steps each of at most T. `constant`: the steps may settle.
  ReverseChunks(std::int64_t n, const RowLayout& layout, const KalmanFiltered<Real>& filtered,
                std::int64_t length, bool constant, Arena& arena)
      : n_(n), layout_(layout), filtered_(filtered), length_(length) {
    if (length < layout.T) count_ = (layout.T + length - 1) / length;
    if (count_ == 1) return;
    summaries_ = arena.take<Real>(all() * ReverseSummary<Real>::size(n));
    starts_ = arena.take<Real>(all() * (n + n * n));
    constant_ = constant;
    if (!constant) return;
    powers_ = arena.take<Real>(layout.B * n * n);
    taken_ = arena.take<std::int64_t>(layout.B);
    settled_ = arena.take<std::int32_t>(layout.B);
  }
  std::int64_t count() const { return count_; }  ///< of a sequence
  std::int64_t all() const { return layout_.B * count_; }
  std::int64_t sequence(std::int64_t i) const { return i / count_; }
  std::int64_t begin(std::int64_t i) const { return i % count_ * length_; }
  /// Not past the sequence.
  std::int64_t end(std::int64_t i) const {
    const std::int64_t last = length_of(layout_, sequence(i));
    return count_ == 1 ? last : std::min(last, begin(i) + length_);
  }
  ReverseSummary<Real> summary(std::int64_t i) const {
    return {n_, summaries_ + i * ReverseSummary<Real>::size(n_)};
  }

  /// \name The last chunks of sequence b, in turn.
  /// \{
  bool constant() const { return constant_; }
  std::int64_t length() const { return length_; }
  /// Where they end at the latest.
  std::int64_t begin_in_turn(std::int64_t b) const {
    const std::int64_t before = length_of(layout_, b) - kSettlesWithin;
    return std::max<std::int64_t>(before, 0) / length_ * length_;
  }
  /// They came to step t, with r and N before it. `settled`: so have they.
  void take(std::int64_t b, std::int64_t t, bool settled, const Real* r, const Real* N) const {
    taken_[b] = t, settled_[b] = settled ? 1 : 0;
    if (t > 0) write_start(b * count_ + t / length_ - 1, r, N);
  }
  /// The Phi of a chunk that has settled, [n][n].
  Real* power(std::int64_t b) const { return powers_ + b * n_ * n_; }
  /// The first step that they took; the sequence's length where there are none.
  std::int64_t taken(std::int64_t b) const { return constant_ ? taken_[b] : length_of(layout_, b); }
  /// \}

  /// The chunk has steps, and did not go in turn.
  bool is_left(std::int64_t i) const { return begin(i) < taken(sequence(i)); }
  /// The first of a sequence has nobody before it.
  bool needs_summary(std::int64_t i) const { return begin(i) > 0 && is_left(i); }
  /// All steps of the chunk have settled, so that its summary is w alone.
  bool is_settled(std::int64_t i) const { return is_settled_at(begin(i) - 1, sequence(i)); }
  /// Its last has, so that its start are r and N.
  bool starts_settled(std::int64_t i) const { return is_settled_at(end(i) - 2, sequence(i)); }

  /// Leaves what comes to each chunk of sequence b from later in its start. `leave`: from r and N
  /// of settled steps to what others carry. Scratch: r[n], N[n][n].
  template <class Leave>
  void find_starts(std::int64_t b, const ReverseSummariser<Real>& summariser, Real* r, Real* N,
                   const Leave& leave) const {
    std::int64_t i = b * count_ + (taken(b) + length_ - 1) / length_ - 1;
    std::fill_n(r, n_, Real(0));
    std::fill_n(N, n_ * n_, Real(0));
    if (constant_ && i >= b * count_) read_start(i, r, N);
    bool settled = constant_ && settled_[b] != 0;
    const auto leave_from = [&](bool stays) {
      if (settled && !stays) leave();
      settled = settled && stays;
    };
    for (; i >= b * count_; --i) {
      leave_from(starts_settled(i));
      write_start(i, r, N);
      if (begin(i) == 0) return;
      leave_from(is_settled(i));
      settled ? summariser.apply_settled(summary(i), power(b), r)
              : summariser.apply(summary(i), r, N);
    }
  }
  void read_start(std::int64_t i, Real* r, Real* N) const {
    const Real* const at = starts_ + i * (n_ + n_ * n_);
    std::copy_n(at, n_, r);
    std::copy_n(at + n_, n_ * n_, N);
  }

 private:
  void write_start(std::int64_t i, const Real* r, const Real* N) const {
    Real* const at = starts_ + i * (n_ + n_ * n_);
    std::copy_n(r, n_, at);
    std::copy_n(N, n_ * n_, at + n_);
  }
  /// Steps after t have the gains of b's last, and N has settled after them.
  bool is_settled_at(std::int64_t t, std::int64_t b) const {
    if (!constant_ || settled_[b] == 0 || t < 0) return false;
    const auto P = [&](std::int64_t step) {
      return filtered_.covariance[covariance_row(layout_, filtered_.shared_covariance, step, b)];
    };
    return std::equal(P(t), P(t) + n_ * n_, P(length_of(layout_, b) - 1));
  }

  std::int64_t n_;
  const RowLayout& layout_;
  const KalmanFiltered<Real>& filtered_;
  std::int64_t length_, count_ = 1;
  bool constant_ = false;
  Real *summaries_ = nullptr, *starts_ = nullptr, *powers_ = nullptr;
  std::int64_t* taken_ = nullptr;
  std::int32_t* settled_ = nullptr;
};

}  // namespace seqvae::cpu::kalman

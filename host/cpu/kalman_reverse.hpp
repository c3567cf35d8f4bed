// Steps back in time while the covariances have settled, and N with them. Then a step is linear in
// r after its observation and in its innovations v:
//
//     g_i = v_i / f_i - k_i.r,  r += g_i c_i   from the last component to the first,
//     r_{t-1} = A^T r,  u = L^-T g.
//
// P r_{t-1} is what smoothing adds to the filtered mean, and u = -d log p / d y.
#pragma once
#include "host/cpu/kalman_replay.hpp"
#include "host/cpu/kalman_settled.hpp"

namespace seqvae::cpu::kalman {

template <class Real>
class SettledReverse {
 public:
  /// For at most so many sequences at once.
  SettledReverse(const KalmanModel<Real>& model, const KalmanData<Real>& data,
                 const KalmanFiltered<Real>& filtered, std::int64_t most, Arena& arena)
      : model_(model),
        data_(data),
        filtered_(filtered),
        forward_(model, arena),
        settling_(model.n, arena),
        columns_((3 * model.n + model.m + 15) / 16 * 16) {
    const std::int64_t n = model.n, m = model.m;
    map_ = arena.take<Real>((n + m) * columns_);
    x_ = arena.take<Real>(most * (n + m)), out_ = arena.take<Real>(most * columns_);
    forward_x_ = arena.take<Real>(most * forward_.most_terms());
    forward_out_ = arena.take<Real>(most * forward_.columns());
    N_ = arena.take<Real>(n * n), Phi_ = arena.take<Real>(n * n), vector_ = arena.take<Real>(n);
  }

  /// A new sequence, or a step of other gains.
  void start() { settling_.reset(), mapped_ = false; }

  /// Before and after step t, whose gains are those of the step after it, went back from N.
  void before_step(const Real* N) { std::copy_n(N, model_.n * model_.n, N_); }
  void after_step(std::int64_t t, std::int64_t b, const Real* N, const Replay<Real>& replay) {
    const std::int64_t n = model_.n;
    settling_.step(N, N_, true, [&](Real* turned) {
      write_transition(n, replay.observation(), replay.gains(), A(t, b), vector_, Phi_);
      transpose(n, n, Phi_, turned);
    });
  }
  /// N after this step's observation is what it was after the next one's.
  bool settled() const { return settling_.settled(); }

  /// Makes the map where there is none. False where it would lose digits.
  bool map(std::int64_t t, std::int64_t b, const Replay<Real>& replay) {
    mapped_ = mapped_ || build(t, b, replay);
    return mapped_;
  }
  /// Step t by the map, of sequences first .. first + count with r[count][n].
  void step(std::int64_t t, std::int64_t first, std::int64_t count, const Real* r,
            Replay<Real>& replay) {
    const std::int64_t n = model_.n, seen = replay.count(), terms = forward_.terms();
    for (std::int64_t g = 0; g < count; ++g) {
      const std::int64_t b = first + g;
      Real* x = forward_x_ + g * terms;
      std::copy_n(filtered_.mean[row_of(data_.layout, t - 1, b)], n, x);
      replay.observation().read_residuals(t, b, x + n);
      if (forward_.inputs() == 0) continue;
      std::fill_n(x + n + seen, n, Real(0));
      add_inputs(n, model_.U, data_.layout, model_.B, model_.state_offset, data_.u, t, b,
                 x + n + seen);
    }
    forward_.apply(count, forward_x_, forward_out_);
    for (std::int64_t g = 0; g < count; ++g) {
      Real* x = x_ + g * (n + seen);
      std::copy_n(r + g * n, n, x);
      std::copy_n(forward_out_ + g * forward_.columns() + n, seen, x + n);
    }
    multiply(count, n + seen, columns_, x_, map_, out_);
  }
  bool mapped() const { return mapped_; }  ///< the last step was by the map
  void leave() { mapped_ = false; }

  /// \name Of the last step by the map, its g-th sequence.
  /// \{
  const Real* r(std::int64_t g = 0) const { return out_ + g * columns_; }  ///< r_{t-1}
  const Real* Pr(std::int64_t g = 0) const { return r(g) + model_.n; }     ///< P r_{t-1}
  /// r before the observation
  const Real* r_predicted(std::int64_t g = 0) const { return r(g) + 2 * model_.n; }
  const Real* u(std::int64_t g = 0) const {
    return r(g) + 3 * model_.n;
  }  ///< [count]
     /// \}

 private:
  const Real* A(std::int64_t t, std::int64_t b) const { return at(model_.A, data_.layout, t, b); }

  bool build(std::int64_t t, std::int64_t b, const Replay<Real>& replay) {
    const Observation<Real>& observation = replay.observation();
    const std::int64_t n = model_.n, seen = observation.count();
    const Real *k = replay.gains(), *Q = at(model_.Q, data_.layout, t, b);
    const Real* P = replay.covariance_of(t - 1, b);
    if (!forward_.build(observation, k, replay.variances(), P, A(t, b), Q)) return false;
    std::fill_n(map_, (n + seen) * columns_, Real(0));
    for (std::int64_t term = 0; term < n + seen; ++term) {
      Real *before = map_ + term * columns_, *r = before + 2 * n, *g = r + n;
      if (term < n) r[term] = 1;
      for (std::int64_t i = seen - 1; i >= 0; --i) {
        g[i] = (term == n + i ? 1 / replay.variances()[i] : Real(0)) - dot(n, k + i * n, r);
        axpy(n, g[i], observation.c(i), r);
      }
      transposed_multiply_vector(n, n, A(t, b), r, before);
      multiply_vector(n, n, P, before, before + n);
      observation.decorrelate_transposed(1, g);
    }
    return true;
  }

  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  const KalmanFiltered<Real>& filtered_;
  SettledMap<Real> forward_;
  Settling<Real> settling_;
  std::int64_t columns_;
  Real *map_, *x_, *out_, *forward_x_, *forward_out_, *N_, *Phi_, *vector_;
  bool mapped_ = false;
};

}  // namespace seqvae::cpu::kalman

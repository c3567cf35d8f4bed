// Steps back in time of one sequence, or of many that share their covariances, side by side
// (kalman_columns.hpp). With v the innovations of a step's components and r after its observation,
//
//     g_i = v_i / f_i - k_i.r,  r += g_i c_i   from the last component to the first,
//     r_{t-1} = A^T r,  u = L^-T g.
//
// P r_{t-1} is what smoothing adds to the filtered mean, and u = -d log p / d y. While the
// covariances have settled, and N with them, a step is one linear map of r and v.
#pragma once
#include "host/cpu/kalman_replay.hpp"
#include "host/cpu/kalman_settled.hpp"

namespace seqvae::cpu::kalman {

template <class Real>
class GroupReverse {
 public:
  /// For at most so many sequences at once. `gradient`: r_predicted() and u() are asked for.
  GroupReverse(const KalmanModel<Real>& model, const KalmanData<Real>& data,
               const KalmanFiltered<Real>& filtered, bool gradient, std::int64_t most, Arena& arena)
      : model_(model),
        data_(data),
        filtered_(filtered),
        gradient_(gradient),
        forward_(model, arena),
        settling_(model.n, arena),
        map_(model.n + model.m, gradient ? 3 * model.n + model.m : 2 * model.n, arena) {
    const std::int64_t n = model.n, m = model.m;
    x_ = arena.take<Real>(most * (n + m));
    out_ = arena.take<Real>(most * (3 * n + m));
    forward_x_ = arena.take<Real>(most * (n + m + forward_.inputs()));
    predicted_ = arena.take<Real>(most * n), expected_ = arena.take<Real>(most);
    image_ = arena.take<Real>(3 * n + m);
    N_ = arena.take<Real>(n * n), square_ = arena.take<Real>(n * n), vector_ = arena.take<Real>(n);
  }

  /// Sequences first .. first + count, from r() on, which is to be written.
  void start(std::int64_t first, std::int64_t count) {
    first_ = first, count_ = count;
    start_settling();
  }
  /// Steps t and before of sequence b, the covariances and N settled as they were after it.
  void resume(std::int64_t t, std::int64_t b, Replay<Real>& replay) {
    first_ = b, count_ = 1, mapped_ = false;
    settling_.settle();
    if (replay.same_at(t, b)) return;
    built_ = false;
    replay.run(t, b);
  }
  /// A step of other gains.
  void start_settling() { settling_.reset(), mapped_ = built_ = false; }

  /// Before and after step t, whose gains are those of the step after it, went back from N.
  void before_step(const Real* N) { std::copy_n(N, model_.n * model_.n, N_); }
  void after_step(std::int64_t t, const Real* N, const Replay<Real>& replay) {
    const std::int64_t n = model_.n;
    settling_.step(N, N_, true, [&](Real* turned) {
      write_transition(n, replay.observation(), replay.gains(), A(t), vector_, square_);
      transpose(n, n, square_, turned);
    });
  }
  /// N after this step's observation is what it was after the next one's.
  bool settled() const { return settling_.settled(); }

  /// Makes the map where there is none. False where it would lose digits.
  bool map(std::int64_t t, const Replay<Real>& replay) {
    mapped_ = built_ = built_ || build(t, replay);
    return mapped_;
  }
  bool mapped() const { return mapped_; }  ///< the steps to come, and the last, are by the map
  void leave() { mapped_ = false; }

  /// Step t, by the map or as it was replayed for the first of the sequences; at t = 0 r() stays
  /// that of the prediction.
  void step(std::int64_t t, Replay<Real>& replay) {
    const std::int64_t n = model_.n, seen = replay.count();
    Real* const v = x_ + n * count_;
    if (mapped_) {
      read_forward(t, replay.observation());
      forward_.map().apply(n, seen, count_, forward_x_, v);
      map_.apply(0, gradient_ ? 3 * n + seen : 2 * n, count_, x_, out_);
      std::copy_n(out_, n * count_, x_);
      return;
    }
    if (count_ > 1) {
      find_innovations(t, replay);
    } else {
      for (std::int64_t i = 0; i < seen; ++i) v[i] = replay.update(i).v;
    }
    take_components(replay);
    if (t > 0) {
      transpose(n, n, A(t), square_);
      multiply(n, n, count_, square_, x_, out_);
      std::copy_n(out_, n * count_, x_);
    }
  }

  /// Steps end - 1 .. begin of sequence b, all settled, from r = 0.
  void map_back(std::int64_t begin, std::int64_t end, std::int64_t b, Replay<Real>& replay) {
    std::fill_n(x_, model_.n, Real(0));
    resume(end - 1, b, replay);
    for (std::int64_t t = end - 1; t >= begin; --t) {
      if (!map(t, replay)) replay.run(t, b);
      step(t, replay);
    }
  }
  /// out = Phi^steps of steps like t, r of zero innovations going back as Phi^T r.
  void raise_transition(std::int64_t steps, std::int64_t t, const Replay<Real>& replay, Real* out) {
    const std::int64_t n = model_.n;
    write_transition(n, replay.observation(), replay.gains(), A(t), vector_, square_);
    raise(n, steps, square_, out, N_);
  }

  /// \name Of the step to come, or the last; sequences side by side.
  /// \{
  Real* r() { return x_; }  ///< [n][count]
  /// P r for the filtered covariance P of the step before the last, from the map; or for any P.
  const Real* Pr() const { return out_ + model_.n * count_; }
  const Real* find_Pr(const Real* P) {
    Real* Pr = out_ + model_.n * count_;
    multiply_columns(model_.n, model_.n, count_, P, x_, Pr);
    return Pr;
  }
  const Real* r_predicted() const { return Pr() + model_.n * count_; }  ///< before the observation
  const Real* u() const { return r_predicted() + model_.n * count_; }   ///< [seen][count]
  /// Filtered means of the step before a step t >= 1 of many.
  const Real* mean_before() const { return forward_x_; }
  /// \}

 private:
  const Real* A(std::int64_t t) const { return at(model_.A, data_.layout, t, first_); }

  /// [m_{t-1} | y - d - D u | B u + b] of every sequence.
  void read_forward(std::int64_t t, Observation<Real>& observation) {
    const std::int64_t n = model_.n, seen = observation.count();
    for (std::int64_t g = 0; g < count_; ++g) {
      const std::int64_t b = first_ + g;
      put_column(n, filtered_.mean[row_of(data_.layout, t - 1, b)], count_, g, forward_x_);
      observation.read_residuals(t, b, forward_x_ + n * count_ + g, count_);
      if (forward_.inputs() == 0) continue;
      std::fill_n(vector_, n, Real(0));
      add_state_inputs(t, b);
      put_column(n, vector_, count_, g, forward_x_ + (n + seen) * count_);
    }
  }
  void add_state_inputs(std::int64_t t, std::int64_t b) {
    add_inputs(model_.n, model_.U, data_.layout, model_.B, model_.state_offset, data_.u, t, b,
               vector_);
  }
  /// Innovations of many sequences, as the filter found them.
  void find_innovations(std::int64_t t, Replay<Real>& replay) {
    const std::int64_t n = model_.n, seen = replay.count();
    Real *m = predicted_, *e = x_ + n * count_;
    if (t > 0) {
      read_forward(t, replay.observation());
      multiply_columns(n, n, count_, A(t), forward_x_, m);
      std::copy_n(forward_x_ + n * count_, seen * count_, e);
    } else {
      std::fill_n(m, n * count_, Real(0));
    }
    for (std::int64_t g = 0; g < count_; ++g) {
      const std::int64_t b = first_ + g;
      if (t == 0) {
        if (model_.m0) put_column(n, at(model_.m0, data_.layout, 0, b), count_, g, m);
        replay.observation().read_residuals(t, b, e + g, count_);
      } else if (forward_.inputs() > 0) {
        take_column(n, count_, g, m, vector_);
        add_state_inputs(t, b);
        put_column(n, vector_, count_, g, m);
      }
    }
    replay.observation().decorrelate(count_, e);
    for (std::int64_t i = 0; i < seen; ++i) {
      Real* v = e + i * count_;
      multiply_columns(1, n, count_, replay.c(i), m, expected_);
      axpy(count_, Real(-1), expected_, v);
      for (std::int64_t j = 0; j < n; ++j)
        axpy(count_, replay.gains()[i * n + j], v, m + j * count_);
    }
  }
  /// From r and v after the observation to r before it.
  void take_components(const Replay<Real>& replay) {
    const std::int64_t n = model_.n, seen = replay.count();
    Real *r = x_, *v = x_ + n * count_, *u = out_ + 3 * n * count_;
    for (std::int64_t i = seen - 1; i >= 0; --i) {
      Real* g = u + i * count_;
      const Real f = replay.variances()[i];
      multiply_columns(1, n, count_, replay.gains() + i * n, r, expected_);
      for (std::int64_t k = 0; k < count_; ++k) g[k] = v[i * count_ + k] / f - expected_[k];
      for (std::int64_t j = 0; j < n; ++j) axpy(count_, replay.c(i)[j], g, r + j * count_);
    }
    if (!gradient_) return;
    replay.observation().decorrelate_transposed(count_, u);
    std::copy_n(r, n * count_, out_ + 2 * n * count_);
  }

  bool build(std::int64_t t, const Replay<Real>& replay) {
    const Observation<Real>& observation = replay.observation();
    const std::int64_t n = model_.n, seen = observation.count();
    const Real *k = replay.gains(), *Q = at(model_.Q, data_.layout, t, first_);
    const Real* P = replay.covariance_of(t - 1, first_);
    if (!forward_.build(observation, k, replay.variances(), P, A(t), Q)) return false;
    map_.clear(n + seen);
    for (std::int64_t term = 0; term < n + seen; ++term) {
      Real *before = image_, *r = before + 2 * n, *g = r + n;
      std::fill_n(image_, 3 * n + seen, Real(0));
      if (term < n) r[term] = 1;
      for (std::int64_t i = seen - 1; i >= 0; --i) {
        g[i] = (term == n + i ? 1 / replay.variances()[i] : Real(0)) - dot(n, k + i * n, r);
        axpy(n, g[i], observation.c(i), r);
      }
      transposed_multiply_vector(n, n, A(t), r, before);
      multiply_vector(n, n, P, before, before + n);
      observation.decorrelate_transposed(1, g);
      std::copy_n(image_, gradient_ ? 3 * n + seen : 2 * n, map_.image(term));
    }
    map_.finish();
    return true;
  }

  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  const KalmanFiltered<Real>& filtered_;
  bool gradient_;
  SettledMap<Real> forward_;
  Settling<Real> settling_;
  LinearMap<Real> map_;
  std::int64_t first_ = 0, count_ = 0;
  Real *x_, *out_, *forward_x_, *predicted_, *expected_, *image_, *N_, *square_, *vector_;
  bool mapped_ = false, built_ = false;  // built_: of the gains replayed last
};

}  // namespace seqvae::cpu::kalman

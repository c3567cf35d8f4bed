// One step of the filter again, from the stored moments of the step before, keeping what each
// observed component did: what the reverse passes need of it.
//
// Backward in time, at the step where delta was merged, what comes later is known as r and N of the
// merged moments: E[z | y] = m + P r, Cov[z | y] = P - P N P. From there on the passes work given
// delta, about its mean given all observations: there m is m + X E[delta | y], and X is F = X B
// with B B^T = Cov[delta | y], so that delta's part is F omega with omega ~ N(0, I). Then r depends
// on omega as -N F omega at any step.
#pragma once
#include "host/cpu/kalman_solve.hpp"
#include "host/cpu/kalman_step.hpp"

namespace seqvae::cpu::kalman {

template <class Real>
class Replay {
 public:
  /// `moments`: also keep the moments before each component.
  Replay(const KalmanModel<Real>& model, const KalmanData<Real>& data,
         const KalmanFiltered<Real>& filtered, bool moments, Arena& arena)
      : model_(model),
        data_(data),
        filtered_(filtered),
        stepper_(model, data, arena),
        observation_(model, data, arena),
        predicted_(model.n, model.diffuse != nullptr, arena),
        current_(model.n, model.diffuse != nullptr, arena),
        q_(count_diffuse(model)) {
    const std::int64_t n = model.n, m = model.m;
    for (Real** p : {&w_, &k_}) *p = arena.take<Real>(m * n);
    for (Real** p : {&v_, &f_}) *p = arena.take<Real>(m);
    scratch_ = arena.take<Real>(2 * n * n);
    if (q_ > 0) {
      a_ = arena.take<Real>(m * q_);
      center_ = arena.take<Real>(q_);
      root_ = arena.take<Real>(q_ * q_);
    }
    if (!moments) return;
    means_ = arena.take<Real>(m * n);
    covariances_ = arena.take<Real>(m * n * n);
    if (q_ > 0) factors_ = arena.take<Real>(m * n * q_);
  }

  /// Step t is before the merge.
  bool diffuse(std::int64_t t, std::int64_t b) const {
    return q_ > 0 && t < filtered_.merge_step[b];
  }
  std::int64_t last_diffuse(std::int64_t b) const {
    return q_ > 0 ? filtered_.merge_step[b] - 1 : -1;
  }

  /// From r and N after step t = last_diffuse(b), of the merged moments, to those given delta.
  void enter_diffuse(std::int64_t t, std::int64_t b, Real* r, Real* N) {
    const std::int64_t row = row_of(data_.layout, t, b);
    given_delta(model_.n, q_, filtered_.diffuse.factor[row], filtered_.diffuse.spread[b],
                filtered_.diffuse.delta[b], r, N, center_, root_);
  }

  /// The filtered covariance of step t, delta integrated out.
  const Real* covariance_of(std::int64_t t, std::int64_t b) const {
    return filtered_.covariance[covariance_row(data_.layout, filtered_.shared_covariance, t, b)];
  }

  /// Filtered moments of step t; `given`: those given delta, as above.
  void filtered_moments(std::int64_t t, std::int64_t b, bool given, Moments<Real>& s) {
    const std::int64_t n = model_.n, row = row_of(data_.layout, t, b);
    std::copy_n(given ? filtered_.diffuse.mean[row] : filtered_.mean[row], n, s.m);
    std::copy_n(given ? filtered_.diffuse.covariance[row] : covariance_of(t, b), n * n, s.P);
    s.q = given ? q_ : 0;
    if (given) turn(filtered_.diffuse.factor[row], s);
  }

  /// Step t does to covariances what the step replayed last did: the same model and components, and
  /// covariances before it that are the same bits. Changes nothing.
  bool same_at(std::int64_t t, std::int64_t b) {
    if (t == 0 || P_ == nullptr || diffuse(t, b)) return false;
    const Real* P = covariance_of(t - 1, b);
    return at(model_.A, data_.layout, t, b) == A_ && at(model_.Q, data_.layout, t, b) == Q_ &&
           observation_.same_at(t, b) && std::equal(P, P + model_.n * model_.n, P_);
  }
  /// The next step replayed is of another sequence.
  void forget() { P_ = nullptr; }

  /// Step t: its prediction, then its observation. While diffuse(t) given delta, after that from
  /// the merged moments, the first time at t = last_diffuse + 1.
  void run(std::int64_t t, std::int64_t b) {
    const std::int64_t n = model_.n;
    const RowLayout& layout = data_.layout;
    const bool same = same_at(t, b);
    P_ = t > 0 && !diffuse(t, b) ? covariance_of(t - 1, b) : nullptr;
    A_ = at(model_.A, layout, t, b), Q_ = at(model_.Q, layout, t, b);
    if (same) return run_mean(t, b);
    if (t == 0) {
      stepper_.start(b, predicted_);
      if (predicted_.q > 0) {
        std::copy_n(predicted_.X, n * q_, current_.X);
        turn(current_.X, predicted_);
      }
    } else {
      filtered_moments(t - 1, b, diffuse(t, b), predicted_);
      stepper_.predict(t, b, predicted_);
    }
    observation_.read(t, b);
    current_.copy(n, predicted_);
    for (std::int64_t i = 0; i < observation_.count(); ++i) {
      if (means_ != nullptr) {
        std::copy_n(current_.m, n, means_ + i * n);
        std::copy_n(current_.P, n * n, covariances_ + i * n * n);
        if (current_.q > 0) std::copy_n(current_.X, n * q_, factors_ + i * n * q_);
      }
      Update<Real> u = slots(i);
      stepper_.update(observation_.c(i), observation_.h(i), observation_.e(i), current_, u);
      v_[i] = u.v;
      f_[i] = u.f;
    }
  }
  /// The means of step t >= 1, of a sequence for which the last step's covariances and gains stand.
  void run_mean(std::int64_t t, std::int64_t b) {
    const std::int64_t n = model_.n;
    std::copy_n(filtered_.mean[row_of(data_.layout, t - 1, b)], n, predicted_.m);
    stepper_.predict_mean(t, b, predicted_.m);
    observation_.read_values(t, b);
    std::copy_n(predicted_.m, n, current_.m);
    for (std::int64_t i = 0; i < observation_.count(); ++i) {
      if (means_ != nullptr) std::copy_n(current_.m, n, means_ + i * n);
      v_[i] = observation_.e(i) - dot(n, observation_.c(i), current_.m);
      axpy(n, v_[i], k_ + i * n, current_.m);
    }
  }
  /// As if each observation were what the filter expected.
  void forget_innovations() { std::fill_n(v_, observation_.count(), Real(0)); }

  std::int64_t count() const { return observation_.count(); }
  const Real* c(std::int64_t i) const { return observation_.c(i); }
  Update<Real> update(std::int64_t i) const {
    Update<Real> u = slots(i);
    u.v = v_[i];
    u.f = f_[i];
    return u;
  }
  Observation<Real>& observation() { return observation_; }
  const Observation<Real>& observation() const { return observation_; }
  const Real* gains() const { return k_; }      ///< [count][n]
  const Real* variances() const { return f_; }  ///< [count]
  const Moments<Real>& predicted() const { return predicted_; }
  /// After all components.
  const Moments<Real>& updated() const { return current_; }
  /// Before component i: mean[n], covariance[n][n], and F[n][q] while diffuse.
  const Real* mean(std::int64_t i) const { return means_ + i * model_.n; }
  const Real* covariance(std::int64_t i) const { return covariances_ + i * model_.n * model_.n; }
  const Real* factor(std::int64_t i) const { return factors_ + i * model_.n * q_; }
  /// [2][n][n], free between calls.
  Real* scratch() const { return scratch_; }

 private:
  /// m + X center, X root.
  void turn(const Real* X, Moments<Real>& s) {
    add_multiply_vector(model_.n, q_, X, center_, s.m);
    multiply(model_.n, q_, q_, X, root_, s.X);
  }
  Update<Real> slots(std::int64_t i) const {
    Update<Real> u;
    u.w = w_ + i * model_.n;
    u.k = k_ + i * model_.n;
    u.a = q_ > 0 ? a_ + i * q_ : nullptr;
    return u;
  }

  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  const KalmanFiltered<Real>& filtered_;
  Stepper<Real> stepper_;
  Observation<Real> observation_;
  Moments<Real> predicted_, current_;
  std::int64_t q_;
  Real *w_, *k_, *v_, *f_, *scratch_, *a_ = nullptr, *center_ = nullptr, *root_ = nullptr;
  Real *means_ = nullptr, *covariances_ = nullptr, *factors_ = nullptr;
  const Real *P_ = nullptr, *A_ = nullptr, *Q_ = nullptr;  // what the last step began with
};

/// N before an observed component from that after it: c c^T / f + L^T N L, L = I - k c^T.
template <class Real>
void step_back_N(std::int64_t n, const Real* c, const Update<Real>& u, Real* N, Real* vector) {
  symmetric_multiply(n, N, u.k, vector);
  const Real half = (dot(n, u.k, vector) + 1 / u.f) / 2;
  for (std::int64_t i = 0; i < n; ++i) vector[i] = half * c[i] - vector[i];
  add_symmetric(n, c, vector, N);
}

}  // namespace seqvae::cpu::kalman

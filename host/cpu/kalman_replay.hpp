// One step of the filter again, from the stored moments of the step before, keeping what each
// observed component did: what the reverse passes need of it.
#pragma once
#include "host/cpu/kalman_step.hpp"

namespace seqvae::cpu::kalman {

/// out[n][n] = X X^T
template <class Real>
void outer(std::int64_t n, const Moments<Real>& s, Real* out) {
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      out[i * n + j] = dot(s.rank, s.X + i * n, s.X + j * n);
    }
  }
}

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
        current_(model.n, model.diffuse != nullptr, arena) {
    const std::int64_t n = model.n, m = model.m;
    const bool diffuse = model.diffuse != nullptr;
    vectors_ = arena.take<Real>((diffuse ? 3 : 2) * m * n);
    values_ = arena.take<Real>(3 * m);
    scratch_ = arena.take<Real>(2 * n * n);
    if (!moments) return;
    means_ = arena.take<Real>(m * n);
    covariances_ = arena.take<Real>(m * n * n);
    if (diffuse) factors_ = arena.take<Real>(m * n * n);
  }

  /// Filtered moments of step t.
  void filtered_moments(std::int64_t t, std::int64_t b, Moments<Real>& s) {
    const bool diffuse = model_.diffuse != nullptr && t < filtered_.diffuse_steps[b];
    stepper_.load(row_of(data_.layout, t, b), filtered_, diffuse, s);
  }

  /// Step t: its prediction, then its observation.
  void run(std::int64_t t, std::int64_t b) {
    const std::int64_t n = model_.n;
    if (t == 0) {
      stepper_.start(b, predicted_);
    } else {
      filtered_moments(t - 1, b, predicted_);
      stepper_.predict(t, b, predicted_);
    }
    observation_.read(t, b);
    current_.copy(n, predicted_);
    for (std::int64_t i = 0; i < observation_.count(); ++i) {
      if (means_ != nullptr) {
        std::copy_n(current_.m, n, means_ + i * n);
        std::copy_n(current_.P, n * n, covariances_ + i * n * n);
        if (current_.rank > 0) std::copy_n(current_.X, n * n, factors_ + i * n * n);
      }
      Update<Real> u = slots(i);
      stepper_.update(observation_.c(i), observation_.h(i), observation_.e(i), current_, u);
      values_[3 * i] = u.v;
      values_[3 * i + 1] = u.f;
      values_[3 * i + 2] = u.f_diffuse;
    }
  }

  std::int64_t count() const { return observation_.count(); }
  const Real* c(std::int64_t i) const { return observation_.c(i); }
  Update<Real> update(std::int64_t i) const {
    Update<Real> u = slots(i);
    u.v = values_[3 * i];
    u.f = values_[3 * i + 1];
    u.f_diffuse = values_[3 * i + 2];
    return u;
  }
  const Observation<Real>& observation() const { return observation_; }
  const Moments<Real>& predicted() const { return predicted_; }
  /// Before component i: mean[n], covariance[n][n], and X[n][n] where its update was diffuse.
  const Real* mean(std::int64_t i) const { return means_ + i * model_.n; }
  const Real* covariance(std::int64_t i) const { return covariances_ + i * model_.n * model_.n; }
  const Real* factor(std::int64_t i) const { return factors_ + i * model_.n * model_.n; }
  /// [2][n][n], free between calls.
  Real* scratch() const { return scratch_; }

 private:
  Update<Real> slots(std::int64_t i) const {
    const std::int64_t n = model_.n, m = model_.m;
    Update<Real> u;
    u.w = vectors_ + i * n;
    u.k = vectors_ + (m + i) * n;
    u.w_diffuse = model_.diffuse != nullptr ? vectors_ + (2 * m + i) * n : nullptr;
    return u;
  }

  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  const KalmanFiltered<Real>& filtered_;
  Stepper<Real> stepper_;
  Observation<Real> observation_;
  Moments<Real> predicted_, current_;
  Real *vectors_, *values_, *scratch_;
  Real *means_ = nullptr, *covariances_ = nullptr, *factors_ = nullptr;
};

}  // namespace seqvae::cpu::kalman

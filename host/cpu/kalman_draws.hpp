// What draws are made of: noise, its covariance's root, and paths of the state.
#pragma once
#include "host/cpu/kalman_step.hpp"

namespace seqvae::cpu::kalman {

/// Standard normals of one row of width n + m.
class RowNoise {
 public:
  RowNoise(const KalmanNoise& noise, const RowLayout& layout, std::int64_t width)
      : noise_(noise), layout_(layout), width_(width) {}
  void select(std::int64_t t, std::int64_t b, std::int64_t draw) {
    t_ = layout_.t0 + t + (layout_.origins != nullptr ? layout_.origins[b] : 0);
    id_ = noise_.sequence_id[b];
    draw_ = static_cast<std::uint32_t>(draw);
    if (noise_.first_draw != nullptr) draw_ += noise_.first_draw[b];
    quad_ = -1;
  }
  float operator()(std::int64_t component) {
    if (component / 4 != quad_) {
      quad_ = component / 4;
      const std::uint64_t step = noise_.step != nullptr ? *noise_.step : 0;
      words_ = philox(noise_counter(noise_.key.site, step, id_, draw_, t_, width_, quad_),
                      noise_.key.seed);
    }
    return normal(words_, static_cast<int>(component % 4));
  }

 private:
  const KalmanNoise& noise_;
  const RowLayout& layout_;
  std::int64_t width_, t_ = 0, quad_ = -1;
  std::uint32_t id_ = 0, draw_ = 0;
  Words words_{};
};

/// x += L diag(sqrt h) eps for a covariance L diag(h) L^T.
template <class Real>
class NoiseFactor {
 public:
  NoiseFactor(std::int64_t k, Arena& arena)
      : k_(k), L_(arena.take<Real>(k * k)), h_(arena.take<Real>(k)) {}

  /// Both: false where the covariance is not positive semidefinite.
  bool factorize(const Real* S) {
    sound_ = factorize_semidefinite(k_, S, L_, h_);
    for (std::int64_t j = 0; sound_ && j < k_; ++j) h_[j] = std::sqrt(h_[j]);
    return sound_;
  }
  /// The same, of an array of the model: nothing to do where it is that of the call before.
  bool follow(const Real* S, bool diagonal) {
    if (S == source_) return sound_;
    source_ = S;
    if (!diagonal) return factorize(S);
    sound_ = true;
    std::fill_n(L_, k_ * k_, Real(0));
    for (std::int64_t j = 0; j < k_; ++j) {
      L_[j * k_ + j] = 1;
      h_[j] = std::sqrt(S[j]);
      sound_ = sound_ && S[j] >= 0;
    }
    return sound_;
  }
  /// Draws components first .. first + k of the row.
  void add(RowNoise& noise, std::int64_t first, Real* x) const {
    for (std::int64_t j = 0; j < k_; ++j) {
      if (h_[j] == 0) continue;
      const Real scaled = h_[j] * static_cast<Real>(noise(first + j));
      for (std::int64_t i = j; i < k_; ++i) x[i] += L_[i * k_ + j] * scaled;
    }
  }
  /// The array that follow() last took.
  const Real* source() const { return source_; }
  const Real* L() const { return L_; }
  const Real* root_h() const { return h_; }

 private:
  std::int64_t k_;
  Real *L_, *h_;  // the square roots of h
  const Real* source_ = nullptr;
  bool sound_ = false;
};

/// A path of the state: z_0 from the prior, then the transitions.
template <class Real>
class StatePath {
 public:
  StatePath(const KalmanModel<Real>& model, const KalmanData<Real>& data, Arena& arena)
      : model_(model),
        data_(data),
        stepper_(model, data, arena),
        start_(model.n, model.diffuse != nullptr, arena),
        prior_(model.n, arena),
        Q_(model.n, arena),
        next_(arena.take<Real>(model.n)) {}

  /// To be called before the draws of a sequence.
  bool prepare(std::int64_t b) {
    stepper_.start(b, start_);
    return prior_.factorize(start_.P);
  }
  /// z of step t from that of step t - 1. False where the noise is not positive semidefinite.
  bool advance(std::int64_t t, std::int64_t b, RowNoise& noise, Real* z) {
    const std::int64_t n = model_.n;
    if (t == 0) {
      std::copy_n(start_.m, n, z);
      prior_.add(noise, 0, z);
      return true;
    }
    if (!Q_.follow(at(model_.Q, data_.layout, t, b), false)) return false;
    multiply_vector(n, n, at(model_.A, data_.layout, t, b), z, next_);
    std::copy_n(next_, n, z);
    add_inputs(n, model_.U, data_.layout, model_.B, model_.state_offset, data_.u, t, b, z);
    Q_.add(noise, 0, z);
    return true;
  }

  /// Of the prior, and of the last transition.
  const NoiseFactor<Real>& prior() const { return prior_; }
  NoiseFactor<Real>& transition() { return Q_; }

 private:
  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  Stepper<Real> stepper_;
  Moments<Real> start_;
  NoiseFactor<Real> prior_, Q_;
  Real* next_;
};

}  // namespace seqvae::cpu::kalman

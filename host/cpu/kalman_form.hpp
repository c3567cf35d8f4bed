// A state's covariance P in the form that the filter keeps it in.
//
//     covariance   P = A P A^T + Q;               P -= w w^T / f,  w = P c,  f = c.w + h
//     Joseph       the same;                      P = (I - k c^T) P (I - k c^T)^T + h k k^T
//     square root  P = S S^T, [A S | L_Q] = S' (orthogonal)^T by Householder's reflections
//                  (Golub and Van Loan, Matrix Computations, 4th ed., 5.2);
//                  S times a triangular root of I - phi phi^T / f, phi = S^T c (Carlson, 1973)
#pragma once
#include "host/cpu/kalman_step.hpp"

namespace seqvae::cpu::kalman {

template <class Real>
class StateCovariance {
 public:
  StateCovariance(std::int64_t n, KalmanForm form, Arena& arena) : n_(n), form_(form) {
    P_ = arena.take<Real>(n * n);
    scratch_ = arena.take<Real>(3 * n * n);
    if (form != KalmanForm::square_root) return;
    for (Real** p : {&St_, &root_Q_, &S_}) *p = arena.take<Real>(n * n);
    vector_ = arena.take<Real>(n);
  }

  /// False where P is not positive semidefinite, of which only the square root says so.
  bool set(const Real* P) {
    Q_ = nullptr;
    if (form_ == KalmanForm::square_root) return set_root(P);
    std::copy_n(P, n_ * n_, P_);
    return true;
  }

  /// P, where no step to come changes it.
  void keep(const Real* P) {
    std::copy_n(P, n_ * n_, P_);
    stale_ = false;
  }

  /// False where Q is not positive semidefinite, of which only the square root says so.
  bool predict(const Real* A, const Real* Q) {
    if (form_ != KalmanForm::square_root) {
      congruence(n_, n_, A, P_, scratch_, scratch_ + n_ * n_);
      for (std::int64_t i = 0; i < n_ * n_; ++i) P_[i] = scratch_[i] + Q[i];
      return true;
    }
    if (Q != Q_ && !take_root(Q, root_Q_)) return false;
    Q_ = Q;
    transpose(n_, n_, St_, S_);
    multiply(n_, n_, n_, A, S_, St_);
    for (std::int64_t i = 0; i < n_; ++i) {
      std::copy_n(St_ + i * n_, n_, scratch_ + i * 2 * n_);
      std::copy_n(root_Q_ + i * n_, n_, scratch_ + i * 2 * n_ + n_);
    }
    triangularize(n_, 2 * n_, scratch_);
    for (std::int64_t i = 0; i < n_; ++i) std::copy_n(scratch_ + i * 2 * n_, n_, S_ + i * n_);
    transpose(n_, n_, S_, St_);
    stale_ = true;
    return true;
  }

  /// Conditions on c^T z + noise of variance h: w = P c, k = w / f. Returns f, and changes nothing
  /// where that is not positive and finite.
  Real condition(const Real* c, Real h, Real* w, Real* k) {
    switch (form_) {
      case KalmanForm::covariance:
        return condition_covariance(n_, c, h, P_, w, k);
      case KalmanForm::joseph:
        return cpu::condition(n_, c, h, P_, w, k);
      case KalmanForm::square_root:
        break;
    }
    stale_ = true;
    return condition_root(n_, c, h, St_, vector_, w, k);
  }

  const Real* P() {
    if (stale_) {
      transpose(n_, n_, St_, S_);
      multiply(n_, n_, n_, S_, St_, P_);
      stale_ = false;
    }
    return P_;
  }

 private:
  bool set_root(const Real* P) {
    stale_ = true;
    if (!take_root(P, S_)) return false;
    transpose(n_, n_, S_, St_);
    return true;
  }
  bool take_root(const Real* P, Real* root) {
    Real* h = scratch_;
    if (!factorize_semidefinite(n_, P, root, h)) return false;
    for (std::int64_t j = 0; j < n_; ++j) {
      const Real scale = std::sqrt(h[j]);
      for (std::int64_t i = j; i < n_; ++i) root[i * n_ + j] *= scale;
    }
    return true;
  }

  std::int64_t n_;
  KalmanForm form_;
  Real *P_, *scratch_, *St_ = nullptr, *S_ = nullptr, *root_Q_ = nullptr, *vector_ = nullptr;
  const Real* Q_ = nullptr;  // what root_Q_ is the root of
  bool stale_ = false;       // P_ is not S S^T
};

}  // namespace seqvae::cpu::kalman

// What the innovations say of delta, the diffuse part of the state: least squares, row by row.
#pragma once
#include "host/cpu/kalman_step.hpp"

namespace seqvae::cpu::kalman {

/// Rows a . delta = v + noise of variance f. Kept: an orthonormal basis V of the directions seen so
/// far, and L, z with L (V delta) = z + noise of variance 1, L lower triangular.
template <class Real>
class Regression {
 public:
  Regression(std::int64_t n, std::int64_t q, Arena& arena) : q_(q) {
    Y_ = arena.take<Real>(n * q);
    for (Real** p : {&V_, &L_}) *p = arena.take<Real>(q * q);
    for (Real** p : {&z_, &row_, &rest_}) *p = arena.take<Real>(q);
  }
  void reset() { rank_ = 0; }
  std::int64_t rank() const { return rank_; }

  /// Adds a row and returns log p(v | the rows before), in the limit of a flat prior. `noise`: what
  /// rounding may have made of an entry of a.
  Real add(const Real* a, Real v, Real f, Real noise) {
    std::copy_n(a, q_, rest_);
    std::fill_n(row_, q_, Real(0));
    for (int pass = 0; pass < 2; ++pass) {  // Gram and Schmidt, twice is enough
      for (std::int64_t j = 0; j < rank_; ++j) {
        const Real part = dot(q_, V_ + j * q_, rest_);
        axpy(q_, -part, V_ + j * q_, rest_);
        row_[j] += part;
      }
    }
    const Real root = std::sqrt(f), added = std::sqrt(dot(q_, rest_, rest_));
    for (std::int64_t j = 0; j < rank_; ++j) row_[j] /= root;
    if (rank_ < q_ && added > noise) {
      for (std::int64_t j = 0; j < q_; ++j) V_[rank_ * q_ + j] = rest_[j] / added;
      std::copy_n(row_, rank_, L_ + rank_ * q_);
      L_[rank_ * q_ + rank_] = added / root;
      z_[rank_++] = v / root;
      innovation_ = std::numeric_limits<Real>::quiet_NaN();
      return Real(-0.5) * (Real(kLog2Pi) + 2 * std::log(added));
    }
    // Givens rotations from the last column to the first bring the row to zero.
    Real residual = v / root, log_ratio = 0;
    for (std::int64_t j = rank_ - 1; j >= 0; --j) {
      Real* L = L_ + j * q_;
      const Real length = std::hypot(L[j], row_[j]), c = L[j] / length, s = row_[j] / length;
      log_ratio += std::log(length / std::abs(L[j]));
      for (std::int64_t i = 0; i <= j; ++i) {
        const Real l = L[i];
        L[i] = c * l + s * row_[i];
        row_[i] = c * row_[i] - s * l;
      }
      const Real z = z_[j];
      z_[j] = c * z + s * residual;
      residual = c * residual - s * z;
    }
    innovation_ = residual;
    return Real(-0.5) * (Real(kLog2Pi) + std::log(f) + residual * residual) - log_ratio;
  }
  /// The last v given the rows before it, standardised; NaN where they said nothing of it.
  Real innovation() const { return innovation_; }

  /// delta[q] and G[q][q] with Cov(delta) = G G^T. Full rank only.
  void solve(Real* delta, Real* G) {
    for (std::int64_t i = 0; i < q_; ++i) {
      std::fill_n(rest_, q_, Real(0));
      rest_[i] = 1;
      whiten(rest_, G + i * q_);
      delta[i] = dot(q_, G + i * q_, z_);
    }
  }

  /// Moments with delta integrated out, NaN in components of which X has directions not seen yet.
  /// Returns whether delta adds little to them: at most kLittle times what P has of it.
  bool integrate(std::int64_t n, const Moments<Real>& s, Real* mean, Real* covariance) {
    constexpr Real kLittle = 1000;  // cancelling so much costs three digits
    Real largest = 0;
    for (std::int64_t i = 0; i < n * q_; ++i) largest = std::max(largest, std::abs(s.X[i]));
    bool little = rank_ == q_;
    for (std::int64_t i = 0; i < n; ++i) {
      Real* y = Y_ + i * q_;
      const Real unseen = whiten(s.X + i * q_, y);
      mean[i] = s.m[i] + dot(rank_, y, z_);
      little = little && dot(rank_, y, y) <= kLittle * s.P[i * n + i];
      if (unseen > Real(1e-9) * largest) mean[i] = std::numeric_limits<Real>::quiet_NaN();
    }
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const bool known = !std::isnan(mean[i]) && !std::isnan(mean[j]);
        covariance[i * n + j] = known ? s.P[i * n + j] + dot(rank_, Y_ + i * q_, Y_ + j * q_)
                                      : std::numeric_limits<Real>::quiet_NaN();
      }
    }
    return little;
  }

 private:
  /// y with x . delta = y . (L V delta) + what V does not see, whose length is returned.
  Real whiten(const Real* x, Real* y) const {
    Real unseen = 0;
    for (std::int64_t j = 0; j < rank_; ++j) y[j] = dot(q_, V_ + j * q_, x);
    for (std::int64_t i = 0; rank_ < q_ && i < q_; ++i) {
      Real rest = x[i];
      for (std::int64_t j = 0; j < rank_; ++j) rest -= y[j] * V_[j * q_ + i];
      unseen += rest * rest;
    }
    for (std::int64_t j = rank_ - 1; j >= 0; --j) {
      for (std::int64_t i = j + 1; i < rank_; ++i) y[j] -= y[i] * L_[i * q_ + j];
      y[j] /= L_[j * q_ + j];
    }
    return std::sqrt(unseen);
  }

  std::int64_t q_, rank_ = 0;
  Real innovation_ = 0;
  Real *Y_, *V_, *L_, *z_, *row_, *rest_;
};

}  // namespace seqvae::cpu::kalman

// What of the Kalman recursions solves with a factorised matrix: by Eigen, compiled once.
#pragma once
#include <cstdint>

namespace seqvae::cpu::kalman {

/// inverse[n][n] of S[n][n], symmetric and positive definite, which is lost. Of every step: takes
/// no memory.
template <class Real>
void invert_positive(std::int64_t n, Real* S, Real* inverse);

/// N[n][n] of merged moments becomes that given delta, of q components, where the merged covariance
/// is larger by Y Y^T, Y = factor spread, with factor[n][q] and spread[q][q]. With r[n] and
/// delta[q], center[q] and root[q][q] are of delta's distribution given all observations: its mean
/// and B, of B B^T its covariance. Once a sequence; in double.
template <class Real>
void given_delta(std::int64_t n, std::int64_t q, const Real* factor, const Real* spread,
                 const Real* delta, const Real* r, Real* N, Real* center, Real* root);

}  // namespace seqvae::cpu::kalman

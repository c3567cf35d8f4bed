// A stretch of steps as one map of the state before it (Sarkka and Garcia-Fernandez, IEEE
// Transactions on Automatic Control 66, 2021, whose elements these are): given z before the
// stretch,
//
//     z after it, given its y   ~ N(A z + b, C),        p(y | z) ~ exp(eta.z - z.J z / 2)
//
// Within a stretch it grows by one known step: b and C are a Kalman filter's that starts at z = 0
// with no variance, and of each component w = c^T A, A -= k w^T, eta += w v / f, J += w w^T / f.
#pragma once
#include "host/cpu/kalman_settled.hpp"

namespace seqvae::cpu::kalman {

/// A, C, J [n][n] and b, eta [n] of one stretch, in memory of the caller's.
template <class Real>
struct ChunkSummary {
  Real *A, *C, *J, *b, *eta;

  static std::int64_t size(std::int64_t n) { return 3 * n * n + 2 * n; }
  ChunkSummary(std::int64_t n, Real* memory)
      : A(memory), C(A + n * n), J(C + n * n), b(J + n * n), eta(b + n) {}
};

template <class Real>
class Summariser {
 public:
  Summariser(const KalmanModel<Real>& model, const KalmanData<Real>& data, KalmanForm form,
             Arena& arena)
      : model_(model), data_(data), covariances_(model, data, form, false, arena) {
    const std::int64_t n = model.n;
    for (Real** p : {&matrix_, &root_, &second_, &scratch_}) *p = arena.take<Real>(2 * n * n);
    for (Real** p : {&w_, &vector_}) *p = arena.take<Real>(n);
  }

  /// Steps begin .. end of sequence b, begin >= 1. False where they are no such map: a component
  /// without noise.
  bool summarise(std::int64_t begin, std::int64_t end, std::int64_t b, ChunkSummary<Real> s) {
    const std::int64_t n = model_.n;
    const RowLayout& layout = data_.layout;
    std::fill_n(s.A, 3 * n * n + 2 * n, Real(0));
    for (std::int64_t i = 0; i < n; ++i) s.A[i * (n + 1)] = 1;
    if (!covariances_.start_from(s.C)) return false;
    auto& observation = covariances_.observation();
    for (std::int64_t t = begin; t < end; ++t) {
      if (!covariances_.step(t, b)) return false;
      const Real* A = at(model_.A, layout, t, b);
      multiply(n, n, n, A, s.A, matrix_);
      std::copy_n(matrix_, n * n, s.A);
      multiply_vector(n, n, A, s.b, vector_);
      std::copy_n(vector_, n, s.b);
      add_inputs(n, model_.U, layout, model_.B, model_.state_offset, data_.u, t, b, s.b);
      observation.read_values(t, b);
      for (std::int64_t i = 0; i < observation.count(); ++i) {
        const Real *c = observation.c(i), *k = covariances_.k(i), f = covariances_.f(i);
        const Real v = observation.e(i) - dot(n, c, s.b);
        axpy(n, v, k, s.b);
        transposed_multiply_vector(n, n, s.A, c, w_);
        axpy(n, v / f, w_, s.eta);
        for (std::int64_t j = 0; j < n; ++j) {
          axpy(n, -k[j], w_, s.A + j * n);
          axpy(n, w_[j] / f, w_, s.J + j * n);
        }
      }
    }
    std::copy_n(covariances_.P(), n * n, s.C);
    return true;
  }

  Real* scratch() const { return scratch_; }  ///< [2][n][n], free between calls

  /// m and P before the stretch to those after it. With P = L L^T and G = I + L^T J L, whose
  /// eigenvalues are 1 or more, P given its y is L G^-1 L^T. False where P is not semidefinite.
  bool apply(const ChunkSummary<Real>& s, Real* m, Real* P) {
    const std::int64_t n = model_.n;
    Real *L = matrix_, *h = vector_;
    if (!factorize_semidefinite(n, P, L, h)) return false;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) L[i * n + j] *= std::sqrt(h[j]);
    }
    transposed_congruence(n, L, s.J, root_, scratch_);
    for (std::int64_t i = 0; i < n; ++i) root_[i * (n + 1)] += 1;
    if (!cholesky(n, root_)) return false;
    // Rows of W solve W M^T = L, G = M M^T: then P = W W^T.
    for (std::int64_t i = 0; i < n; ++i) {
      Real* row = L + i * n;
      for (std::int64_t j = 0; j < n; ++j) {
        row[j] = (row[j] - dot(j, row, root_ + j * n)) / root_[j * (n + 1)];
      }
    }
    // m += P (eta - J m)
    multiply_vector(n, n, s.J, m, w_);
    for (std::int64_t i = 0; i < n; ++i) w_[i] = s.eta[i] - w_[i];
    transposed_multiply_vector(n, n, L, w_, vector_);
    add_multiply_vector(n, n, L, vector_, m);
    // A m + b and A P A^T + C
    multiply_vector(n, n, s.A, m, vector_);
    for (std::int64_t i = 0; i < n; ++i) m[i] = vector_[i] + s.b[i];
    multiply(n, n, n, s.A, L, root_);
    transpose(n, n, root_, second_);
    multiply(n, n, n, root_, second_, P);
    for (std::int64_t i = 0; i < n * n; ++i) P[i] += s.C[i];
    return true;
  }

 private:
  /// G = M M^T, M in the lower half.
  static bool cholesky(std::int64_t n, Real* G) {
    for (std::int64_t j = 0; j < n; ++j) {
      const Real pivot = G[j * (n + 1)] - dot(j, G + j * n, G + j * n);
      if (!(pivot > 0) || !std::isfinite(pivot)) return false;
      const Real root = G[j * (n + 1)] = std::sqrt(pivot);
      for (std::int64_t i = j + 1; i < n; ++i) {
        G[i * n + j] = (G[i * n + j] - dot(j, G + i * n, G + j * n)) / root;
      }
    }
    return true;
  }

  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  Covariances<Real> covariances_;
  Real *matrix_, *root_, *second_, *scratch_, *w_, *vector_;
};

}  // namespace seqvae::cpu::kalman

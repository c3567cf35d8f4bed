// Products of small row-major matrices, as sums of rows: the inner loop runs along memory, and an
// entry of the left factor that is zero costs nothing (the matrices of structural models are mostly
// zeros). Outputs overlap no input.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace seqvae::cpu {

/// In four partial sums where they are worth it: one would wait for itself.
template <class Real>
Real dot(std::int64_t n, const Real* x, const Real* y) {
  Real sum = 0, sums[4] = {};
  std::int64_t i = 0;
  for (; n >= 8 && i + 4 <= n; i += 4) {
    for (std::int64_t l = 0; l < 4; ++l) sums[l] += x[i + l] * y[i + l];
  }
  for (; i < n; ++i) sum += x[i] * y[i];
  return sum + ((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/// y += a x
template <class Real>
void axpy(std::int64_t n, Real a, const Real* x, Real* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}

/// y = A x, A[rows][n]
template <class Real>
void multiply_vector(std::int64_t rows, std::int64_t n, const Real* A, const Real* x, Real* y) {
  for (std::int64_t i = 0; i < rows; ++i) y[i] = dot(n, A + i * n, x);
}

/// y += A x, A[rows][n]
template <class Real>
void add_multiply_vector(std::int64_t rows, std::int64_t n, const Real* A, const Real* x, Real* y) {
  for (std::int64_t i = 0; i < rows; ++i) y[i] += dot(n, A + i * n, x);
}

/// y = A^T x, A[rows][n]; for a symmetric A also A x
template <class Real>
void transposed_multiply_vector(std::int64_t rows, std::int64_t n, const Real* A, const Real* x,
                                Real* y) {
  std::fill_n(y, n, Real(0));
  for (std::int64_t k = 0; k < rows; ++k) {
    if (x[k] != 0) axpy(n, x[k], A + k * n, y);
  }
}

/// \name Sums of products, inlined where they stand: for what is not worth a call of `multiply`.
/// \{

/// out[rows][columns] += factor A[rows][inner] X[inner][columns]
template <class Real>
void add_product(std::int64_t rows, std::int64_t inner, std::int64_t columns, Real factor,
                 const Real* A, const Real* X, Real* out) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t k = 0; k < inner; ++k) {
      axpy(columns, factor * A[i * inner + k], X + k * columns, out + i * columns);
    }
  }
}

/// out[rows][columns] += factor A[rows][inner] X^T, X[columns][inner]
template <class Real>
void add_product_transposed(std::int64_t rows, std::int64_t inner, std::int64_t columns,
                            Real factor, const Real* A, const Real* X, Real* out) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      out[i * columns + j] += factor * dot(inner, A + i * inner, X + j * inner);
    }
  }
}

/// out[rows][columns] += factor A^T X[inner][columns], A[inner][rows]
template <class Real>
void add_transposed_product(std::int64_t rows, std::int64_t inner, std::int64_t columns,
                            Real factor, const Real* A, const Real* X, Real* out) {
  for (std::int64_t k = 0; k < inner; ++k) {
    for (std::int64_t i = 0; i < rows; ++i) {
      axpy(columns, factor * A[k * rows + i], X + k * columns, out + i * columns);
    }
  }
}

/// out[rows][columns] = A^T X[inner][columns], A[inner][rows]
template <class Real>
void transposed_multiply(std::int64_t rows, std::int64_t inner, std::int64_t columns, const Real* A,
                         const Real* X, Real* out) {
  std::fill_n(out, rows * columns, Real(0));
  add_transposed_product(rows, inner, columns, Real(1), A, X, out);
}

/// out += factor (M + M^T) / 2, [n][n]
template <class Real>
void add_symmetric_part(std::int64_t n, const Real* M, Real* out, Real factor = 1) {
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      out[i * n + j] += factor * (M[i * n + j] + M[j * n + i]) / 2;
    }
  }
}
/// \}

template <class Real>
void transpose(std::int64_t rows, std::int64_t columns, const Real* A, Real* out) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) out[j * rows + i] = A[i * columns + j];
  }
}

/// \name What a step of a Kalman recursion spends its time in: compiled for each instruction set,
/// and for the usual sizes with the size known (small_matrix.cpp). Outputs overlap no input.
/// \{

/// out[rows][columns] = A[rows][inner] X[inner][columns]
template <class Real>
void multiply(std::int64_t rows, std::int64_t inner, std::int64_t columns, const Real* A,
              const Real* X, Real* out);

/// Steps of a linear map: [m | v] = [m | y_t] M, M[n + seen][columns], the same bits as multiply.
/// Each step's m, and -normalizer - sum_i half_over_f_i v_i^2, are written where that is given, and
/// so is P.
template <class Real>
struct MapSteps {
  std::int64_t n = 0, seen = 0, columns = 0;  ///< columns: a multiple of 16, at most 64
  std::int64_t steps = 0;
  const Real* map = nullptr;
  const Real* y = nullptr;  ///< [steps][seen]
  std::int64_t y_stride = 0;
  Real* m = nullptr;  ///< [n]  before the first step, then after the last
  const Real* half_over_f = nullptr;
  Real normalizer = 0;
  const Real* P = nullptr;  ///< [n][n]
  Real *mean = nullptr, *log_likelihood = nullptr, *covariance = nullptr;
  std::int64_t mean_stride = 0, log_likelihood_stride = 0, covariance_stride = 0;
};

/// Returns the steps before the first whose log-likelihood is not finite, where it stops.
template <class Real>
std::int64_t run_map(const MapSteps<Real>& steps);

/// y = P x for symmetric P[n][n]
template <class Real>
void symmetric_multiply(std::int64_t n, const Real* P, const Real* x, Real* y);

/// P += x y^T + y x^T; exactly symmetric where P is
template <class Real>
void add_symmetric(std::int64_t n, const Real* x, const Real* y, Real* P);

/// S[rows][columns] += x y^T + K
template <class Real>
void add_outer(std::int64_t rows, std::int64_t columns, const Real* x, const Real* y, const Real* K,
               Real* S);

/// out[rows][columns] = A[rows][inner] X[inner][columns] with the sums of `dot`: each column has
/// the bits of multiply_vector.
template <class Real>
void multiply_columns(std::int64_t rows, std::int64_t inner, std::int64_t columns, const Real* A,
                      const Real* X, Real* out);

/// out[rows][columns] += X Y^T, X[rows][inner], Y[columns][inner]; each entry's sum apart first.
template <class Real>
void add_inner_products(std::int64_t rows, std::int64_t columns, std::int64_t inner, const Real* X,
                        const Real* Y, Real* out);

/// out[rows][rows] = A P A^T for symmetric P[n][n]; exactly symmetric. Scratch: 2 rows n.
template <class Real>
void congruence(std::int64_t rows, std::int64_t n, const Real* A, const Real* P, Real* out,
                Real* scratch);

/// out[n][n] = A^T P A for symmetric P[n][n], square A; exactly symmetric. Scratch: 2 n^2.
template <class Real>
void transposed_congruence(std::int64_t n, const Real* A, const Real* P, Real* out, Real* scratch);

/// Conditions P on c^T z + noise of variance h: w = P c, k = w / f and, in Joseph's form,
/// P = (I - k c^T) P (I - k c^T)^T + h k k^T, exactly symmetric. Returns f = c.w + h, and
/// changes neither k nor P where that is not positive and finite.
template <class Real>
Real condition(std::int64_t n, const Real* c, Real h, Real* P, Real* w, Real* k);

/// The same by P -= w w^T / f.
template <class Real>
Real condition_covariance(std::int64_t n, const Real* c, Real h, Real* P, Real* w, Real* k);

/// The same of S with P = S S^T, given and kept as S^T: S times a triangular root of
/// I - phi phi^T / f, phi = S^T c (Carlson, AIAA Journal 11, 1973).
template <class Real>
Real condition_root(std::int64_t n, const Real* c, Real h, Real* St, Real* phi, Real* w, Real* k);

/// M = [L | 0] times an orthogonal matrix, L[rows][rows] lower triangular with a diagonal >= 0, in
/// the first columns of M[rows][columns]; columns >= rows. The rest of M is lost.
template <class Real>
void triangularize(std::int64_t rows, std::int64_t columns, Real* M);
/// \}

/// S = L diag(h) L^T with L unit lower triangular, for a positive semidefinite S[k][k] (its lower
/// half is read). A pivot of zero up to rounding is zero, with a column of zeros below it. False
/// where S is not positive semidefinite or not finite.
template <class Real>
bool factorize_semidefinite(std::int64_t k, const Real* S, Real* L, Real* h) {
  constexpr Real rounding = 64 * std::numeric_limits<Real>::epsilon();
  for (std::int64_t j = 0; j < k; ++j) {
    Real pivot = S[j * k + j];
    for (std::int64_t p = 0; p < j; ++p) pivot -= L[j * k + p] * L[j * k + p] * h[p];
    const Real noise = rounding * std::abs(S[j * k + j]);
    if (!(pivot >= -noise) || !std::isfinite(pivot)) return false;
    h[j] = pivot > noise ? pivot : Real(0);
    std::fill_n(L + j * k + j, k - j, Real(0));
    L[j * k + j] = 1;
    for (std::int64_t i = j + 1; i < k; ++i) {
      Real value = S[i * k + j];
      for (std::int64_t p = 0; p < j; ++p) value -= L[i * k + p] * L[j * k + p] * h[p];
      L[i * k + j] = h[j] > 0 ? value / h[j] : Real(0);
    }
  }
  return true;
}

}  // namespace seqvae::cpu

// The loops of small_matrix.hpp that matter, for each instruction set. Plain loops along rows,
// which the compiler makes vectors of; for the usual n it knows n. No product is fused and every
// sum has its order, so that all instruction sets give the same bits, and P_ij rounds as P_ji does.
#include "host/cpu/small_matrix.hpp"

#include <cmath>
#include <type_traits>

#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/small_matrix.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {

template <std::int64_t n>
using Fixed = std::integral_constant<std::int64_t, n>;

template <std::int64_t... sizes, class Work>
HWY_INLINE void with_size_of(std::int64_t n, const Work& work) {
  const bool known = ((n == sizes && (work(Fixed<sizes>()), true)) || ...);
  if (!known) work(n);
}
/// Calls work with n, as a constant where it is a usual one.
template <class Work>
HWY_INLINE void with_size(std::int64_t n, const Work& work) {
  with_size_of<1, 2, 3, 4, 6, 8, 16, 32>(n, work);
}

constexpr std::int64_t kBlock = 16;  // columns of a product that stay in registers

/// kRows rows and `columns` columns of out = A[.][inner] X, rows of X and out `ld` apart: sums of
/// one row alone would wait for each other. Of large matrices the zeros of A, most of a structural
/// model's, cost little.
template <int kRows, std::int64_t most, class Inner, class Columns, class Real>
HWY_INLINE void product_rows(Inner inner, Columns columns, std::int64_t ld,
                             const Real* HWY_RESTRICT A, const Real* HWY_RESTRICT X,
                             Real* HWY_RESTRICT out) {
  Real sums[kRows][most] = {};
  for (std::int64_t k = 0; k < inner; ++k) {
    Real a[kRows];
    bool some = inner <= 8;
    for (int r = 0; r < kRows; ++r) {
      a[r] = A[r * inner + k];
      some = some || a[r] != 0;
    }
    if (!some) continue;
    for (int r = 0; r < kRows; ++r) {
      for (std::int64_t j = 0; j < columns; ++j) sums[r][j] += a[r] * X[k * ld + j];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (std::int64_t j = 0; j < columns; ++j) out[r * ld + j] = sums[r][j];
  }
}

/// Rows of so many columns that are summed side by side; they must stay in registers.
template <class Columns>
constexpr int rows_at_once() {
  if constexpr (std::is_same_v<Columns, std::int64_t>) {
    return 1;
  } else {
    return Columns::value <= 8 ? 4 : Columns::value <= 16 ? 2 : 1;
  }
}

/// `columns` columns of out = A[rows][inner] X.
template <std::int64_t most, class Rows, class Inner, class Columns, class Real>
HWY_INLINE void product_columns(Rows rows, Inner inner, Columns columns, std::int64_t ld,
                                const Real* A, const Real* X, Real* out) {
  constexpr int kRows = rows_at_once<Columns>();
  std::int64_t i = 0;
  for (; i + kRows <= rows; i += kRows) {
    product_rows<kRows, most>(inner, columns, ld, A + i * inner, X, out + i * ld);
  }
  for (; i < rows; ++i) product_rows<1, most>(inner, columns, ld, A + i * inner, X, out + i * ld);
}

/// out[rows][columns] = A[rows][inner] X[inner][columns]
template <class Rows, class Inner, class Columns, class Real>
HWY_INLINE void product(Rows rows, Inner inner, Columns columns, const Real* A, const Real* X,
                        Real* out) {
  if constexpr (!std::is_same_v<Columns, std::int64_t>) {
    product_columns<Columns::value>(rows, inner, columns, columns, A, X, out);
  } else {
    std::int64_t j = 0;
    for (; j + kBlock <= columns; j += kBlock) {
      product_columns<kBlock>(rows, inner, Fixed<kBlock>(), columns, A, X + j, out + j);
    }
    if (j < columns) product_columns<kBlock>(rows, inner, columns - j, columns, A, X + j, out + j);
  }
}

/// Sum of x y, in as many partial sums as a vector or two have lanes.
template <class N, class Real>
HWY_INLINE Real inner_product(N n, const Real* HWY_RESTRICT x, const Real* HWY_RESTRICT y) {
  constexpr std::int64_t lanes = 8;
  const std::int64_t whole = n / lanes * lanes;
  Real sum = 0, sums[lanes] = {};
  for (std::int64_t i = 0; i < whole; i += lanes) {
    for (std::int64_t l = 0; l < lanes; ++l) sums[l] += x[i + l] * y[i + l];
  }
  for (std::int64_t i = whole; i < n; ++i) sum += x[i] * y[i];
  for (std::int64_t l = 0; whole > 0 && l < lanes; ++l) sum += sums[l];
  return sum;
}

/// y = P x for symmetric P
template <class N, class Real>
HWY_INLINE void multiply_symmetric(N n, const Real* HWY_RESTRICT P, const Real* HWY_RESTRICT x,
                                   Real* HWY_RESTRICT y) {
  for (std::int64_t j = 0; j < n; ++j) y[j] = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) y[j] += x[i] * P[i * n + j];
  }
}

template <class Rows, class Columns, class Real>
HWY_INLINE void turn(Rows rows, Columns columns, const Real* HWY_RESTRICT A,
                     Real* HWY_RESTRICT out) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) out[j * rows + i] = A[i * columns + j];
  }
}

template <class N, class Real>
HWY_INLINE void make_symmetric(N n, Real* P) {
  for (std::int64_t i = 1; i < n; ++i) {
    for (std::int64_t j = 0; j < i; ++j) {
      P[i * n + j] = P[j * n + i] = (P[i * n + j] + P[j * n + i]) / 2;
    }
  }
}

template <class Real>
void congruence_of(std::int64_t rows, std::int64_t n, const Real* A, const Real* P, Real* out,
                   Real* scratch) {
  const auto work = [&](auto r, auto size) HWY_ATTR {
    Real* AP = scratch;
    Real* PA = scratch + rows * n;
    product(r, size, size, A, P, AP);
    turn(r, size, AP, PA);
    product(r, size, r, A, PA, out);
    make_symmetric(r, out);
  };
  if (rows != n) return work(rows, n);
  with_size(n, [&](auto size) HWY_ATTR { work(size, size); });
}

template <class Real>
void transposed_congruence_of(std::int64_t n, const Real* A, const Real* P, Real* out,
                              Real* scratch) {
  with_size(n, [&](auto size) HWY_ATTR {
    Real* turned = scratch;
    Real* PA = scratch + size * size;
    turn(size, size, A, turned);
    // (A^T P)^T = P A
    product(size, size, size, turned, P, out);
    turn(size, size, out, PA);
    product(size, size, size, turned, PA, out);
    make_symmetric(size, out);
  });
}

template <class Real>
void multiply_of(std::int64_t rows, std::int64_t inner, std::int64_t columns, const Real* A,
                 const Real* X, Real* out) {
  const bool square = rows == inner && inner == columns;
  with_size(columns, [&](auto n) HWY_ATTR {
    square ? product(n, n, n, A, X, out) : product(rows, inner, n, A, X, out);
  });
}

template <class Real>
void symmetric_multiply_of(std::int64_t n, const Real* P, const Real* x, Real* y) {
  with_size(n, [&](auto size) HWY_ATTR { multiply_symmetric(size, P, x, y); });
}

template <class Real>
void add_symmetric_of(std::int64_t n, const Real* x, const Real* y, Real* P) {
  with_size(n, [&](auto size) HWY_ATTR {
    for (std::int64_t i = 0; i < size; ++i) {
      const Real xi = x[i], yi = y[i];
      Real* HWY_RESTRICT row = P + i * size;
      for (std::int64_t j = 0; j < size; ++j) row[j] += xi * y[j] + yi * x[j];
    }
  });
}

template <class Real>
void add_outer_of(std::int64_t rows, std::int64_t columns, const Real* x, const Real* y,
                  const Real* K, Real* S) {
  with_size(columns, [&](auto size) HWY_ATTR {
    for (std::int64_t i = 0; i < rows; ++i) {
      const Real xi = x[i];
      const Real* HWY_RESTRICT constant = K + i * size;
      Real* HWY_RESTRICT row = S + i * size;
      for (std::int64_t j = 0; j < size; ++j) row[j] += xi * y[j] + constant[j];
    }
  });
}

/// `width` columns of a row of A X by the sums of `dot`, rows of X `ld` apart.
template <int width, class Real>
HWY_INLINE void dot_columns(std::int64_t n, std::int64_t ld, const Real* HWY_RESTRICT a,
                            const Real* HWY_RESTRICT X, Real* HWY_RESTRICT out) {
  Real sum[width] = {}, sums[4][width] = {};
  std::int64_t i = 0;
  for (; n >= 8 && i + 4 <= n; i += 4) {
    for (std::int64_t l = 0; l < 4; ++l) {
      for (int j = 0; j < width; ++j) sums[l][j] += a[i + l] * X[(i + l) * ld + j];
    }
  }
  for (; i < n; ++i) {
    for (int j = 0; j < width; ++j) sum[j] += a[i] * X[i * ld + j];
  }
  for (int j = 0; j < width; ++j) {
    out[j] = sum[j] + ((sums[0][j] + sums[1][j]) + (sums[2][j] + sums[3][j]));
  }
}

template <class Real>
void multiply_columns_of(std::int64_t rows, std::int64_t inner, std::int64_t columns, const Real* A,
                         const Real* X, Real* out) {
  for (std::int64_t i = 0; i < rows; ++i, A += inner, out += columns) {
    std::int64_t j = 0;
    for (; j + 8 <= columns; j += 8) dot_columns<8>(inner, columns, A, X + j, out + j);
    for (; j < columns; ++j) dot_columns<1>(inner, columns, A, X + j, out + j);
  }
}

template <class Real>
void add_inner_products_of(std::int64_t rows, std::int64_t columns, std::int64_t inner,
                           const Real* X, const Real* Y, Real* out) {
  with_size_of<32>(inner, [&](auto size) HWY_ATTR {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        out[i * columns + j] += inner_product(size, X + i * size, Y + j * size);
      }
    }
  });
}

template <class Columns, class Real>
HWY_INLINE std::int64_t run_map_of_width(Columns columns, const MapSteps<Real>& a) {
  alignas(64) Real sums[Columns::value], state[Columns::value];
  const std::int64_t n = a.n, seen = a.seen, nn = n * n;
  for (std::int64_t i = 0; i < n; ++i) state[i] = a.m[i];
  std::int64_t t = 0;
  for (; t < a.steps; ++t) {
    const Real* HWY_RESTRICT y = a.y + t * a.y_stride;
    const Real* HWY_RESTRICT row = a.map;
    for (std::int64_t j = 0; j < columns; ++j) sums[j] = 0;
    for (std::int64_t k = 0; k < n; ++k, row += columns) {
      for (std::int64_t j = 0; j < columns; ++j) sums[j] += state[k] * row[j];
    }
    for (std::int64_t k = 0; k < seen; ++k, row += columns) {
      for (std::int64_t j = 0; j < columns; ++j) sums[j] += y[k] * row[j];
    }
    Real square = 0;
    for (std::int64_t i = 0; i < seen; ++i) square += a.half_over_f[i] * sums[n + i] * sums[n + i];
    const Real log_likelihood = -a.normalizer - square;
    if (!std::isfinite(log_likelihood)) break;
    for (std::int64_t j = 0; j < columns; ++j) state[j] = sums[j];
    if (a.log_likelihood != nullptr) a.log_likelihood[t * a.log_likelihood_stride] = log_likelihood;
    Real* HWY_RESTRICT mean = a.mean + t * a.mean_stride;
    for (std::int64_t i = 0; a.mean != nullptr && i < n; ++i) mean[i] = sums[i];
    Real* HWY_RESTRICT covariance = a.covariance + t * a.covariance_stride;
    for (std::int64_t i = 0; a.covariance != nullptr && i < nn; ++i) covariance[i] = a.P[i];
  }
  for (std::int64_t i = 0; i < n; ++i) a.m[i] = state[i];
  return t;
}

template <class Real>
std::int64_t run_map_of(const MapSteps<Real>& a) {
  switch (a.columns) {
    case 16:
      return run_map_of_width(Fixed<16>(), a);
    case 32:
      return run_map_of_width(Fixed<32>(), a);
    case 48:
      return run_map_of_width(Fixed<48>(), a);
    default:
      return run_map_of_width(Fixed<64>(), a);
  }
}

/// M = (I - k c^T) P, then M (I - k c^T)^T + h k k^T.
template <class Real>
Real condition_of(std::int64_t n, const Real* c, Real h, Real* P, Real* w, Real* k) {
  Real f = 0;
  with_size(n, [&](auto size) HWY_ATTR {
    multiply_symmetric(size, P, c, w);
    f = inner_product(size, c, w) + h;
    if (!(f > 0) || !std::isfinite(f)) return;
    for (std::int64_t i = 0; i < size; ++i) k[i] = w[i] / f;
    for (std::int64_t i = 0; i < size; ++i) {
      Real* HWY_RESTRICT M = P + i * size;
      const Real ki = k[i];
      for (std::int64_t j = 0; j < size; ++j) M[j] -= ki * w[j];
      const Real rest = h * ki - inner_product(size, c, M);
      for (std::int64_t j = 0; j < size; ++j) M[j] += rest * k[j];
    }
    make_symmetric(size, P);
  });
  return f;
}

/// P -= w w^T / f
template <class Real>
Real condition_covariance_of(std::int64_t n, const Real* c, Real h, Real* P, Real* w, Real* k) {
  Real f = 0;
  with_size(n, [&](auto size) HWY_ATTR {
    multiply_symmetric(size, P, c, w);
    f = inner_product(size, c, w) + h;
    if (!(f > 0) || !std::isfinite(f)) return;
    for (std::int64_t i = 0; i < size; ++i) k[i] = w[i] / f;
    const Real over_f = 1 / f;
    for (std::int64_t i = 0; i < size; ++i) {
      Real* HWY_RESTRICT row = P + i * size;
      const Real wi = w[i];
      for (std::int64_t j = 0; j < size; ++j) row[j] -= wi * w[j] * over_f;
    }
  });
  return f;
}

/// S U with U U^T = I - phi phi^T / f, U upper triangular: with a_j = h + phi_1^2 + .. + phi_j^2
/// and b_j = phi_1 S_1 + .. + phi_j S_j over the columns of S,
///     S_j = sqrt(a_{j-1} / a_j) S_j - phi_j / sqrt(a_{j-1} a_j) b_{j-1},
/// so that nothing cancels where h is much smaller than f.
template <class Real>
Real condition_root_of(std::int64_t n, const Real* c, Real h, Real* St, Real* phi, Real* w,
                       Real* k) {
  Real f = h;
  with_size(n, [&](auto size) HWY_ATTR {
    for (std::int64_t j = 0; j < size; ++j) {
      phi[j] = inner_product(size, St + j * size, c);
      f += phi[j] * phi[j];
    }
    if (!(f > 0) || !std::isfinite(f)) return;
    for (std::int64_t i = 0; i < size; ++i) w[i] = 0;
    Real before = h;
    for (std::int64_t j = 0; j < size; ++j) {
      if (phi[j] == 0) continue;
      const Real after = before + phi[j] * phi[j];
      const Real keep = std::sqrt(before / after);
      const Real take = before > 0 ? phi[j] / std::sqrt(before * after) : Real(0);
      Real* HWY_RESTRICT column = St + j * size;
      const Real along = phi[j];
      for (std::int64_t i = 0; i < size; ++i) {
        const Real s = column[i];
        column[i] = keep * s - take * w[i];
        w[i] += along * s;
      }
      before = after;
    }
    for (std::int64_t i = 0; i < size; ++i) k[i] = w[i] / f;
  });
  return f;
}

/// Rows in turn: a reflection makes what stands behind the diagonal zero, and turns the rows below.
/// The largest entry comes to the diagonal first, and the reflection does not cancel it: so a small
/// column keeps its digits beside large ones (Cox and Higham, Numerical Analysis 1997).
template <class Real>
void triangularize_of(std::int64_t rows, std::int64_t columns, Real* M) {
  for (std::int64_t i = 0; i < rows; ++i) {
    Real* HWY_RESTRICT v = M + i * columns + i;
    const std::int64_t count = columns - i;
    std::int64_t largest = 0;
    for (std::int64_t p = 1; p < count; ++p) {
      if (std::abs(v[p]) > std::abs(v[largest])) largest = p;
    }
    for (std::int64_t j = i; largest > 0 && j < rows; ++j) {
      std::swap(M[j * columns + i], M[j * columns + i + largest]);
    }
    const Real rest = inner_product(count - 1, v + 1, v + 1);
    const Real sign = v[0] < 0 ? Real(-1) : Real(1);
    if (rest > 0) {
      const Real norm = std::sqrt(v[0] * v[0] + rest);
      v[0] += sign * norm;
      const Real scale = 2 / (v[0] * v[0] + rest);
      for (std::int64_t j = i + 1; j < rows; ++j) {
        Real* HWY_RESTRICT row = M + j * columns + i;
        const Real along = scale * inner_product(count, v, row);
        for (std::int64_t p = 0; p < count; ++p) row[p] -= along * v[p];
      }
      v[0] = -sign * norm;
      for (std::int64_t p = 1; p < count; ++p) v[p] = 0;
    }
    if (v[0] >= 0) continue;
    for (std::int64_t j = i; j < rows; ++j) M[j * columns + i] = -M[j * columns + i];
  }
}

// Dispatch takes functions that have a name for each type.
#define SEQVAE_OF(Real)                                                                            \
  void multiply_##Real(std::int64_t rows, std::int64_t inner, std::int64_t columns, const Real* A, \
                       const Real* X, Real* out) {                                                 \
    multiply_of(rows, inner, columns, A, X, out);                                                  \
  }                                                                                                \
  void symmetric_multiply_##Real(std::int64_t n, const Real* P, const Real* x, Real* y) {          \
    symmetric_multiply_of(n, P, x, y);                                                             \
  }                                                                                                \
  void add_symmetric_##Real(std::int64_t n, const Real* x, const Real* y, Real* P) {               \
    add_symmetric_of(n, x, y, P);                                                                  \
  }                                                                                                \
  std::int64_t run_map_##Real(const MapSteps<Real>& steps) { return run_map_of(steps); }           \
  void add_outer_##Real(std::int64_t rows, std::int64_t columns, const Real* x, const Real* y,     \
                        const Real* K, Real* S) {                                                  \
    add_outer_of(rows, columns, x, y, K, S);                                                       \
  }                                                                                                \
  void multiply_columns_##Real(std::int64_t rows, std::int64_t inner, std::int64_t columns,        \
                               const Real* A, const Real* X, Real* out) {                          \
    multiply_columns_of(rows, inner, columns, A, X, out);                                          \
  }                                                                                                \
  void add_inner_products_##Real(std::int64_t rows, std::int64_t columns, std::int64_t inner,      \
                                 const Real* X, const Real* Y, Real* out) {                        \
    add_inner_products_of(rows, columns, inner, X, Y, out);                                        \
  }                                                                                                \
  void congruence_##Real(std::int64_t rows, std::int64_t n, const Real* A, const Real* P,          \
                         Real* out, Real* scratch) {                                               \
    congruence_of(rows, n, A, P, out, scratch);                                                    \
  }                                                                                                \
  void transposed_congruence_##Real(std::int64_t n, const Real* A, const Real* P, Real* out,       \
                                    Real* scratch) {                                               \
    transposed_congruence_of(n, A, P, out, scratch);                                               \
  }                                                                                                \
  Real condition_##Real(std::int64_t n, const Real* c, Real h, Real* P, Real* w, Real* k) {        \
    return condition_of(n, c, h, P, w, k);                                                         \
  }                                                                                                \
  Real condition_covariance_##Real(std::int64_t n, const Real* c, Real h, Real* P, Real* w,        \
                                   Real* k) {                                                      \
    return condition_covariance_of(n, c, h, P, w, k);                                              \
  }                                                                                                \
  Real condition_root_##Real(std::int64_t n, const Real* c, Real h, Real* St, Real* phi, Real* w,  \
                             Real* k) {                                                            \
    return condition_root_of(n, c, h, St, phi, w, k);                                              \
  }                                                                                                \
  void triangularize_##Real(std::int64_t rows, std::int64_t columns, Real* M) {                    \
    triangularize_of(rows, columns, M);                                                            \
  }
SEQVAE_OF(float)
SEQVAE_OF(double)
#undef SEQVAE_OF

}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {

#define SEQVAE_DISPATCH(Real)                                                                   \
  HWY_EXPORT(multiply_##Real);                                                                  \
  HWY_EXPORT(symmetric_multiply_##Real);                                                        \
  HWY_EXPORT(add_symmetric_##Real);                                                             \
  HWY_EXPORT(run_map_##Real);                                                                   \
  template <>                                                                                   \
  std::int64_t run_map(const MapSteps<Real>& steps) {                                           \
    return HWY_DYNAMIC_DISPATCH(run_map_##Real)(steps);                                         \
  }                                                                                             \
  HWY_EXPORT(add_outer_##Real);                                                                 \
  HWY_EXPORT(multiply_columns_##Real);                                                          \
  HWY_EXPORT(add_inner_products_##Real);                                                        \
  HWY_EXPORT(congruence_##Real);                                                                \
  HWY_EXPORT(transposed_congruence_##Real);                                                     \
  HWY_EXPORT(condition_##Real);                                                                 \
  HWY_EXPORT(condition_covariance_##Real);                                                      \
  HWY_EXPORT(condition_root_##Real);                                                            \
  HWY_EXPORT(triangularize_##Real);                                                             \
  template <>                                                                                   \
  void multiply(std::int64_t rows, std::int64_t inner, std::int64_t columns, const Real* A,     \
                const Real* X, Real* out) {                                                     \
    HWY_DYNAMIC_DISPATCH(multiply_##Real)(rows, inner, columns, A, X, out);                     \
  }                                                                                             \
  template <>                                                                                   \
  void symmetric_multiply(std::int64_t n, const Real* P, const Real* x, Real* y) {              \
    HWY_DYNAMIC_DISPATCH(symmetric_multiply_##Real)(n, P, x, y);                                \
  }                                                                                             \
  template <>                                                                                   \
  void add_symmetric(std::int64_t n, const Real* x, const Real* y, Real* P) {                   \
    HWY_DYNAMIC_DISPATCH(add_symmetric_##Real)(n, x, y, P);                                     \
  }                                                                                             \
  template <>                                                                                   \
  void add_outer(std::int64_t rows, std::int64_t columns, const Real* x, const Real* y,         \
                 const Real* K, Real* S) {                                                      \
    HWY_DYNAMIC_DISPATCH(add_outer_##Real)(rows, columns, x, y, K, S);                          \
  }                                                                                             \
  template <>                                                                                   \
  void multiply_columns(std::int64_t rows, std::int64_t inner, std::int64_t columns,            \
                        const Real* A, const Real* X, Real* out) {                              \
    HWY_DYNAMIC_DISPATCH(multiply_columns_##Real)(rows, inner, columns, A, X, out);             \
  }                                                                                             \
  template <>                                                                                   \
  void add_inner_products(std::int64_t rows, std::int64_t columns, std::int64_t inner,          \
                          const Real* X, const Real* Y, Real* out) {                            \
    HWY_DYNAMIC_DISPATCH(add_inner_products_##Real)(rows, columns, inner, X, Y, out);           \
  }                                                                                             \
  template <>                                                                                   \
  void congruence(std::int64_t rows, std::int64_t n, const Real* A, const Real* P, Real* out,   \
                  Real* scratch) {                                                              \
    HWY_DYNAMIC_DISPATCH(congruence_##Real)(rows, n, A, P, out, scratch);                       \
  }                                                                                             \
  template <>                                                                                   \
  void transposed_congruence(std::int64_t n, const Real* A, const Real* P, Real* out,           \
                             Real* scratch) {                                                   \
    HWY_DYNAMIC_DISPATCH(transposed_congruence_##Real)(n, A, P, out, scratch);                  \
  }                                                                                             \
  template <>                                                                                   \
  Real condition(std::int64_t n, const Real* c, Real h, Real* P, Real* w, Real* k) {            \
    return HWY_DYNAMIC_DISPATCH(condition_##Real)(n, c, h, P, w, k);                            \
  }                                                                                             \
  template <>                                                                                   \
  Real condition_covariance(std::int64_t n, const Real* c, Real h, Real* P, Real* w, Real* k) { \
    return HWY_DYNAMIC_DISPATCH(condition_covariance_##Real)(n, c, h, P, w, k);                 \
  }                                                                                             \
  template <>                                                                                   \
  Real condition_root(std::int64_t n, const Real* c, Real h, Real* St, Real* phi, Real* w,      \
                      Real* k) {                                                                \
    return HWY_DYNAMIC_DISPATCH(condition_root_##Real)(n, c, h, St, phi, w, k);                 \
  }                                                                                             \
  template <>                                                                                   \
  void triangularize(std::int64_t rows, std::int64_t columns, Real* M) {                        \
    HWY_DYNAMIC_DISPATCH(triangularize_##Real)(rows, columns, M);                               \
  }
SEQVAE_DISPATCH(float)
SEQVAE_DISPATCH(double)
#undef SEQVAE_DISPATCH

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

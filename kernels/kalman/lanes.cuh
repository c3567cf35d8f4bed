// The threads of one sequence and the small matrices that they work on. A matrix is N x N, N a
// power of two, with zeros in rows and columns from n on, which change nothing: products,
// conditioning and factors leave them zeros. Lane i owns row i; N lanes of a warp, or a block of
// two warps for N = 64.
//
// Mapping: a lane's own row is read 16 bytes at a time, rows padded so that eight lanes meet no
// bank twice; another lane's row is a broadcast, 16 bytes for 4 (float) multiply-adds. Rows that a
// lane works on are registers.
// Hazards: what a lane wrote is another's after sync(), and not before; the functions below say
// which of their ends is one. Lanes of different sequences in a warp part: only a sequence's own
// mask is named.
#pragma once
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/common/warp.cuh"
#include "kernels/kalman/memory.hpp"

namespace seqvae::cuda::kalman {

template <class Real>
inline constexpr Real kHalfLog2Pi = Real(0.91893853320467274178);
template <class Real>
inline constexpr Real kNaN = std::numeric_limits<Real>::quiet_NaN();
template <class Real>
inline constexpr Real kLargest = std::numeric_limits<Real>::max();
/// A pivot is zero where it is less than so much of its diagonal's entry.
template <class Real>
inline constexpr Real kPivotRounding = 64 * std::numeric_limits<Real>::epsilon();

__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return fma(a, b, c);
}
__device__ __forceinline__ float root(float x) { return sqrtf(x); }
__device__ __forceinline__ double root(double x) { return sqrt(x); }
__device__ __forceinline__ float size(float x) { return fabsf(x); }
__device__ __forceinline__ double size(double x) { return fabs(x); }
__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }
/// Neither infinite nor NaN.
template <class Real>
__device__ __forceinline__ bool is_finite(Real x) {
  return size(x) <= kLargest<Real>;
}

template <class Real, int N>
class Lanes {
 public:
  static constexpr bool kInWarp = N <= kWarpSize;

  /// `exchange`: two elements that lanes of two warps share; not read within a warp.
  __device__ __forceinline__ explicit Lanes(Real* exchange)
      : exchange_(exchange), lane_(static_cast<int>(threadIdx.x) & (N - 1)) {
    if constexpr (kInWarp) {
      const int first = (static_cast<int>(threadIdx.x) & (kWarpSize - 1)) - lane_;
      mask_ = (kFullMask >> (kWarpSize - N)) << first;
    }
  }
  __device__ __forceinline__ int lane() const { return lane_; }

  __device__ __forceinline__ void sync() const {
    if constexpr (kInWarp) {
      __syncwarp(mask_);
    } else {
      __syncthreads();
    }
  }
  /// Over the lanes, the same bits in each of them.
  __device__ __forceinline__ Real sum(Real x) const {
#pragma unroll
    for (int apart = (kInWarp ? N : kWarpSize) / 2; apart > 0; apart /= 2) {
      x += __shfl_xor_sync(kInWarp ? mask_ : kFullMask, x, apart);
    }
    if constexpr (kInWarp) return x;
    if (lane_ % kWarpSize == 0) exchange_[lane_ / kWarpSize] = x;
    __syncthreads();
    x = exchange_[0] + exchange_[1];
    __syncthreads();
    return x;
  }
  __device__ __forceinline__ bool any(bool x) const { return sum(x ? Real(1) : Real(0)) > 0; }

 private:
  Real* exchange_;
  int lane_;
  unsigned mask_ = kFullMask;
};

/// As many elements as one load takes.
template <class Real, int N>
struct alignas((N * sizeof(Real) < 16 ? N * sizeof(Real) : 16)) Pack {
  static constexpr int kCount = N * sizeof(Real) < 16 ? N : 16 / static_cast<int>(sizeof(Real));
  Real x[kCount];
};

/// Entries of a row that are worked on side by side: all, where they are registers.
template <int N>
inline constexpr int kUnrolled = N <= 32 ? N : 16;

/// f(j, entry) of a matrix's row, from the first.
template <class Real, int N, class F>
__device__ __forceinline__ void for_each_entry(const Real* row, F f) {
  using Quad = Pack<Real, N>;
#pragma unroll(kUnrolled <N> / Quad::kCount)
  for (int j = 0; j < N; j += Quad::kCount) {
    const Quad quad = *reinterpret_cast<const Quad*>(row + j);
#pragma unroll
    for (int i = 0; i < Quad::kCount; ++i) f(j + i, quad.x[i]);
  }
}
/// A row of a lane's own: registers, or, where these are too few, its row of a matrix in memory
/// that nothing else uses.
template <class Real, int N>
class OwnRow {
 public:
  static constexpr bool kInRegisters = N <= 32;
  /// `rows`: [N][N], not touched where registers serve.
  __device__ __forceinline__ OwnRow(Real* rows, int lane) : memory_(rows + lane * kRow<Real, N>) {}
  __device__ __forceinline__ Real& operator[](int j) {
    if constexpr (kInRegisters) {
      return registers_[j];
    } else {
      return memory_[j];
    }
  }
  __device__ __forceinline__ Real operator[](int j) const {
    if constexpr (kInRegisters) {
      return registers_[j];
    } else {
      return memory_[j];
    }
  }

 private:
  Real registers_[kInRegisters ? N : 1];
  Real* memory_;
};

template <class Real, int N>
__device__ __forceinline__ void load(OwnRow<Real, N>& x, const Real* row) {
  for_each_entry<Real, N>(row, [&](int j, Real entry) { x[j] = entry; });
}
template <class Real, int N>
__device__ __forceinline__ void store(Real* row, const OwnRow<Real, N>& x) {
  using Quad = Pack<Real, N>;
#pragma unroll(kUnrolled <N> / Quad::kCount)
  for (int j = 0; j < N; j += Quad::kCount) {
    Quad quad;
#pragma unroll
    for (int i = 0; i < Quad::kCount; ++i) quad.x[i] = x[j + i];
    *reinterpret_cast<Quad*>(row + j) = quad;
  }
}
/// x . row, x[j] an entry of it, in partial sums that do not wait for each other.
template <class Real, int N, class Row>
__device__ __forceinline__ Real dot(const Row& x, const Real* row) {
  Real sums[Pack<Real, N>::kCount] = {};
  for_each_entry<Real, N>(row, [&](int j, Real entry) {
    sums[j % Pack<Real, N>::kCount] = multiply_add(x[j], entry, sums[j % Pack<Real, N>::kCount]);
  });
  Real sum = sums[0];
#pragma unroll
  for (int i = 1; i < Pack<Real, N>::kCount; ++i) sum += sums[i];
  return sum;
}
/// y += a row
template <class Real, int N>
__device__ __forceinline__ void axpy(OwnRow<Real, N>& y, Real a, const Real* row) {
  for_each_entry<Real, N>(row, [&](int j, Real entry) { y[j] = multiply_add(a, entry, y[j]); });
}

/// entry(k) of k = 0 .. N - 1 times the rows of M, `row` elements from one to the next: one row of
/// a product.
template <class Real, int N, class Entry>
__device__ __forceinline__ void row_times(Entry entry, const Real* M, int row,
                                          OwnRow<Real, N>& out) {
#pragma unroll(kUnrolled <N>)
  for (int j = 0; j < N; ++j) out[j] = 0;
#pragma unroll 1
  for (int k = 0; k < N; ++k) axpy(out, entry(k), M + k * row);
}

/// This lane's component of A^T x, from its component of x. Begins with sync(); `vector`, [N], may
/// be read until the next.
template <class Real, int N>
__device__ __forceinline__ Real transposed_times(const Lanes<Real, N>& lanes, const Real* A, Real x,
                                                 Real* vector) {
  lanes.sync();
  vector[lanes.lane()] = x;
  lanes.sync();
  Real sum = 0;
  for (int k = 0; k < N; ++k) {
    sum = multiply_add(A[k * kRow<Real, N> + lanes.lane()], vector[k], sum);
  }
  return sum;
}

/// A matrix [n][n] to M, whose other entries become zeros. M is nobody's before, everybody's after.
template <class Real, int N>
__device__ __forceinline__ void bring(const Lanes<Real, N>& lanes, std::int64_t n, const Real* from,
                                      Real* M, int row = kRow<Real, N>) {
  const int j = lanes.lane();
  for (int r = 0; r < N; ++r) M[r * row + j] = r < n && j < n ? from[r * n + j] : Real(0);
  lanes.sync();
}
/// The first n rows and columns of M, everybody's, to memory.
template <class Real, int N>
__device__ __forceinline__ void give(const Lanes<Real, N>& lanes, std::int64_t n, const Real* M,
                                     Real* to, int row = kRow<Real, N>) {
  const int j = lanes.lane();
  for (int r = 0; j < n && r < n; ++r) to[r * n + j] = M[r * row + j];
}

/// out = A P A^T, the same bits on both sides of the diagonal. P and A are everybody's before; out
/// is after sync().
template <class Real, int N>
__device__ __forceinline__ void congruence(const Lanes<Real, N>& lanes, const Real* A,
                                           const Real* P, Real* out, Real* rows) {
  constexpr int S = kRow<Real, N>;
  const int i = lanes.lane();
  OwnRow<Real, N> x(rows, i);
  row_times([&](int k) { return A[i * S + k]; }, P, S, x);
#pragma unroll 1
  for (int j = 0; j < N; ++j) {
    const Real entry = dot<Real, N>(x, A + j * S);
    if (j > i) continue;
    out[i * S + j] = entry;
    out[j * S + i] = entry;
  }
}

/// M = A^T M A for a symmetric M, in place; exactly symmetric. M and A are everybody's before, and
/// M after it.
template <class Real, int N>
__device__ __forceinline__ void transposed_congruence(const Lanes<Real, N>& lanes, const Real* A,
                                                      Real* M, Real* rows) {
  constexpr int S = kRow<Real, N>;
  const int i = lanes.lane();
  OwnRow<Real, N> x(rows, i);
  row_times([&](int k) { return A[k * S + i]; }, M, S, x);
  lanes.sync();  // all have read M
  store(M + i * S, x);
  lanes.sync();
  row_times([&](int k) { return M[i * S + k]; }, A, S, x);
  lanes.sync();
  store(M + i * S, x);
  lanes.sync();
  for (int j = i + 1; j < N; ++j) M[i * S + j] = M[j * S + i];  // nobody writes below the diagonal
  lanes.sync();
}

/// M += x c^T + c x^T, exactly symmetric, x and c by this lane's component and by all. All of M is
/// everybody's before and after it.
template <class Real, int N>
__device__ __forceinline__ void add_symmetric(const Lanes<Real, N>& lanes, Real x,
                                              const Real* all_x, const Real* c,
                                              OwnRow<Real, N>& row, Real* M) {
  const int i = lanes.lane();
  const Real own = c[i];
#pragma unroll(kUnrolled <N>)
  for (int j = 0; j < N; ++j) row[j] += own * all_x[j] + x * c[j];
  store(M + i * kRow<Real, N>, row);
  lanes.sync();
}

/// M = (M + M^T) / 2. M is everybody's before and after it.
template <class Real, int N>
__device__ __forceinline__ void make_symmetric(const Lanes<Real, N>& lanes, Real* M, Real* rows) {
  constexpr int S = kRow<Real, N>;
  const int i = lanes.lane();
  OwnRow<Real, N> x(rows, i);
  load(x, M + i * S);
#pragma unroll(kUnrolled <N>)
  for (int j = 0; j < N; ++j) x[j] = (x[j] + M[j * S + i]) / 2;
  lanes.sync();
  store(M + i * S, x);
  lanes.sync();
}

/// S = L diag(h) L^T, L unit lower triangular, of a positive semidefinite S[k][k] with `row`
/// elements from one row to the next, of which the lower half is read and becomes L (but for the
/// diagonal). A pivot of zero up to rounding is zero, with zeros below it. False, for every lane,
/// where S is not positive semidefinite or not finite. S is everybody's before it, L and h after.
///
/// Seldom called where R and Q are constant, and long: a function of its own.
template <class Real, int N>
[[gnu::noinline]] __device__ bool factorize_semidefinite(Lanes<Real, N> lanes, int k, int row,
                                                         Real* S, Real* h) {
  for (int j = 0; j < k; ++j) {
    Real pivot = S[j * row + j];
    for (int p = 0; p < j; ++p) {
      pivot = multiply_add(-S[j * row + p] * S[j * row + p], h[p], pivot);
    }
    const Real noise = kPivotRounding<Real> * size(S[j * row + j]);
    if (!(pivot >= -noise) || !is_finite(pivot)) return false;
    const Real kept = pivot > noise ? pivot : Real(0);
    for (int i = j + 1 + lanes.lane(); i < k; i += N) {
      Real value = S[i * row + j];
      for (int p = 0; p < j; ++p) {
        value = multiply_add(-S[i * row + p] * S[j * row + p], h[p], value);
      }
      S[i * row + j] = kept > 0 ? value / kept : Real(0);
    }
    if (lanes.lane() == 0) h[j] = kept;
    lanes.sync();
  }
  return true;
}

}  // namespace seqvae::cuda::kalman

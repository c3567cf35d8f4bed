// Rows dealt to groups of lanes: the mapping of the elementwise kernels.
//
// A row of width D has ceil(D / 4) quads of four components. L neighbouring lanes serve a row, L
// the power of two at or above that, at most 32, each lane every L-th quad. So a warp reads whole
// lines whether rows are short or long, no lane divides, and a sum over a row is a shuffle.
//
// A row that is gone through more than once (a softmax, a norm) is read once and kept in registers:
// two quads a lane, so that half as many lanes add among themselves, and 4 or 8 where rows are
// longer than 256 and 512. Longer ones still are read anew each time, from L1 or L2.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "kernels/common/launch.cuh"
#include "kernels/common/load_store.cuh"
#include "kernels/common/warp.cuh"
#include "seqvae/kernels/rows.hpp"

namespace seqvae::cuda {

constexpr int kRowThreads = 256;  // of a block

/// L of rows of width D; 1 where there is nothing to do.
inline int lanes_for(std::int64_t D) {
  return static_cast<int>(
      std::bit_ceil(static_cast<std::uint64_t>(std::min<std::int64_t>((D + 3) / 4, kWarpSize))));
}

inline LaunchShape row_shape(std::int64_t rows, int lanes) {
  return {blocks_for(rows * lanes, kRowThreads), kRowThreads};
}

/// This thread's row, counted from 0, and its place in the row's group. Rows past the last are
/// dealt too, so that whole warps stay together: ask before touching memory.
struct RowLane {
  std::int64_t row;
  int lane;
};

__device__ __forceinline__ RowLane row_lane(int lanes) {
  const std::int64_t thread = std::int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  return {thread >> (31 - __clz(lanes)), static_cast<int>(threadIdx.x) & (lanes - 1)};
}

/// f(row, d) for the quads of this thread, of rows that exist: the whole of a kernel whose quads do
/// not wait for each other.
template <class F>
__device__ __forceinline__ void for_each_quad(std::int64_t rows, std::int64_t D, int lanes, F f) {
  const auto [row, lane] = row_lane(lanes);
  if (row >= rows) return;
  for (std::int64_t d = 4 * lane; d < D; d += 4 * lanes) f(row, d);
}

/// L of rows of width D that are kept in registers.
inline int keeping_lanes_for(std::int64_t D) { return lanes_for((D + 1) / 2); }

/// Calls launch(Q) with the number of quads of a row of width D that a lane keeps, a constant: the
/// rows' least of 1, 2, 4, .., most, or 0 where that is too few.
template <int most, class Launch>
void with_quads_kept(std::int64_t D, Launch launch) {
  const std::int64_t lanes = keeping_lanes_for(D);
  const auto fit = [&](std::int64_t Q) { return D <= 4 * lanes * Q; };
  if (fit(1)) return launch(std::integral_constant<int, 1>());
  if (fit(2)) return launch(std::integral_constant<int, 2>());
  if constexpr (most >= 4) {
    if (fit(4)) return launch(std::integral_constant<int, 4>());
  }
  if constexpr (most >= 8) {
    if (fit(8)) return launch(std::integral_constant<int, 8>());
  }
  launch(std::integral_constant<int, 0>());
}

/// This lane's quads of a row of width D: number i begins at column 4 (lane + i lanes).
template <int Q>
struct LaneQuads {
  /// Rows of which quads are kept are short.
  using Column = std::conditional_t<(Q > 0), int, std::int64_t>;
  Column D;
  int lane, lanes;
  bool wide;    ///< all_fit_float4
  bool exists;  ///< false: of a row that is not to be read

  __device__ LaneQuads(std::int64_t D_, int lane_, int lanes_, bool wide_, bool exists_)
      : D(static_cast<Column>(D_)), lane(lane_), lanes(lanes_), wide(wide_), exists(exists_) {}

  /// f(i, d) for each, also those beyond D where quads are kept.
  template <class F>
  __device__ __forceinline__ void for_each(F f) const {
    if constexpr (Q > 0) {
#pragma unroll
      for (int i = 0; i < Q; ++i) f(i, 4 * (lane + i * lanes));
    } else {
      for (Column d = 4 * lane; d < D; d += 4 * lanes) f(0, d);
    }
  }
  /// Components d .. d + 3, `beyond` from D on and where there is no row.
  __device__ __forceinline__ float4 load(const float* row, Column d, float beyond) const {
    float4 quad = make_float4(beyond, beyond, beyond, beyond);
    if (!exists || d >= D) return quad;
    if (wide) return *reinterpret_cast<const float4*>(row + d);
    quad.x = row[d];
    if (d + 1 < D) quad.y = row[d + 1];
    if (d + 2 < D) quad.z = row[d + 2];
    if (d + 3 < D) quad.w = row[d + 3];
    return quad;
  }
  __device__ __forceinline__ void store(float* row, Column d, float4 quad) const {
    if (d < D) store_quad(row, d, D, wide, quad);
  }
};

/// A row as one lane sees it: its quads, read once and kept, or read when asked for (Q = 0).
template <int Q>
class KeptRow {
 public:
  using Column = typename LaneQuads<Q>::Column;
  /// `beyond`: what stands from column D on, and in a row that does not exist.
  __device__ __forceinline__ KeptRow(const LaneQuads<Q>& mine, const float* row, float beyond)
      : mine_(mine), row_(row), beyond_(beyond) {
    if constexpr (Q > 0) {
      mine.for_each([&](int i, Column d) { quads_[i] = mine.load(row, d, beyond); });
    }
  }
  __device__ __forceinline__ float4 operator()(int i, Column d) const {
    if constexpr (Q > 0) return quads_[i];
    return mine_.load(row_, d, beyond_);
  }

 private:
  const LaneQuads<Q>& mine_;
  const float* row_;
  float beyond_;
  float4 quads_[Q > 0 ? Q : 1];
};

__device__ __forceinline__ float sum4(float4 quad) { return (quad.x + quad.y) + (quad.z + quad.w); }

/// What row number `i` of a layout stands for.
struct RowPlace {
  std::int64_t row;  ///< where it lies in the matrices
  std::int64_t t, b, k;
  bool exists;  ///< false from the matrices' last row on
  bool valid;   ///< false in padding, and in a packed layout's spare rows up to its capacity
};

/// `i` from 0 to layout.rows_at_most() - 1. What lies in lengths and offsets is read here.
__device__ __forceinline__ RowPlace place_of(const RowLayout& layout, std::int64_t i) {
  const std::uint32_t K = static_cast<std::uint32_t>(layout.K), number = static_cast<unsigned>(i);
  const std::uint32_t sequence_row = K == 1 ? number : number / K;
  RowPlace place{};
  place.k = number - sequence_row * K;
  std::int64_t step, at;
  if (layout.offsets == nullptr) {
    const std::uint32_t B = static_cast<std::uint32_t>(layout.B);
    step = sequence_row / B;
    place.b = sequence_row - static_cast<std::uint32_t>(step) * B;
    at = sequence_row;
    place.exists = step < layout.T;
    place.valid = place.exists && (layout.lengths == nullptr || step < layout.lengths[place.b]);
  } else {
    at = layout.offsets[0] + static_cast<std::int64_t>(sequence_row);
    place.valid = at < layout.offsets[layout.T];
    place.exists = place.valid || at * layout.K + place.k < layout.capacity;
    // The last step that begins at or before `at`.
    std::int64_t low = 0, high = layout.T;
    while (place.valid && high - low > 1) {
      const std::int64_t middle = (low + high) / 2;
      (layout.offsets[middle] <= at ? low : high) = middle;
    }
    step = low;
    place.b = place.valid ? at - layout.offsets[step] : 0;
  }
  place.row = at * layout.K + place.k;
  place.t = layout.t0 + step;
  if (place.valid && layout.origins != nullptr) place.t += layout.origins[place.b];
  return place;
}

}  // namespace seqvae::cuda

// Rows dealt to groups of lanes: the mapping of the elementwise kernels.
//
// A row of width D has ceil(D / 4) quads of four components. L neighbouring lanes serve a row, L
// the power of two at or above that, at most 32, each lane every L-th quad. So a warp reads whole
// lines whether rows are short or long, no lane divides, and a sum over a row is a shuffle.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/common/launch.cuh"
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
  return {thread / static_cast<unsigned>(lanes),
          static_cast<int>(threadIdx.x % static_cast<unsigned>(lanes))};
}

/// f(row, d) for the quads of this thread, of rows that exist: the whole of a kernel whose quads do
/// not wait for each other.
template <class F>
__device__ __forceinline__ void for_each_quad(std::int64_t rows, std::int64_t D, int lanes, F f) {
  const auto [row, lane] = row_lane(lanes);
  if (row >= rows) return;
  for (std::int64_t d = 4 * lane; d < D; d += 4 * lanes) f(row, d);
}

/// What row number `i` of a layout stands for.
struct RowPlace {
  std::int64_t row;  ///< where it lies in the matrices
  std::int64_t t, b, k;
  bool exists;  ///< false from the layout's last row on
  bool valid;   ///< false in padding
};

/// `i` from 0 to layout.rows_at_most() - 1. What lies in lengths and offsets is read here.
__device__ __forceinline__ RowPlace place_of(const RowLayout& layout, std::int64_t i) {
  const std::uint32_t K = static_cast<std::uint32_t>(layout.K);
  const std::uint32_t sequence_row = static_cast<std::uint32_t>(i) / K;
  RowPlace place{};
  place.k = static_cast<std::uint32_t>(i) - sequence_row * K;
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
    place.exists = place.valid = at < layout.offsets[layout.T];
    // The last step that begins at or before `at`.
    std::int64_t low = 0, high = layout.T;
    while (place.exists && high - low > 1) {
      const std::int64_t middle = (low + high) / 2;
      (layout.offsets[middle] <= at ? low : high) = middle;
    }
    step = low;
    place.b = place.exists ? at - layout.offsets[step] : 0;
  }
  place.row = at * layout.K + place.k;
  place.t = layout.t0 + step;
  if (place.valid && layout.origins != nullptr) place.t += layout.origins[place.b];
  return place;
}

}  // namespace seqvae::cuda

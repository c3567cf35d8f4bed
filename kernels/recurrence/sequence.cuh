// Where the steps of a sequence stand, for kernels that walk along time.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "seqvae/kernels/rows.hpp"

namespace seqvae::cuda {

/// Steps of sequence b. A packed layout has sequence b in the steps of more than b rows, which are
/// its first ones: a search by halves.
__device__ __forceinline__ int length_of(const RowLayout& layout, std::int64_t b) {
  const int T = static_cast<int>(layout.T);
  if (layout.offsets == nullptr) {
    if (layout.lengths == nullptr) return T;
    const int length = layout.lengths[b];
    return length < 0 ? 0 : length < T ? length : T;
  }
  int low = 0, high = T;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (layout.offsets[middle + 1] - layout.offsets[middle] > b) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/// The row of step t of sequence b, which has that step.
__device__ __forceinline__ int row_of(const RowLayout& layout, int t, std::int64_t b) {
  const std::int64_t first = layout.offsets != nullptr ? layout.offsets[t] : t * layout.B;
  return static_cast<int>(first + b);
}

/// The j-th step that is taken, as a step in time.
__device__ __forceinline__ int time_of(int j, int length, bool reverse) {
  return reverse ? length - 1 - j : j;
}

constexpr int kStepThreads = 128;  // of a block of the kernels that take one step

/// A thread's unit of a sequence.
struct UnitPlace {
  int b, unit;
  bool exists;
};
template <class Loop>
__device__ __forceinline__ UnitPlace unit_of_thread(const Loop& a) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kStepThreads + threadIdx.x;
  const int b = static_cast<int>(i / a.H);
  return {b, static_cast<int>(i - b * a.H), b < a.layout.B};
}

}  // namespace seqvae::cuda

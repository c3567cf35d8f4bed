// Collectives of groups of lanes. Every lane of the warp takes part: the mask is full.
#pragma once
#include <cuda_runtime.h>

namespace seqvae::cuda {

constexpr int kWarpSize = 32;
constexpr unsigned kFullMask = 0xFFFFFFFFu;

/// The sum over `lanes` neighbouring lanes (a power of two, at most 32), the same bits in each of
/// them: a butterfly, since x + y = y + x to the bit. CUB's WarpReduce fixes the width at compile
/// time and gives the sum to one lane only.
__device__ __forceinline__ float group_sum(float value, int lanes) {
  for (int apart = lanes / 2; apart > 0; apart /= 2) {
    value += __shfl_xor_sync(kFullMask, value, apart);
  }
  return value;
}

/// The largest over `lanes` neighbouring lanes; NaN if one of them is.
__device__ __forceinline__ float group_max(float value, int lanes) {
  for (int apart = lanes / 2; apart > 0; apart /= 2) {
    const float other = __shfl_xor_sync(kFullMask, value, apart);
    value = value < other || isnan(other) ? other : value;
  }
  return value;
}

}  // namespace seqvae::cuda

// A softmax over a run of neighbouring floats, by a group of lanes, an element a lane at a time.
#pragma once
#include "kernels/common/functions.cuh"
#include "kernels/common/warp.cuh"

namespace seqvae::cuda {

/// max of l[0 .. C - 1], NaN if one of them is, and sum of exp(l - max); in every lane of the
/// group. Groups that stand for nothing take part with `exists` false.
struct MaxAndSum {
  float largest, sum;
};

__device__ __forceinline__ MaxAndSum max_and_sum_of_exp(const float* l, std::int64_t C, bool exists,
                                                        int lane, int lanes) {
  float largest = -INFINITY;
  for (std::int64_t c = lane; exists && c < C; c += lanes) largest = max_or_nan(largest, l[c]);
  largest = group_max(largest, lanes);
  float sum = 0.0f;
  for (std::int64_t c = lane; exists && c < C; c += lanes) sum += expf(l[c] - largest);
  return {largest, group_sum(sum, lanes)};
}

/// The class whose cumulative weight(c) first reaches u times their sum; -1 where there is none
/// with any weight, or a NaN. The same in every lane of the group.
template <class Weight>
__device__ __forceinline__ int draw_class(Weight weight, std::int64_t C, float u, bool exists,
                                          int lane, int lanes) {
  float sum = 0.0f;
  for (std::int64_t c = lane; exists && c < C; c += lanes) sum += weight(c);
  sum = group_sum(sum, lanes);
  const float target = u * sum;
  float before = 0.0f;          // the weight of all classes below this round's
  int first = -1, chosen = -1;  // with any weight; the last one that begins below the target
  for (std::int64_t round = 0; round < C; round += lanes) {
    const std::int64_t c = round + lane;
    const float w = exists && c < C ? weight(c) : 0.0f;
    float through = w;  // inclusive sum over the group's lanes
    for (int apart = 1; apart < lanes; apart *= 2) {
      const float other = __shfl_up_sync(kFullMask, through, static_cast<unsigned>(apart), lanes);
      if (lane >= apart) through = other + through;
    }
    const float below = __shfl_up_sync(kFullMask, through, 1u, lanes);
    const float cumulative = before + (lane == 0 ? 0.0f : below);
    if (w > 0.0f && first < 0) first = static_cast<int>(c);
    if (w > 0.0f && cumulative < target) chosen = static_cast<int>(c);
    before += __shfl_sync(kFullMask, through, lanes - 1, lanes);
  }
  for (int apart = lanes / 2; apart > 0; apart /= 2) {
    const int other_first = __shfl_xor_sync(kFullMask, first, apart);
    const int other_chosen = __shfl_xor_sync(kFullMask, chosen, apart);
    if (other_first >= 0 && (first < 0 || other_first < first)) first = other_first;
    if (other_chosen > chosen) chosen = other_chosen;
  }
  // Rounding may leave the target at 0, or the whole sum below it.
  return !(sum > 0.0f) ? -1 : chosen < 0 ? first : chosen;
}

}  // namespace seqvae::cuda

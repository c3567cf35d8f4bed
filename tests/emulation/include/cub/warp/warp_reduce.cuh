// CUB's WarpReduce, the part in use: sums over the lanes of a logical warp. As in CUB, only a
// logical warp's first lane may use the result; here the others get NaN.
#pragma once
#include <cuda_runtime.h>

#include <limits>

namespace cub {

template <class T, int LogicalWarpThreads = 32>
class WarpReduce {
 public:
  struct TempStorage {};
  explicit WarpReduce(TempStorage&) {}
  T Sum(T value) {
    const unsigned lane = seqvae::emulation::lane_index();
    const unsigned first = lane / LogicalWarpThreads * LogicalWarpThreads;
    const unsigned mask =
        LogicalWarpThreads == 32 ? 0xFFFFFFFFu : ((1u << LogicalWarpThreads % 32) - 1) << first;
    for (int delta = 1; delta < LogicalWarpThreads; delta *= 2) {
      const T other =
          __shfl_down_sync(mask, value, static_cast<unsigned>(delta), LogicalWarpThreads);
      if (lane % LogicalWarpThreads + static_cast<unsigned>(delta) < LogicalWarpThreads) {
        value += other;
      }
    }
    return lane == first ? value : std::numeric_limits<T>::quiet_NaN();
  }
};

}  // namespace cub

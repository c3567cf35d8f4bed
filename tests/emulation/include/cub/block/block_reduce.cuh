// CUB's BlockReduce, the part in use: the sum over a block. As in CUB, only thread 0 may use the
// result (here the others get NaN), and the storage may be used again after a barrier.
#pragma once
#include <cub/warp/warp_reduce.cuh>

namespace cub {

template <class T, int BlockThreads>
class BlockReduce {
  static_assert(BlockThreads % 32 == 0);

 public:
  struct TempStorage {
    T sums[BlockThreads / 32];
  };
  explicit BlockReduce(TempStorage& storage) : storage_(storage) {}
  T Sum(T value) {
    typename WarpReduce<T>::TempStorage nothing;
    value = WarpReduce<T>(nothing).Sum(value);
    if (threadIdx.x % 32 == 0) storage_.sums[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x != 0) return std::numeric_limits<T>::quiet_NaN();
    for (int warp = 1; warp < BlockThreads / 32; ++warp) value += storage_.sums[warp];
    return value;
  }

 private:
  TempStorage& storage_;
};

}  // namespace cub

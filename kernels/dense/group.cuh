// Several calls of one contract in one launch: each has some of its blocks.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>

namespace seqvae::cuda {

/// As many calls as a kernel's parameters hold.
template <class Call>
struct Group {
  static constexpr int kMost = static_cast<int>((4096 - sizeof(std::size_t)) / sizeof(Call));
  Call of[kMost];
  int count;
};

/// A block's call, and which of that call's blocks it is.
template <class Call>
struct CallOfBlock {
  const Call& call;
  int block;
};

/// `end` of a call: blocks of it and of those before it.
template <class Call>
__device__ __forceinline__ CallOfBlock<Call> call_of_block(const Group<Call>& group,
                                                           unsigned Call::*end) {
  int which = 0;
  while (blockIdx.x >= group.of[which].*end) ++which;
  const unsigned begin = which == 0 ? 0 : group.of[which - 1].*end;
  return {group.of[which], static_cast<int>(blockIdx.x - begin)};
}

}  // namespace seqvae::cuda

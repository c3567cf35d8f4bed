// A warp's part of the recurrent weights of an LSTM on a cluster, where the registers alone do not
// hold all of them: the last few tiles lie in shared memory, each thread's where no other looks.
#pragma once
#include "kernels/recurrence/cluster_exchange.cuh"

namespace seqvae::cuda {

/// kTiles tiles of 16 x 16, the last kInShared of them in shared memory.
template <int kTiles, int kInShared>
class LstmWeights {
 public:
  struct Shared {
    uint4 tiles[kInShared > 0 ? kInShared : 1][kClusterThreads];
  };

  /// \p fragments: [CTA][warp][tile][lane]
  __device__ __forceinline__ LstmWeights(const uint4* fragments, int rank, int warp, int lane,
                                         Shared& shared)
      : shared_(shared) {
    const uint4* from = fragments + (rank * kClusterWarps + warp) * kTiles * kWarpSize + lane;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const uint4 four = load_resident(from + i * kWarpSize);
      if (i < kInRegisters) {
        set(registers_[i], four);
      } else {
        shared_.tiles[i - kInRegisters][threadIdx.x] = four;
      }
    }
  }
  /// c += tile i times b; i is a constant once the caller's loops are unrolled.
  __device__ __forceinline__ void multiply(float (&c)[4], int i, unsigned b0, unsigned b1) const {
    if (i < kInRegisters) {
      mma_bf16(c, registers_[i], b0, b1);
    } else {
      unsigned four[4];
      set(four, shared_.tiles[i - kInRegisters][threadIdx.x]);
      mma_bf16(c, four, b0, b1);
    }
  }

 private:
  static constexpr int kInRegisters = kTiles - kInShared;
  __device__ static __forceinline__ void set(unsigned (&registers)[4], uint4 four) {
    registers[0] = four.x, registers[1] = four.y, registers[2] = four.z, registers[3] = four.w;
  }
  Shared& shared_;
  unsigned registers_[kInRegisters][4];
};

}  // namespace seqvae::cuda

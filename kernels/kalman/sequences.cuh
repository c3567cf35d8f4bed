// How sequences are dealt to blocks, and where each has its memory: several sequences of up to 32
// states share a warp and the block's shared memory; one of up to 64 has a block and a slice of the
// workspace, since its matrices would not fit.
#pragma once
#include <algorithm>

#include "kernels/common/launch.cuh"
#include "kernels/common/runtime.hpp"
#include "kernels/kalman/memory.hpp"
#include "kernels/kalman/rows.cuh"

namespace seqvae::cuda::kalman {

/// The i-th of all chunks of all sequences.
struct Chunk {
  std::int64_t b, number, begin, end;  ///< end <= begin where the sequence has none
};
__device__ __forceinline__ Chunk chunk_of(const RowLayout& layout, const Chunks& chunks,
                                          std::int64_t i) {
  Chunk chunk{i / chunks.count, i % chunks.count, i % chunks.count * chunks.steps, 0};
  const std::int64_t length = length_of(layout, chunk.b), end = chunk.begin + chunks.steps;
  chunk.end = end < length ? end : length;
  return chunk;
}

/// What a kernel is told of its sequences.
struct Deal {
  std::int64_t sequences;
  int per_block;
  std::size_t bytes;     ///< of a sequence's memory
  std::byte* workspace;  ///< [sequences][bytes] where N = 64
};

template <int N>
inline constexpr int kBlockThreads = N <= kWarpSize ? kWarpSize : N;

/// This thread's sequence, from `sequences` on where there is none, and its memory.
template <int N>
__device__ __forceinline__ std::int64_t my_sequence(const Deal& deal) {
  return std::int64_t{blockIdx.x} * deal.per_block + threadIdx.x / N;
}
template <int N>
__device__ __forceinline__ std::byte* my_memory(const Deal& deal) {
  if constexpr (N <= kWarpSize) {
    return &shared_storage<std::byte>() + (threadIdx.x / N) * deal.bytes;
  } else {
    return deal.workspace + std::int64_t{blockIdx.x} * static_cast<std::int64_t>(deal.bytes);
  }
}

/// Starts kernel(arguments.., deal) for so many sequences, each with `bytes` of memory, in
/// `workspace` where N = 64.
template <int N, class... Parameters, class... Args>
void launch_sequences(void (*kernel)(Parameters...), std::int64_t sequences, std::size_t bytes,
                      void* workspace, const char* where, StreamAt at, const Args&... args) {
  Deal deal{sequences, 1, bytes, static_cast<std::byte*>(workspace)};
  LaunchShape shape{};
  if constexpr (N <= kWarpSize) {
    const auto room =
        static_cast<std::size_t>(device_limit(cudaDevAttrMaxSharedMemoryPerBlockOptin, at.place));
    deal.bytes = apart(bytes);
    if (deal.bytes > room) throw_no_room(where);
    deal.per_block = static_cast<int>(std::min<std::size_t>(kWarpSize / N, room / deal.bytes));
    shape.shared_bytes = deal.bytes * static_cast<std::size_t>(deal.per_block);
  }
  shape.threads = static_cast<unsigned>(deal.per_block * N);
  shape.blocks = blocks_for(sequences, deal.per_block);
  launch(kernel, shape, at, args..., deal);
}

}  // namespace seqvae::cuda::kalman

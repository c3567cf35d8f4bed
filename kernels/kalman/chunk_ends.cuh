// Reverse passes over chunks of a sequence at once carry a vector and a symmetric matrix; of each
// chunk's way back there is a map, which is applied to what stands after it.
#pragma once
#include "kernels/common/launch.cuh"
#include "kernels/kalman/memory.hpp"

namespace seqvae::cuda::kalman {

/// From x [n] and X [n][n] after a chunk to those before it,
///
///     x' + w with x' = Phi^T x,   Phi^T X Phi + sym(x' g^T) + G.
template <class Real>
struct ChunkMap {
  Real *Phi, *G, *w, *g;  ///< [n][n] twice, [n] twice
};
template <class Real>
__device__ __forceinline__ ChunkMap<Real> map_of(const ChunkEnds<Real>& ends, std::int64_t n,
                                                 std::int64_t i) {
  Real* const first = ends.maps + i * (2 * n * n + 2 * n);
  return {first, first + n * n, first + 2 * n * n, first + 2 * n * n + n};
}
/// x and X after the i-th of all chunks of all sequences.
template <class Real>
__device__ __forceinline__ Real* end_of(const ChunkEnds<Real>& ends, std::int64_t n,
                                        std::int64_t i) {
  return ends.ends + i * (n + n * n);
}

/// x and X after each chunk, zeros after the last: the maps one after the other. `memory`: of the
/// lanes of each sequence, where n > 32. \throws CudaError
template <class Real>
void find_ends(const RowLayout& layout, std::int64_t n, const Chunks& chunks,
               const ChunkEnds<Real>& ends, void* memory, const char* where, StreamAt at);

}  // namespace seqvae::cuda::kalman

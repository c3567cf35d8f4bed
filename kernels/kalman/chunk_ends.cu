// N lanes a sequence (lanes.cuh), from its last chunk to its first: x, a component a lane, and X
// in shared memory.
// Floor: latency, of two products a chunk; 3 n^2 + 3 n numbers read or written.
// Hazards: lanes.cuh.
#include "kernels/kalman/chunk_ends.cuh"

#include "kernels/kalman/replay.cuh"
#include "kernels/kalman/sequences.cuh"

namespace seqvae::cuda::kalman {
namespace {

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    apply_maps(const __grid_constant__ RowLayout layout, std::int64_t n, Chunks chunks,
               ChunkEnds<Real> ends, Deal deal) {
  constexpr int S = kRow<Real, N>;
  const std::int64_t b = my_sequence<N>(deal);
  if (b >= deal.sequences) return;
  const ApplyMemory<Real, N> at(Arena(my_memory<N>(deal), kAlignment));
  const Lanes<Real, N> lanes(at.exchange);
  const int lane = lanes.lane();
  Real* const X = at.G;
  for (int row = 0; row < N; ++row) X[row * S + lane] = 0;
  Real x = 0;
  for (std::int64_t k = chunks.count - 1; k >= 0; --k) {
    const std::int64_t i = b * chunks.count + k;
    const Chunk chunk = chunk_of(layout, chunks, i);
    if (chunk.begin >= chunk.end) continue;
    Real* const end = end_of(ends, n, i);
    lanes.sync();
    give(lanes, n, X, end + n);
    if (lane < n) end[lane] = x;
    if (k == 0) break;
    const ChunkMap<Real> map = map_of(ends, n, i);
    bring(lanes, n, map.Phi, at.L);
    x = transposed_times(lanes, at.L, x, at.vector);
    transposed_congruence(lanes, at.L, X, at.rows);
    at.vector[lane] = x;
    lanes.sync();
    for (int row = 0; lane < n && row < n; ++row) {
      const Real both = at.vector[row] * map.g[lane] + x * map.g[row];
      X[row * S + lane] += both / 2 + map.G[row * n + lane];
    }
    if (lane < n) x += map.w[lane];
  }
}

}  // namespace

template <class Real>
void find_ends(const RowLayout& layout, std::int64_t n, const Chunks& chunks,
               const ChunkEnds<Real>& ends, void* memory, const char* where, StreamAt at) {
  with_size(n, [&](auto size) {
    const ApplyMemory<Real, size> application(Arena(nullptr, kAlignment));
    launch_sequences<size>(apply_maps<Real, size>, layout.B, application.bytes, memory, where, at,
                           layout, n, chunks, ends);
  });
}
template void find_ends(const RowLayout&, std::int64_t, const Chunks&, const ChunkEnds<float>&,
                        void*, const char*, StreamAt);
template void find_ends(const RowLayout&, std::int64_t, const Chunks&, const ChunkEnds<double>&,
                        void*, const char*, StreamAt);

}  // namespace seqvae::cuda::kalman

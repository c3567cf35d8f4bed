// N lanes a chunk of a sequence (smoother.cuh), all chunks at once; one chunk: one step after the
// other. Two kernels before it find r and N after each chunk but the last: every chunk but the
// first is summarised as one map of them, and the maps are applied one after the other, from the
// last, N lanes a sequence. Floor: latency, of the steps of two chunks and of T / chunk
// applications, of two products each; a map is 2 n^2 + n numbers. Hazards: lanes.cuh; kernels of a
// stream follow each other, so no chunk waits for another.
#include "kernels/kalman/smoother.cuh"

#include "kernels/kalman/sequences.cuh"

namespace seqvae::cuda {
namespace kalman {
namespace {

/// Phi [n][n], r [n] and N [n][n] of a chunk's map, in the workspace.
template <class Real>
struct Map {
  Real *Phi, *r, *N;
  __device__ __forceinline__ Map(const SmootherWorkspace<Real>& w, std::int64_t n, std::int64_t i)
      : Phi(w.maps + i * (2 * n * n + n)), r(Phi + n * n), N(r + n) {}
};
/// r [n] and N [n][n] after a chunk.
template <class Real>
__device__ __forceinline__ Real* end_of(const SmootherWorkspace<Real>& w, std::int64_t n,
                                        std::int64_t i) {
  return w.ends + i * (n + n * n);
}

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    map_chunks(const __grid_constant__ KalmanSmootherArgs<Real> a, Chunks chunks,
               const __grid_constant__ SmootherWorkspace<Real> w, Deal deal) {
  const std::int64_t i = my_sequence<N>(deal);
  if (i >= deal.sequences) return;
  const Chunk chunk = chunk_of(a.data.layout, chunks, i);
  if (chunk.number == 0 || chunk.begin >= chunk.end) return;
  const SmootherMemory<Real, N> memory(a.model, Arena(my_memory<N>(deal), kAlignment));
  const Map<Real> map(w, a.model.n, i);
  SequenceSmoother<Real, N>(a, chunk.b, memory)
      .summarise(chunk.begin, chunk.end, map.Phi, map.r, map.N);
}

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    find_ends(const __grid_constant__ KalmanSmootherArgs<Real> a, Chunks chunks,
              const __grid_constant__ SmootherWorkspace<Real> w, Deal deal) {
  constexpr int S = kRow<Real, N>;
  const std::int64_t b = my_sequence<N>(deal), n = a.model.n;
  if (b >= deal.sequences) return;
  const ApplyMemory<Real, N> at(Arena(my_memory<N>(deal), kAlignment));
  const Lanes<Real, N> lanes(at.exchange);
  const int lane = lanes.lane();
  Real* const after = at.G;
  for (int row = 0; row < N; ++row) after[row * S + lane] = 0;
  Real r = 0;
  for (std::int64_t k = chunks.count - 1; k >= 0; --k) {
    const std::int64_t i = b * chunks.count + k;
    const Chunk chunk = chunk_of(a.data.layout, chunks, i);
    if (chunk.begin >= chunk.end) continue;
    Real* end = end_of(w, n, i);
    lanes.sync();
    give(lanes, n, after, end + n);
    if (lane < n) end[lane] = r;
    if (k == 0) break;
    const Map<Real> map(w, n, i);
    bring(lanes, n, map.Phi, at.L);
    r = transposed_times(lanes, at.L, r, at.vector) + (lane < n ? map.r[lane] : Real(0));
    transposed_congruence(lanes, at.L, after, at.rows);
    for (int row = 0; lane < n && row < n; ++row) after[row * S + lane] += map.N[row * n + lane];
  }
}

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    smooth_chunks(const __grid_constant__ KalmanSmootherArgs<Real> a, Chunks chunks,
                  const __grid_constant__ SmootherWorkspace<Real> w, Deal deal) {
  const std::int64_t i = my_sequence<N>(deal), n = a.model.n;
  if (i >= deal.sequences) return;
  const Chunk chunk = chunk_of(a.data.layout, chunks, i);
  const SmootherMemory<Real, N> memory(a.model, Arena(my_memory<N>(deal), kAlignment));
  SequenceSmoother<Real, N> smoother(a, chunk.b, memory);
  if (chunks.count > 1 && chunk.begin < chunk.end) {
    smoother.set(end_of(w, n, i), end_of(w, n, i) + n);
  } else {
    smoother.set_zero();
  }
  smoother.run(chunk.begin, chunk.end);
  if (chunk.number == 0) smoother.fill_padding();
}

}  // namespace
}  // namespace kalman

template <class Real>
void kalman_smoother(const KalmanSmootherArgs<Real>& a, Stream stream) {
  cuda::check(a);
  const kalman::Chunks chunks = kalman::chunks_of(a);
  kalman::with_size(a.model.n, [&](auto size) {
    const Arena none(nullptr, kalman::kAlignment);
    const kalman::SmootherMemory<Real, size> smoother(a.model, none);
    const kalman::ApplyMemory<Real, size> application(none);
    const kalman::SmootherWorkspace<Real> w(a, chunks, std::max(smoother.bytes, application.bytes));
    const std::int64_t B = a.data.layout.B, all = B * chunks.count;
    const auto launch = [&](auto kernel, std::int64_t groups, std::size_t bytes) {
      kalman::launch_sequences<size>(kernel, groups, bytes, w.memory, "kalman_smoother", stream, a,
                                     chunks, w);
    };
    if (chunks.count > 1) {
      launch(kalman::map_chunks<Real, size>, all, smoother.bytes);
      launch(kalman::find_ends<Real, size>, B, application.bytes);
    }
    launch(kalman::smooth_chunks<Real, size>, all, smoother.bytes);
  });
}
template void kalman_smoother(const KalmanSmootherArgs<float>&, Stream);
template void kalman_smoother(const KalmanSmootherArgs<double>&, Stream);

}  // namespace seqvae::cuda

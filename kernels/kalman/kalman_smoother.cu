// N lanes a chunk of a sequence (smoother.cuh), all chunks at once; one chunk: one step after the
// other. Two kernels before it find r and N after each chunk: every chunk but the first is
// summarised as one map of them, and the maps are applied (chunk_ends.cu).
// Floor: latency, of the steps of two chunks and of T / chunk applications; a map is
// 2 n^2 + 2 n numbers.
// Hazards: lanes.cuh; kernels of a stream follow each other, so no chunk waits for another.
#include "kernels/kalman/smoother.cuh"

#include "kernels/kalman/sequences.cuh"

namespace seqvae::cuda {
namespace kalman {
namespace {

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    map_chunks(const __grid_constant__ KalmanSmootherArgs<Real> a, Chunks chunks,
               const __grid_constant__ SmootherWorkspace<Real> w, Deal deal) {
  const std::int64_t i = my_sequence<N>(deal);
  if (i >= deal.sequences) return;
  const Chunk chunk = chunk_of(a.data.layout, chunks, i);
  if (chunk.number == 0 || chunk.begin >= chunk.end) return;
  const SmootherMemory<Real, N> memory(a.model, Arena(my_memory<N>(deal), kAlignment));
  SequenceSmoother<Real, N>(a, chunk.b, memory)
      .summarise(chunk.begin, chunk.end, map_of(w.ends, a.model.n, i));
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
    smoother.set(end_of(w.ends, n, i), end_of(w.ends, n, i) + n);
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
    const std::int64_t all = a.data.layout.B * chunks.count;
    const char* where = "kalman_smoother";
    const auto launch = [&](auto kernel) {
      kalman::launch_sequences<size>(kernel, all, smoother.bytes, w.memory, where, stream, a,
                                     chunks, w);
    };
    if (chunks.count > 1) {
      launch(kalman::map_chunks<Real, size>);
      kalman::find_ends(a.data.layout, a.model.n, chunks, w.ends, w.memory, where, stream);
    }
    launch(kalman::smooth_chunks<Real, size>);
  });
}
template void kalman_smoother(const KalmanSmootherArgs<float>&, Stream);
template void kalman_smoother(const KalmanSmootherArgs<double>&, Stream);

}  // namespace seqvae::cuda

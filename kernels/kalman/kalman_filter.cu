// N lanes a sequence (lanes.cuh), one step after the other (filter.cuh), or its chunks at once
// (filter_chunks.cu). Matrices in shared memory (N = 64: in the workspace), rows being worked on in
// registers; A, c, the factors of Q and R are kept while they stay the same.
// Floor: latency. A step is two products of N dependent rows and m conditionings of a few shared
// loads, two butterflies of log2 N and a division each; with B sequences in flight (n + n^2) times
// the size of Real written a row, for mean and covariance.
// Hazards: lanes.cuh; outputs are written by columns, each lane its own, so that they need no
// order.
#include "kernels/kalman/filter.cuh"
#include "kernels/kalman/filter_chunks.cuh"
#include "kernels/kalman/sequences.cuh"

namespace seqvae::cuda {
namespace kalman {
namespace {

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    filter_sequences(const __grid_constant__ KalmanFilterArgs<Real> a, Deal deal) {
  const std::int64_t b = my_sequence<N>(deal);
  if (b >= deal.sequences) return;
  const FilterMemory<Real, N> memory(a.model, a.form, Arena(my_memory<N>(deal), kAlignment));
  SequenceFilter<Real, N> filter(a, b, memory);
  const std::int64_t end = filter.run(0, length_of(a.data.layout, b));
  filter.give_status(end);
  filter.fill_from(end);
}

}  // namespace
}  // namespace kalman

template <class Real>
void kalman_filter(const KalmanFilterArgs<Real>& a, Stream stream) {
  cuda::check(a);
  const kalman::Chunks chunks = kalman::chunks_of(a);
  if (chunks.count > 1) return kalman::filter_chunks(a, chunks, stream);
  kalman::with_size(a.model.n, [&](auto size) {
    const kalman::FilterMemory<Real, size> memory(a.model, a.form,
                                                  Arena(nullptr, kalman::kAlignment));
    kalman::launch_sequences<size>(kalman::filter_sequences<Real, size>, a.data.layout.B,
                                   memory.bytes, a.workspace, "kalman_filter", stream, a);
  });
}
template void kalman_filter(const KalmanFilterArgs<float>&, Stream);
template void kalman_filter(const KalmanFilterArgs<double>&, Stream);

}  // namespace seqvae::cuda

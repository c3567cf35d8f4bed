// N lanes a chunk of a sequence (backward.cuh), all chunks at once; one chunk: one step after the
// other. Two kernels before it find lambda and Lambda after each chunk: every chunk but the first
// is summarised as one map of them, and the maps are applied (chunk_ends.cu). Gradients that
// sequences or chunks share are summed for each of them apart, in the workspace, then in order by
// a kernel after it: the same bits in every run. Gradients of smoothed moments add to the same
// places, by kernels of their own (smoothed_gradient.cuh).
// Floor: latency, of the steps of two chunks and of T / chunk applications; a map is
// 2 n^2 + 2 n numbers.
// Hazards: lanes.cuh; kernels of a stream follow each other, so no chunk waits for another.
#include "kernels/kalman/backward.cuh"

#include "kernels/kalman/gains.cuh"
#include "kernels/kalman/gradient_sums.cuh"
#include "kernels/kalman/sequences.cuh"
#include "kernels/kalman/smoothed_gradient.cuh"

namespace seqvae::cuda {
namespace kalman {
namespace {

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    map_chunks(const __grid_constant__ KalmanBackwardArgs<Real> a, Chunks chunks,
               const __grid_constant__ GradientSums<Real> sums, Deal deal) {
  const std::int64_t i = my_sequence<N>(deal);
  if (i >= deal.sequences) return;
  const Chunk chunk = chunk_of(a.data.layout, chunks, i);
  if (chunk.number == 0 || chunk.begin >= chunk.end) return;
  const BackwardMapMemory<Real, N> memory(a.model, Arena(my_memory<N>(deal), kAlignment));
  SequenceBackward<Real, N>(a, chunk.b, memory.backward)
      .summarise(chunk.begin, chunk.end, memory.map, map_of(sums.ends, a.model.n, i));
}

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    differentiate_chunks(const __grid_constant__ KalmanBackwardArgs<Real> a, Chunks chunks,
                         const __grid_constant__ GradientSums<Real> sums, Deal deal) {
  const std::int64_t i = my_sequence<N>(deal), n = a.model.n;
  if (i >= deal.sequences) return;
  const Chunk chunk = chunk_of(a.data.layout, chunks, i);
  if (chunk.begin >= chunk.end) return;
  const BackwardMemory<Real, N> memory(a.model, Arena(my_memory<N>(deal), kAlignment));
  SequenceBackward<Real, N> backward(a, chunk.b, memory, chunk.number);
  if (chunks.count > 1) {
    backward.set(end_of(sums.ends, n, i), end_of(sums.ends, n, i) + n);
  } else {
    backward.set_zero();
  }
  backward.run(chunk.begin, chunk.end);
}

/// Of smoothed moments, to where all adds.
template <class Real>
void add_smoothed(const KalmanBackwardArgs<Real>& a, const ReverseWorkspace<Real>& w,
                  Stream stream) {
  const char* where = "kalman_backward";
  find_gains(a.model, a.data, w.gains, a.workspace, where, stream);
  if (a.grad_smoothed_mean) {
    KalmanSampleBackwardArgs<Real> mean;
    mean.model = a.model, mean.data = a.data, mean.grad = a.grad;
    mean.grad_z = a.grad_smoothed_mean, mean.S = 1;
    add_draw_gradient(mean, w.gains, w.draw, a.workspace, where, stream);
  }
  if (a.grad_smoothed_covariance) {
    add_covariance_gradient(a, w.gains, w.D, a.workspace, where, stream);
  }
}

}  // namespace
}  // namespace kalman

template <class Real>
void kalman_backward(const KalmanBackwardArgs<Real>& a, Stream stream) {
  cuda::check(a);
  const kalman::Chunks chunks = kalman::chunks_of(a);
  kalman::with_size(a.model.n, [&](auto size) {
    const Arena none(nullptr, kalman::kAlignment);
    const kalman::BackwardMapMemory<Real, size> map(a.model, none);
    const kalman::ReverseWorkspace<Real> w(a, chunks);
    KalmanBackwardArgs<Real> apart = a, without = a;
    apart.grad = w.sums.apart, without.grad = {};
    const std::int64_t all = a.data.layout.B * chunks.count;
    const char* where = "kalman_backward";
    const auto launch = [&](auto kernel, std::size_t bytes, const KalmanBackwardArgs<Real>& args) {
      kalman::launch_sequences<size>(kernel, all, bytes, a.workspace, where, stream, args, chunks,
                                     w.sums);
    };
    clear(w.sums, stream);
    if (chunks.count > 1) {
      launch(kalman::map_chunks<Real, size>, map.bytes, without);
      kalman::find_ends(a.data.layout, a.model.n, chunks, w.sums.ends, a.workspace, where, stream);
    }
    launch(kalman::differentiate_chunks<Real, size>, map.backward.bytes, apart);
    if (a.grad_smoothed_mean || a.grad_smoothed_covariance) {
      kalman::add_smoothed(apart, w, stream);
    }
    add(w.sums, stream);
  });
}
template void kalman_backward(const KalmanBackwardArgs<float>&, Stream);
template void kalman_backward(const KalmanBackwardArgs<double>&, Stream);

}  // namespace seqvae::cuda

// N lanes a chunk of a sequence (backward.cuh), all chunks at once; one chunk: one step after the
// other. Two kernels before it find lambda and Lambda after each chunk but the last: every chunk
// but the first is summarised as one map of them, and the maps are applied one after the other,
// from the last, N lanes a sequence. Gradients that sequences or chunks share are summed for each
// of them apart, in the workspace, then in order by a kernel after it: the same bits in every run.
// Floor: latency, of the steps of two chunks and of T / chunk applications, of two products each; a
// map is 2 n^2 + 2 n numbers.
// Hazards: lanes.cuh; kernels of a stream follow each other, so no chunk waits for another.
#include "kernels/kalman/backward.cuh"

#include "kernels/kalman/gradient_sums.cuh"
#include "kernels/kalman/sequences.cuh"

namespace seqvae::cuda {
namespace kalman {
namespace {

template <class Real>
__device__ __forceinline__ BackwardMap<Real> map_of(const GradientSums<Real>& sums, std::int64_t n,
                                                    std::int64_t i) {
  return {n, sums.maps + i * (2 * n * n + 2 * n)};
}
/// lambda [n] and Lambda [n][n] after a chunk.
template <class Real>
__device__ __forceinline__ Real* end_of(const GradientSums<Real>& sums, std::int64_t n,
                                        std::int64_t i) {
  return sums.ends + i * (n + n * n);
}

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
      .summarise(chunk.begin, chunk.end, memory.map, map_of(sums, a.model.n, i));
}

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    find_ends(const __grid_constant__ KalmanBackwardArgs<Real> a, Chunks chunks,
              const __grid_constant__ GradientSums<Real> sums, Deal deal) {
  constexpr int S = kRow<Real, N>;
  const std::int64_t b = my_sequence<N>(deal), n = a.model.n;
  if (b >= deal.sequences) return;
  const ApplyMemory<Real, N> at(Arena(my_memory<N>(deal), kAlignment));
  const Lanes<Real, N> lanes(at.exchange);
  const int lane = lanes.lane();
  Real* const Lambda = at.G;
  for (int row = 0; row < N; ++row) Lambda[row * S + lane] = 0;
  Real lambda = 0;
  for (std::int64_t k = chunks.count - 1; k >= 0; --k) {
    const std::int64_t i = b * chunks.count + k;
    const Chunk chunk = chunk_of(a.data.layout, chunks, i);
    if (chunk.begin >= chunk.end) continue;
    Real* end = end_of(sums, n, i);
    lanes.sync();
    give(lanes, n, Lambda, end + n);
    if (lane < n) end[lane] = lambda;
    if (k == 0) break;
    const BackwardMap<Real> map = map_of(sums, n, i);
    bring(lanes, n, map.Phi, at.L);
    lambda = transposed_times(lanes, at.L, lambda, at.vector);
    transposed_congruence(lanes, at.L, Lambda, at.rows);
    at.vector[lane] = lambda;
    lanes.sync();
    for (int row = 0; lane < n && row < n; ++row) {
      const Real both = at.vector[row] * map.g[lane] + lambda * map.g[row];
      Lambda[row * S + lane] += both / 2 + map.G[row * n + lane];
    }
    if (lane < n) lambda += map.w[lane];
  }
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
    backward.set(end_of(sums, n, i), end_of(sums, n, i) + n);
  } else {
    backward.set_zero();
  }
  backward.run(chunk.begin, chunk.end);
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
    const kalman::ApplyMemory<Real, size> application(none);
    const kalman::GradientSums<Real> sums(a, chunks, std::max(map.bytes, application.bytes));
    KalmanBackwardArgs<Real> apart = a, without = a;
    apart.grad = sums.apart, without.grad = {};
    const std::int64_t B = a.data.layout.B, all = B * chunks.count;
    const auto launch = [&](auto kernel, std::int64_t groups, std::size_t bytes,
                            const KalmanBackwardArgs<Real>& args) {
      kalman::launch_sequences<size>(kernel, groups, bytes, a.workspace, "kalman_backward", stream,
                                     args, chunks, sums);
    };
    clear(sums, stream);
    if (chunks.count > 1) {
      launch(kalman::map_chunks<Real, size>, all, map.bytes, without);
      launch(kalman::find_ends<Real, size>, B, application.bytes, without);
    }
    launch(kalman::differentiate_chunks<Real, size>, all, map.backward.bytes, apart);
    add(sums, stream);
  });
}
template void kalman_backward(const KalmanBackwardArgs<float>&, Stream);
template void kalman_backward(const KalmanBackwardArgs<double>&, Stream);

}  // namespace seqvae::cuda

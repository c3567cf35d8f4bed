// The gradient of draws in two kernels: the filter's gains and covariances of all steps (gains.cu),
// then N lanes a sequence for all its draws, one after the other (draw_gradient.cuh). Gradients
// that sequences share are summed for each of them apart, in the workspace, then in order by a
// kernel after it: the same bits in every run. Floor: latency, of a step of the filter and of 2 S
// steps of two smoothers' states. Hazards: lanes.cuh; kernels of a stream follow each other.
#include "kernels/kalman/draw_gradient.cuh"
#include "kernels/kalman/gains.cuh"
#include "kernels/kalman/gradient_sums.cuh"
#include "kernels/kalman/sequences.cuh"
#include "kernels/kalman/smoothed_gradient.cuh"

namespace seqvae::cuda {
namespace kalman {
namespace {

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    differentiate_draws(const __grid_constant__ KalmanSampleBackwardArgs<Real> a,
                        const __grid_constant__ Gains<Real> gains,
                        const __grid_constant__ KeptDraw<Real> kept, Deal deal) {
  const std::int64_t b = my_sequence<N>(deal);
  if (b >= deal.sequences) return;
  const RowLayout& layout = a.data.layout;
  const std::int64_t rows =
      layout.offsets != nullptr ? layout.offsets[layout.T] : layout.T * layout.B;
  const DrawGradientMemory<Real, N> memory(a.model, Arena(my_memory<N>(deal), kAlignment));
  DrawGradient<Real, N>(a, gains, kept, b, memory).run(rows);
}

}  // namespace

template <class Real>
void add_draw_gradient(const KalmanSampleBackwardArgs<Real>& a, const Gains<Real>& gains,
                       const KeptDraw<Real>& kept, void* memory, const char* where, StreamAt at) {
  with_size(a.model.n, [&](auto size) {
    const DrawGradientMemory<Real, size> each(a.model, Arena(nullptr, kAlignment));
    launch_sequences<size>(differentiate_draws<Real, size>, a.data.layout.B, each.bytes, memory,
                           where, at, a, gains, kept);
  });
}
template void add_draw_gradient(const KalmanSampleBackwardArgs<float>&, const Gains<float>&,
                                const KeptDraw<float>&, void*, const char*, StreamAt);
template void add_draw_gradient(const KalmanSampleBackwardArgs<double>&, const Gains<double>&,
                                const KeptDraw<double>&, void*, const char*, StreamAt);

}  // namespace kalman

template <class Real>
void kalman_sample_backward(const KalmanSampleBackwardArgs<Real>& a, Stream stream) {
  cuda::check(a);
  const kalman::ReverseWorkspace<Real> w(a);
  KalmanSampleBackwardArgs<Real> apart = a;
  apart.grad = w.sums.apart;
  const char* where = "kalman_sample_backward";
  clear(w.sums, stream);
  find_gains(a.model, a.data, w.gains, a.workspace, where, stream);
  add_draw_gradient(apart, w.gains, w.draw, a.workspace, where, stream);
  add(w.sums, stream);
}
template void kalman_sample_backward(const KalmanSampleBackwardArgs<float>&, Stream);
template void kalman_sample_backward(const KalmanSampleBackwardArgs<double>&, Stream);

}  // namespace seqvae::cuda

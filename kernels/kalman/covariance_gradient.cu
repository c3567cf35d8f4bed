// N lanes a sequence (covariance_gradient.cuh), one step after the other, forward and then
// backward. Floor, hazards: covariance_gradient.cuh.
#include "kernels/kalman/covariance_gradient.cuh"

#include "kernels/kalman/sequences.cuh"
#include "kernels/kalman/smoothed_gradient.cuh"

namespace seqvae::cuda::kalman {
namespace {

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    differentiate_covariances(const __grid_constant__ KalmanBackwardArgs<Real> a,
                              const __grid_constant__ Gains<Real> gains, Real* D, Deal deal) {
  const std::int64_t b = my_sequence<N>(deal);
  if (b >= deal.sequences) return;
  const CovarianceGradientMemory<Real, N> memory(a.model, Arena(my_memory<N>(deal), kAlignment));
  const std::int64_t of_sequence = a.data.layout.T * a.model.n * a.model.n;
  CovarianceGradient<Real, N>(a, gains, D + b * of_sequence, b, memory).run();
}

}  // namespace

template <class Real>
void add_covariance_gradient(const KalmanBackwardArgs<Real>& a, const Gains<Real>& gains, Real* D,
                             void* memory, const char* where, StreamAt at) {
  with_size(a.model.n, [&](auto size) {
    const CovarianceGradientMemory<Real, size> each(a.model, Arena(nullptr, kAlignment));
    launch_sequences<size>(differentiate_covariances<Real, size>, a.data.layout.B, each.bytes,
                           memory, where, at, a, gains, D);
  });
}
template void add_covariance_gradient(const KalmanBackwardArgs<float>&, const Gains<float>&, float*,
                                      void*, const char*, StreamAt);
template void add_covariance_gradient(const KalmanBackwardArgs<double>&, const Gains<double>&,
                                      double*, void*, const char*, StreamAt);

}  // namespace seqvae::cuda::kalman

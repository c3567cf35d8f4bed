// N lanes a sequence (lanes.cuh), one step after the other: the filter without its means.
// Floor: latency, a step of the filter; 2 m n + 3 m numbers written a step, and n^2 of a covariance
// that is kept.
// Hazards: lanes.cuh.
#include "kernels/kalman/gains.cuh"

#include "kernels/kalman/covariance.cuh"
#include "kernels/kalman/observation.cuh"
#include "kernels/kalman/sequences.cuh"

namespace seqvae::cuda::kalman {
namespace {

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    keep_gains(const __grid_constant__ KalmanModel<Real> model,
               const __grid_constant__ KalmanData<Real> data,
               const __grid_constant__ Gains<Real> kept, Deal deal) {
  const std::int64_t b = my_sequence<N>(deal);
  if (b >= deal.sequences) return;
  const RowLayout& layout = data.layout;
  const std::int64_t n = model.n, m = model.m, length = length_of(layout, b);
  const FilterMemory<Real, N> memory(model, KalmanForm::joseph,
                                     Arena(my_memory<N>(deal), kAlignment));
  const Lanes<Real, N> lanes(memory.exchange);
  const int i = lanes.lane();
  StateCovariance<Real, N> covariance(lanes, n, KalmanForm::joseph, memory.covariance);
  Observation<Real, N> observation(lanes, model, data, memory.observation);
  const Real* stands = nullptr;
  for (std::int64_t t = 0; t < length; ++t) {
    if (t == 0) {
      covariance.set(model.P0.data + b * model.P0.sequence);
    } else {
      const Real* A = at(model.A, layout, t, b);
      lanes.sync();
      if (A != stands) bring(lanes, n, stands = A, memory.A);
      covariance.predict(memory.A, at(model.Q, layout, t, b));
    }
    observation.read(t, b);
    const std::int64_t step = b * layout.T + t;
    if (i == 0) kept.count[step] = observation.count();
    for (int j = 0; j < observation.count(); ++j) {
      const std::int64_t place = step * m + j;
      const Real* c = observation.c(j);
      Real w;
      const Real f = covariance.condition(c, observation.h(j), w);
      if (i < n) kept.c[place * n + i] = c[i], kept.k[place * n + i] = w / f;
      if (i > 0) continue;
      kept.e[place] = observation.e(j), kept.h[place] = observation.h(j), kept.f[place] = f;
    }
    if (kept.P == nullptr) continue;
    lanes.sync();
    give(lanes, n, covariance.P(), kept.P + step * n * n, covariance.row());
    lanes.sync();  // before P moves on
  }
}

}  // namespace

template <class Real>
void find_gains(const KalmanModel<Real>& model, const KalmanData<Real>& data,
                const Gains<Real>& gains, void* memory, const char* where, StreamAt at) {
  with_size(model.n, [&](auto size) {
    const FilterMemory<Real, size> filter(model, KalmanForm::joseph, Arena(nullptr, kAlignment));
    launch_sequences<size>(keep_gains<Real, size>, data.layout.B, filter.bytes, memory, where, at,
                           model, data, gains);
  });
}
template void find_gains(const KalmanModel<float>&, const KalmanData<float>&, const Gains<float>&,
                         void*, const char*, StreamAt);
template void find_gains(const KalmanModel<double>&, const KalmanData<double>&,
                         const Gains<double>&, void*, const char*, StreamAt);

}  // namespace seqvae::cuda::kalman

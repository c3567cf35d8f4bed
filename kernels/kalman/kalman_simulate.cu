// N lanes a draw of a sequence (lanes.cuh), one step after the other. A lane draws its component's
// noise and adds its row of the factor's products.
// Floor: latency, a product of N dependent rows a step; n + m numbers written a row and draw.
// Hazards: lanes.cuh; the first draw of a sequence alone writes its status.
#include "kernels/kalman/path.cuh"
#include "kernels/kalman/sequences.cuh"

namespace seqvae::cuda {
namespace kalman {
namespace {

/// 0, or 1 + the first step whose noise is not positive semidefinite.
template <class Real, int N>
__device__ __forceinline__ std::int32_t simulate(const KalmanSimulateArgs<Real>& a, std::int64_t b,
                                                 std::int64_t s, std::int64_t rows,
                                                 const Lanes<Real, N>& lanes,
                                                 const PathMemory<Real, N>& memory) {
  const RowLayout& layout = a.layout;
  const KalmanModel<Real>& model = a.model;
  const std::int64_t n = model.n, m = model.m, length = length_of(layout, b);
  const int i = lanes.lane();
  StatePath<Real, N> path(lanes, model, layout, a.u, memory);
  NoiseFactor<Real, N> R(lanes, m, memory.observed);
  RowNoise noise(a.noise, n + m);
  Real z = 0;
  for (std::int64_t t = 0; t < length; ++t) {
    const std::int64_t row = row_of(layout, t, b), place = s * rows + row;
    const Real* S = at(model.R, layout, t, b);
    noise.select(layout, t, b, s);
    if (a.given_z && s < a.S) {
      path.go_to(z = i < n ? a.given_z[place][i] : Real(0));
    } else if (!a.given_z && !path.advance(t, b, noise, z)) {
      return static_cast<std::int32_t>(t + 1);
    }
    if (!R.follow(S, model.diagonal_R)) return static_cast<std::int32_t>(t + 1);
    if (s >= a.S) return 0;  // no draw was asked for: the first step's noise alone is looked at
    if (a.z && i < n) a.z[place][i] = z;
    if (!a.y && !a.y_mean && !a.y_logvar) continue;
    if (a.y) R.draw(noise, n);
    const Real* C = at(model.C, layout, t, b);
    for (int j = i; j < m; j += N) {
      Real y = inputs_of(j, model.U, layout, model.D, model.observation_offset, a.u, t, b);
      for (std::int64_t k = 0; k < n; ++k) y = multiply_add(C[j * n + k], path.z()[k], y);
      if (a.y_mean) a.y_mean[place][j] = y;
      if (a.y_logvar) a.y_logvar[place][j] = logarithm(S[model.diagonal_R ? j : j * (m + 1)]);
      if (a.y) a.y[place][j] = R.add(j, y);
    }
  }
  return 0;
}

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    simulate_sequences(const __grid_constant__ KalmanSimulateArgs<Real> a, Deal deal) {
  const std::int64_t draw = my_sequence<N>(deal);
  if (draw >= deal.sequences) return;
  const RowLayout& layout = a.layout;
  const PathMemory<Real, N> memory(a.model, Arena(my_memory<N>(deal), kAlignment));
  const Lanes<Real, N> lanes(memory.exchange);
  const std::int64_t b = draw % layout.B, s = draw / layout.B;
  const std::int64_t rows =
      layout.offsets != nullptr ? layout.offsets[layout.T] : layout.T * layout.B;
  const std::int32_t status = simulate(a, b, s, rows, lanes, memory);
  if (s == 0 && lanes.lane() == 0) a.status[b] = status;
  if (s >= a.S || layout.offsets != nullptr) return;
  for (std::int64_t t = length_of(layout, b); t < layout.T; ++t) {
    fill(lanes, a.z, s * rows + t * layout.B + b, a.model.n, Real(0));
    fill(lanes, a.y, s * rows + t * layout.B + b, a.model.m, Real(0));
    fill(lanes, a.y_mean, s * rows + t * layout.B + b, a.model.m, Real(0));
    fill(lanes, a.y_logvar, s * rows + t * layout.B + b, a.model.m, Real(0));
  }
}

}  // namespace
}  // namespace kalman

template <class Real>
void kalman_simulate(const KalmanSimulateArgs<Real>& a, Stream stream) {
  cuda::check(a);
  kalman::with_size(a.model.n, [&](auto size) {
    const kalman::PathMemory<Real, size> memory(a.model, Arena(nullptr, kalman::kAlignment));
    kalman::launch_sequences<size>(kalman::simulate_sequences<Real, size>,
                                   a.layout.B * std::max<std::int64_t>(a.S, 1), memory.bytes,
                                   a.workspace, "kalman_simulate", stream, a);
  });
}
template void kalman_simulate(const KalmanSimulateArgs<float>&, Stream);
template void kalman_simulate(const KalmanSimulateArgs<double>&, Stream);

}  // namespace seqvae::cuda

// N lanes a sequence (lanes.cuh), one step after the other: predictions without updates.
// Floor: latency, two products of N dependent rows a step; (n + n^2 + m + m^2) numbers written a
// row.
// Hazards: lanes.cuh.
#include "kernels/kalman/covariance.cuh"
#include "kernels/kalman/sequences.cuh"

namespace seqvae::cuda {
namespace kalman {
namespace {

template <class Real, int N>
class SequenceForecast {
 public:
  __device__ __forceinline__ SequenceForecast(const KalmanForecastArgs<Real>& a, std::int64_t b,
                                              const ForecastMemory<Real, N>& memory)
      : a_(a),
        b_(b),
        at_(memory),
        lanes_(memory.exchange),
        covariance_(lanes_, a.model.n, KalmanForm::joseph, memory.covariance) {}

  __device__ __forceinline__ void run() {
    const std::int64_t length = length_of(a_.layout, b_), n = a_.model.n, m = a_.model.m;
    const int i = lanes_.lane();
    if (length > 0) {
      mean_ = i < n ? a_.mean[b_][i] : Real(0);
      covariance_.set(a_.covariance[b_]);
    }
    for (std::int64_t t = 0; t < length; ++t) step(t);
    for (std::int64_t t = length; a_.layout.offsets == nullptr && t < a_.layout.T; ++t) {
      const std::int64_t row = row_of(a_.layout, t, b_);
      fill(lanes_, a_.state_mean, row, n, Real(0));
      fill(lanes_, a_.state_covariance, row, n * n, Real(0));
      fill(lanes_, a_.observation_mean, row, m, Real(0));
      fill(lanes_, a_.observation_covariance, row, m * m, Real(0));
    }
  }

 private:
  static constexpr int S = kRow<Real, N>;

  __device__ __forceinline__ void step(std::int64_t t) {
    const KalmanModel<Real>& model = a_.model;
    const RowLayout& layout = a_.layout;
    const std::int64_t n = model.n, m = model.m, U = model.U, row = row_of(layout, t, b_);
    const int i = lanes_.lane();
    const Real *A = at(model.A, layout, t, b_), *C = at(model.C, layout, t, b_);
    lanes_.sync();  // the step before has been read
    at_.mean[i] = mean_;
    if (A != A_) bring(lanes_, n, A_ = A, at_.A);
    for (int r = 0; C != C_ && r < m; ++r) at_.C[r * S + i] = i < n ? C[r * n + i] : Real(0);
    C_ = C;
    lanes_.sync();
    mean_ = dot<Real, N>(at_.A + i * S, at_.mean);
    if (i < n) mean_ += inputs_of(i, U, layout, model.B, model.state_offset, a_.u, t, b_);
    covariance_.predict(at_.A, at(model.Q, layout, t, b_));
    if (a_.state_mean && i < n) a_.state_mean[row][i] = mean_;
    if (a_.state_covariance) give(lanes_, n, covariance_.P(), a_.state_covariance[row]);
    lanes_.sync();
    at_.mean[i] = mean_;
    lanes_.sync();
    for (std::int64_t j = i; a_.observation_mean && j < m; j += N) {
      a_.observation_mean[row][j] =
          dot<Real, N>(at_.C + j * S, at_.mean) +
          inputs_of(j, U, layout, model.D, model.observation_offset, a_.u, t, b_);
    }
    if (a_.observation_covariance) {
      give_observed(at(model.R, layout, t, b_), a_.observation_covariance[row]);
    }
  }

  /// C P C^T + R
  __device__ __forceinline__ void give_observed(const Real* R, Real* out) {
    const std::int64_t m = a_.model.m;
    OwnRow<Real, N> x(at_.covariance.rows, lanes_.lane());
    for (std::int64_t i = lanes_.lane(); i < m; i += N) {
      row_times([&](int k) { return at_.C[i * S + k]; }, covariance_.P(), S, x);
      for (std::int64_t j = 0; j <= i; ++j) {
        Real entry = dot<Real, N>(x, at_.C + j * S);
        if (!a_.model.diagonal_R) {
          entry += R[i * m + j];
        } else if (i == j) {
          entry += R[i];
        }
        out[i * m + j] = entry;
        if (i != j) out[j * m + i] = entry;
      }
    }
  }

  const KalmanForecastArgs<Real>& a_;
  std::int64_t b_;
  ForecastMemory<Real, N> at_;
  Lanes<Real, N> lanes_;
  StateCovariance<Real, N> covariance_;
  Real mean_ = 0;                           // this lane's component
  const Real *A_ = nullptr, *C_ = nullptr;  // what stands in memory
};

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    forecast_sequences(const __grid_constant__ KalmanForecastArgs<Real> a, Deal deal) {
  const std::int64_t b = my_sequence<N>(deal);
  if (b >= deal.sequences) return;
  const ForecastMemory<Real, N> memory(a.model, Arena(my_memory<N>(deal), kAlignment));
  SequenceForecast<Real, N>(a, b, memory).run();
}

}  // namespace
}  // namespace kalman

template <class Real>
void kalman_forecast(const KalmanForecastArgs<Real>& a, Stream stream) {
  cuda::check(a);
  kalman::with_size(a.model.n, [&](auto size) {
    const kalman::ForecastMemory<Real, size> memory(a.model, Arena(nullptr, kalman::kAlignment));
    kalman::launch_sequences<size>(kalman::forecast_sequences<Real, size>, a.layout.B, memory.bytes,
                                   a.workspace, "kalman_forecast", stream, a);
  });
}
template void kalman_forecast(const KalmanForecastArgs<float>&, Stream);
template void kalman_forecast(const KalmanForecastArgs<double>&, Stream);

}  // namespace seqvae::cuda

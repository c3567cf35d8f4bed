// Moments beyond the last observation: predictions without updates.
#include "host/cpu/kalman_step.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;

template <class Real>
struct ForecastScratch {
  KalmanData<Real> data;
  cpu::kalman::Stepper<Real> stepper;
  cpu::kalman::Moments<Real> moments;
  Real *product, *observation;

  ForecastScratch(const KalmanForecastArgs<Real>& a, Arena& arena)
      : data{a.layout, {}, {}, a.u},
        stepper(a.model, data, arena),
        moments(a.model.n, false, arena) {
    product = arena.take<Real>(2 * a.model.m * a.model.n);
    observation = arena.take<Real>(a.model.m * a.model.m);
  }
};

template <class Real>
void forecast_step(const KalmanForecastArgs<Real>& a, std::int64_t t, std::int64_t b,
                   ForecastScratch<Real>& s) {
  const std::int64_t n = a.model.n, m = a.model.m, row = cpu::kalman::row_of(a.layout, t, b);
  s.stepper.predict(t, b, s.moments);
  if (a.state_mean) std::copy_n(s.moments.m, n, a.state_mean[row]);
  if (a.state_covariance) std::copy_n(s.moments.P, n * n, a.state_covariance[row]);
  const Real* C = cpu::kalman::at(a.model.C, a.layout, t, b);
  if (a.observation_mean) {
    Real* mean = a.observation_mean[row];
    cpu::multiply_vector(m, n, C, s.moments.m, mean);
    cpu::kalman::add_inputs(m, a.model.U, a.layout, a.model.D, a.model.observation_offset, a.u, t,
                            b, mean);
  }
  if (!a.observation_covariance) return;
  Real* covariance = a.observation_covariance[row];
  cpu::congruence(m, n, C, s.moments.P, s.observation, s.product);
  std::copy_n(s.observation, m * m, covariance);
  const Real* R = cpu::kalman::at(a.model.R, a.layout, t, b);
  for (std::int64_t i = 0; i < m * m; ++i) {
    if (!a.model.diagonal_R) covariance[i] += R[i];
  }
  for (std::int64_t i = 0; i < m; ++i) {
    if (a.model.diagonal_R) covariance[i * m + i] += R[i];
  }
}

}  // namespace

template <class Real>
std::size_t kalman_workspace_bytes(const KalmanForecastArgs<Real>& args) {
  Arena arena;
  ForecastScratch<Real>(args, arena);
  return arena.used();
}

template std::size_t kalman_workspace_bytes(const KalmanForecastArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanForecastArgs<double>&);

namespace cpu {

template <class Real>
void kalman_forecast(const KalmanForecastArgs<Real>& a) {
  check(a);
  const std::int64_t n = a.model.n, m = a.model.m;
  Arena arena(a.workspace);
  ForecastScratch<Real> scratch(a, arena);
  for (std::int64_t b = 0; b < a.layout.B; ++b) {
    const std::int64_t length = kalman::length_of(a.layout, b);
    if (length > 0) {
      std::copy_n(a.mean[b], n, scratch.moments.m);
      std::copy_n(a.covariance[b], n * n, scratch.moments.P);
    }
    for (std::int64_t t = 0; t < length; ++t) forecast_step(a, t, b, scratch);
    if (a.layout.offsets != nullptr) continue;
    for (std::int64_t t = length; t < a.layout.T; ++t) {
      const std::int64_t row = t * a.layout.B + b;
      if (a.state_mean) std::fill_n(a.state_mean[row], n, Real(0));
      if (a.state_covariance) std::fill_n(a.state_covariance[row], n * n, Real(0));
      if (a.observation_mean) std::fill_n(a.observation_mean[row], m, Real(0));
      if (a.observation_covariance) std::fill_n(a.observation_covariance[row], m * m, Real(0));
    }
  }
}

template void kalman_forecast(const KalmanForecastArgs<float>&);
template void kalman_forecast(const KalmanForecastArgs<double>&);

}  // namespace cpu
}  // namespace seqvae

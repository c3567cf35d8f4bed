// The filter, forward in time: predict, then one observed component after the other.
#include "host/cpu/kalman_step.hpp"

namespace seqvae {
namespace {

template <class Real>
struct FilterScratch {
  cpu::kalman::Stepper<Real> stepper;
  cpu::kalman::Observation<Real> observation;
  cpu::kalman::Moments<Real> moments;
  cpu::kalman::Update<Real> update;

  FilterScratch(const KalmanFilterArgs<Real>& a, cpu::kalman::Arena& arena)
      : stepper(a.model, a.data, arena),
        observation(a.model, a.data, arena),
        moments(a.model.n, a.model.diffuse != nullptr, arena) {
    update.w = arena.take<Real>(a.model.n);
    update.w_diffuse = arena.take<Real>(a.model.n);
    update.k = arena.take<Real>(a.model.n);
  }
};

template <class Real>
void write(const Rows<Real>& out, std::int64_t row, std::int64_t count, const Real* values) {
  if (out) std::copy_n(values, count, out[row]);
}

template <class Real>
void fill_row(const KalmanFilterArgs<Real>& a, std::int64_t row, Real value) {
  const std::int64_t n = a.model.n;
  if (a.mean) std::fill_n(a.mean[row], n, value);
  if (a.covariance) std::fill_n(a.covariance[row], n * n, value);
  if (a.predicted_mean) std::fill_n(a.predicted_mean[row], n, value);
  if (a.predicted_covariance) std::fill_n(a.predicted_covariance[row], n * n, value);
  if (a.log_likelihood) *a.log_likelihood[row] = value;
}

/// 0, or 1 + the first step whose covariance is not positive definite.
template <class Real>
std::int32_t filter_sequence(const KalmanFilterArgs<Real>& a, std::int64_t b,
                             FilterScratch<Real>& scratch) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, length = cpu::kalman::length_of(layout, b);
  auto& [stepper, observation, s, u] = scratch;
  std::int32_t diffuse_steps = 0;
  for (std::int64_t t = 0; t < length; ++t) {
    const std::int64_t row = cpu::kalman::row_of(layout, t, b);
    t == 0 ? stepper.start(b, s) : stepper.predict(t, b, s);
    write(a.predicted_mean, row, n, s.m);
    write(a.predicted_covariance, row, n * n, s.P);
    if (s.rank > 0) write(a.predicted_diffuse_factor, row, n * n, s.X);
    bool sound = observation.read(t, b);
    Real log_likelihood = 0;
    for (std::int64_t i = 0; sound && i < observation.count(); ++i) {
      sound = stepper.update(observation.c(i), observation.h(i), observation.e(i), s, u);
      if (sound) log_likelihood += u.log_likelihood();
    }
    if (!sound || !std::isfinite(log_likelihood)) {
      for (std::int64_t bad = t; bad < length; ++bad) {
        fill_row(a, cpu::kalman::row_of(layout, bad, b), std::numeric_limits<Real>::quiet_NaN());
      }
      if (a.diffuse_steps != nullptr) a.diffuse_steps[b] = diffuse_steps;
      return static_cast<std::int32_t>(t + 1);
    }
    write(a.mean, row, n, s.m);
    write(a.covariance, row, n * n, s.P);
    if (s.rank > 0) {
      ++diffuse_steps;
      write(a.diffuse_factor, row, n * n, s.X);
    }
    if (a.log_likelihood) *a.log_likelihood[row] = log_likelihood;
  }
  if (a.diffuse_steps != nullptr) a.diffuse_steps[b] = diffuse_steps;
  return 0;
}

}  // namespace

template <class Real>
std::size_t kalman_workspace_bytes(const KalmanFilterArgs<Real>& args) {
  cpu::kalman::Arena arena;
  FilterScratch<Real>(args, arena);
  return arena.used();
}

template std::size_t kalman_workspace_bytes(const KalmanFilterArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanFilterArgs<double>&);

namespace cpu {

template <class Real>
void kalman_filter(const KalmanFilterArgs<Real>& a) {
  check(a);
  const RowLayout& layout = a.data.layout;
  kalman::Arena arena(a.workspace);
  FilterScratch<Real> scratch(a, arena);
  for (std::int64_t b = 0; b < layout.B; ++b) {
    const std::int32_t bad = filter_sequence(a, b, scratch);
    if (a.status != nullptr) a.status[b] = bad;
    if (layout.offsets != nullptr) continue;
    for (std::int64_t t = kalman::length_of(layout, b); t < layout.T; ++t) {
      fill_row(a, t * layout.B + b, Real(0));
    }
  }
}

template void kalman_filter(const KalmanFilterArgs<float>&);
template void kalman_filter(const KalmanFilterArgs<double>&);

}  // namespace cpu
}  // namespace seqvae

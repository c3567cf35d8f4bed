// The filter, forward in time: predict, then one observed component after the other.
#include "host/cpu/kalman_regression.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::Moments;

template <class Real>
struct FilterScratch {
  cpu::kalman::Stepper<Real> stepper;
  cpu::kalman::Observation<Real> observation;
  cpu::kalman::Regression<Real> regression;
  Moments<Real> moments, whole;  // whole: with delta integrated out
  cpu::kalman::Update<Real> update;

  FilterScratch(const KalmanFilterArgs<Real>& a, Arena& arena)
      : stepper(a.model, a.data, arena),
        observation(a.model, a.data, arena),
        regression(a.model.n, cpu::kalman::count_diffuse(a.model), arena),
        moments(a.model.n, a.model.diffuse != nullptr, arena),
        whole(a.model.n, false, arena) {
    for (Real** p : {&update.w, &update.k, &update.a}) *p = arena.take<Real>(a.model.n);
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

/// All observed components of a step; the step's log-likelihood, NaN where a variance is bad.
template <class Real>
Real observe(std::int64_t n, FilterScratch<Real>& scratch) {
  auto& [stepper, observation, regression, s, whole, u] = scratch;
  Real log_likelihood = 0;
  for (std::int64_t i = 0; i < observation.count(); ++i) {
    const Real* c = observation.c(i);
    Real noise = 0;  // of an entry of X^T c: below 1e-12 of its terms
    for (std::int64_t j = 0; s.q > 0 && j < n; ++j) {
      noise +=
          Real(1e-12) * std::abs(c[j]) * std::sqrt(cpu::dot(s.q, s.X + j * s.q, s.X + j * s.q));
    }
    if (!stepper.update(c, observation.h(i), observation.e(i), s, u)) {
      return std::numeric_limits<Real>::quiet_NaN();
    }
    log_likelihood += s.q > 0 ? regression.add(u.a, u.v, u.f, noise) : u.log_likelihood();
  }
  return log_likelihood;
}

/// 0, or 1 + the first step whose covariance is not positive definite.
template <class Real>
std::int32_t filter_sequence(const KalmanFilterArgs<Real>& a, std::int64_t b,
                             FilterScratch<Real>& scratch) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, length = cpu::kalman::length_of(layout, b);
  auto& [stepper, observation, regression, s, whole, u] = scratch;
  const auto integrated = [&]() -> const Moments<Real>& {
    if (s.q == 0) return s;
    regression.integrate(n, s, whole.m, whole.P);
    return whole;
  };
  std::int32_t merge_step = 0, diffuse_steps = 0, bad = 0;
  regression.reset();
  for (std::int64_t t = 0; t < length && bad == 0; ++t) {
    const std::int64_t row = cpu::kalman::row_of(layout, t, b);
    t == 0 ? stepper.start(b, s) : stepper.predict(t, b, s);
    if (a.predicted_mean || a.predicted_covariance) {
      const Moments<Real>& moments = integrated();
      write(a.predicted_mean, row, n, moments.m);
      write(a.predicted_covariance, row, n * n, moments.P);
    }
    const bool sound = observation.read(t, b);
    const Real log_likelihood =
        sound ? observe(n, scratch) : std::numeric_limits<Real>::quiet_NaN();
    if (!std::isfinite(log_likelihood)) {
      bad = static_cast<std::int32_t>(t + 1);
      for (; t < length; ++t) {
        fill_row(a, cpu::kalman::row_of(layout, t, b), std::numeric_limits<Real>::quiet_NaN());
      }
      break;
    }
    if (a.log_likelihood) *a.log_likelihood[row] = log_likelihood;
    if (s.q > 0) {
      ++merge_step;
      diffuse_steps += regression.rank() < s.q;
      write(a.diffuse.mean, row, n, s.m);
      write(a.diffuse.covariance, row, n * n, s.P);
      write(a.diffuse.factor, row, n * s.q, s.X);
      const bool little = regression.integrate(n, s, whole.m, whole.P);
      write(a.mean, row, n, whole.m);
      write(a.covariance, row, n * n, whole.P);
      if (regression.rank() == s.q && (little || t == length - 1)) {
        if (a.diffuse.delta && a.diffuse.spread) {
          regression.solve(a.diffuse.delta[b], a.diffuse.spread[b]);
        }
        s.copy(n, whole);
      }
    } else {
      write(a.mean, row, n, s.m);
      write(a.covariance, row, n * n, s.P);
    }
  }
  if (a.merge_step != nullptr) a.merge_step[b] = merge_step;
  if (a.diffuse_steps != nullptr) a.diffuse_steps[b] = diffuse_steps;
  return bad;
}

}  // namespace

template <class Real>
std::size_t kalman_workspace_bytes(const KalmanFilterArgs<Real>& args) {
  Arena arena;
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
  Arena arena(a.workspace);
  FilterScratch<Real> scratch(a, arena);
  for (std::int64_t b = 0; b < layout.B; ++b) {
    a.status[b] = filter_sequence(a, b, scratch);
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

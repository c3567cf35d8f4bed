// The filter of a sequence while some of its states are diffuse: moments given delta, and delta by
// regression.
#pragma once
#include "host/cpu/kalman_form.hpp"
#include "host/cpu/kalman_regression.hpp"

namespace seqvae::cpu::kalman {

template <class Real>
struct DiffuseFilter {
  Stepper<Real> stepper;
  Observation<Real> observation;
  StateCovariance<Real> covariance;
  Regression<Real> regression;
  Moments<Real> moments, whole;  // whole: with delta integrated out
  Update<Real> update;

  DiffuseFilter(const KalmanFilterArgs<Real>& a, Arena& arena)
      : stepper(a.model, a.data, arena),
        observation(a.model, a.data, arena),
        covariance(a.model.n, a.form, arena),
        regression(a.model.n, count_diffuse(a.model), arena),
        moments(a.model.n, a.model.diffuse != nullptr, arena),
        whole(a.model.n, false, arena) {
    for (Real** p : {&update.w, &update.k, &update.a}) *p = arena.take<Real>(a.model.n);
  }
};

/// All observed components of a step; the step's log-likelihood, NaN where a variance is bad.
/// `innovation`: [m], or null.
template <class Real>
Real observe(std::int64_t n, DiffuseFilter<Real>& filter, Real* innovation) {
  auto& [stepper, observation, covariance, regression, s, whole, u] = filter;
  Real log_likelihood = 0;
  for (std::int64_t i = 0; i < observation.count(); ++i) {
    const Real* c = observation.c(i);
    Real noise = 0;  // of an entry of X^T c: below 1e-12 of its terms
    for (std::int64_t j = 0; j < n; ++j) {
      noise += Real(1e-12) * std::abs(c[j]) * std::sqrt(dot(s.q, s.X + j * s.q, s.X + j * s.q));
    }
    u.f = covariance.condition(c, observation.h(i), u.w, u.k);
    if (!(u.f > 0) || !std::isfinite(u.f)) return std::numeric_limits<Real>::quiet_NaN();
    stepper.move(c, observation.e(i), s, u);
    log_likelihood += regression.add(u.a, u.v, u.f, noise);
    if (innovation != nullptr) innovation[observation.index(i)] = regression.innovation();
  }
  return log_likelihood;
}

/// The steps of sequence b until delta is merged into filter.moments. \return the status
template <class Real>
std::int32_t filter_diffuse(const KalmanFilterArgs<Real>& a, std::int64_t b,
                            DiffuseFilter<Real>& filter) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, length = length_of(layout, b);
  auto& [stepper, observation, covariance, regression, s, whole, u] = filter;
  std::int32_t diffuse_steps = 0, status = 0;
  std::int64_t t = 0;
  regression.reset();
  stepper.start(b, s);
  bool sound = covariance.set(s.P);
  for (; t < length && s.q > 0; ++t) {
    const std::int64_t row = row_of(layout, t, b);
    if (t > 0) {
      stepper.predict_mean(t, b, s.m);
      stepper.predict_factor(t, b, s);
      sound = covariance.predict(at(a.model.A, layout, t, b), at(a.model.Q, layout, t, b)) && sound;
      std::copy_n(covariance.P(), n * n, s.P);
    }
    if (a.predicted_mean || a.predicted_covariance) {
      regression.integrate(n, s, whole.m, whole.P);
      write(a.predicted_mean, row, n, whole.m);
      write(a.predicted_covariance, row, n * n, whole.P);
    }
    sound = observation.read(t, b) && sound;
    Real* innovation = a.innovation ? a.innovation[row] : nullptr;
    constexpr Real nan = std::numeric_limits<Real>::quiet_NaN();
    if (innovation != nullptr) std::fill_n(innovation, a.model.m, nan);
    const Real log_likelihood = sound ? observe(n, filter, innovation) : nan;
    std::copy_n(covariance.P(), n * n, s.P);
    if (!std::isfinite(log_likelihood)) {
      status = static_cast<std::int32_t>(t + 1);
      break;
    }
    if (a.log_likelihood) *a.log_likelihood[row] = log_likelihood;
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
  }
  a.merge_step[b] = static_cast<std::int32_t>(t);
  a.diffuse_steps[b] = diffuse_steps;
  return status;
}

}  // namespace seqvae::cpu::kalman

// The filter, forward in time: predict, then one observed component after the other. Covariances
// are computed once for all sequences that share them.
#include "host/cpu/kalman_regression.hpp"
#include "host/cpu/kalman_settled.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::Moments;

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

/// The rows of a sequence from step t on are NaN.
template <class Real>
void give_up(const KalmanFilterArgs<Real>& a, std::int64_t t, std::int64_t b) {
  const RowLayout& layout = a.data.layout;
  a.status[b] = static_cast<std::int32_t>(t + 1);
  for (const std::int64_t length = cpu::kalman::length_of(layout, b); t < length; ++t) {
    fill_row(a, cpu::kalman::row_of(layout, t, b), std::numeric_limits<Real>::quiet_NaN());
  }
}

/// Sequences whose covariances are the same are filtered together.
template <class Real>
bool covariances_are_shared(const KalmanFilterArgs<Real>& a) {
  const KalmanModel<Real>& m = a.model;
  return a.model.diffuse == nullptr && !a.data.mask && m.A.sequence == 0 && m.Q.sequence == 0 &&
         m.C.sequence == 0 && m.R.sequence == 0 && m.P0.sequence == 0;
}

/// The filter of sequences that share their covariances, without diffuse states.
template <class Real>
class GroupFilter {
 public:
  GroupFilter(const KalmanFilterArgs<Real>& a, std::int64_t most, Arena& arena)
      : a_(a), covariances_(a.model, a.data, arena), map_(a.model, arena) {
    const std::int64_t n = a.model.n;
    x_ = arena.take<Real>(most * map_.most_terms());
    means_ = arena.take<Real>(most * n);
    out_ = arena.take<Real>(most * map_.columns());
    predicted_ = arena.take<Real>(n);
    half_over_f_ = arena.take<Real>(a.model.m);
    length_ = arena.take<std::int64_t>(most);
  }

  /// Sequences first .. first + count, from m0 and P0.
  void run(std::int64_t first, std::int64_t count) {
    const std::int64_t n = a_.model.n;
    for (std::int64_t g = 0; g < count; ++g) {
      std::fill_n(mean(g), n, Real(0));
      if (a_.model.m0) {
        std::copy_n(cpu::kalman::at(a_.model.m0, a_.data.layout, 0, first + g), n, mean(g));
      }
    }
    covariances_.start(first);
    run_from(0, first, count);
  }
  /// Sequence b from step t on, with the moments of the step before.
  void resume(std::int64_t t, std::int64_t b, const Moments<Real>& s) {
    if (t == 0) return run(b, 1);
    std::copy_n(s.m, a_.model.n, mean(0));
    covariances_.start_from(s.P);
    run_from(t, b, 1);
  }

 private:
  Real* mean(std::int64_t g) { return means_ + g * a_.model.n; }
  bool goes_on(std::int64_t t, std::int64_t g) const {
    return t < length_[g] && a_.status[first_ + g] == 0;
  }

  void run_from(std::int64_t t, std::int64_t first, std::int64_t count) {
    first_ = first, count_ = count;
    std::int64_t longest = 0;
    for (std::int64_t g = 0; g < count; ++g) {
      a_.status[first + g] = 0;
      length_[g] = cpu::kalman::length_of(a_.data.layout, first + g);
      longest = std::max(longest, length_[g]);
    }
    bool settled = false, mapped = false;
    for (; t < longest; ++t) {
      const bool sound = covariances_.step(t, first);
      if (covariances_.settled() != settled) {
        settled = !settled;
        mapped = settled && build_map(t);
      }
      if (mapped) apply_map(t);
      for (std::int64_t g = 0; g < count; ++g) {
        if (!goes_on(t, g)) continue;
        if (!sound) {
          give_up(a_, t, first + g);
        } else {
          mapped ? finish_mapped(t, g) : step_mean(t, g);
        }
      }
    }
  }

  void add_state_inputs(std::int64_t t, std::int64_t b, Real* x) const {
    const KalmanModel<Real>& m = a_.model;
    cpu::kalman::add_inputs(m.n, m.U, a_.data.layout, m.B, m.state_offset, a_.data.u, t, b, x);
  }
  const Real* A(std::int64_t t) const {
    return cpu::kalman::at(a_.model.A, a_.data.layout, t, first_);
  }
  void predict_mean(std::int64_t t, std::int64_t g, Real* predicted) {
    const std::int64_t n = a_.model.n;
    if (t == 0) {
      std::copy_n(mean(g), n, predicted);
    } else {
      cpu::multiply_vector(n, n, A(t), mean(g), predicted);
      add_state_inputs(t, first_ + g, predicted);
    }
  }
  /// Writes what step t of sequence g found; mean(g) is filtered.
  void finish(std::int64_t t, std::int64_t g, Real log_likelihood) {
    if (!std::isfinite(log_likelihood)) return give_up(a_, t, first_ + g);
    const std::int64_t n = a_.model.n, row = cpu::kalman::row_of(a_.data.layout, t, first_ + g);
    write(a_.mean, row, n, mean(g));
    write(a_.covariance, row, n * n, covariances_.P());
    write(a_.predicted_covariance, row, n * n, covariances_.predicted());
    if (a_.log_likelihood) *a_.log_likelihood[row] = log_likelihood;
  }

  void step_mean(std::int64_t t, std::int64_t g) {
    const std::int64_t n = a_.model.n, b = first_ + g;
    auto& observation = covariances_.observation();
    predict_mean(t, g, predicted_);
    write(a_.predicted_mean, cpu::kalman::row_of(a_.data.layout, t, b), n, predicted_);
    Real* m = mean(g);
    std::copy_n(predicted_, n, m);
    observation.read_values(t, b);
    Real log_likelihood = 0;
    for (std::int64_t i = 0; i < observation.count(); ++i) {
      const Real v = observation.e(i) - cpu::dot(n, observation.c(i), m), f = covariances_.f(i);
      cpu::axpy(n, v, covariances_.k(i), m);
      log_likelihood -= (Real(cpu::kalman::kLog2Pi) + covariances_.log_f(i) + v * v / f) / 2;
    }
    finish(t, g, log_likelihood);
  }

  bool build_map(std::int64_t t) {
    const auto& observation = covariances_.observation();
    if (!map_.build(observation, covariances_.gains(), covariances_.variances(),
                    covariances_.predicted(), A(t))) {
      return false;
    }
    log_normalizer_ = 0;
    for (std::int64_t i = 0; i < observation.count(); ++i) {
      half_over_f_[i] = 1 / (2 * covariances_.f(i));
      log_normalizer_ += (Real(cpu::kalman::kLog2Pi) + covariances_.log_f(i)) / 2;
    }
    return true;
  }
  /// The map of all sequences that have a step t.
  void apply_map(std::int64_t t) {
    const std::int64_t n = a_.model.n, terms = map_.terms(),
                       seen = covariances_.observation().count();
    for (std::int64_t g = 0; g < count_; ++g) {
      if (!goes_on(t, g)) continue;
      Real* x = x_ + g * terms;
      std::copy_n(mean(g), n, x);
      covariances_.observation().read_residuals(t, first_ + g, x + n);
      if (map_.inputs() == 0) continue;
      std::fill_n(x + n + seen, n, Real(0));
      add_state_inputs(t, first_ + g, x + n + seen);
    }
    map_.apply(count_, x_, out_);
  }
  void finish_mapped(std::int64_t t, std::int64_t g) {
    const std::int64_t n = a_.model.n, seen = covariances_.observation().count();
    if (a_.predicted_mean) {
      predict_mean(t, g, a_.predicted_mean[cpu::kalman::row_of(a_.data.layout, t, first_ + g)]);
    }
    const Real *out = out_ + g * map_.columns(), *v = out + n;
    std::copy_n(out, n, mean(g));
    Real square = 0;
    for (std::int64_t i = 0; i < seen; ++i) square += half_over_f_[i] * v[i] * v[i];
    finish(t, g, -log_normalizer_ - square);
  }

  const KalmanFilterArgs<Real>& a_;
  cpu::kalman::Covariances<Real> covariances_;
  cpu::kalman::SettledMap<Real> map_;
  Real *x_, *means_, *out_, *predicted_, *half_over_f_, log_normalizer_ = 0;
  std::int64_t first_ = 0, count_ = 0, *length_;
};

/// The filter of a sequence while some of its states are diffuse.
template <class Real>
struct DiffuseFilter {
  cpu::kalman::Stepper<Real> stepper;
  cpu::kalman::Observation<Real> observation;
  cpu::kalman::Regression<Real> regression;
  Moments<Real> moments, whole;  // whole: with delta integrated out
  cpu::kalman::Update<Real> update;

  DiffuseFilter(const KalmanFilterArgs<Real>& a, Arena& arena)
      : stepper(a.model, a.data, arena),
        observation(a.model, a.data, arena),
        regression(a.model.n, cpu::kalman::count_diffuse(a.model), arena),
        moments(a.model.n, a.model.diffuse != nullptr, arena),
        whole(a.model.n, false, arena) {
    for (Real** p : {&update.w, &update.k, &update.a}) *p = arena.take<Real>(a.model.n);
  }
};

/// All observed components of a step; the step's log-likelihood, NaN where a variance is bad.
template <class Real>
Real observe(std::int64_t n, DiffuseFilter<Real>& filter) {
  auto& [stepper, observation, regression, s, whole, u] = filter;
  Real log_likelihood = 0;
  for (std::int64_t i = 0; i < observation.count(); ++i) {
    const Real* c = observation.c(i);
    Real noise = 0;  // of an entry of X^T c: below 1e-12 of its terms
    for (std::int64_t j = 0; j < n; ++j) {
      noise +=
          Real(1e-12) * std::abs(c[j]) * std::sqrt(cpu::dot(s.q, s.X + j * s.q, s.X + j * s.q));
    }
    if (!stepper.update(c, observation.h(i), observation.e(i), s, u)) {
      return std::numeric_limits<Real>::quiet_NaN();
    }
    log_likelihood += regression.add(u.a, u.v, u.f, noise);
  }
  return log_likelihood;
}

/// The steps of sequence b until delta is merged into filter.moments: their number.
template <class Real>
std::int64_t filter_diffuse(const KalmanFilterArgs<Real>& a, std::int64_t b,
                            DiffuseFilter<Real>& filter) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, length = cpu::kalman::length_of(layout, b);
  auto& [stepper, observation, regression, s, whole, u] = filter;
  std::int32_t diffuse_steps = 0;
  std::int64_t t = 0;
  regression.reset();
  stepper.start(b, s);
  for (; t < length && s.q > 0; ++t) {
    const std::int64_t row = cpu::kalman::row_of(layout, t, b);
    if (t > 0) stepper.predict(t, b, s);
    if (a.predicted_mean || a.predicted_covariance) {
      regression.integrate(n, s, whole.m, whole.P);
      write(a.predicted_mean, row, n, whole.m);
      write(a.predicted_covariance, row, n * n, whole.P);
    }
    const bool sound = observation.read(t, b);
    const Real log_likelihood = sound ? observe(n, filter) : std::numeric_limits<Real>::quiet_NaN();
    if (!std::isfinite(log_likelihood)) {
      give_up(a, t, b);
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
  return t;
}

template <class Real>
struct FilterScratch {
  GroupFilter<Real> group;
  DiffuseFilter<Real> diffuse;
  FilterScratch(const KalmanFilterArgs<Real>& a, Arena& arena)
      : group(a, covariances_are_shared(a) ? a.data.layout.B : 1, arena), diffuse(a, arena) {}
};

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
  for (std::int32_t* out : {a.merge_step, a.diffuse_steps}) {
    if (out != nullptr) std::fill_n(out, layout.B, 0);
  }
  if (covariances_are_shared(a)) {
    scratch.group.run(0, layout.B);
  } else {
    for (std::int64_t b = 0; b < layout.B; ++b) {
      a.status[b] = 0;
      if (a.model.diffuse == nullptr) {
        scratch.group.run(b, 1);
        continue;
      }
      const std::int64_t t = filter_diffuse(a, b, scratch.diffuse);
      if (a.status[b] == 0) scratch.group.resume(t, b, scratch.diffuse.moments);
    }
  }
  if (layout.offsets != nullptr) return;
  for (std::int64_t b = 0; b < layout.B; ++b) {
    for (std::int64_t t = kalman::length_of(layout, b); t < layout.T; ++t) {
      fill_row(a, t * layout.B + b, Real(0));
    }
  }
}

template void kalman_filter(const KalmanFilterArgs<float>&);
template void kalman_filter(const KalmanFilterArgs<double>&);

}  // namespace cpu
}  // namespace seqvae

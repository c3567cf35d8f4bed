// The filter of one sequence, or of many that share model and gaps: their covariances are computed
// once, and where those have settled their means cost one product a step.
#pragma once
#include "host/cpu/kalman_settled.hpp"

namespace seqvae::cpu::kalman {

/// The filter of sequences that share their covariances, without diffuse states.
template <class Real>
class GroupFilter {
 public:
  GroupFilter(const KalmanFilterArgs<Real>& a, std::int64_t most, Arena& arena)
      : a_(a),
        covariances_(a.model, a.data, a.form, static_cast<bool>(a.predicted_covariance), arena),
        map_(a.model, arena) {
    const std::int64_t n = a.model.n;
    x_ = arena.take<Real>(most * map_.most_terms());
    means_ = arena.take<Real>(most * n);
    out_ = arena.take<Real>(most * map_.columns());
    predicted_ = arena.take<Real>(n);
    half_over_f_ = arena.take<Real>(a.model.m);
    end_ = arena.take<std::int64_t>(most);
    bad_ = arena.take<std::int64_t>(most);
  }

  /// Steps 0 .. end of sequences first .. first + count, from m0 and P0. `writes`: what all share
  /// as well. \return the steps before the one whose covariance broke
  std::int64_t run(std::int64_t end, std::int64_t first, std::int64_t count, bool writes = true) {
    writes_ = writes;
    const std::int64_t n = a_.model.n;
    for (std::int64_t g = 0; g < count; ++g) {
      std::fill_n(mean(g), n, Real(0));
      if (a_.model.m0) {
        std::copy_n(at(a_.model.m0, a_.data.layout, 0, first + g), n, mean(g));
      }
    }
    return run_from(0, end, first, count, covariances_.start(first));
  }
  /// Steps begin .. end of sequence b, from the moments of the step before, or of the prior.
  void resume(std::int64_t begin, std::int64_t end, std::int64_t b, const Real* m, const Real* P) {
    if (begin == 0) return static_cast<void>(run(end, b, 1));
    std::copy_n(m, a_.model.n, mean(0));
    run_from(begin, end, b, 1, covariances_.start_from(P));
  }

  /// 0, or 1 + the step where the group's g-th sequence broke: its rows from there on are not
  /// written.
  std::int64_t longest() const { return longest_; }  ///< steps of the longest
  std::int32_t status(std::int64_t g) const { return static_cast<std::int32_t>(bad_[g] + 1); }
  /// After the last step of the group's only sequence.
  const Real* last_mean() { return mean(0); }
  const Real* last_covariance() { return covariances_.P(); }

 private:
  static constexpr std::int64_t kNone = -1;
  Real* mean(std::int64_t g) { return means_ + g * a_.model.n; }
  bool goes_on(std::int64_t t, std::int64_t g) const { return t < end_[g] && bad_[g] == kNone; }

  std::int64_t run_from(std::int64_t t, std::int64_t end, std::int64_t first, std::int64_t count,
                        bool starts_well) {
    first_ = first, count_ = count;
    longest_ = 0;
    for (std::int64_t g = 0; g < count; ++g) {
      bad_[g] = kNone;
      end_[g] = std::min(end, length_of(a_.data.layout, first + g));
      longest_ = std::max(longest_, end_[g]);
    }
    runs_ = count == 1 && may_run();
    bool settled = false, mapped = false, sound = true;
    for (; t < longest_ && sound; ++t) {
      sound = starts_well && covariances_.step(t, first);
      if (covariances_.settled() != settled) {
        settled = !settled;
        mapped = settled && build_map(t);
      }
      if (mapped && runs_) {
        t = run_map(t) - 1;
        continue;
      }
      if (mapped) apply_map(t);
      if (sound && a_.shared_covariance && writes_) write_covariances(t);
      for (std::int64_t g = 0; g < count; ++g) {
        if (!goes_on(t, g)) continue;
        if (!sound) {
          bad_[g] = t;
        } else {
          mapped ? finish_mapped(t, g) : step_mean(t, g);
        }
      }
    }
    return sound ? longest_ : t - 1;
  }

  void add_state_inputs(std::int64_t t, std::int64_t b, Real* x) const {
    const KalmanModel<Real>& m = a_.model;
    add_inputs(m.n, m.U, a_.data.layout, m.B, m.state_offset, a_.data.u, t, b, x);
  }
  const Real* A(std::int64_t t) const { return at(a_.model.A, a_.data.layout, t, first_); }
  void predict_mean(std::int64_t t, std::int64_t g, Real* predicted) {
    const std::int64_t n = a_.model.n;
    if (t == 0) {
      std::copy_n(mean(g), n, predicted);
    } else {
      multiply_vector(n, n, A(t), mean(g), predicted);
      add_state_inputs(t, first_ + g, predicted);
    }
  }
  /// All steps that a constant model's map takes may be taken at once: nothing is missing, nothing
  /// but y comes in, and no more than these moments are asked for.
  bool may_run() const {
    const KalmanModel<Real>& m = a_.model;
    return is_constant(m, a_.data) && map_.inputs() == 0 && !m.observation_offset &&
           (!m.D || m.U == 0) && !a_.predicted_mean && !a_.predicted_covariance && !a_.innovation &&
           !a_.shared_covariance && map_.columns() <= 64;
  }
  /// From step t to the end of the group's only sequence. \return the end, or the bad step
  std::int64_t run_map(std::int64_t t) {
    const RowLayout& layout = a_.data.layout;
    const std::int64_t n = a_.model.n;
    while (t < longest_) {
      // Rows are evenly apart where sequences are padded, and while as many go on where packed.
      const std::int64_t row = row_of(layout, t, first_);
      const std::int64_t apart = t + 1 < longest_ ? row_of(layout, t + 1, first_) - row : 1;
      std::int64_t last = t + 1;
      while (last < longest_ && (layout.offsets == nullptr ||
                                 row_of(layout, last, first_) == row + (last - t) * apart)) {
        last = layout.offsets == nullptr ? longest_ : last + 1;
      }
      const auto at_row = [&](const Rows<Real>& out) { return out ? out[row] : nullptr; };
      MapSteps<Real> run;
      run.n = n, run.seen = a_.model.m, run.columns = map_.columns(), run.steps = last - t;
      run.map = map_.matrix(), run.m = mean(0);
      run.y = a_.data.y[row], run.y_stride = apart * a_.data.y.stride;
      run.half_over_f = half_over_f_, run.normalizer = log_normalizer_;
      run.P = covariances_.P();
      run.mean = at_row(a_.mean), run.mean_stride = apart * a_.mean.stride;
      run.log_likelihood = at_row(a_.log_likelihood);
      run.log_likelihood_stride = apart * a_.log_likelihood.stride;
      run.covariance = at_row(a_.covariance), run.covariance_stride = apart * a_.covariance.stride;
      const std::int64_t done = cpu::run_map(run);
      t += done;
      if (done == run.steps) continue;
      bad_[0] = t;
      return longest_;
    }
    return t;
  }
  void write_covariances(std::int64_t row) {
    const std::int64_t n = a_.model.n;
    write(a_.covariance, row, n * n, covariances_.P());
    write(a_.predicted_covariance, row, n * n, covariances_.predicted());
  }
  Real* innovations(std::int64_t t, std::int64_t g) const {
    if (!a_.innovation) return nullptr;
    Real* row = a_.innovation[row_of(a_.data.layout, t, first_ + g)];
    std::fill_n(row, a_.model.m, std::numeric_limits<Real>::quiet_NaN());
    return row;
  }
  /// Writes what step t of sequence g found; mean(g) is filtered.
  void finish(std::int64_t t, std::int64_t g, Real log_likelihood) {
    if (!std::isfinite(log_likelihood)) {
      bad_[g] = t;
      return;
    }
    const std::int64_t n = a_.model.n, row = row_of(a_.data.layout, t, first_ + g);
    write(a_.mean, row, n, mean(g));
    if (!a_.shared_covariance) write_covariances(row);
    if (a_.log_likelihood) *a_.log_likelihood[row] = log_likelihood;
  }

  void step_mean(std::int64_t t, std::int64_t g) {
    const std::int64_t n = a_.model.n, b = first_ + g;
    auto& observation = covariances_.observation();
    predict_mean(t, g, predicted_);
    write(a_.predicted_mean, row_of(a_.data.layout, t, b), n, predicted_);
    Real* m = mean(g);
    std::copy_n(predicted_, n, m);
    observation.read_values(t, b);
    Real* innovation = innovations(t, g);
    Real log_likelihood = 0;
    for (std::int64_t i = 0; i < observation.count(); ++i) {
      const Real v = observation.e(i) - dot(n, observation.c(i), m), f = covariances_.f(i);
      axpy(n, v, covariances_.k(i), m);
      if (innovation != nullptr) innovation[observation.index(i)] = v / std::sqrt(f);
      log_likelihood -= (Real(kLog2Pi) + covariances_.log_f(i) + v * v / f) / 2;
    }
    finish(t, g, log_likelihood);
  }

  bool build_map(std::int64_t t) {
    const auto& observation = covariances_.observation();
    const Real* Q = at(a_.model.Q, a_.data.layout, t, first_);
    if (!map_.build(observation, covariances_.gains(), covariances_.variances(), covariances_.P(),
                    A(t), Q)) {
      return false;
    }
    log_normalizer_ = 0;
    for (std::int64_t i = 0; i < observation.count(); ++i) {
      half_over_f_[i] = 1 / (2 * covariances_.f(i));
      log_normalizer_ += (Real(kLog2Pi) + covariances_.log_f(i)) / 2;
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
      predict_mean(t, g, a_.predicted_mean[row_of(a_.data.layout, t, first_ + g)]);
    }
    const Real *out = out_ + g * map_.columns(), *v = out + n;
    std::copy_n(out, n, mean(g));
    Real square = 0;
    for (std::int64_t i = 0; i < seen; ++i) square += half_over_f_[i] * v[i] * v[i];
    Real* innovation = innovations(t, g);
    for (std::int64_t i = 0; innovation != nullptr && i < seen; ++i) {
      innovation[covariances_.observation().index(i)] = v[i] / std::sqrt(covariances_.f(i));
    }
    finish(t, g, -log_normalizer_ - square);
  }

  const KalmanFilterArgs<Real>& a_;
  Covariances<Real> covariances_;
  SettledMap<Real> map_;
  Real *x_, *means_, *out_, *predicted_, *half_over_f_, log_normalizer_ = 0;
  std::int64_t first_ = 0, count_ = 0, longest_ = 0, *end_, *bad_;
  bool writes_ = true, runs_ = false;  // whole runs of mapped steps are taken at once
};

}  // namespace seqvae::cpu::kalman

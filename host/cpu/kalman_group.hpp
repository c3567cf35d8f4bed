// The filter of one sequence, or of many that share model and gaps: their covariances are computed
// once, and where those have settled their means cost one product a step. Means, innovations and
// log-likelihoods stand side by side (kalman_columns.hpp).
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
    const std::int64_t n = a.model.n, m = a.model.m;
    x_ = arena.take<Real>(most * (n + m + map_.inputs()));
    out_ = arena.take<Real>(most * (n + m));
    vector_ = arena.take<Real>(n);
    log_likelihood_ = arena.take<Real>(most);
    half_over_f_ = arena.take<Real>(m);
    end_ = arena.take<std::int64_t>(most);
    bad_ = arena.take<std::int64_t>(most);
  }

  /// Steps 0 .. end of sequences first .. first + count, from m0 and P0. `writes`: what all share
  /// as well. \return the steps before the one whose covariance broke
  std::int64_t run(std::int64_t end, std::int64_t first, std::int64_t count, bool writes = true) {
    writes_ = writes, map_of_ = nullptr;
    const std::int64_t n = a_.model.n;
    std::fill_n(x_, (n + a_.model.m + map_.inputs()) * count, Real(0));
    for (std::int64_t g = 0; a_.model.m0 && g < count; ++g) {
      put_column(n, at(a_.model.m0, a_.data.layout, 0, first + g), count, g, x_);
    }
    return run_from(0, end, first, count, covariances_.start(first));
  }
  /// Steps begin .. end of sequence b, from the moments of the step before, or of the prior.
  void resume(std::int64_t begin, std::int64_t end, std::int64_t b, const Real* m, const Real* P) {
    if (begin == 0) return static_cast<void>(run(end, b, 1));
    map_of_ = nullptr;
    std::copy_n(m, a_.model.n, x_);
    run_from(begin, end, b, 1, covariances_.start_from(P));
  }

  /// \name Chunks of one sequence b whose covariances have settled; the model does not change.
  /// \{

  /// Steps begin .. end after the steps before them.
  void go_on(std::int64_t begin, std::int64_t end, std::int64_t b) {
    run_from(begin, end, b, 1, true);
  }
  /// The last steps were one linear map each.
  bool settled() const { return mapped_; }
  static std::int64_t settled_size(std::int64_t n, std::int64_t m) {
    return Covariances<Real>::settled_size(n, m) + n * n;
  }
  /// What resume_settled takes, and the map of a mean over `steps` of them. Scratch 2 n^2.
  void save_settled(std::int64_t steps, Real* to, Real* scratch) {
    const std::int64_t n = a_.model.n;
    covariances_.save_settled(to);
    for (std::int64_t i = 0; i < n; ++i) put_column(n, map_.map().image(i), n, i, scratch);
    raise(n, steps, scratch, power_of(to), scratch + n * n);
  }
  Real* power_of(Real* settled) const {
    return settled + Covariances<Real>::settled_size(a_.model.n, a_.model.m);
  }
  /// Steps begin .. end from the mean of the step before.
  void resume_settled(std::int64_t begin, std::int64_t end, std::int64_t b, const Real* m,
                      const Real* settled) {
    std::copy_n(m, a_.model.n, x_);
    covariances_.start_settled(begin, b, settled);
    if (map_of_ != settled) was_settled_ = false;
    map_of_ = settled;
    run_from(begin, end, b, 1, true);
  }
  /// \}

  /// 0, or 1 + the step where the group's g-th sequence broke: its rows from there on are not
  /// written.
  std::int64_t longest() const { return longest_; }  ///< steps of the longest
  std::int32_t status(std::int64_t g) const { return static_cast<std::int32_t>(bad_[g] + 1); }
  /// After the last step of the group's only sequence.
  const Real* last_mean() const { return x_; }
  const Real* last_covariance() { return covariances_.P(); }

 private:
  static constexpr std::int64_t kNone = -1;
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
    bool sound = true;
    for (; t < longest_ && sound; ++t) {
      sound = starts_well && covariances_.step(t, first);
      if (!covariances_.settled()) {
        was_settled_ = mapped_ = false;
      } else if (!was_settled_) {
        was_settled_ = true;
        mapped_ = build_map(t);
      }
      if (mapped_ && runs_) {
        t = run_map(t) - 1;
        continue;
      }
      if (!sound) {
        for_each(t, [&](std::int64_t g) { bad_[g] = t; });
        continue;
      }
      if (a_.shared_covariance && writes_) write_covariances(t);
      mapped_ ? apply_map(t) : step_means(t);
    }
    return sound ? longest_ : t - 1;
  }

  /// Calls work(g) for each sequence of the group that has a step t.
  template <class Work>
  void for_each(std::int64_t t, const Work& work) {
    for (std::int64_t g = 0; g < count_; ++g) {
      if (goes_on(t, g)) work(g);
    }
  }
  /// The means of the state, and after them y - d - D u of the components: x_[n + seen][count].
  Real* e() const { return x_ + a_.model.n * count_; }
  void read_residuals(std::int64_t t) {
    for_each(t, [&](std::int64_t g) {
      covariances_.observation().read_residuals(t, first_ + g, e() + g, count_);
    });
  }
  void add_state_inputs(std::int64_t t, std::int64_t b, Real* x) const {
    const KalmanModel<Real>& m = a_.model;
    add_inputs(m.n, m.U, a_.data.layout, m.B, m.state_offset, a_.data.u, t, b, x);
  }
  const Real* A(std::int64_t t) const { return at(a_.model.A, a_.data.layout, t, first_); }
  /// The predicted means of step t: out_[n][count].
  void predict_means(std::int64_t t) {
    const std::int64_t n = a_.model.n;
    if (t == 0) {
      std::copy_n(x_, n * count_, out_);
    } else {
      multiply_columns(n, n, count_, A(t), x_, out_);
    }
    for_each(t, [&](std::int64_t g) {
      if (t == 0 || map_.inputs() == 0) return;
      take_column(n, count_, g, out_, vector_);
      add_state_inputs(t, first_ + g, vector_);
      put_column(n, vector_, count_, g, out_);
    });
    if (!a_.predicted_mean) return;
    for_each(t, [&](std::int64_t g) {
      take_column(n, count_, g, out_, a_.predicted_mean[row_of(a_.data.layout, t, first_ + g)]);
    });
  }
  /// All steps that a constant model's map takes may be taken at once: nothing is missing, nothing
  /// but y comes in, and no more than these moments are asked for.
  bool may_run() const {
    const KalmanModel<Real>& m = a_.model;
    return is_constant(m, a_.data) && map_.inputs() == 0 && !m.observation_offset &&
           (!m.D || m.U == 0) && !a_.predicted_mean && !a_.predicted_covariance && !a_.innovation &&
           !a_.shared_covariance && map_.map().columns() <= 64;
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
      run.n = n, run.seen = a_.model.m, run.columns = map_.map().columns();
      run.steps = last - t, run.map = map_.map().matrix(), run.m = x_;
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
  /// Writes what step t found, v[seen][count] the innovations; the means are filtered.
  void write_rows(std::int64_t t, const Real* v) {
    const std::int64_t n = a_.model.n, seen = covariances_.observation().count();
    for_each(t, [&](std::int64_t g) {
      if (!std::isfinite(log_likelihood_[g])) {
        bad_[g] = t;
        return;
      }
      const std::int64_t row = row_of(a_.data.layout, t, first_ + g);
      if (a_.mean) take_column(n, count_, g, x_, a_.mean[row]);
      if (!a_.shared_covariance) write_covariances(row);
      if (a_.log_likelihood) *a_.log_likelihood[row] = log_likelihood_[g];
      if (!a_.innovation) return;
      Real* innovation = a_.innovation[row];
      std::fill_n(innovation, a_.model.m, std::numeric_limits<Real>::quiet_NaN());
      for (std::int64_t i = 0; i < seen; ++i) {
        innovation[covariances_.observation().index(i)] =
            v[i * count_ + g] / std::sqrt(covariances_.f(i));
      }
    });
  }

  /// Step t by the gains of its components, one after the other.
  void step_means(std::int64_t t) {
    const std::int64_t n = a_.model.n, count = count_;
    auto& observation = covariances_.observation();
    predict_means(t);
    std::copy_n(out_, n * count, x_);
    read_residuals(t);
    observation.decorrelate(count, e());
    Real *l = log_likelihood_, *expected = out_;
    std::fill_n(l, count, Real(0));
    for (std::int64_t i = 0; i < observation.count(); ++i) {
      Real* v = e() + i * count;
      const Real f = covariances_.f(i), log_f = covariances_.log_f(i);
      multiply_columns(1, n, count, observation.c(i), x_, expected);
      axpy(count, Real(-1), expected, v);
      for (std::int64_t j = 0; j < n; ++j) axpy(count, covariances_.k(i)[j], v, x_ + j * count);
      for (std::int64_t g = 0; g < count; ++g) {
        l[g] -= (Real(kLog2Pi) + log_f + v[g] * v[g] / f) / 2;
      }
    }
    write_rows(t, e());
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
  /// Step t by the map.
  void apply_map(std::int64_t t) {
    const std::int64_t n = a_.model.n, seen = covariances_.observation().count(), count = count_;
    if (a_.predicted_mean) predict_means(t);
    read_residuals(t);
    for_each(t, [&](std::int64_t g) {
      if (map_.inputs() == 0) return;
      std::fill_n(vector_, n, Real(0));
      add_state_inputs(t, first_ + g, vector_);
      put_column(n, vector_, count, g, e() + seen * count);
    });
    map_.map().apply(0, n + seen, count, x_, out_);
    std::copy_n(out_, n * count, x_);
    const Real* v = out_ + n * count;
    Real* l = log_likelihood_;
    std::fill_n(l, count, Real(0));
    for (std::int64_t i = 0; i < seen; ++i) {
      for (std::int64_t g = 0; g < count; ++g) {
        l[g] += half_over_f_[i] * v[i * count + g] * v[i * count + g];
      }
    }
    for (std::int64_t g = 0; g < count; ++g) l[g] = -log_normalizer_ - l[g];
    write_rows(t, v);
  }

  const KalmanFilterArgs<Real>& a_;
  Covariances<Real> covariances_;
  SettledMap<Real> map_;
  Real *x_, *out_, *vector_, *log_likelihood_, *half_over_f_, log_normalizer_ = 0;
  std::int64_t first_ = 0, count_ = 0, longest_ = 0, *end_, *bad_;
  bool writes_ = true, runs_ = false;  // whole runs of mapped steps are taken at once
  bool was_settled_ = false, mapped_ = false;
  const Real* map_of_ = nullptr;  // the settled covariances that the map is of
};

}  // namespace seqvae::cpu::kalman

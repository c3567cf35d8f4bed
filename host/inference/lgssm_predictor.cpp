#include "seqvae/inference/lgssm_predictor.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "seqvae/core/error.hpp"

namespace seqvae {
namespace {

constexpr std::uint32_t kStateSite = 0, kEmissionSite = 1;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

/// The contract's struct with scratch of its own, run.
template <class Args>
void call(Args& args, void (*contract)(const Args&)) {
  std::vector<double> workspace(kalman_workspace_bytes(args) / sizeof(double) + 2);
  args.workspace = workspace.data(), args.workspace_bytes = workspace.size() * sizeof(double);
  contract(args);
}

void require_status(std::int32_t status, std::int64_t sequence, const char* what) {
  if (status != 0) {
    throw Error(fmt::format("lgssm: sequence {}, step {}: {} is not positive semidefinite",
                            sequence, status, what));
  }
}

class LgssmPredictor : public Predictor {
 public:
  LgssmPredictor(LgssmMatrices matrices, ThreadPool& pool) : k_(std::move(matrices)), pool_(pool) {}

  std::vector<std::string> bounds() const override { return {"exact"}; }
  std::string posterior() const override { return "exact"; }

  Evaluation evaluate(const data::SequenceSet& set, const std::string& bound, std::int64_t,
                      std::uint64_t, const Progress& progress) override {
    require(bound == "exact", "evaluate", "bound", bound, "exact for this model");
    Evaluation e;
    e.bound = "exact", e.steps = set.steps(), e.sequences = set.count(),
    e.observed = set.observed();
    e.per_sequence.resize(index(set.count()));
    each_sequence(set, progress, [&](std::int64_t i, std::int64_t) {
      const LgssmFiltered f = lgssm_filter(k_, set, i);
      double sum = 0;
      for (std::int64_t t = set.begin[index(i)]; t < set.lengths[index(i)]; ++t)
        sum += f.log_likelihood[index(t)];
      e.per_sequence[index(i)] = sum;
    });
    for (double l : e.per_sequence) e.log_likelihood += l;
    e.reconstruction = e.log_likelihood;
    return e;
  }

  States infer(const data::SequenceSet& set, std::int64_t, std::uint64_t,
               const Progress& progress) override {
    States states;
    const std::int64_t n = k_.n, R = set.rows();
    states.n = n;
    states.filtered_mean.resize(index(R * n)), states.filtered_covariance.resize(index(R * n * n));
    states.smoothed_mean.resize(index(R * n)), states.smoothed_covariance.resize(index(R * n * n));
    each_sequence(set, progress, [&](std::int64_t i, std::int64_t row) {
      LgssmFiltered f = lgssm_filter(k_, set, i);
      smooth(set, i, row, f, states.smoothed_mean.data() + row * n,
             states.smoothed_covariance.data() + row * n * n);
      mark_diffuse(f);
      std::copy(f.mean.begin(), f.mean.end(), states.filtered_mean.begin() + row * n);
      std::copy(f.covariance.begin(), f.covariance.end(),
                states.filtered_covariance.begin() + row * n * n);
    });
    return states;
  }

  Forecast forecast(const data::SequenceSet& context, std::int64_t horizon,
                    std::span<const double> controls, std::int64_t samples, std::uint64_t seed,
                    const Progress& progress) override {
    require(horizon >= 1, "forecast", "horizon", horizon, ">= 1");
    check_controls(controls, context.count() * horizon);
    const std::int64_t n = k_.n, m = k_.m, N = context.count(), block = horizon * m;
    Forecast out;
    out.N = N, out.H = horizon, out.D = m, out.S = samples, out.gaussian = true;
    out.mean.resize(index(N * block)), out.std.resize(index(N * block)),
        out.samples.resize(index(samples * N * block));
    each_sequence(context, progress, [&](std::int64_t i, std::int64_t) {
      const LgssmFiltered f = lgssm_filter(k_, context, i);
      const std::int64_t last = context.lengths[index(i)] - 1;
      std::vector<double> covariance(index(horizon * m * m));
      KalmanForecastArgs<double> args;
      args.model = k_.view(), args.layout.T = horizon, args.layout.B = 1;
      if (k_.U > 0) args.u = {controls.data() + i * horizon * k_.U, k_.U};
      args.mean = {f.mean.data() + last * n, n},
      args.covariance = {f.covariance.data() + last * n * n, n * n};
      args.observation_mean = {out.mean.data() + i * block, m};
      args.observation_covariance = {covariance.data(), m * m};
      call(args, cpu::kalman_forecast<double>);
      for (std::int64_t h = 0; h < horizon; ++h) {
        for (std::int64_t d = 0; d < m; ++d) {
          out.std[index(i * block + h * m + d)] =
              std::sqrt(covariance[index(h * m * m + d * m + d)]);
        }
      }
      if (samples > 0) draw_future(context, i, f, horizon, controls, samples, seed, out);
    });
    return out;
  }

  Imputation impute(const data::SequenceSet& set, std::int64_t samples, std::uint64_t seed,
                    const Progress& progress) override {
    const std::int64_t n = k_.n, m = k_.m, R = set.rows();
    Imputation out;
    out.S = samples;
    out.mean = set.values, out.std.assign(index(R * m), 0),
    out.samples.resize(index(samples * R * m));
    out.ess.assign(index(set.count()), static_cast<double>(samples));  // draws are exact
    each_sequence(set, progress, [&](std::int64_t i, std::int64_t row) {
      const LgssmFiltered f = lgssm_filter(k_, set, i);
      const std::int64_t T = set.lengths[index(i)];
      std::vector<double> mean(index(T * n)), covariance(index(T * n * n)),
          z(index(samples * T * n));
      smooth(set, i, row, f, mean.data(), covariance.data());
      const Given given(set, i, row);
      KalmanSampleArgs<double> args;
      std::int32_t status = 0;
      args.model = k_.view(), args.data = given.data, args.filtered = view(f);
      args.noise = {{seed, kStateSite}, 0, &set.ids[index(i)]};
      args.S = samples, args.z = {z.data(), n}, args.status = &status;
      if (samples > 0) call(args, cpu::kalman_sample<double>);
      require_status(status, i, "Q, R or P0");
      for (std::int64_t t = 0; t < T; ++t) {
        for (std::int64_t d = 0; d < m; ++d) {
          const std::size_t at = index((row + t) * m + d);
          const bool seen = !std::isnan(set.values[at]);
          if (!seen) {
            out.mean[at] = observe(mean.data() + t * n, set, row + t, d);
            out.std[at] = std::sqrt(variance(covariance.data() + t * n * n, d));
          }
          for (std::int64_t s = 0; s < samples; ++s) {
            double& draw = out.samples[index(s * R * m) + at];
            draw = seen ? set.values[at]
                        : observe(z.data() + (s * T + t) * n, set, row + t, d) +
                              std::sqrt(k_.R[index(d * m + d)]) *
                                  emission_noise(set, i, t, d, s, seed);
          }
        }
      }
    });
    return out;
  }

  std::vector<double> generate(std::int64_t steps, std::int64_t count,
                               std::span<const double> controls, std::uint64_t seed) override {
    check_controls(controls, count * steps);
    std::vector<double> values(index(count * steps * k_.m));
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint32_t id = static_cast<std::uint32_t>(i);
      KalmanSimulateArgs<double> args;
      std::int32_t status = 0;
      args.model = k_.view(), args.layout.T = steps, args.layout.B = 1;
      if (k_.U > 0) args.u = {controls.data() + i * steps * k_.U, k_.U};
      args.noise = {{seed, kStateSite}, 0, &id};
      args.S = 1, args.y = {values.data() + i * steps * k_.m, k_.m}, args.status = &status;
      call(args, cpu::kalman_simulate<double>);
      require_status(status, i, "Q, R or P0");
    }
    return values;
  }

 private:
  /// Observations with a mask in place of NaN.
  struct Given {
    std::vector<double> y, mask;
    KalmanData<double> data;
    Given(const data::SequenceSet& set, std::int64_t i, std::int64_t row) {
      const std::int64_t T = set.lengths[index(i)];
      y.assign(set.values.begin() + row * set.D, set.values.begin() + (row + T) * set.D);
      for (double& value : y) {
        mask.push_back(std::isnan(value) ? 0 : 1);
        if (std::isnan(value)) value = 0;
      }
      data.layout.T = T, data.layout.B = 1;
      data.y = {y.data(), set.D}, data.mask = {mask.data(), set.D};
      if (set.U > 0) data.u = {set.controls.data() + row * set.U, set.U};
    }
  };

  template <class Use>
  void each_sequence(const data::SequenceSet& set, const Progress& progress, Use use) {
    require(set.D == k_.m, "lgssm", "columns", set.D, fmt::format("the model's {}", k_.m));
    require(set.U == k_.U, "lgssm", "controls", set.U, fmt::format("the model's {}", k_.U));
    const std::vector<std::int64_t> starts = set.starts();
    const int threads = pool_.count();
    // A share at a time, so that progress is told from this thread and may throw here.
    for (std::int64_t first = 0; first < set.count(); first += 16 * threads) {
      const std::int64_t last = std::min<std::int64_t>(set.count(), first + 16 * threads);
      pool_.run(threads, [&](int share) {
        for (std::int64_t i = first + share; i < last; i += threads) use(i, starts[index(i)]);
      });
      if (progress) progress(last, set.count());
    }
  }

  KalmanFiltered<double> view(const LgssmFiltered& f) const {
    KalmanFiltered<double> v;
    v.mean = {f.mean.data(), k_.n}, v.covariance = {f.covariance.data(), k_.n * k_.n};
    if (!k_.diffuse.empty())
      v.diffuse_factor = {f.factor.data(), k_.n * k_.n}, v.diffuse_steps = &f.diffuse_steps;
    return v;
  }

  void smooth(const data::SequenceSet& set, std::int64_t i, std::int64_t row,
              const LgssmFiltered& f, double* mean, double* covariance) const {
    const Given given(set, i, row);
    KalmanSmootherArgs<double> args;
    args.model = k_.view(), args.data = given.data, args.filtered = view(f);
    args.mean = {mean, k_.n}, args.covariance = {covariance, k_.n * k_.n};
    call(args, cpu::kalman_smoother<double>);
  }

  /// Moments of components that are still diffuse do not exist.
  void mark_diffuse(LgssmFiltered& f) const {
    const std::int64_t n = k_.n;
    for (std::int64_t t = 0; t < f.diffuse_steps; ++t) {
      for (std::int64_t a = 0; a < n; ++a) {
        const double* x = f.factor.data() + t * n * n + a * n;
        if (std::all_of(x, x + n, [](double v) { return v == 0; })) continue;
        f.mean[index(t * n + a)] = kNaN;
        for (std::int64_t b = 0; b < n; ++b) {
          f.covariance[index((t * n + a) * n + b)] = f.covariance[index((t * n + b) * n + a)] =
              kNaN;
        }
      }
    }
  }

  void draw_future(const data::SequenceSet& context, std::int64_t i, const LgssmFiltered& f,
                   std::int64_t horizon, std::span<const double> controls, std::int64_t samples,
                   std::uint64_t seed, Forecast& out) const {
    // The state at the context's end is the start of a simulation that first moves: its own first
    // step stands at the last observation.
    LgssmMatrices now = k_;
    const std::int64_t n = k_.n, m = k_.m, last = context.lengths[index(i)] - 1, T = horizon + 1;
    now.diffuse.clear();
    now.m0.assign(f.mean.begin() + last * n, f.mean.begin() + (last + 1) * n);
    now.P0.assign(f.covariance.begin() + last * n * n, f.covariance.begin() + (last + 1) * n * n);
    std::vector<double> y(index(samples * T * m)), u(index(T * k_.U));
    if (k_.U > 0) {
      std::copy_n(controls.begin() + i * horizon * k_.U, horizon * k_.U, u.begin() + k_.U);
    }
    KalmanSimulateArgs<double> args;
    std::int32_t status = 0;
    args.model = now.view(), args.layout.T = T, args.layout.B = 1, args.layout.t0 = last;
    if (k_.U > 0) args.u = {u.data(), k_.U};
    args.noise = {{seed, kStateSite}, 0, &context.ids[index(i)]};
    args.S = samples, args.y = {y.data(), m}, args.status = &status;
    call(args, cpu::kalman_simulate<double>);
    require_status(status, i, "Q, R or a filtered covariance");
    for (std::int64_t s = 0; s < samples; ++s) {
      std::copy_n(y.begin() + (s * T + 1) * m, horizon * m,
                  out.samples.begin() + (s * out.N + i) * horizon * m);
    }
  }

  /// C z + D u + offset of component d.
  double observe(const double* z, const data::SequenceSet& set, std::int64_t row,
                 std::int64_t d) const {
    double y = k_.offset[index(d)];
    for (std::int64_t a = 0; a < k_.n; ++a) y += k_.C[index(d * k_.n + a)] * z[a];
    for (std::int64_t a = 0; a < k_.U; ++a)
      y += k_.D[index(d * k_.U + a)] * set.controls[index(row * k_.U + a)];
    return y;
  }

  /// C P C' + R of component d.
  double variance(const double* P, std::int64_t d) const {
    double v = k_.R[index(d * k_.m + d)];
    const double* c = k_.C.data() + d * k_.n;
    for (std::int64_t a = 0; a < k_.n; ++a) {
      for (std::int64_t b = 0; b < k_.n; ++b) v += c[a] * P[a * k_.n + b] * c[b];
    }
    return v;
  }

  double emission_noise(const data::SequenceSet& set, std::int64_t i, std::int64_t t,
                        std::int64_t d, std::int64_t s, std::uint64_t seed) const {
    const Words words = philox(noise_counter(kEmissionSite, 0, set.ids[index(i)],
                                             static_cast<std::uint32_t>(s), t, k_.m, d / 4),
                               seed);
    return normal(words, static_cast<int>(d % 4));
  }

  void check_controls(std::span<const double> controls, std::int64_t rows) const {
    require(static_cast<std::int64_t>(controls.size()) == rows * k_.U, "controls", "values",
            controls.size(), fmt::format("{} steps of {} columns", rows, k_.U));
  }

  LgssmMatrices k_;
  ThreadPool& pool_;
};

}  // namespace

std::unique_ptr<Predictor> make_lgssm_predictor(LgssmMatrices matrices, ThreadPool& pool) {
  return std::make_unique<LgssmPredictor>(std::move(matrices), pool);
}

}  // namespace seqvae

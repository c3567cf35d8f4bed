// The exact model in use: one sequence at a time through the Kalman contracts.
#include "seqvae/models/lgssm.hpp"

#include <Eigen/Dense>

#include "host/models/lgssm_runs.hpp"

namespace seqvae {
namespace {

using lgssm::FilterRun;
using lgssm::Sequences;
using lgssm::Workspace;

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

/// Sites of the noise: draws of paths, and of missing observations along one.
constexpr std::uint32_t kPathSite = 0, kMissingSite = 1;

/// Missing components of a row given the state and the observed ones:
/// y_m = offset + weight z + noise, where R ties them to y_o.
struct MissingGivenState {
  std::vector<std::int64_t> missing;
  Vector offset;
  Matrix weight, noise;  // noise: its covariance

  MissingGivenState(const LgssmMatrices& x, const Sequences& sequences,
                    const data::SequenceSet& set, std::int64_t row) {
    std::vector<std::int64_t> seen;
    for (std::int64_t j = 0; j < x.m; ++j) {
      (sequences.observed(row, j) ? seen : missing).push_back(j);
    }
    if (missing.empty()) return;
    const Eigen::Map<const Matrix> C(x.C.data(), x.m, x.n), R(x.R.data(), x.m, x.m);
    Vector level = Vector::Zero(x.m);
    if (!x.d.empty()) level += Eigen::Map<const Vector>(x.d.data(), x.m);
    if (!x.D.empty()) {
      level += Eigen::Map<const Matrix>(x.D.data(), x.m, x.U) *
               Eigen::Map<const Vector>(set.controls.data() + row * x.U, x.U);
    }
    offset = level(missing);
    weight = C(missing, Eigen::all);
    noise = R(missing, missing);
    const Matrix cross = R(missing, seen);
    if (seen.empty() || cross.isZero(0)) return;
    const Matrix seen_noise = R(seen, seen);
    // R may be singular: the least-squares solution is the conditional mean's.
    const Matrix gain =
        seen_noise.completeOrthogonalDecomposition().solve(cross.transpose()).transpose();
    const Vector y = Eigen::Map<const Vector>(set.values.data() + row * x.m, x.m)(seen);
    offset += gain * (y - level(seen));
    weight -= gain * C(seen, Eigen::all);
    noise -= gain * cross.transpose();
  }
};

}  // namespace

Lgssm::Lgssm(LgssmMatrices matrices, ThreadPool* pool)
    : matrices_(std::move(matrices)), pool_(pool) {}

std::vector<double> Lgssm::log_likelihood(const data::SequenceSet& set,
                                          const Progress& progress) const {
  const Sequences sequences(set, matrices_, "log_likelihood");
  std::vector<double> rows(static_cast<std::size_t>(set.rows()));
  lgssm::for_each_sequence<FilterRun>(
      sequences.count(), pool_, progress, [&](FilterRun& run, std::int64_t i) {
        run.run(matrices_, sequences.data(i), rows.data() + sequences.first_row(i));
        run.require_sound(i, sequences.length(i));
      });
  return rows;
}

std::vector<double> Lgssm::innovations(const data::SequenceSet& set,
                                       const Progress& progress) const {
  const Sequences sequences(set, matrices_, "innovations");
  std::vector<double> rows(set.values.size());
  lgssm::for_each_sequence<FilterRun>(sequences.count(), pool_, progress,
                                      [&](FilterRun& run, std::int64_t i) {
                                        run.run(matrices_, sequences.data(i), nullptr,
                                                rows.data() + sequences.first_row(i) * matrices_.m);
                                        run.require_sound(i, sequences.length(i));
                                      });
  return rows;
}

Lgssm::States Lgssm::states(const data::SequenceSet& set, const Progress& progress) const {
  const Sequences sequences(set, matrices_, "states");
  const std::int64_t n = matrices_.n, nn = n * n;
  const auto rows = static_cast<std::size_t>(set.rows());
  States states;
  for (auto* mean : {&states.filtered_mean, &states.smoothed_mean}) {
    mean->resize(rows * static_cast<std::size_t>(n));
  }
  for (auto* covariance : {&states.filtered_covariance, &states.smoothed_covariance}) {
    covariance->resize(rows * static_cast<std::size_t>(nn));
  }
  lgssm::for_each_sequence<FilterRun>(
      sequences.count(), pool_, progress, [&](FilterRun& run, std::int64_t i) {
        const std::int64_t first = sequences.first_row(i), length = sequences.length(i);
        run.run(matrices_, sequences.data(i), nullptr);
        run.require_sound(i, length);
        KalmanSmootherArgs<double> args;
        args.model = matrices_.view();
        args.data = sequences.data(i);
        args.filtered = run.view(matrices_);
        args.mean = {states.smoothed_mean.data() + first * n, n};
        args.covariance = {states.smoothed_covariance.data() + first * nn, nn};
        run.workspace.lend(args);
        cpu::kalman_smoother(args);
        std::copy_n(run.mean.data(), length * n, states.filtered_mean.data() + first * n);
        std::copy_n(run.covariance.data(), length * nn,
                    states.filtered_covariance.data() + first * nn);
      });
  return states;
}

std::vector<double> Lgssm::sample_states(const data::SequenceSet& set, std::int64_t S,
                                         std::uint64_t seed) const {
  const Sequences sequences(set, matrices_, "sample_states");
  const std::int64_t n = matrices_.n, R = set.rows();
  std::vector<double> samples(static_cast<std::size_t>(S * R * n));
  lgssm::for_each_sequence<FilterRun>(
      sequences.count(), pool_, {}, [&](FilterRun& run, std::int64_t i) {
        const std::int64_t length = sequences.length(i);
        run.run(matrices_, sequences.data(i), nullptr);
        run.require_sound(i, length);
        std::vector<double> draws(static_cast<std::size_t>(S * length * n));
        std::int32_t status = 0;
        KalmanSampleArgs<double> args;
        args.model = matrices_.view();
        args.data = sequences.data(i);
        args.filtered = run.view(matrices_);
        args.noise = {{seed, kPathSite}, 0, sequences.id(i)};
        args.S = S;
        args.z = {draws.data(), n};
        args.status = &status;
        run.workspace.lend(args);
        cpu::kalman_sample(args);
        if (status != 0) throw Error("Q or P0 is not positive semidefinite");
        for (std::int64_t s = 0; s < S; ++s) {
          std::copy_n(draws.data() + s * length * n, length * n,
                      samples.data() + (s * R + sequences.first_row(i)) * n);
        }
      });
  return samples;
}

Lgssm::Forecast Lgssm::forecast(const data::SequenceSet& context, std::int64_t H,
                                std::span<const double> controls, std::int64_t S,
                                std::uint64_t seed, const Progress& progress) const {
  const Sequences sequences(context, matrices_, "forecast");
  const std::int64_t n = matrices_.n, m = matrices_.m, N = context.count();
  require(H >= 1, "forecast", "horizon", H, ">= 1");
  require(static_cast<std::int64_t>(controls.size()) == N * H * matrices_.U, "forecast",
          "numbers in controls", controls.size(), fmt::format("{}", N * H * matrices_.U));
  Forecast forecast;
  forecast.mean.resize(static_cast<std::size_t>(N * H * m));
  forecast.covariance.resize(static_cast<std::size_t>(N * H * m * m));
  forecast.samples.resize(static_cast<std::size_t>(S * N * H * m));
  lgssm::for_each_sequence<FilterRun>(N, pool_, progress, [&](FilterRun& run, std::int64_t i) {
    const std::int64_t length = sequences.length(i);
    run.run(matrices_, sequences.data(i), nullptr);
    run.require_sound(i, length);
    std::vector<double> state_mean(static_cast<std::size_t>(H * n)),
        state_covariance(static_cast<std::size_t>(H * n * n));
    KalmanForecastArgs<double> args;
    args.model = matrices_.view();
    args.layout.T = H, args.layout.B = 1;
    args.u = {controls.data() + i * H * matrices_.U, matrices_.U};
    args.mean = {run.mean.data() + (length - 1) * n, n};
    args.covariance = {run.covariance.data() + (length - 1) * n * n, n * n};
    args.state_mean = {state_mean.data(), n};
    args.state_covariance = {state_covariance.data(), n * n};
    args.observation_mean = {forecast.mean.data() + i * H * m, m};
    args.observation_covariance = {forecast.covariance.data() + i * H * m * m, m * m};
    run.workspace.lend(args);
    cpu::kalman_forecast(args);
    // Draws start from the state at the first step of the horizon.
    std::vector<double> draws(static_cast<std::size_t>(S * H * m));
    std::int32_t status = 0;
    KalmanSimulateArgs<double> simulate;
    simulate.model = matrices_.view();
    simulate.model.m0 = StepArray<const double>(state_mean.data());
    simulate.model.P0 = StepArray<const double>(state_covariance.data());
    simulate.model.diffuse = nullptr;
    simulate.layout = args.layout;
    simulate.layout.t0 = length;
    simulate.u = args.u;
    simulate.noise = {{seed, kPathSite}, 0, sequences.id(i)};
    simulate.S = S;
    simulate.y = {draws.data(), m};
    simulate.status = &status;
    run.workspace.lend(simulate);
    cpu::kalman_simulate(simulate);
    if (status != 0) throw Error("Q or R is not positive semidefinite");
    for (std::int64_t s = 0; s < S; ++s) {
      std::copy_n(draws.data() + s * H * m, H * m, forecast.samples.data() + (s * N + i) * H * m);
    }
  });
  return forecast;
}

Lgssm::Imputation Lgssm::impute(const data::SequenceSet& set, std::int64_t S, std::uint64_t seed,
                                const Progress& progress) const {
  const std::int64_t n = matrices_.n, m = matrices_.m, R = set.rows();
  const Sequences sequences(set, matrices_, "impute");
  const States states = this->states(set, progress);
  const std::vector<double> paths = S > 0 ? sample_states(set, S, seed) : std::vector<double>{};
  Imputation imputation;
  imputation.mean = set.values;
  imputation.std.assign(set.values.size(), 0);
  for (std::int64_t s = 0; s < S; ++s) {
    imputation.samples.insert(imputation.samples.end(), set.values.begin(), set.values.end());
  }
  for (std::int64_t i = 0; i < set.count(); ++i) {
    for (std::int64_t t = 0; t < sequences.length(i); ++t) {
      const std::int64_t row = sequences.first_row(i) + t;
      const MissingGivenState given(matrices_, sequences, set, row);
      if (given.missing.empty()) continue;
      const Eigen::Map<const Vector> z(states.smoothed_mean.data() + row * n, n);
      const Eigen::Map<const Matrix> P(states.smoothed_covariance.data() + row * n * n, n, n);
      const Vector mean = given.offset + given.weight * z;
      const Matrix covariance = given.weight * P * given.weight.transpose() + given.noise;
      const auto count = static_cast<std::int64_t>(given.missing.size());
      for (std::int64_t a = 0; a < count; ++a) {
        const auto place = static_cast<std::size_t>(row * m + given.missing[std::size_t(a)]);
        imputation.mean[place] = mean[a];
        imputation.std[place] = std::sqrt(std::max(0.0, covariance(a, a)));
      }
      if (S == 0) continue;
      // A factor of the noise, which may be singular: V sqrt(lambda).
      const Eigen::SelfAdjointEigenSolver<Matrix> spectrum(given.noise);
      const Matrix factor =
          spectrum.eigenvectors() * spectrum.eigenvalues().cwiseMax(0).cwiseSqrt().asDiagonal();
      for (std::int64_t s = 0; s < S; ++s) {
        Vector eps(count);
        for (std::int64_t a = 0; a < count; ++a) {
          const Words words = philox(noise_counter(kMissingSite, 0, *sequences.id(i),
                                                   static_cast<std::uint32_t>(s), t, m, a / 4),
                                     seed);
          eps[a] = normal(words, static_cast<int>(a % 4));
        }
        const Vector y =
            given.offset +
            given.weight * Eigen::Map<const Vector>(paths.data() + (s * R + row) * n, n) +
            factor * eps;
        for (std::int64_t a = 0; a < count; ++a) {
          imputation.samples[static_cast<std::size_t>((s * R + row) * m +
                                                      given.missing[std::size_t(a)])] = y[a];
        }
      }
    }
  }
  return imputation;
}

std::vector<double> Lgssm::generate(std::int64_t steps, std::int64_t count,
                                    std::span<const double> controls, std::uint64_t seed) const {
  require(steps >= 0, "generate", "steps", steps, ">= 0");
  require(count >= 0, "generate", "count", count, ">= 0");
  const std::int64_t m = matrices_.m, U = matrices_.U;
  require(static_cast<std::int64_t>(controls.size()) == count * steps * U, "generate",
          "numbers in controls", controls.size(), fmt::format("{}", count * steps * U));
  std::vector<double> values(static_cast<std::size_t>(count * steps * m));
  lgssm::for_each_sequence<Workspace>(count, pool_, {}, [&](Workspace& workspace, std::int64_t i) {
    const auto id = static_cast<std::uint32_t>(i);
    std::int32_t status = 0;
    KalmanSimulateArgs<double> args;
    args.model = matrices_.view();
    args.layout.T = steps, args.layout.B = 1;
    args.u = {controls.data() + i * steps * U, U};
    args.noise = {{seed, kPathSite}, 0, &id};
    args.S = 1;
    args.y = {values.data() + i * steps * m, m};
    args.status = &status;
    workspace.lend(args);
    cpu::kalman_simulate(args);
    if (status != 0) throw Error("Q, R or P0 is not positive semidefinite");
  });
  return values;
}

}  // namespace seqvae

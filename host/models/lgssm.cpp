// The exact model in use: the sequences of a set through the Kalman contracts.
#include "seqvae/models/lgssm.hpp"

#include "host/models/lgssm_runs.hpp"
#include "host/models/symmetric.hpp"

namespace seqvae {
namespace {

using lgssm::ContractRun;
using lgssm::FilterRun;
using lgssm::for_each_batch;
using lgssm::Matrix;
using lgssm::Member;
using lgssm::Observations;
using lgssm::Packing;
using lgssm::room;
using lgssm::Vector;

/// Sites of the noise: draws of paths, and of missing observations along one.
constexpr std::uint32_t kPathSite = 0, kMissingSite = 1;

/// Missing components of a row given the state and the observed ones:
/// y_m = offset + weight z + noise, where R ties them to y_o.
struct MissingGivenState {
  std::vector<std::int64_t> missing;
  Vector offset;
  Matrix weight, noise;  // noise: its covariance

  MissingGivenState(const LgssmMatrices& x, const Observations& observations,
                    const data::SequenceSet& set, std::int64_t row) {
    std::vector<std::int64_t> seen;
    for (std::int64_t j = 0; j < x.m; ++j) {
      (observations.observed(row, j) ? seen : missing).push_back(j);
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
    const Matrix gain = lgssm::solve_least_squares(seen_noise, cross.transpose()).transpose();
    const Vector y = Eigen::Map<const Vector>(set.values.data() + row * x.m, x.m)(seen);
    offset += gain * (y - level(seen));
    weight -= gain * C(seen, Eigen::all);
    noise -= gain * cross.transpose();
  }
};

/// A filter whose last moments go on past the data.
class ForecastRun : public FilterRun {
 public:
  ForecastRun(const Queue& queue, const LgssmMatrices& matrices, const Observations& observations)
      : FilterRun(queue, matrices, observations),
        horizon(queue),
        observation_mean(queue),
        observation_covariance(queue),
        draws(queue),
        n_(matrices.n),
        m_(matrices.m),
        U_(matrices.U),
        u_(queue),
        last_mean_(queue),
        last_covariance_(queue),
        state_mean_(queue),
        state_covariance_(queue) {}

  Packing horizon;
  Buffer<double> observation_mean, observation_covariance;
  Buffer<double> draws;  ///< [S][rows][m]

  /// H steps after the last of each filtered sequence. controls: [sequences * H][U]
  void forecast(std::int64_t H, std::span<const double> controls) {
    const std::int64_t nn = n_ * n_, B = packing.count(), rows = B * H;
    std::vector<Member> members = packing.members();
    for (Member& member : members) {
      member.origin = member.length, member.first_row = member.sequence * H, member.length = H;
    }
    horizon.take(std::move(members));
    bring_last(mean, n_, last_mean_);
    bring_last(covariance, nn, last_covariance_);
    if (U_ > 0) horizon.bring(controls.data(), U_, room(u_, rows * U_));
    KalmanForecastArgs<double> args;
    args.model = model();
    args.layout = horizon.layout();
    args.u = {u_.data(), U_};
    args.mean = {last_mean_.data(), n_};
    args.covariance = {last_covariance_.data(), nn};
    args.state_mean = {room(state_mean_, rows * n_), n_};
    args.state_covariance = {room(state_covariance_, rows * nn), nn};
    args.observation_mean = {room(observation_mean, rows * m_), m_};
    args.observation_covariance = {room(observation_covariance, rows * m_ * m_), m_ * m_};
    run(args);
  }

  /// S draws of the observations there, each from the state's law at the horizon's first step.
  void draw(std::int64_t S, std::uint64_t seed) {
    KalmanSimulateArgs<double> args;
    args.model = model();
    args.model.m0 = {state_mean_.data(), 0, n_};
    args.model.P0 = {state_covariance_.data(), 0, n_ * n_};
    args.model.diffuse = nullptr;
    args.layout = horizon.layout();
    args.u = {u_.data(), U_};
    args.noise = {{seed, kPathSite}, nullptr, horizon.ids()};
    args.S = S;
    args.y = {room(draws, S * horizon.rows() * m_), m_};
    run_sound(args, horizon.count(), "Q or R is not positive semidefinite");
  }

 private:
  /// The row of each sequence's last step.
  void bring_last(const Buffer<double>& rows, std::int64_t width, Buffer<double>& last) const {
    for (std::int64_t b = 0; b < packing.count(); ++b) {
      const std::int64_t t = packing.members()[static_cast<std::size_t>(b)].length - 1;
      queue().copy(room(last, packing.count() * width) + b * width,
                   rows.data() + packing.row(t, b) * width,
                   static_cast<std::size_t>(width) * sizeof(double));
    }
  }

  std::int64_t n_, m_, U_;
  Buffer<double> u_, last_mean_, last_covariance_, state_mean_, state_covariance_;
};

}  // namespace

Lgssm::Lgssm(LgssmMatrices matrices, Machine* machine)
    : matrices_(std::move(matrices)), machine_(machine) {}

std::vector<double> Lgssm::log_likelihood(const data::SequenceSet& set,
                                          const Progress& progress) const {
  const Observations observations(set, matrices_, "log_likelihood");
  std::vector<double> rows(static_cast<std::size_t>(set.rows()));
  for_each_batch<FilterRun>(machine_, matrices_, observations, progress,
                            [&](FilterRun& run, std::vector<Member> members) {
                              run.filter(std::move(members));
                              run.require_sound();
                              run.packing.fetch(run.log_likelihood.data(), 1, rows.data());
                            });
  return rows;
}

std::vector<double> Lgssm::innovations(const data::SequenceSet& set,
                                       const Progress& progress) const {
  const Observations observations(set, matrices_, "innovations");
  std::vector<double> rows(set.values.size());
  for_each_batch<FilterRun>(machine_, matrices_, observations, progress,
                            [&](FilterRun& run, std::vector<Member> members) {
                              run.filter(std::move(members), true);
                              run.require_sound();
                              run.packing.fetch(run.innovation.data(), matrices_.m, rows.data());
                            });
  return rows;
}

Lgssm::States Lgssm::states(const data::SequenceSet& set, const Progress& progress) const {
  const Observations observations(set, matrices_, "states");
  const std::int64_t n = matrices_.n, nn = n * n;
  const auto rows = static_cast<std::size_t>(set.rows());
  States states;
  for (auto* mean : {&states.filtered_mean, &states.smoothed_mean}) {
    mean->resize(rows * static_cast<std::size_t>(n));
  }
  for (auto* covariance : {&states.filtered_covariance, &states.smoothed_covariance}) {
    covariance->resize(rows * static_cast<std::size_t>(nn));
  }
  for_each_batch<FilterRun>(
      machine_, matrices_, observations, progress,
      [&](FilterRun& run, std::vector<Member> members) {
        run.filter(std::move(members));
        run.require_sound();
        run.smooth();
        run.packing.fetch(run.mean.data(), n, states.filtered_mean.data());
        run.packing.fetch(run.covariance.data(), nn, states.filtered_covariance.data());
        run.packing.fetch(run.smoothed_mean.data(), n, states.smoothed_mean.data());
        run.packing.fetch(run.smoothed_covariance.data(), nn, states.smoothed_covariance.data());
      });
  return states;
}

std::vector<double> Lgssm::sample_states(const data::SequenceSet& set, std::int64_t S,
                                         std::uint64_t seed) const {
  const Observations observations(set, matrices_, "sample_states");
  const std::int64_t n = matrices_.n, R = set.rows();
  std::vector<double> samples(static_cast<std::size_t>(S * R * n));
  for_each_batch<FilterRun>(
      machine_, matrices_, observations, {}, [&](FilterRun& run, std::vector<Member> members) {
        run.filter(std::move(members));
        run.require_sound();
        const std::int64_t rows = run.packing.rows();
        Buffer<double> draws(run.queue());
        KalmanSampleArgs<double> args;
        args.model = run.model(), args.data = run.data(), args.filtered = run.filtered();
        args.noise = {{seed, kPathSite}, nullptr, run.packing.ids()};
        args.S = S;
        args.z = {room(draws, S * rows * n), n};
        run.run_sound(args, run.packing.count(), "Q or P0 is not positive semidefinite");
        for (std::int64_t s = 0; s < S; ++s) {
          run.packing.fetch(draws.data() + s * rows * n, n, samples.data() + s * R * n);
        }
      });
  return samples;
}

Lgssm::Forecast Lgssm::forecast(const data::SequenceSet& context, std::int64_t H,
                                std::span<const double> controls, std::int64_t S,
                                std::uint64_t seed, const Progress& progress) const {
  const Observations observations(context, matrices_, "forecast");
  const std::int64_t N = context.count(), m = matrices_.m;
  require(H >= 1, "forecast", "horizon", H, ">= 1");
  require(static_cast<std::int64_t>(controls.size()) == N * H * matrices_.U, "forecast",
          "numbers in controls", controls.size(), fmt::format("{}", N * H * matrices_.U));
  Forecast forecast;
  forecast.mean.resize(static_cast<std::size_t>(N * H * m));
  forecast.covariance.resize(static_cast<std::size_t>(N * H * m * m));
  forecast.samples.resize(static_cast<std::size_t>(S * N * H * m));
  for_each_batch<ForecastRun>(
      machine_, matrices_, observations, progress,
      [&](ForecastRun& run, std::vector<Member> members) {
        run.filter(std::move(members));
        run.require_sound();
        run.forecast(H, controls);
        run.horizon.fetch(run.observation_mean.data(), m, forecast.mean.data());
        run.horizon.fetch(run.observation_covariance.data(), m * m, forecast.covariance.data());
        run.draw(S, seed);
        const std::int64_t rows = run.horizon.rows();
        for (std::int64_t s = 0; s < S; ++s) {
          run.horizon.fetch(run.draws.data() + s * rows * m, m,
                            forecast.samples.data() + s * N * H * m);
        }
      });
  return forecast;
}

Lgssm::Imputation Lgssm::impute(const data::SequenceSet& set, std::int64_t S, std::uint64_t seed,
                                const Progress& progress) const {
  const std::int64_t n = matrices_.n, m = matrices_.m, R = set.rows();
  const Observations observations(set, matrices_, "impute");
  const States states = this->states(set, progress);
  const std::vector<double> paths = S > 0 ? sample_states(set, S, seed) : std::vector<double>{};
  Imputation imputation;
  imputation.mean = set.values;
  imputation.std.assign(set.values.size(), 0);
  for (std::int64_t s = 0; s < S; ++s) {
    imputation.samples.insert(imputation.samples.end(), set.values.begin(), set.values.end());
  }
  for (std::int64_t i = 0; i < set.count(); ++i) {
    const Member member = observations.member(i);
    for (std::int64_t t = 0; t < member.length; ++t) {
      const std::int64_t row = member.first_row + t;
      const MissingGivenState given(matrices_, observations, set, row);
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
      const lgssm::Spectrum spectrum = lgssm::spectrum(given.noise);
      const Matrix factor = spectrum.vectors * spectrum.values.cwiseMax(0).cwiseSqrt().asDiagonal();
      for (std::int64_t s = 0; s < S; ++s) {
        Vector eps(count);
        for (std::int64_t a = 0; a < count; ++a) {
          const Words words = philox(
              noise_counter(kMissingSite, 0, member.id, static_cast<std::uint32_t>(s), t, m, a / 4),
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
  const Queue& queue = lgssm::queue_of(machine_);
  const lgssm::MatrixBlock block(queue, matrices_);
  for_each_batch(
      machine_, count, 1,
      [&](std::int64_t i) {
        return Member{i, i * steps, steps, 0, static_cast<std::uint32_t>(i)};
      },
      {}, [&] { return std::make_unique<ContractRun>(queue); },
      [&](ContractRun& run, std::vector<Member> members) {
        Packing packing(queue);
        packing.take(std::move(members));
        const std::int64_t rows = packing.rows();
        Buffer<double> u(queue), y(queue);
        if (U > 0) packing.bring(controls.data(), U, room(u, rows * U));
        KalmanSimulateArgs<double> args;
        args.model = block.model();
        args.layout = packing.layout();
        args.u = {u.data(), U};
        args.noise = {{seed, kPathSite}, nullptr, packing.ids()};
        args.S = 1;
        args.y = {room(y, rows * m), m};
        run.run_sound(args, packing.count(), "Q, R or P0 is not positive semidefinite");
        packing.fetch(y.data(), m, values.data());
      });
  return values;
}

}  // namespace seqvae

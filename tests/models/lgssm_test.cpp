// The exact model against statsmodels on the Nile and on weekly CO2, and what it promises in words.
#include "seqvae/models/lgssm.hpp"

#include <gmock/gmock.h>

#include <functional>

#include "seqvae/core/error.hpp"
#include "tests/models/lgssm_problem.hpp"

namespace seqvae::test {
namespace {

/// Entry by entry, 1e-9 of the largest; null: ours must be NaN.
void expect_equal(const std::vector<double>& actual, const io::Json& expected,
                  const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size());
  double scale = 0;
  for (const io::Json& x : expected) {
    if (!x.is_null()) scale = std::max(scale, std::abs(x.get<double>()));
  }
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (expected[i].is_null()) {
      EXPECT_TRUE(std::isnan(actual[i])) << what << " " << i;
    } else {
      EXPECT_NEAR(actual[i], expected[i].get<double>(), 1e-9 * scale) << what << " " << i;
    }
  }
}

/// The states of one sequence by the contracts, with the filter in a form and in chunks.
Lgssm::States states_in(const LgssmMatrices& x, const data::SequenceSet& set, KalmanForm form,
                        std::int64_t chunk) {
  const auto T = set.lengths[0];
  const auto rows = std::size_t(T), n = std::size_t(x.n), nn = n * n;
  std::vector<double> mask;
  for (const double y : set.values) mask.push_back(std::isnan(y) ? 0 : 1);
  Lgssm::States s;
  s.filtered_mean.resize(rows * n), s.smoothed_mean.resize(rows * n);
  s.filtered_covariance.resize(rows * nn), s.smoothed_covariance.resize(rows * nn);
  std::vector<double> mean(rows * n), covariance(rows * nn), factor(rows * nn), delta(n), root(nn);
  std::int32_t status = -1, merge_step = -1, diffuse_steps = -1;
  KalmanFilterArgs<double> filter;
  filter.model = x.view();
  filter.data.layout.T = T, filter.data.layout.B = 1;
  filter.data.y = {set.values.data(), 1}, filter.data.mask = {mask.data(), 1};
  filter.form = form, filter.chunk = chunk;
  filter.mean = {s.filtered_mean.data(), x.n};
  filter.covariance = {s.filtered_covariance.data(), x.n * x.n};
  if (!x.diffuse.empty()) {
    filter.diffuse = {{mean.data(), x.n},
                      {covariance.data(), x.n * x.n},
                      {factor.data(), x.n * x.n},
                      {delta.data(), x.n},
                      {root.data(), x.n * x.n}};
  }
  filter.status = &status, filter.merge_step = &merge_step, filter.diffuse_steps = &diffuse_steps;
  std::vector<double> workspace(kalman_workspace_bytes(filter) / sizeof(double) + 1);
  filter.workspace = workspace.data(), filter.workspace_bytes = workspace.size() * sizeof(double);
  cpu::kalman_filter(filter);
  EXPECT_EQ(status, 0);
  KalmanSmootherArgs<double> smoother;
  smoother.model = filter.model, smoother.data = filter.data;
  const KalmanDiffuse<double>& d = filter.diffuse;
  smoother.filtered = {filter.mean,
                       filter.covariance,
                       {d.mean, d.covariance, d.factor, d.delta, d.spread},
                       &merge_step};
  smoother.mean = {s.smoothed_mean.data(), x.n};
  smoother.covariance = {s.smoothed_covariance.data(), x.n * x.n};
  workspace.resize(kalman_workspace_bytes(smoother) / sizeof(double) + 1);
  smoother.workspace = workspace.data();
  smoother.workspace_bytes = workspace.size() * sizeof(double);
  cpu::kalman_smoother(smoother);
  return s;
}

/// Calls check(states) for each form, one step after the other and in chunks.
void in_every_form(const LgssmMatrices& x, const data::SequenceSet& set,
                   const std::function<void(const Lgssm::States&)>& check) {
  for (const KalmanForm form :
       {KalmanForm::covariance, KalmanForm::joseph, KalmanForm::square_root}) {
    for (const std::int64_t chunk : {set.lengths[0], 16, 61}) {
      SCOPED_TRACE("form " + std::to_string(int(form)) + ", chunk " + std::to_string(chunk));
      check(states_in(x, set, form, chunk));
    }
  }
}

class Nile : public testing::TestWithParam<const char*> {};

TEST_P(Nile, HasTheLikelihoodMomentsAndForecastsOfStatsmodels) {
  const io::Json all = read_reference("kalman/nile_local_level.json");
  const io::Json& expected = all["cases"][GetParam()];
  const std::string name = GetParam();
  data::SequenceSet set = read_series("kalman/nile.csv");
  if (name.ends_with("missing")) {
    for (std::size_t t = 20; t < 40; ++t) set.values[t] = set.values[t + 40] = std::nan("");
  }
  LgssmMatrices x =
      matrices_of(R"({"A": [[1]], "C": [[1]], "Q": [[1469.1]], "R": [[15099]], "diffuse": true})");
  if (!name.starts_with("diffuse")) {
    x.diffuse.clear();
    x.m0 = {name == "prior_N_0_1e7" ? 0.0 : 1000.0};
    x.P0 = {name == "prior_N_0_1e7" ? 1e7 : 40000.0};
  }
  const Lgssm model(x);
  const std::vector<double> rows = model.log_likelihood(set);
  EXPECT_NEAR(sum(rows), expected["loglik"].get<double>(), 1e-10 * 640);
  EXPECT_NEAR(sum(rows) - rows[0], expected["loglik_without_first"].get<double>(), 1e-10 * 640);
  const auto check = [&](const Lgssm::States& states) {
    expect_equal(states.filtered_mean, expected["filtered_mean"], "filtered mean");
    expect_equal(states.filtered_covariance, expected["filtered_variance"], "filtered variance");
    expect_equal(states.smoothed_mean, expected["smoothed_mean"], "smoothed mean");
    expect_equal(states.smoothed_covariance, expected["smoothed_variance"], "smoothed variance");
  };
  check(model.states(set));
  in_every_form(x, set, check);
  const Lgssm::Forecast forecast = model.forecast(set, 30, {}, 0, 1);
  const io::Json& future = expected["forecast_30_years"];
  for (double mean : forecast.mean) EXPECT_NEAR(mean, future["mean"].get<double>(), 1e-9 * 800);
  expect_equal(forecast.covariance, future["observation_variance"], "forecast variance");
}
INSTANTIATE_TEST_SUITE_P(Cases, Nile,
                         testing::Values("diffuse", "prior_N_0_1e7", "prior_N_1000_40000",
                                         "diffuse_missing", "prior_N_1000_40000_missing"));

TEST(Co2, HasTheLikelihoodAndMomentsOfStatsmodels) {
  const io::Json expected = read_reference("kalman/co2_state_space.json");
  const data::SequenceSet set = read_series("kalman/co2.csv");
  io::Json json;
  for (const auto& [ours, theirs] :
       {std::pair{"A", "T"}, {"C", "Z"}, {"Q", "Q"}, {"R", "H"}, {"m0", "a0"}, {"P0", "P0"}}) {
    json[ours] = expected[theirs];
  }
  const Lgssm model(LgssmMatrices::from_json(io::JsonView(json, "co2")));
  const std::vector<double> rows = model.log_likelihood(set);
  EXPECT_NEAR(sum(rows), expected["loglik"].get<double>(), 1e-10 * 1003);
  const io::Json& blocks = expected["loglik_by_100_steps"];
  for (std::size_t k = 0; k < blocks.size(); ++k) {
    double block = 0;
    for (std::size_t t = 100 * k; t < std::min<std::size_t>(100 * k + 100, rows.size()); ++t) {
      block += rows[t];
    }
    EXPECT_NEAR(block, blocks[k].get<double>(), 1e-8);
  }
  const auto check = [&](const Lgssm::States& states) {
    for (const io::Json& step : expected["steps"]) {
      const auto t = step["t"].get<std::size_t>();
      const auto compare = [&](const std::vector<double>& ours, const char* name,
                               std::size_t size) {
        io::Json flat = io::Json::array();
        for (const io::Json& x : step[name]) {
          if (x.is_array()) {
            for (const io::Json& y : x) flat.push_back(y);
          } else {
            flat.push_back(x);
          }
        }
        expect_equal({ours.begin() + std::ptrdiff_t(t * size),
                      ours.begin() + std::ptrdiff_t((t + 1) * size)},
                     flat, std::string(name) + " at " + std::to_string(t));
      };
      compare(states.filtered_mean, "filtered_mean", 6);
      compare(states.filtered_covariance, "filtered_covariance", 36);
      compare(states.smoothed_mean, "smoothed_mean", 6);
      compare(states.smoothed_covariance, "smoothed_covariance", 36);
    }
  };
  check(model.states(set));
  in_every_form(model.matrices(), set, check);
}

/// Two columns tied by R, three states of which one diffuse, a control, gaps, two lengths.
data::SequenceSet small_set() {
  data::SequenceSet set;
  set.D = 2, set.U = 1;
  set.lengths = {7, 4}, set.begin = {0, 1}, set.ids = {5, 9};
  for (int r = 0; r < 11; ++r) {
    set.values.push_back(std::sin(r) + 0.1 * r);
    set.values.push_back(r % 3 == 1 ? std::nan("") : std::cos(2 * r));
    set.controls.push_back(r % 2 == 0 ? 1 : -0.5);
  }
  set.values[6] = std::nan("");
  return set;
}

LgssmMatrices small_model() {
  return matrices_of(R"({
    "A": [[0.9, 0.2, 0], [-0.1, 0.8, 0.3], [0, 0.1, 0.7]], "B": [[0.1], [0], [-0.2]],
    "C": [[1, 0.5, 0], [0.3, 0, 1]], "D": [[0.4], [0]], "d": [0.1, -0.1],
    "Q": [[0.2, 0.05, 0], [0.05, 0.1, 0], [0, 0, 0.3]], "R": [[0.3, 0.2], [0.2, 0.4]],
    "m0": [0, 0.5, 0], "P0": [[0, 0, 0], [0, 1, 0.2], [0, 0.2, 0.5]],
    "diffuse": [true, false, false]})");
}

TEST(Lgssm, HidesMomentsThatAreStillDiffuse) {
  data::SequenceSet set = small_set();
  set.values[0] = set.values[1] = std::nan("");
  const Lgssm::States states = Lgssm(small_model()).states(set);
  EXPECT_TRUE(std::isnan(states.filtered_mean[0]));
  EXPECT_TRUE(std::isnan(states.filtered_covariance[1]));
  EXPECT_NEAR(states.filtered_mean[1], 0.5, 1e-12);
  EXPECT_NEAR(states.filtered_covariance[4], 1, 1e-12);
  for (std::size_t i = 3; i < 6; ++i) EXPECT_TRUE(std::isfinite(states.filtered_mean[i]));
  for (double x : states.smoothed_covariance) EXPECT_TRUE(std::isfinite(x));
}

TEST(Lgssm, ImputesWhatBayesRuleSays) {
  // p(y_missing | rest) is proportional to p(rest, y_missing): a parabola of its logarithm.
  data::SequenceSet set = small_set();
  const Lgssm model(small_model());
  const Lgssm::Imputation imputation = model.impute(set, 20'000, 3);
  const auto missing = std::size_t{3};  // first sequence, step 1, column 1: column 0 is seen
  const double mean = imputation.mean[missing], std = imputation.std[missing];
  const auto log_density = [&](double y) {
    set.values[missing] = y;
    return sum(model.log_likelihood(set));
  };
  const double middle = log_density(mean), above = log_density(mean + std),
               below = log_density(mean - std);
  EXPECT_NEAR(above, middle - 0.5, 1e-9);
  EXPECT_NEAR(below, middle - 0.5, 1e-9);
  double first = 0, second = 0;
  for (std::size_t s = 0; s < 20'000; ++s) {
    const double y = imputation.samples[s * 22 + missing];
    first += y / 20'000, second += y * y / 20'000;
    ASSERT_EQ(imputation.samples[s * 22], set.values[0]);
  }
  EXPECT_NEAR(first, mean, 5 * std / std::sqrt(20'000.0));
  EXPECT_NEAR(std::sqrt(second - first * first), std, 5 * std / std::sqrt(2 * 20'000.0));
  EXPECT_EQ(imputation.std[0], 0);
}

TEST(Lgssm, ForecastIsTheFilterOfAGap) {
  // The smoothed observation of appended missing steps, by imputation.
  const data::SequenceSet set = small_set();
  const Lgssm model(small_model());
  const std::vector<double> controls = {0.3, -1, 0.7, 0.2};
  const Lgssm::Forecast forecast = model.forecast(set, 2, controls, 20'000, 4);
  data::SequenceSet longer;
  longer.D = 2, longer.U = 1, longer.begin = {0, 0}, longer.ids = {5, 9}, longer.lengths = {9, 6};
  for (std::size_t i = 0, r = 0; i < 2; ++i) {
    for (int t = 0; t < set.lengths[i]; ++t, ++r) {
      longer.values.insert(longer.values.end(), {set.values[2 * r], set.values[2 * r + 1]});
      longer.controls.push_back(set.controls[r]);
    }
    longer.values.insert(longer.values.end(), 4, std::nan(""));
    longer.controls.insert(longer.controls.end(), {controls[2 * i], controls[2 * i + 1]});
  }
  const Lgssm::Imputation imputation = model.impute(longer, 0, 0);
  const std::size_t rows[] = {7, 8, 13, 14};
  for (std::size_t k = 0; k < 4; ++k) {
    for (std::size_t j = 0; j < 2; ++j) {
      const double mean = forecast.mean[2 * k + j];
      const double variance = forecast.covariance[4 * k + 3 * j];
      EXPECT_NEAR(mean, imputation.mean[2 * rows[k] + j], 1e-10);
      EXPECT_NEAR(std::sqrt(variance), imputation.std[2 * rows[k] + j], 1e-10);
      double first = 0, second = 0;
      for (std::size_t s = 0; s < 20'000; ++s) {
        const double y = forecast.samples[s * 8 + 2 * k + j];
        first += y / 20'000, second += y * y / 20'000;
      }
      EXPECT_NEAR(first, mean, 5 * std::sqrt(variance / 20'000));
      EXPECT_NEAR(second - first * first, variance, 5 * variance * std::sqrt(2 / 20'000.0));
    }
  }
}

TEST(Lgssm, DrawsStatesWithTheSmoothedMoments) {
  const data::SequenceSet set = small_set();
  const Lgssm model(small_model());
  constexpr std::size_t S = 20'000, rows = 11, n = 3;
  const std::vector<double> draws = model.sample_states(set, S, 8);
  const Lgssm::States states = model.states(set);
  for (std::size_t e = 0; e < rows * n; ++e) {
    const std::size_t row = e / n, i = e % n;
    double first = 0, second = 0;
    for (std::size_t s = 0; s < S; ++s) {
      first += draws[s * rows * n + e] / S;
      second += std::pow(draws[s * rows * n + e], 2) / S;
    }
    const double variance = states.smoothed_covariance[row * n * n + i * n + i];
    EXPECT_NEAR(first, states.smoothed_mean[e], 5 * std::sqrt(variance / S));
    EXPECT_NEAR(second - first * first, variance, 5 * variance * std::sqrt(2.0 / S));
  }
  EXPECT_EQ(draws, model.sample_states(set, S, 8));  // the same bits
}

TEST(Lgssm, GeneratesTheStationaryLaw) {
  const Lgssm model(matrices_of(
      R"({"A": [[0.6]], "C": [[2]], "Q": [[0.64]], "R": [[1]], "m0": [0], "P0": [[1]]})"));
  const std::vector<double> values = model.generate(50, 4000, {}, 2);
  for (const std::size_t t : {std::size_t{0}, std::size_t{49}}) {
    double square = 0;
    for (std::size_t i = 0; i < 4000; ++i) square += std::pow(values[50 * i + t], 2) / 4000;
    EXPECT_NEAR(square, 5, 5 * 5 * std::sqrt(2 / 4000.0));
  }
  const std::vector<double> fewer = model.generate(50, 10, {}, 2);
  EXPECT_TRUE(std::equal(fewer.begin(), fewer.end(), values.begin()));
}

TEST(Lgssm, ThreadsChangeNothing) {
  Machine machine(Device::cpu(), 2);
  const data::SequenceSet set = small_set();
  EXPECT_EQ(Lgssm(small_model()).log_likelihood(set),
            Lgssm(small_model(), &machine).log_likelihood(set));
}

template <class Failure>
auto fails(const std::string& message) {
  return testing::ThrowsMessage<Failure>(message);
}

TEST(Lgssm, NamesTheSequenceThatLeavesStatesDiffuse) {
  data::SequenceSet set = small_set();
  for (std::size_t k = 14; k < 22; ++k) set.values[k] = std::nan("");
  EXPECT_THAT([&] { Lgssm(small_model()).log_likelihood(set); },
              fails<InvalidArgument>(
                  "sequence 1: its 4 steps do not determine the model's diffuse states"));
}

TEST(LgssmMatrices, NamesKeyAndRule) {
  const std::string rest = R"("C": [[1, 0]], "R": [[1]], "m0": [0, 0], "P0": [[1, 0], [0, 1]])";
  const std::string A = R"("A": [[1, 0], [0, 1]], )";
  EXPECT_THAT([&] { matrices_of("{" + A + R"("Q": [[1, 2], [2, 1]], )" + rest + "}"); },
              fails<InputError>("config.json: Q: must be positive semidefinite"));
  EXPECT_THAT([&] { matrices_of("{" + A + R"("Q": [[1, 0.5], [0, 1]], )" + rest + "}"); },
              fails<InputError>("config.json: Q: must be symmetric"));
  EXPECT_ANY_THROW(matrices_of("{" + A + R"("Q": [[1]], )" + rest + "}"));
  EXPECT_ANY_THROW(matrices_of("{" + A + R"("Q": [[1, 0], [0, 1]], "H": 1, )" + rest + "}"));
  EXPECT_ANY_THROW(matrices_of("{" + A + R"("Q": [[1, 0], [0, 1]], "C": [[1, 0]], "R": [[1]]})"));
  EXPECT_ANY_THROW(
      matrices_of("{" + A + R"("diffuse": true, "Q": [[1, 0], [0, 1]], )" + rest + "}"));
  const LgssmMatrices x = small_model();
  EXPECT_EQ(LgssmMatrices::from_json(io::JsonView(x.to_json(), "again")).to_json(), x.to_json());
}

}  // namespace
}  // namespace seqvae::test

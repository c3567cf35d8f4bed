// Maximum likelihood: gradients against differences, known maxima, resuming, recovery.
#include "seqvae/models/lgssm_fit.hpp"

#include <gmock/gmock.h>

#include <numbers>

#include "seqvae/core/error.hpp"
#include "tests/models/lgssm_problem.hpp"

namespace seqvae::test {
namespace {

void expect_gradient(const LgssmForm& form, const data::SequenceSet& set, std::vector<double> x) {
  std::vector<double> gradient(x.size()), unused(x.size());
  lgssm_log_likelihood(form, set, x, gradient);
  double largest = 1;
  for (double g : gradient) largest = std::max(largest, std::abs(g));
  const std::vector<std::string> names = form.names();
  ASSERT_EQ(names.size(), x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double kept = x[i], h = 1e-5;
    x[i] = kept + h;
    const double above = lgssm_log_likelihood(form, set, x, unused);
    x[i] = kept - h;
    const double below = lgssm_log_likelihood(form, set, x, unused);
    x[i] = kept;
    EXPECT_NEAR(gradient[i], (above - below) / (2 * h), 1e-6 * largest) << names[i];
  }
}

TEST(StructuralForm, HasTheGradientOfDifferences) {
  data::SequenceSet set = read_series("kalman/nile.csv");
  for (double& x : set.values) x /= 100;
  set.values[7] = std::nan("");
  set.U = 1;
  for (std::size_t t = 0; t < 100; ++t) set.controls.push_back(t > 27 ? 1 : 0);
  const auto form = form_of(R"({"structural": {"level": true, "trend": true,
      "seasonal": {"period": 6}, "cycle": {"period": 9}, "autoregressive": 3, "irregular": true}})",
                            1, 1);
  std::vector<double> x = form->start(set);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += 0.1 * std::sin(double(i));
  expect_gradient(*form, set, x);
  set.begin = {40};  // the rows before it are only the past
  expect_gradient(*form, set, x);
}

TEST(StructuralForm, StartsCycleAndAutoregressionFromTheirStationaryLaw) {
  const auto form = form_of(R"({"structural": {"cycle": true, "autoregressive": 2}})");
  const LgssmMatrices x = form->build(std::vector<double>{0.1, 0.2, 0.3, -0.5, 0.8, -0.4});
  ASSERT_EQ(x.n, 4);
  EXPECT_TRUE(x.diffuse.empty());
  for (std::size_t i = 0; i < 4; ++i) {  // P0 = A P0 A^T + Q
    for (std::size_t j = 0; j < 4; ++j) {
      double next = x.Q[4 * i + j];
      for (std::size_t k = 0; k < 4; ++k) {
        for (std::size_t l = 0; l < 4; ++l)
          next += x.A[4 * i + k] * x.P0[4 * k + l] * x.A[4 * j + l];
      }
      EXPECT_NEAR(x.P0[4 * i + j], next, 1e-12);
    }
  }
}

/// Two sequences of m columns and a control; two rows of the second are only the past.
data::SequenceSet waves(std::int64_t m) {
  data::SequenceSet set;
  set.D = m, set.U = 1, set.lengths = {9, 5}, set.begin = {0, 2}, set.ids = {0, 1};
  for (int r = 0; r < 14; ++r) {
    for (int j = 0; j < m; ++j) set.values.push_back(std::sin(0.7 * r + j) + 0.2 * j);
    set.controls.push_back(std::cos(r));
  }
  return set;
}

TEST(LearnedForm, HasTheGradientOfDifferences) {
  data::SequenceSet set = waves(3);
  set.values[4] = set.values[5] = std::nan("");
  const auto form = form_of(R"({"states": 4})", 3, 1);
  std::vector<double> x = form->start(set);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += 0.05 * std::sin(double(i));
  expect_gradient(*form, set, x);
}

// Each bound, with the gradient of what is left free.
TEST(LearnedForm, KeepsToItsBounds) {
  data::SequenceSet set = waves(2);
  set.values[4] = std::nan("");
  const auto moved_start = [&](const LgssmForm& form) {
    std::vector<double> x = form.start(set);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += 0.05 * std::sin(double(i) + 1);
    return x;
  };
  const auto trend = form_of(R"({"states": 2, "Q": {"rank": 1}, "R": "full",
      "fixed": {"A": [[1, 1], [null, 1]], "C": [[1, 0], [null, null]], "d": [0, null],
                "B": [[null], [0]], "m0": [null, 0.5]}})",
                             2, 1);
  EXPECT_THAT(trend->names(),
              testing::ElementsAre("A[1,0]", "C[1,0]", "C[1,1]", "B[0,0]", "D[0,0]", "D[1,0]",
                                   "d[1]", "m0[0]", "log_factor.Q[0,0]", "factor.Q[1,0]",
                                   "log_factor.R[0,0]", "factor.R[1,0]", "log_factor.R[1,1]"));
  const std::vector<double> x = moved_start(*trend);
  expect_gradient(*trend, set, x);
  const LgssmMatrices built = trend->build(x);
  EXPECT_THAT(built.A, testing::ElementsAre(1, 1, x[0], 1));
  EXPECT_THAT(built.C, testing::ElementsAre(1, 0, x[1], x[2]));
  EXPECT_THAT(built.B, testing::ElementsAre(x[3], 0));
  EXPECT_THAT(built.d, testing::ElementsAre(0, x[6]));
  EXPECT_THAT(built.m0, testing::ElementsAre(x[7], 0.5));
  EXPECT_GT(built.Q[0], 0);
  EXPECT_NEAR(built.Q[0] * built.Q[3], built.Q[1] * built.Q[2], 1e-15);
  EXPECT_GT(built.R[0] * built.R[3] - built.R[1] * built.R[2], 1e-3);
  EXPECT_EQ(built.R[1], built.R[2]);

  const auto diagonal =
      form_of(R"({"states": 3, "A": "diagonal", "Q": "full", "fixed": {"A": [[null, 0, 0],
          [0, 0.5, null], [0, 0, null]]}})",
              2, 1);
  const std::vector<double> y = moved_start(*diagonal);
  expect_gradient(*diagonal, set, y);
  EXPECT_THAT(diagonal->build(y).A, testing::ElementsAre(y[0], 0, 0, 0, 0.5, 0, 0, 0, y[1]));
}

// A local level by its bounds: the maximum of a Nile whose first value is the prior's mean, which a
// scan of the likelihood finds too.
TEST(FitLgssm, StaysWithinBoundsAtTheMaximum) {
  data::SequenceSet set = read_series("kalman/nile.csv");
  for (double& value : set.values) value = (value - 1120) / 100;
  const auto form =
      form_of(R"({"states": 1, "fixed": {"A": [[1]], "C": [[1]], "d": [0], "m0": [0]}})");
  const LgssmFit fit = fit_lgssm(*form, set);
  EXPECT_TRUE(fit.converged);
  const auto log_likelihood = [&](double q, double r) {  // the local level, written out
    double m = 0, P = 1, sum = 0;
    for (std::size_t t = 0; t < set.values.size(); ++t) {
      if (t > 0) P += std::exp(q);
      const double F = P + std::exp(r), v = set.values[t] - m;
      sum -= (std::log(2 * std::numbers::pi * F) + v * v / F) / 2;
      m += P / F * v, P -= P * P / F;
    }
    return sum;
  };
  ASSERT_EQ(fit.state.x.size(), 2u);
  const double q = fit.state.x[0], r = fit.state.x[1];
  EXPECT_NEAR(fit.log_likelihood, log_likelihood(q, r), 1e-9);
  for (const auto& [dq, dr] : {std::pair(0.05, 0.0), {-0.05, 0.0}, {0.0, 0.05}, {0.0, -0.05}}) {
    EXPECT_GT(fit.log_likelihood, log_likelihood(q + dq, r + dr));
  }
}

TEST(FitLgssm, FindsTheMaximumOfTheNile) {
  const io::Json expected =
      read_reference("kalman/nile_local_level.json")["maximum_likelihood_diffuse"];
  const data::SequenceSet set = read_series("kalman/nile.csv");
  const auto form = form_of(R"({"structural": {"level": true, "irregular": true}})");
  const LgssmFit fit = fit_lgssm(*form, set);
  EXPECT_TRUE(fit.converged);
  EXPECT_NEAR(fit.log_likelihood, expected["loglik"].get<double>(), 1e-9);
  const LgssmMatrices x = form->build(fit.state.x);
  EXPECT_NEAR(x.R[0] / expected["sigma2_eps"].get<double>(), 1, 1e-5);
  EXPECT_NEAR(x.Q[0] / expected["sigma2_eta"].get<double>(), 1, 1e-5);
  // The inverse of the second differences of the log-likelihood.
  const std::vector<double> errors = lgssm_standard_errors(*form, set, fit.state.x);
  const auto at = [&](double i, double j) {
    std::vector<double> unused(2);
    return lgssm_log_likelihood(
        *form, set, std::vector<double>{fit.state.x[0] + i, fit.state.x[1] + j}, unused);
  };
  const double h = 1e-3, middle = at(0, 0);
  const double a = (2 * middle - at(h, 0) - at(-h, 0)) / (h * h);
  const double c = (2 * middle - at(0, h) - at(0, -h)) / (h * h);
  const double b = (at(h, -h) + at(-h, h) - at(h, h) - at(-h, -h)) / (4 * h * h);
  EXPECT_NEAR(errors[0], std::sqrt(c / (a * c - b * b)), 1e-4);
  EXPECT_NEAR(errors[1], std::sqrt(a / (a * c - b * b)), 1e-4);
}

TEST(FitLgssm, FitsTrendAndFiveHarmonicsOfWeeklyCo2) {
  const data::SequenceSet set = read_series("kalman/co2.csv");
  const auto form = form_of(R"({"structural": {"level": true, "trend": true, "irregular": true,
      "seasonal": {"period": 52.17857142857143, "harmonics": 5}}})");
  const LgssmFit fit = fit_lgssm(*form, set, {.max_iterations = 60});
  EXPECT_TRUE(fit.converged);
  std::vector<double> unused(4), x = fit.state.x;
  for (double& parameter : x) {
    for (const double step : {-0.05, 0.05}) {
      parameter += step;
      EXPECT_LT(lgssm_log_likelihood(*form, set, x, unused), fit.log_likelihood);
      parameter -= step;
    }
  }
}

TEST(FitLgssm, GoesOnWhereItStopped) {
  const data::SequenceSet set = read_series("kalman/nile.csv");
  const auto form = form_of(R"({"structural": {"level": true, "trend": true, "irregular": true}})");
  const LgssmFit whole = fit_lgssm(*form, set, {.max_iterations = 12});
  LgssmFitOptions four;
  four.on_iteration = [](const LbfgsState& at, double, double) { return at.iteration < 4; };
  const LgssmFit part = fit_lgssm(*form, set, four);
  EXPECT_EQ(part.state.iteration, 4);
  const LgssmFit rest = fit_lgssm(*form, set, {.max_iterations = 12}, &part.state);
  EXPECT_EQ(rest.state.x, whole.state.x);
  EXPECT_EQ(rest.log_likelihood, whole.log_likelihood);
}

TEST(FitLgssm, LearnsATwoStateSystemBetterThanTheOneThatMadeIt) {
  const Lgssm truth(matrices_of(R"({"A": [[0.9, 0.3], [-0.3, 0.9]],
      "C": [[1, 0], [0.5, 1], [0, -1]], "Q": [[0.1, 0], [0, 0.1]],
      "R": [[0.2, 0, 0], [0, 0.2, 0], [0, 0, 0.2]], "m0": [0, 0], "P0": [[1, 0], [0, 1]]})"));
  data::SequenceSet set;
  set.D = 3;
  set.values = truth.generate(60, 20, {}, 5);
  for (std::uint32_t i = 0; i < 20; ++i) {
    set.lengths.push_back(60), set.begin.push_back(0), set.ids.push_back(i);
  }
  Machine machine(Device::cpu(), 2);
  const auto form = form_of(R"({"states": 2})", 3);
  const LgssmFit fit = fit_lgssm(*form, set, {.tolerance = 1e-6, .machine = &machine});
  const double exact = sum(truth.log_likelihood(set));
  EXPECT_GT(fit.log_likelihood, exact);
  EXPECT_LT(fit.log_likelihood, exact + 40);  // 21 parameters gain about half a nat each
}

/// Sequences without gaps share their covariances and go through the contracts together.
TEST(FitLgssm, SumsSequencesWithoutGapsAsItSumsEachAlone) {
  data::SequenceSet set;
  set.D = 2, set.U = 1;
  std::vector<data::SequenceSet> each;
  for (std::uint32_t i = 0; i < 40; ++i) {
    data::SequenceSet one;
    one.D = 2, one.U = 1;
    const std::int32_t length = i == 7 ? 0 : 25 - std::int32_t(i % 3);
    one.lengths = {length}, one.begin = {i % 5 == 0 && length > 0 ? 6 : 0}, one.ids = {i};
    for (std::int32_t t = 0; t < length; ++t) {
      for (int j = 0; j < 2; ++j) one.values.push_back(std::sin(0.7 * t + j + i) + 0.02 * i);
      one.controls.push_back(std::cos(0.3 * t * i));
    }
    set.values.insert(set.values.end(), one.values.begin(), one.values.end());
    set.controls.insert(set.controls.end(), one.controls.begin(), one.controls.end());
    set.lengths.push_back(length), set.begin.push_back(one.begin[0]), set.ids.push_back(i);
    each.push_back(std::move(one));
  }
  const auto form = form_of(R"({"states": 3})", 2, 1);
  std::vector<double> x = form->start(set);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += 0.05 * std::sin(double(i));
  std::vector<double> gradient(x.size()), one(x.size()), sums(x.size());
  double expected = 0, largest = 0;
  for (const data::SequenceSet& alone : each) {
    expected += lgssm_log_likelihood(*form, alone, x, one);
    for (std::size_t i = 0; i < x.size(); ++i) sums[i] += one[i];
  }
  for (double g : sums) largest = std::max(largest, std::abs(g));
  Machine machine(Device::cpu(), 2);
  for (Machine* on : {static_cast<Machine*>(nullptr), &machine}) {
    EXPECT_NEAR(lgssm_log_likelihood(*form, set, x, gradient, on), expected,
                1e-12 * std::abs(expected));
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(gradient[i], sums[i], 1e-12 * largest) << form->names()[i];
    }
  }
  const Lgssm model(form->build(x), &machine);
  const auto together = model.log_likelihood(set);
  std::size_t place = 0;
  for (const data::SequenceSet& alone : each) {
    for (const double l : model.log_likelihood(alone)) EXPECT_NEAR(l, together.at(place++), 1e-12);
  }
  EXPECT_EQ(place, together.size());
}

/// Two columns of a two-state system with a control, some of it missing.
data::SequenceSet system_with_gaps() {
  const LgssmMatrices truth = matrices_of(R"({"A": [[0.9, 0.2], [-0.1, 0.8]],
      "B": [[0.5], [0]], "C": [[1, 0], [0.4, 1]], "D": [[0], [0.3]], "d": [1, -2],
      "Q": [[0.3, 0], [0, 0.2]], "R": [[0.2, 0], [0, 0.4]],
      "m0": [1, 0], "P0": [[1, 0], [0, 1]]})");
  data::SequenceSet set;
  set.D = 2, set.U = 1;
  for (std::int64_t t = 0; t < 4 * 60; ++t) set.controls.push_back(std::sin(0.7 * double(t)));
  set.values = Lgssm(truth).generate(60, 4, set.controls, 9);
  for (std::size_t i = 0; i < set.values.size(); i += 5) set.values[i] = std::nan("");
  for (std::uint32_t i = 0; i < 4; ++i) {
    set.lengths.push_back(60), set.begin.push_back(0), set.ids.push_back(i);
  }
  return set;
}

TEST(Em, NeverFallsAndComesToWhereTheGradientIsZero) {
  const data::SequenceSet set = system_with_gaps();
  const auto form = form_of(R"({"states": 2})", 2, 1);
  std::vector<double> values;
  LgssmEmOptions options;
  options.max_iterations = 3000, options.tolerance = 0;
  options.on_iteration = [&](const LbfgsState& state, double value) {
    values.push_back(value);
    return state.iteration < 1500;
  };
  const LgssmFit fit = fit_lgssm_em(*form, set, options);
  for (std::size_t i = 1; i < values.size(); ++i) {
    ASSERT_GE(values[i], values[i - 1] - 1e-9 * std::abs(values[i])) << i;
  }
  EXPECT_GT(values.back(), values.front() + 20);
  // EM nears the maximum slowly; L-BFGS goes on from there and gains little.
  std::vector<double> gradient(fit.state.x.size());
  const double reached = lgssm_log_likelihood(*form, set, fit.state.x, gradient);
  LbfgsState from;
  from.x = fit.state.x;
  for (double& g : gradient) g = -g / double(set.steps());
  from.gradient = gradient, from.value = -reached / double(set.steps());
  const LgssmFit best = fit_lgssm(*form, set, {}, &from);
  EXPECT_GE(best.log_likelihood, reached);
  EXPECT_LT(best.log_likelihood - reached, 0.5);
  for (const double g : gradient) EXPECT_LT(std::abs(g), 2e-3);
}

/// At any parameters the expected log-likelihood rises along the likelihood's own gradient: the
/// step that maximises it goes uphill.
TEST(Em, GoesUphillFromAnywhere) {
  const data::SequenceSet set = system_with_gaps();
  const auto form = form_of(R"({"states": 2})", 2, 1);
  std::vector<double> x = form->start(set);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += 0.2 * std::sin(3.0 * double(i));
  LgssmEmOptions once;
  once.max_iterations = 1;
  LbfgsState at;
  at.x = x, at.value = std::numeric_limits<double>::infinity();
  const LgssmFit fit = fit_lgssm_em(*form, set, once, &at);
  std::vector<double> gradient(x.size());
  const double before = lgssm_log_likelihood(*form, set, x, gradient);
  EXPECT_NEAR(fit.log_likelihood, before, 1e-9 * std::abs(before));
  double along = 0;
  for (std::size_t i = 0; i < x.size(); ++i) along += gradient[i] * (fit.state.x[i] - x[i]);
  EXPECT_GT(along, 0);
  EXPECT_GT(lgssm_log_likelihood(*form, set, fit.state.x, gradient), before);
}

TEST(Em, IsTheSameOnAnyNumberOfThreadsAndGoesOnWhereItStopped) {
  const data::SequenceSet set = system_with_gaps();
  const auto form = form_of(R"({"states": 2})", 2, 1);
  LgssmEmOptions options;
  options.max_iterations = 8, options.tolerance = 0;
  const LgssmFit one = fit_lgssm_em(*form, set, options);
  Machine machine(Device::cpu(), 3);
  options.machine = &machine;
  const LgssmFit many = fit_lgssm_em(*form, set, options);
  options.machine = nullptr, options.max_iterations = 5;
  const LgssmFit first = fit_lgssm_em(*form, set, options);
  options.max_iterations = 8;
  const LgssmFit resumed = fit_lgssm_em(*form, set, options, &first.state);
  EXPECT_EQ(resumed.state.x, one.state.x);
  for (std::size_t i = 0; i < one.state.x.size(); ++i) {
    EXPECT_NEAR(many.state.x[i], one.state.x[i], 1e-9);
  }
}

TEST(Em, RefusesWhatItCannotMaximise) {
  data::SequenceSet set = read_series("kalman/nile.csv");
  EXPECT_THAT([&] { fit_lgssm_em(*form_of(R"({"structural": {"level": true}})"), set); },
              testing::ThrowsMessage<InvalidArgument>(
                  "em: this form has no closed maximum; it is fitted by its gradient"));
  EXPECT_THAT([&] { fit_lgssm_em(*form_of(R"({"states": 1, "fixed": {"A": [[1]]}})"), set); },
              testing::ThrowsMessage<InvalidArgument>(testing::HasSubstr("no closed maximum")));
  set.begin = {3};
  EXPECT_THAT([&] { fit_lgssm_em(*form_of(R"({"states": 1})"), set); },
              testing::ThrowsMessage<InvalidArgument>(
                  "em: rows of a sequence that do not count = 3, must be none"));
}

TEST(MakeLgssmForm, NamesKeyAndRule) {
  const auto fails = [](const std::string& message) {
    return testing::ThrowsMessage<InputError>(message);
  };
  EXPECT_THAT([] { form_of(R"({"structural": {"trend": true}})"); },
              fails("config.json: structural.trend: must come with \"level\""));
  EXPECT_THAT([] { form_of(R"({"structural": {"irregular": true}})"); },
              fails("config.json: structural: must have a component besides \"irregular\""));
  EXPECT_THAT([] { form_of(R"({"structural": {"level": true}})", 2); },
              fails("config.json: structural: is a model of one column, the data has 2"));
  EXPECT_ANY_THROW(form_of(R"({"structural": {"levels": true}})"));
  EXPECT_ANY_THROW(form_of(R"({"structural": {"level": "free"}})"));
  EXPECT_ANY_THROW(form_of(R"({"structural": {"seasonal": {"period": 12, "harmonics": 7}}})"));
  EXPECT_ANY_THROW(form_of(R"({"states": 0})"));
  EXPECT_THAT([] { form_of(R"({"states": 2, "fixed": {"A": [[1, 0]]}})"); },
              fails("config.json: fixed.A: has 1 rows, must have 2"));
  EXPECT_THAT([] { form_of(R"({"states": 2, "fixed": {"A": [[1, 0], [1]]}})"); },
              fails("config.json: fixed.A[1]: has 1 entries, must have 2"));
  EXPECT_THAT([] { form_of(R"({"states": 1, "fixed": {"A": [["x"]]}})"); },
              fails("config.json: fixed.A[0][0]: is a string, must be a number"));
  EXPECT_THAT(
      [] { form_of(R"({"states": 2, "A": "diagonal", "fixed": {"A": [[1, 2], [0, 1]]}})"); },
      fails("config.json: fixed.A: fixes entry [0,1] at 2, must be null or 0 where A is "
            "diagonal"));
  EXPECT_ANY_THROW(form_of(R"({"states": 2, "Q": {"rank": 3}})"));
  EXPECT_ANY_THROW(form_of(R"({"states": 2, "R": {"rank": 1}})"));
  EXPECT_ANY_THROW(form_of(R"({"states": 2, "fixed": {"Q": [[1, 0], [0, 1]]}})"));
  EXPECT_ANY_THROW(form_of(R"({})"));
}

}  // namespace
}  // namespace seqvae::test

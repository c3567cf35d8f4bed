// The Kalman contracts against the dense normal distribution, on random systems with masks, ragged
// and packed layouts, controls, full R and diffuse components.
#include <gmock/gmock.h>
#include <hwy/targets.h>

#include "seqvae/core/error.hpp"
#include "tests/support/kalman_problem.hpp"

namespace seqvae::test {
namespace {

class KalmanAgainstDense : public testing::TestWithParam<KalmanShape> {
 protected:
  Eigen::Map<const Vector> vector(const std::vector<double>& v, std::int64_t row) {
    return {v.data() + row * GetParam().n, GetParam().n};
  }
  Eigen::Map<const EigenMatrix> matrix(const std::vector<double>& v, std::int64_t row) {
    const std::int64_t n = GetParam().n;
    return {v.data() + row * n * n, n, n};
  }
};

TEST_P(KalmanAgainstDense, FilterHasTheMomentsAndTheLikelihoodOfEachStep) {
  KalmanProblem p(GetParam());
  const Filtered filtered(p);
  const std::int64_t n = p.shape.n;
  for (std::int64_t i = 0; i < p.shape.B; ++i) {
    const std::int64_t length = p.lengths[std::size_t(i)];
    EXPECT_EQ(filtered.status[std::size_t(i)], 0);
    double before = 0, sum = 0;
    std::int64_t diffuse_steps = 0;
    for (std::int64_t t = 0; t < length; ++t) {
      const std::int64_t row = p.row(t, i);
      const DenseOracle given_past(p, i, t), given_now(p, i, t + 1);
      sum += filtered.log_likelihood[std::size_t(row)];
      const std::string where = "t " + std::to_string(t) + ", b " + std::to_string(i);
      diffuse_steps += given_now.proper ? 0 : 1;
      if (!given_now.proper) continue;
      EXPECT_NEAR(sum, given_now.log_likelihood, 1e-10 * (1 + std::abs(sum))) << where;
      if (given_past.proper) {
        EXPECT_NEAR(filtered.log_likelihood[std::size_t(row)], given_now.log_likelihood - before,
                    1e-10 * (1 + std::abs(sum)));
        expect_close(vector(filtered.predicted_mean, row), given_past.mean.segment(t * n, n), 1e-9,
                     "predicted mean " + where);
        expect_close(matrix(filtered.predicted_covariance, row),
                     given_past.covariance.block(t * n, t * n, n, n), 1e-9,
                     "predicted covariance " + where);
      }
      before = given_now.log_likelihood;
      expect_close(vector(filtered.mean, row), given_now.mean.segment(t * n, n), 1e-9,
                   "mean " + where);
      const auto P = matrix(filtered.covariance, row);
      expect_close(P, given_now.covariance.block(t * n, t * n, n, n), 1e-9, "covariance " + where);
      EXPECT_TRUE(P == P.transpose());
    }
    EXPECT_EQ(filtered.diffuse_steps[std::size_t(i)], diffuse_steps);
    if (p.shape.packed) continue;
    for (std::int64_t t = length; t < p.shape.T; ++t) {
      EXPECT_TRUE(vector(filtered.mean, p.row(t, i)).isZero(0));
      EXPECT_TRUE(matrix(filtered.covariance, p.row(t, i)).isZero(0));
      EXPECT_EQ(filtered.log_likelihood[std::size_t(p.row(t, i))], 0);
    }
  }
}

TEST_P(KalmanAgainstDense, SmootherHasTheMomentsGivenAllObservations) {
  KalmanProblem p(GetParam());
  const Filtered filtered(p);
  const Smoothed smoothed(p, filtered);
  const std::int64_t n = p.shape.n;
  for (std::int64_t i = 0; i < p.shape.B; ++i) {
    const std::int64_t length = p.lengths[std::size_t(i)];
    const DenseOracle oracle(p, i, length);
    ASSERT_TRUE(oracle.proper);
    for (std::int64_t t = 0; t < p.shape.T; ++t) {
      const std::int64_t row = p.row(t, i);
      if (t >= length) {
        EXPECT_TRUE(p.shape.packed || matrix(smoothed.covariance, row).isZero(0));
        continue;
      }
      const std::string where = "t " + std::to_string(t) + ", b " + std::to_string(i);
      expect_close(vector(smoothed.mean, row), oracle.mean.segment(t * n, n), 1e-9,
                   "mean " + where);
      expect_close(matrix(smoothed.covariance, row), oracle.covariance.block(t * n, t * n, n, n),
                   1e-9, "covariance " + where);
      if (t == 0) continue;
      expect_close(matrix(smoothed.lag_one, row), oracle.covariance.block(t * n, t * n - n, n, n),
                   1e-9, "lag one " + where);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, KalmanAgainstDense, testing::ValuesIn(kalman_shapes()),
                         testing::PrintToStringParamName());

TEST(KalmanSmoother, KeepsItsDigitsWhereTheStartIsIllConditioned) {
  // A line and five slow harmonics: at first the data hardly tell them apart, and the filtered
  // covariance passes 10^9 of what is left of it in the end.
  KalmanProblem p({40, 1, 12, 1, 0, false, false, false, false, false, 12});
  std::fill(p.A.values.begin(), p.A.values.end(), 0.0);
  std::fill(p.Q.values.begin(), p.Q.values.end(), 0.0);
  std::fill(p.C.values.begin(), p.C.values.end(), 0.0);
  for (std::size_t i = 0; i < 12; i += 2) {
    const double angle = 2 * M_PI * double(i / 2) / 52.18;
    p.A.values[13 * i] = p.A.values[13 * i + 13] = std::cos(angle);
    p.A.values[13 * i + 1] = i == 0 ? 1 : std::sin(angle);
    p.A.values[13 * i + 12] = -std::sin(angle);
    p.Q.values[13 * i] = i == 0 ? 0.01 : 1e-5;
    p.Q.values[13 * i + 13] = i == 0 ? 1e-7 : 1e-5;
    p.C.values[i] = 1;
  }
  p.R.values = {0.1};
  const Filtered filtered(p);
  const Smoothed smoothed(p, filtered);
  const DenseOracle oracle(p, 0, 40);
  double sum = 0;
  for (std::size_t t = 0; t < 40; ++t) sum += filtered.log_likelihood[t];
  EXPECT_NEAR(sum, oracle.log_likelihood, 1e-8 * std::abs(sum));
  for (std::int64_t t = 0; t < 40; ++t) {
    expect_close(Eigen::Map<const Vector>(smoothed.mean.data() + t * 12, 12),
                 oracle.mean.segment(t * 12, 12), 1e-8, "mean " + std::to_string(t));
    expect_close(Eigen::Map<const EigenMatrix>(smoothed.covariance.data() + t * 144, 12, 12),
                 oracle.covariance.block(t * 12, t * 12, 12, 12), 1e-8,
                 "covariance " + std::to_string(t));
  }
}

TEST(KalmanFilter, ExactObservationsOfDiffuseStatesAreNoDivisionByZero) {
  KalmanProblem p({6, 1, 2, 1, 0, false, false, false, false, false, 2});
  p.R.values = {0};
  const Filtered filtered(p);
  double sum = 0;
  for (std::size_t t = 0; t < 6; ++t) sum += filtered.log_likelihood[t];
  EXPECT_EQ(filtered.status[0], 0);
  EXPECT_TRUE(std::isfinite(sum));
  KalmanProblem nearly({6, 1, 2, 1, 0, false, false, false, false, false, 2});
  nearly.R.values = {1e-10};
  const DenseOracle limit(nearly, 0, 6);
  EXPECT_NEAR(sum, limit.log_likelihood, 1e-6);
}

TEST(KalmanFilter, SaysAtWhichStepACovarianceBroke) {
  KalmanProblem p({5, 2, 2, 1, 0, false, false, true, false, false, 0});
  const std::int64_t row = p.row(3, 1);
  p.R.values[std::size_t(row)] = -100;
  const Filtered filtered(p);
  EXPECT_THAT(filtered.status, testing::ElementsAre(0, 4));
  EXPECT_TRUE(std::isfinite(filtered.mean[std::size_t(p.row(2, 1) * 2)]));
  EXPECT_TRUE(std::isnan(filtered.mean[std::size_t(row * 2)]));
  EXPECT_TRUE(std::isnan(filtered.log_likelihood[std::size_t(p.row(4, 1))]));
  EXPECT_TRUE(std::isfinite(filtered.log_likelihood[std::size_t(p.row(4, 0))]));
}

TEST(KalmanFilter, EvidenceIsBayesRuleAtAnyState) {
  // log p(y) = log p(z) + log p(y | z) - log p(z | y) at a drawn z, the posterior's density by the
  // chain of its backward conditionals.
  KalmanProblem p({5, 1, 2, 2, 0, false, true, false, false, false, 0});
  const Filtered filtered(p);
  const Smoothed smoothed(p, filtered);
  std::vector<Vector> z;
  for (int t = 0; t < 5; ++t) z.push_back(Vector::NullaryExpr(2, [&] { return p.draw(); }));
  const auto moment = [&](const std::vector<double>& v, std::int64_t t) {
    return EigenMatrix(Eigen::Map<const EigenMatrix>(v.data() + 4 * t, 2, 2));
  };
  double evidence = 0;
  for (std::int64_t t = 0; t < 5; ++t) {
    const auto k = std::size_t(t);
    const Vector b = p.matrix(p.b, 0, 0, 1), d = p.matrix(p.d, 0, 0, 1),
                 m0 = p.matrix(p.m0, 0, 0, 1);
    const EigenMatrix A = p.matrix(p.A, 0, 0, 2), C = p.matrix(p.C, 0, 0, 2);
    evidence += t == 0 ? log_normal(z[0] - m0, p.matrix(p.P0, 0, 0, 2))
                       : log_normal(z[k] - A * z[k - 1] - b, p.matrix(p.Q, 0, 0, 2));
    evidence += log_normal(Eigen::Map<Vector>(p.y.data() + 2 * t, 2) - d - C * z[k],
                           p.matrix(p.R, 0, 0, 2));
    Vector mean = Eigen::Map<const Vector>(smoothed.mean.data() + 2 * t, 2);
    EigenMatrix S = moment(smoothed.covariance, t);
    if (t < 4) {  // p(z_t | z_{t+1}, y)
      const EigenMatrix gain =
          moment(smoothed.lag_one, t + 1).transpose() * inverse(moment(smoothed.covariance, t + 1));
      mean += gain * (z[k + 1] - Eigen::Map<const Vector>(smoothed.mean.data() + 2 * t + 2, 2));
      S -= gain * moment(smoothed.lag_one, t + 1);
    }
    evidence -= log_normal(z[k] - mean, S);
  }
  double sum = 0;
  for (std::size_t t = 0; t < 5; ++t) sum += filtered.log_likelihood[t];
  EXPECT_NEAR(sum, evidence, 1e-10 * (1 + std::abs(evidence)));
}

TEST(KalmanFilter, HasTheSameBitsInEveryInstructionSet) {
  for (const std::int64_t n : {1, 3, 4, 7, 8, 16, 19}) {
    const KalmanShape shape{12, 3, n, 2, 0, true, true, true, true, true, 0};
    const auto run = [&](std::int64_t targets) {
      hwy::SetSupportedTargetsForTest(targets);
      KalmanProblem problem(shape);
      const Filtered filtered(problem);
      const Smoothed smoothed(problem, filtered);
      hwy::SetSupportedTargetsForTest(0);
      std::vector<double> all;
      for (const auto* values : {&filtered.mean, &filtered.covariance, &filtered.log_likelihood,
                                 &smoothed.mean, &smoothed.covariance}) {
        all.insert(all.end(), values->begin(), values->end() - 1);  // the last is there to be kept
      }
      return all;
    };
    const auto best = run(0);
    EXPECT_EQ(run(HWY_AVX2 | HWY_STATIC_TARGET), best) << "n = " << n;
    EXPECT_EQ(run(HWY_STATIC_TARGET), best) << "n = " << n;
  }
}

TEST(KalmanFilter, InFloatIsTheSameToItsPrecision) {
  KalmanProblem p({40, 1, 3, 2, 0, true, true, false, false, false, 0});
  const Filtered exact(p);
  const auto single = [](const std::vector<double>& x) {
    return std::vector<float>(x.begin(), x.end());
  };
  const auto A = single(p.A.values), b = single(p.b.values), Q = single(p.Q.values),
             C = single(p.C.values), d = single(p.d.values), R = single(p.R.values),
             m0 = single(p.m0.values), P0 = single(p.P0.values), y = single(p.y),
             mask = single(p.mask);
  std::vector<float> mean(120), covariance(360), log_likelihood(40);
  std::int32_t status = -1;
  KalmanFilterArgs<float> args;
  args.model.n = 3, args.model.m = 2;
  args.model.A = {A.data()}, args.model.state_offset = {b.data()}, args.model.Q = {Q.data()};
  args.model.C = {C.data()}, args.model.observation_offset = {d.data()}, args.model.R = {R.data()};
  args.model.m0 = {m0.data()}, args.model.P0 = {P0.data()};
  args.data = {p.layout(), {y.data(), 2}, {mask.data(), 2}, {}};
  args.mean = {mean.data(), 3}, args.covariance = {covariance.data(), 9};
  args.log_likelihood = {log_likelihood.data(), 1};
  args.status = &status;
  with_workspace(args, [](const auto& a) { cpu::kalman_filter(a); });
  EXPECT_EQ(status, 0);
  const auto compare = [](const std::vector<float>& actual, const std::vector<double>& expected) {
    double scale = 1;
    for (std::size_t i = 0; i < actual.size(); ++i) scale = std::max(scale, std::abs(expected[i]));
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_NEAR(actual[i], expected[i], 1e-5 * scale) << i;
    }
  };
  compare(mean, exact.mean);
  compare(covariance, exact.covariance);
  compare(log_likelihood, exact.log_likelihood);
}

TEST(KalmanSample, DrawsHaveTheSmoothedMomentsThroughADiffuseStart) {
  KalmanProblem p({9, 2, 3, 2, 1, true, true, true, true, false, 3});
  const Filtered filtered(p);
  const Smoothed smoothed(p, filtered);
  ASSERT_GE(filtered.merge_step[0], 3);
  constexpr std::int64_t S = 40'000, n = 3;
  const std::int64_t rows = p.rows();
  std::vector<double> z(std::size_t(S * rows * n), kPoison);
  std::vector<std::int32_t> status(2, -1);
  KalmanSampleArgs<double> args;
  args.model = p.model();
  args.data = p.data();
  args.filtered = filtered.view(p);
  args.noise = {{11, 2}, nullptr, p.ids.data()};
  args.S = S;
  args.z = {z.data(), n};
  args.status = status.data();
  with_workspace(args, [](const auto& a) { cpu::kalman_sample(a); });
  EXPECT_THAT(status, testing::Each(0));
  const auto draws = [&](std::int64_t row) {
    EigenMatrix draws(S, n);
    for (std::int64_t k = 0; k < S; ++k) {
      draws.row(k) = Eigen::Map<const Vector>(z.data() + (k * rows + row) * n, n).transpose() -
                     Eigen::Map<const Vector>(smoothed.mean.data() + row * n, n).transpose();
    }
    return draws;
  };
  // Standard errors of a mean and of a covariance; 5 of them.
  for (std::int64_t t = 0; t < 9; ++t) {
    const EigenMatrix now = draws(p.row(t, 0));
    const Eigen::Map<const EigenMatrix> P(smoothed.covariance.data() + p.row(t, 0) * n * n, n, n);
    for (std::int64_t i = 0; i < n; ++i) {
      EXPECT_NEAR(now.col(i).mean(), 0, 5 * std::sqrt(P(i, i) / S)) << t;
      for (std::int64_t j = 0; j < n; ++j) {
        EXPECT_NEAR(now.col(i).dot(now.col(j)) / S, P(i, j),
                    5 * std::sqrt((P(i, i) * P(j, j) + P(i, j) * P(i, j)) / S));
      }
    }
    if (t == 0) continue;
    const EigenMatrix before = draws(p.row(t - 1, 0));
    const Eigen::Map<const EigenMatrix> lag(smoothed.lag_one.data() + p.row(t, 0) * n * n, n, n);
    const Eigen::Map<const EigenMatrix> Pb(smoothed.covariance.data() + p.row(t - 1, 0) * n * n, n,
                                           n);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        EXPECT_NEAR(now.col(i).dot(before.col(j)) / S, lag(i, j),
                    5 * std::sqrt((P(i, i) * Pb(j, j) + lag(i, j) * lag(i, j)) / S));
      }
    }
  }
  EXPECT_EQ(z[std::size_t(p.row(0, 1) * n)], 0);  // a sequence of length 0
}

class KalmanSimulate : public testing::TestWithParam<KalmanShape> {};

/// y given the states that were drawn with it is the same y, with the moments of the textbook; the
/// step that keys the noise is read when it runs.
TEST_P(KalmanSimulate, DrawsObservationsGivenStates) {
  KalmanProblem p(GetParam(), 6);
  const std::int64_t n = p.shape.n, m = p.shape.m, S = 3, rows = p.rows();
  std::vector<double> z(std::size_t(S * rows * n), kPoison);
  std::vector<double> y(std::size_t(S * rows * m), kPoison), again = y, mean = y, logvar = y;
  std::vector<std::int32_t> status(std::size_t(p.shape.B), -1);
  std::uint64_t step = 7;
  KalmanSimulateArgs<double> args;
  args.model = p.model(), args.layout = p.layout(), args.u = p.data().u;
  args.noise = {{11, 2}, &step, p.ids.data()}, args.S = S;
  args.z = {z.data(), n}, args.y = {y.data(), m}, args.status = status.data();
  const auto run = [](const auto& a) { cpu::kalman_simulate(a); };
  with_workspace(args, run);
  args.z = {}, args.given_z = {z.data(), n}, args.y = {again.data(), m};
  args.y_mean = {mean.data(), m}, args.y_logvar = {logvar.data(), m};
  with_workspace(args, run);
  EXPECT_THAT(status, testing::Each(0));
  EXPECT_EQ(again, y);
  for (std::int64_t k = 0; k < S; ++k) {
    for (std::int64_t i = 0; i < p.shape.B; ++i) {
      for (std::int64_t t = 0; t < p.shape.T; ++t) {
        if (p.shape.packed && t >= p.lengths[std::size_t(i)]) continue;
        const std::int64_t place = k * rows + p.row(t, i);
        Vector expected = Vector::Zero(m), variances = expected;
        if (t < p.lengths[std::size_t(i)]) {
          expected = p.matrix(p.C, t, i, n) * Eigen::Map<const Vector>(z.data() + place * n, n) +
                     p.matrix(p.d, t, i, 1);
          const Eigen::Map<const Vector> u(p.u.data() + p.row(t, i) * p.shape.U, p.shape.U);
          if (p.shape.U > 0) expected += p.matrix(p.D, t, i, p.shape.U) * u;
          variances = p.observation_noise(t, i).diagonal().array().log();
        }
        for (std::int64_t j = 0; j < m; ++j) {
          EXPECT_NEAR(mean[std::size_t(place * m + j)], expected[j], 1e-12);
          EXPECT_NEAR(logvar[std::size_t(place * m + j)], variances[j], 1e-12);
        }
      }
    }
  }
  step = 8;
  with_workspace(args, run);
  EXPECT_NE(again, y);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, KalmanSimulate,
    testing::Values(KalmanShape{4, 2, 3, 2, 1, false, true, true, true, false, 0},
                    KalmanShape{5, 3, 2, 3, 0, false, false, false, true, true, 0}),
    testing::PrintToStringParamName());

TEST(KalmanCheck, NamesArgumentValueAndRule) {
  const auto message = [](auto change) {
    KalmanProblem p({3, 1, 2, 1, 0, false, false, false, false, false, 0});
    KalmanFilterArgs<double> args;
    std::int32_t status = 0;
    alignas(16) static std::byte workspace[4096];
    args.model = p.model();
    args.data = p.data();
    args.status = &status;
    args.workspace = workspace;
    args.workspace_bytes = sizeof workspace;
    change(args);
    try {
      check(args);
    } catch (const InvalidArgument& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  EXPECT_EQ(message([](auto&) {}), "nothing was thrown");
  EXPECT_EQ(message([](auto& a) { a.model.n = 0; }),
            "kalman_filter: model.n = 0, must be from 1 to 4096");
  EXPECT_EQ(message([](auto& a) { a.data.layout.K = 2; }),
            "kalman_filter: layout.K = 2, must be 1");
  EXPECT_EQ(message([](auto& a) { a.model.A.data = nullptr; }),
            "kalman_filter: model.A is null, must point to memory");
  EXPECT_EQ(message([](auto& a) { a.model.A.step = 3; }),
            "kalman_filter: model.A.step = 3, must be 0, or at least the array's size");
  EXPECT_EQ(message([](auto& a) { a.status = nullptr; }),
            "kalman_filter: status is null, must point to memory");
  EXPECT_THAT(message([](auto& a) { a.workspace_bytes = 1; }),
              testing::StartsWith("kalman_filter: workspace_bytes = 1, must be at least "));
  static const std::uint8_t flags[2] = {1, 0};
  EXPECT_EQ(message([](auto& a) { a.model.diffuse = flags; }),
            "kalman_filter: merge_step is null, must point to memory");
}

}  // namespace
}  // namespace seqvae::test

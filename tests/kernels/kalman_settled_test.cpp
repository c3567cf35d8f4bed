// A constant model settles, and what is kept then is what would be computed: the same model written
// out for every step never settles, and gives the same moments, likelihoods and gradients.
#include <gmock/gmock.h>

#include <string>

#include "seqvae/core/error.hpp"
#include "tests/support/kalman_problem.hpp"

namespace seqvae::test {
namespace {

using Values = std::vector<double>;

/// The same matrix for each step.
void write_out(Array& a, std::int64_t T) {
  const Values once = a.values;
  a.step = std::int64_t(once.size());
  a.values.clear();
  for (std::int64_t t = 0; t < T; ++t) a.values.insert(a.values.end(), once.begin(), once.end());
}
void write_out(KalmanProblem& p) {
  for (Array* a : {&p.A, &p.Q, &p.C, &p.R}) write_out(*a, p.shape.T);
}

/// Gaps in every 100th step alone, so that there is time to settle between.
void seldom_missing(KalmanProblem& p) {
  std::fill(p.mask.begin(), p.mask.end(), 1.0);
  for (std::int64_t t = 0; t < p.shape.T; ++t) {
    for (std::int64_t b = 0; b < p.shape.B; ++b) {
      for (std::int64_t j = 0; j < p.shape.m; ++j) {
        const auto i = std::size_t(p.row(t, b) * p.shape.m + j);
        if (t % 100 == 7 && (b + j) % 2 == 0) p.mask[i] = 0;
        if (t < p.lengths[std::size_t(b)]) p.y[i] = p.mask[i] == 0 ? kPoison : p.draw();
      }
    }
  }
}

/// Steps of sequence b whose filtered covariance is that of the step before, bit for bit.
std::int64_t settled_steps(const KalmanProblem& p, const Filtered& f, std::int64_t b) {
  const std::int64_t nn = p.shape.n * p.shape.n;
  std::int64_t count = 0;
  for (std::int64_t t = 1; t < p.lengths[std::size_t(b)]; ++t) {
    const double* P = f.covariance.data() + p.row(t, b) * nn;
    count += std::equal(P, P + nn, f.covariance.data() + p.row(t - 1, b) * nn);
  }
  return count;
}

class KalmanSettled : public testing::TestWithParam<KalmanShape> {};

TEST_P(KalmanSettled, IsTheModelWrittenOutForEveryStep) {
  KalmanProblem constant(GetParam(), 3);
  if (constant.shape.masked) seldom_missing(constant);
  if (constant.shape.n > 4) {  // stable
    for (double& x : constant.A.values) x *= 2 / std::sqrt(double(constant.shape.n));
  }
  KalmanProblem written = constant;
  write_out(written);
  const Filtered kept(constant), computed(written);
  EXPECT_THAT(kept.status, testing::Each(0));
  // Otherwise nothing is tested: the first sequence is the longest.
  EXPECT_GT(settled_steps(constant, kept, 0), constant.shape.T / 3);
  if (constant.shape.n > 4) {
    EXPECT_LT(settled_steps(written, computed, 0), constant.shape.T / 4);
  }

  kept.expect_near(computed, 1e-12, "");

  const Smoothed smooth(constant, kept.view(constant)), every(written, computed.view(written));
  expect_near(smooth.mean, every.mean, 1e-12, "smoothed mean");
  expect_near(smooth.covariance, every.covariance, 1e-12, "smoothed covariance");
  expect_near(smooth.lag_one, every.lag_one, 1e-12, "lag one");

  const auto summed = gradients_of(constant, kept.view(constant));
  const auto added = gradients_of(written, computed.view(written));
  for (const auto& [name, values] : summed) expect_near(values, added.at(name), 1e-12, name);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, KalmanSettled,
    testing::Values(KalmanShape{300, 1, 1, 1, 0, false, false, false, false, false, 0},
                    KalmanShape{300, 3, 2, 1, 0, false, true, false, true, false, 0},
                    KalmanShape{300, 3, 4, 2, 2, false, true, false, true, true, 0},
                    KalmanShape{300, 2, 5, 2, 1, true, true, false, false, false, 0},
                    KalmanShape{300, 2, 3, 4, 0, true, false, false, true, true, 0},
                    KalmanShape{300, 2, 3, 2, 1, false, false, false, false, false, 2},
                    KalmanShape{300, 2, 3, 2, 0, true, true, false, true, false, 1},
                    KalmanShape{300, 2, 8, 4, 0, false, true, false, false, false, 0},
                    KalmanShape{300, 1, 17, 5, 1, false, false, false, false, false, 0},
                    KalmanShape{300, 1, 32, 16, 0, false, true, false, false, false, 0}),
    testing::PrintToStringParamName());

/// Where `bare` mean, covariance and log-likelihood alone, without the model's offsets.
struct Moments {
  Values mean, covariance, log_likelihood, predicted_mean, innovation;
  std::vector<std::int32_t> status;

  Moments(KalmanProblem& p, bool bare, const RowLayout& layout, std::int64_t b, std::int64_t rows) {
    const auto n = p.shape.n, m = p.shape.m, stride = layout.B == 1 ? p.shape.B : 1;
    mean.assign(std::size_t(rows * n), kPoison), log_likelihood.assign(std::size_t(rows), kPoison);
    covariance.assign(std::size_t(rows * n * n), kPoison);
    status.assign(std::size_t(layout.B), -1);
    KalmanFilterArgs<double> args;
    args.model = p.model();
    args.model.m0.data += b * n;
    if (bare) args.model.state_offset = args.model.observation_offset = {};
    args.data.layout = layout;
    args.data.y = {p.y.data() + b * m, stride * m};
    args.data.u = {p.u.data() + b * p.shape.U, stride * p.shape.U};
    args.mean = {mean.data(), n}, args.covariance = {covariance.data(), n * n};
    args.log_likelihood = {log_likelihood.data(), 1};
    args.status = status.data();
    if (!bare) {
      predicted_mean.assign(std::size_t(rows * n), kPoison);
      innovation.assign(std::size_t(rows * m), kPoison);
      args.predicted_mean = {predicted_mean.data(), n};
      args.innovation = {innovation.data(), m};
    }
    with_workspace(args, [](const auto& a) { cpu::kalman_filter(a); });
  }
};

/// Sequences that share their covariances are filtered together, and one without inputs many steps
/// at once; each is the same bits alone.
TEST(KalmanSettled, HasTheSameBitsTogetherAndAlone) {
  for (const std::int64_t U : {1, 0}) {
    for (const std::int64_t n : {2, 4, 9, 20}) {
      KalmanProblem p({200, 5, n, 2, U, false, true, false, true, false, 0});
      for (double& x : p.A.values) x *= 2 / std::sqrt(double(std::max<std::int64_t>(n, 4)));
      const Moments together(p, U == 0, p.layout(), 0, p.rows());
      for (std::int64_t b = 0; b < 5; ++b) {
        RowLayout layout;
        layout.T = p.lengths[std::size_t(b)], layout.B = 1;
        const Moments alone(p, U == 0, layout, b, layout.T);
        EXPECT_THAT(alone.status, testing::ElementsAre(0));
        const auto same = [&](const Values& one, const Values& all, std::int64_t width) {
          for (std::int64_t t = 0; t < layout.T; ++t) {
            for (std::int64_t i = 0; i < width; ++i) {
              ASSERT_EQ(one[std::size_t(t * width + i)], all[std::size_t(p.row(t, b) * width + i)])
                  << "n = " << n << ", t = " << t;
            }
          }
        };
        same(alone.log_likelihood, together.log_likelihood, 1);
        same(alone.mean, together.mean, n);
        same(alone.covariance, together.covariance, n * n);
        if (U == 0) continue;
        same(alone.predicted_mean, together.predicted_mean, n);
        same(alone.innovation, together.innovation, 2);
      }
    }
  }
}

/// Rows of a packed sequence are not evenly apart; what is not finite ends it.
TEST(KalmanSettled, TakesManyStepsAtOnceWhateverTheRows) {
  KalmanProblem padded({200, 5, 3, 2, 0, false, true, false, true, false, 0});
  KalmanProblem packed({200, 5, 3, 2, 0, false, true, false, true, true, 0});
  for (std::int64_t b = 0; b < 5; ++b) {
    for (std::int64_t t = 0; t < padded.lengths[std::size_t(b)]; ++t) {
      for (std::int64_t j = 0; j < 2; ++j) {
        packed.y[std::size_t(packed.row(t, b) * 2 + j)] =
            padded.y[std::size_t(padded.row(t, b) * 2 + j)];
      }
    }
  }
  for (KalmanProblem* p : {&padded, &packed}) {
    p->y[std::size_t(p->row(150, 0) * 2)] = std::numeric_limits<double>::infinity();
    write_out(p->P0, 1);
    p->P0.sequence = 9, p->P0.step = 0;  // one a sequence: each is filtered alone
    for (int i = 1; i < 5; ++i) {
      p->P0.values.insert(p->P0.values.end(), p->P0.values.begin(), p->P0.values.begin() + 9);
    }
    p->m0.values = padded.m0.values;
    p->A.values = padded.A.values, p->Q.values = padded.Q.values, p->C.values = padded.C.values;
    p->R.values = padded.R.values, p->P0.values = padded.P0.values;
  }
  const Moments expected(padded, true, padded.layout(), 0, padded.rows());
  const Moments actual(packed, true, packed.layout(), 0, packed.rows());
  EXPECT_THAT(expected.status, testing::ElementsAre(151, 0, 0, 0, 0));
  EXPECT_EQ(actual.status, expected.status);
  for (std::int64_t b = 0; b < 5; ++b) {
    for (std::int64_t t = 0; t < padded.lengths[std::size_t(b)]; ++t) {
      const double one = actual.log_likelihood[std::size_t(packed.row(t, b))];
      const double other = expected.log_likelihood[std::size_t(padded.row(t, b))];
      ASSERT_TRUE(one == other || (b == 0 && t >= 150 && std::isnan(one) && std::isnan(other)))
          << t;
    }
  }
}

/// Covariances written once for all sequences are those of each, and serve the reverse passes.
TEST(KalmanSettled, WritesSharedCovariancesOnce) {
  for (const bool packed : {false, true}) {
    KalmanProblem p({60, 5, 4, 2, 1, false, true, false, true, packed, 0});
    const std::int64_t n = 4, nn = 16;
    Filtered each(p), once(p);
    std::fill(once.covariance.begin(), once.covariance.end(), kPoison);
    std::fill(once.predicted_covariance.begin(), once.predicted_covariance.end(), kPoison);
    KalmanFilterArgs<double> args;
    args.model = p.model(), args.data = p.data(), args.shared_covariance = true;
    args.mean = {once.mean.data(), n}, args.covariance = {once.covariance.data(), nn};
    args.predicted_covariance = {once.predicted_covariance.data(), nn};
    args.log_likelihood = {once.log_likelihood.data(), 1}, args.status = once.status.data();
    with_workspace(args, [](const auto& a) { cpu::kalman_filter(a); });
    expect_near(once.mean, each.mean, 0, "mean");
    for (std::int64_t b = 0; b < 5; ++b) {
      for (std::int64_t t = 0; t < p.lengths[std::size_t(b)]; ++t) {
        for (std::int64_t i = 0; i < nn; ++i) {
          const auto at = std::size_t(p.row(t, b) * nn + i);
          ASSERT_EQ(once.covariance[std::size_t(t * nn + i)], each.covariance[at]);
          ASSERT_EQ(once.predicted_covariance[std::size_t(t * nn + i)],
                    each.predicted_covariance[at]);
        }
      }
    }
    EXPECT_TRUE(std::isnan(once.covariance[60 * nn]));  // no more rows than steps
    KalmanFiltered<double> filtered = once.view(p);
    filtered.shared_covariance = true;
    const Smoothed smooth(p, filtered), expected(p, each.view(p));
    EXPECT_EQ(smooth.mean, expected.mean);
    EXPECT_EQ(smooth.covariance, expected.covariance);
    EXPECT_EQ(gradients_of(p, filtered), gradients_of(p, each.view(p)));
  }
}

/// Sequences of one length that share their covariances are smoothed and differentiated together.
/// A copy of P0 for each keeps them apart.
TEST(KalmanSettled, PassesBackTogetherAreThoseOfEach) {
  for (const KalmanShape& shape :
       {KalmanShape{200, 5, 4, 2, 1, false, true, false, false, false, 0},
        KalmanShape{60, 70, 2, 1, 1, false, true, false, false, false, 0},
        KalmanShape{200, 6, 3, 4, 0, false, false, false, true, true, 0},
        KalmanShape{40, 4, 9, 3, 2, false, true, false, false, true, 0}}) {
    KalmanProblem together(shape);
    for (double& x : together.A.values) {
      x *= 2 / std::sqrt(double(std::max<std::int64_t>(shape.n, 4)));
    }
    KalmanProblem apart = together;
    const auto nn = std::size_t(shape.n * shape.n);
    apart.P0.sequence = std::int64_t(nn);
    for (std::int64_t b = 1; b < shape.B; ++b) {
      apart.P0.values.insert(apart.P0.values.end(), together.P0.values.begin(),
                             together.P0.values.end());
    }
    const Filtered f(together), each(apart);
    f.expect_near(each, 1e-12, "");
    const Smoothed smooth(together, f.view(together)), one(apart, each.view(apart));
    expect_near(smooth.mean, one.mean, 1e-12, "smoothed mean");
    expect_near(smooth.covariance, one.covariance, 1e-12, "smoothed covariance");
    expect_near(smooth.lag_one, one.lag_one, 1e-12, "lag one");
    const auto summed = gradients_of(together, f.view(together));
    for (auto& [name, values] : gradients_of(apart, each.view(apart))) {
      Values expected = values;
      if (name == "P0") {
        expected.assign(nn, 0);
        for (std::size_t i = 0; i < values.size(); ++i) expected[i % nn] += values[i];
      }
      expect_near(summed.at(name), expected, 1e-12, name);
    }
  }
}

TEST(KalmanSettled, SmoothedCovariancesOfAllAreWrittenOnce) {
  KalmanProblem p({90, 4, 3, 2, 0, false, true, false, false, false, 0});
  const Filtered f(p);
  const Smoothed each(p, f.view(p));
  Values mean(std::size_t(90 * 4 * 3), kPoison), covariance(90 * 9, kPoison), lag(90 * 9, kPoison);
  KalmanSmootherArgs<double> args;
  args.model = p.model(), args.data = p.data(), args.filtered = f.view(p);
  args.mean = {mean.data(), 3}, args.covariance = {covariance.data(), 9};
  args.lag_one = {lag.data(), 9}, args.shared_covariance = true;
  EXPECT_THAT([&] { check(args); },
              testing::ThrowsMessage<InvalidArgument>(
                  "kalman_smoother: shared_covariance with layout.lengths or offsets, must be "
                  "without"));
  args.data.layout.lengths = nullptr;
  with_workspace(args, [](const auto& a) { cpu::kalman_smoother(a); });
  EXPECT_EQ(mean, each.mean);
  for (std::size_t i = 0; i < covariance.size(); ++i) {
    const std::size_t at = i / 9 * 4 * 9 + i % 9;  // of the first sequence
    ASSERT_EQ(covariance[i], each.covariance[at]);
    ASSERT_EQ(lag[i], each.lag_one[at]);
  }
}

TEST(KalmanSettled, RefusesToShareWhatDiffers) {
  const auto refuses = [](const KalmanShape& shape, std::int64_t chunk, const char* message) {
    KalmanProblem p(shape);
    KalmanFilterArgs<double> args;
    args.model = p.model(), args.data = p.data(), args.shared_covariance = true;
    args.chunk = chunk;
    EXPECT_THAT([&] { check(args); }, testing::ThrowsMessage<InvalidArgument>(message));
  };
  refuses({6, 2, 2, 1, 0, false, true, true, false, false, 0}, 0,
          "kalman_filter: model.A.sequence = 4, must be 0 with shared_covariance");
  refuses({6, 2, 2, 1, 0, true, true, false, false, false, 0}, 0,
          "kalman_filter: shared_covariance with a mask or diffuse states, must be without");
  refuses({6, 2, 2, 1, 0, false, true, false, false, false, 0}, 3,
          "kalman_filter: chunk = 3, must be 0, or at least layout.T, with shared_covariance");
}

/// What is bad in one sequence is told of that sequence alone, though they share their covariances.
TEST(KalmanSettled, TellsOfASequenceWhoseDataAreNotFinite) {
  KalmanProblem p({300, 3, 2, 1, 0, false, true, false, false, false, 0});
  p.y[std::size_t(p.row(250, 1))] = std::numeric_limits<double>::infinity();
  const Filtered f(p);
  EXPECT_THAT(f.status, testing::ElementsAre(0, 251, 0));
  EXPECT_TRUE(std::isnan(f.mean[std::size_t(p.row(250, 1) * 2)]));
  EXPECT_TRUE(std::isnan(f.covariance[std::size_t(p.row(299, 1) * 4)]));
  for (const std::int64_t b : {0, 2}) {
    for (std::int64_t t = 0; t < 300; ++t) {
      EXPECT_TRUE(std::isfinite(f.mean[std::size_t(p.row(t, b) * 2)]));
    }
  }
}

}  // namespace
}  // namespace seqvae::test

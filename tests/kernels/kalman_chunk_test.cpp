// Chunks taken at once, forward and backward, are the steps taken one after the other, whatever
// their length, form and number of threads.
#include <gmock/gmock.h>

#include <tuple>

#include "seqvae/core/error.hpp"
#include "tests/support/kalman_problem.hpp"

namespace seqvae::test {
namespace {

class KalmanChunks : public testing::TestWithParam<KalmanShape> {};

TEST_P(KalmanChunks, AreTheStepsOneAfterTheOther) {
  KalmanProblem p(GetParam(), 5);
  for (const KalmanForm form :
       {KalmanForm::covariance, KalmanForm::joseph, KalmanForm::square_root}) {
    const Filtered sequential(p, form, p.shape.T);
    EXPECT_THAT(sequential.status, testing::Each(0));
    for (const std::int64_t chunk :
         {std::int64_t(1), std::int64_t(2), std::int64_t(3), std::int64_t(7), std::int64_t(16),
          p.shape.T - 1, p.shape.T + 5}) {
      const Filtered chunked(p, form, chunk);
      chunked.expect_near(
          sequential, 1e-12,
          "form " + std::to_string(int(form)) + ", chunk " + std::to_string(chunk) + ": ");
      EXPECT_EQ(chunked.diffuse_steps, sequential.diffuse_steps);
    }
  }
}

TEST_P(KalmanChunks, AreTheSameBitsOnAnyNumberOfThreads) {
  KalmanProblem p(GetParam(), 5);
  for (const std::int64_t chunk : {std::int64_t(5), p.shape.T}) {
    const Filtered one(p, KalmanForm::joseph, chunk);
    for (const int threads : {2, 3}) {
      ThreadPool pool(threads);
      Filtered many(p, KalmanForm::joseph, chunk, &pool);
      EXPECT_EQ(many.status, one.status);
      many.expect_near(one, 0, "");
    }
  }
}

TEST_P(KalmanChunks, BackwardAreTheStepsOneAfterTheOther) {
  KalmanProblem p(GetParam(), 5);
  const Filtered filtered(p, KalmanForm::joseph, p.shape.T);
  const Smoothed smoothed(p, filtered.view(p), nullptr, p.shape.T);
  const auto gradients = gradients_of(p, filtered.view(p), nullptr, p.shape.T);
  ThreadPool pool(3);
  for (const std::int64_t chunk : {std::int64_t(1), std::int64_t(7), p.shape.T - 1}) {
    const Smoothed one(p, filtered.view(p), nullptr, chunk);
    expect_near(one.mean, smoothed.mean, 1e-12, "smoothed mean");
    expect_near(one.covariance, smoothed.covariance, 1e-12, "smoothed covariance");
    expect_near(one.lag_one, smoothed.lag_one, 1e-12, "lag one");
    const Smoothed many(p, filtered.view(p), &pool, chunk);
    expect_near(many.mean, one.mean, 0, "smoothed mean on threads");
    expect_near(many.covariance, one.covariance, 0, "smoothed covariance on threads");
    expect_near(many.lag_one, one.lag_one, 0, "lag one on threads");
    const auto apart = gradients_of(p, filtered.view(p), nullptr, chunk);
    for (const auto& [name, values] : apart) expect_near(values, gradients.at(name), 1e-12, name);
    for (const auto& [name, values] : gradients_of(p, filtered.view(p), &pool, chunk)) {
      expect_near(values, apart.at(name), 0, name + " on threads");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, KalmanChunks,
    testing::Values(KalmanShape{40, 1, 1, 1, 0, false, false, false, false, false, 0},
                    KalmanShape{41, 3, 2, 3, 1, true, true, true, true, false, 0},
                    KalmanShape{37, 3, 4, 2, 1, true, true, false, true, true, 0},
                    KalmanShape{40, 2, 3, 2, 0, true, false, false, false, false, 2},
                    KalmanShape{40, 3, 5, 3, 1, true, true, true, true, true, 3},
                    KalmanShape{30, 2, 9, 4, 0, false, true, false, false, false, 0},
                    KalmanShape{24, 2, 16, 8, 2, true, true, true, false, false, 0}),
    testing::PrintToStringParamName());

/// Long, slow to forget, and settled within its chunks.
TEST(KalmanChunks, OfALongSequence) {
  KalmanProblem p({20000, 1, 2, 1, 0, false, false, false, false, false, 0});
  p.A.values = {0.99999, 0.1, 0, 0.99999};
  const Filtered sequential(p, KalmanForm::joseph, 20000);
  for (const std::int64_t chunk : {64, 1000}) {
    Filtered(p, KalmanForm::joseph, chunk).expect_near(sequential, 1e-12, "");
  }
  const Smoothed smoothed(p, sequential.view(p), nullptr, 20000);
  const auto gradients = gradients_of(p, sequential.view(p), nullptr, 20000);
  const Smoothed chunks(p, sequential.view(p), nullptr, 1000);
  expect_near(chunks.mean, smoothed.mean, 1e-12, "smoothed mean");
  expect_near(chunks.covariance, smoothed.covariance, 1e-12, "smoothed covariance");
  expect_near(chunks.lag_one, smoothed.lag_one, 1e-12, "lag one");
  for (const auto& [name, values] : gradients_of(p, sequential.view(p), nullptr, 1000)) {
    expect_near(values, gradients.at(name), 1e-12, name);
  }
}

/// In a constant model later chunks have the covariances of the steps one after the other, bit for
/// bit, and so smoothed ones far from both ends: they are handed on. Each sequence has a prior of
/// its own, so that none go together.
class KalmanSettledChunks : public testing::TestWithParam<KalmanShape> {};

TEST_P(KalmanSettledChunks, AreTheStepsOneAfterTheOther) {
  KalmanProblem p(GetParam(), 5);
  const auto [T, B, n] = std::tuple(p.shape.T, p.shape.B, p.shape.n);
  for (double& x : p.A.values) x *= 2 / std::sqrt(double(std::max<std::int64_t>(n, 4)));
  p.A.sequence = p.P0.sequence = n * n;
  for (std::int64_t b = 1; b < B; ++b) {
    for (std::int64_t i = 0; i < n * n; ++i) {
      p.A.values.push_back(0.8 / double(b) * p.A.values[std::size_t(i)]);
      p.P0.values.push_back(double(1 + b) * p.P0.values[std::size_t(i)]);
    }
  }
  ThreadPool pool(3);
  for (const KalmanForm form :
       {KalmanForm::covariance, KalmanForm::joseph, KalmanForm::square_root}) {
    const Filtered sequential(p, form, T);
    EXPECT_THAT(sequential.status, testing::Each(0));
    for (const std::int64_t chunk : {7, 64, 250}) {
      const Filtered chunked(p, form, chunk);
      chunked.expect_near(sequential, 1e-12, "chunk " + std::to_string(chunk) + ": ");
      expect_near(chunked.covariance, sequential.covariance, 0, "covariance");
      expect_near(chunked.predicted_covariance, sequential.predicted_covariance, 0, "predicted");
      Filtered(p, form, chunk, &pool).expect_near(chunked, 0, "on threads: ");
    }
  }
  const Filtered filtered(p, KalmanForm::joseph, T);
  const Smoothed smoothed(p, filtered.view(p), nullptr, T);
  const auto gradients = gradients_of(p, filtered.view(p), nullptr, T);
  for (const std::int64_t chunk : {7, 64, 250}) {
    const Smoothed chunked(p, filtered.view(p), nullptr, chunk);
    expect_near(chunked.mean, smoothed.mean, 1e-12, "smoothed mean");
    expect_near(chunked.covariance, smoothed.covariance, 1e-12, "smoothed covariance");
    expect_near(chunked.lag_one, smoothed.lag_one, 1e-12, "lag one");
    for (std::int64_t b = 0; b < B; ++b) {  // settled in both directions
      if (p.lengths[std::size_t(b)] < 600) continue;
      const std::int64_t middle = p.row(p.lengths[std::size_t(b)] / 2, b) * n * n;
      const auto same = [middle, nn = n * n](const auto& x, const auto& y) {
        return std::equal(x.begin() + middle, x.begin() + middle + nn, y.begin() + middle);
      };
      EXPECT_TRUE(same(chunked.covariance, smoothed.covariance)) << b;
      EXPECT_TRUE(same(chunked.lag_one, smoothed.lag_one)) << b;
    }
    const Smoothed many(p, filtered.view(p), &pool, chunk);
    expect_near(many.mean, chunked.mean, 0, "smoothed mean on threads");
    const auto apart = gradients_of(p, filtered.view(p), nullptr, chunk);
    for (const auto& [name, values] : apart) expect_near(values, gradients.at(name), 1e-12, name);
    for (const auto& [name, values] : gradients_of(p, filtered.view(p), &pool, chunk)) {
      expect_near(values, apart.at(name), 0, name + " on threads");
    }
    for (auto& [name, values] : gradients_of(p, filtered.view(p), nullptr, chunk, 0.25)) {
      std::vector<double> whole = values;
      for (double& x : whole) x *= 4;
      expect_near(whole, gradients.at(name), 1e-12, name + ", weighted");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, KalmanSettledChunks,
    testing::Values(KalmanShape{1200, 1, 1, 1, 0, false, false, false, false, false, 0},
                    KalmanShape{1400, 3, 4, 2, 1, false, true, false, true, false, 0},
                    KalmanShape{900, 2, 3, 2, 2, false, false, false, true, true, 0},
                    KalmanShape{1000, 2, 3, 2, 1, false, true, false, false, false, 2},
                    KalmanShape{800, 2, 9, 3, 0, false, true, false, false, false, 0}),
    testing::PrintToStringParamName());

/// Without noise a stretch is no map with a density; it is filtered from where the others end.
TEST(KalmanChunks, WithoutNoiseAreFilteredInTurn) {
  KalmanProblem p({30, 2, 2, 2, 0, false, false, false, false, false, 0});
  p.C.values = {1, 0, 1, 0};  // the second component says the same again
  p.R.values = {0, 0.5};
  p.Q.values = {0, 0, 0, 0.3};
  p.A.values = {1, 0.5, 0, 0.9};
  const Filtered sequential(p, KalmanForm::joseph, 30);
  EXPECT_THAT(sequential.status, testing::Each(0));
  Filtered(p, KalmanForm::joseph, 4).expect_near(sequential, 1e-12, "");
}

TEST(KalmanChunks, NameTheStepThatBroke) {
  KalmanProblem p({30, 3, 2, 1, 0, false, true, false, false, false, 0});
  p.y[std::size_t(p.row(17, 1))] = std::numeric_limits<double>::infinity();
  const Filtered f(p, KalmanForm::joseph, 5);
  EXPECT_THAT(f.status, testing::ElementsAre(0, 18, 0));
  for (std::int64_t t = 0; t < 30; ++t) {
    EXPECT_EQ(std::isnan(f.mean[std::size_t(p.row(t, 1) * 2)]), t >= 17) << t;
    EXPECT_FALSE(std::isnan(f.mean[std::size_t(p.row(t, 2) * 2)]));
  }
}

/// Among steps that have settled: those before it stand, and other sequences.
TEST(KalmanChunks, NameTheStepThatBrokeAmongSettledOnes) {
  KalmanProblem p({900, 3, 2, 1, 0, false, true, false, false, false, 0});
  p.y[std::size_t(p.row(500, 1))] = std::numeric_limits<double>::infinity();
  const Filtered sequential(p, KalmanForm::joseph, 900), f(p, KalmanForm::joseph, 50);
  EXPECT_THAT(f.status, testing::ElementsAre(0, 501, 0));
  EXPECT_EQ(f.status, sequential.status);
  for (std::int64_t t = 0; t < 900; ++t) {
    EXPECT_EQ(std::isnan(f.mean[std::size_t(p.row(t, 1) * 2)]), t >= 500) << t;
    EXPECT_EQ(std::isnan(f.covariance[std::size_t(p.row(t, 1) * 4)]), t >= 500) << t;
    const auto other = std::size_t(p.row(t, 2) * 2);
    EXPECT_NEAR(f.mean[other], sequential.mean[other], 1e-12);
  }
}

/// From a mean of zero this chunk's density is none, from the state's own it is.
TEST(KalmanChunks, OfALevelWhoseSquareIsInfinite) {
  KalmanProblem p({900, 1, 1, 1, 0, false, false, false, false, false, 0});
  p.A.values = {1}, p.C.values = {1};
  p.m0.values = {1e160};
  std::fill(p.y.begin(), p.y.end(), 1e160);
  std::fill(p.b.values.begin(), p.b.values.end(), 0);
  std::fill(p.d.values.begin(), p.d.values.end(), 0);
  const Filtered sequential(p, KalmanForm::joseph, 900), chunked(p, KalmanForm::joseph, 50);
  EXPECT_THAT(chunked.status, testing::ElementsAre(0));
  chunked.expect_near(sequential, 1e-12, "");
}

TEST(KalmanChunks, AreChosenWhereThreadsWouldHaveNothingToDo) {
  EXPECT_EQ(kalman_chunk(1000, 1, 1, false), 1000);
  EXPECT_EQ(kalman_chunk(1000, 1, 3, false), 1000);
  EXPECT_EQ(kalman_chunk(1000, 8, 16, false), 1000);
  EXPECT_EQ(kalman_chunk(100000, 2, 64, false), 3125);
  EXPECT_EQ(kalman_chunk(100, 1, 64, false), 64);
  EXPECT_EQ(kalman_chunk(0, 0, 64, false), 1);
  EXPECT_EQ(kalman_chunk(100000, 1, 2, true), 100000);
  EXPECT_EQ(kalman_chunk(96000, 1, 3, true), 8000);
  EXPECT_EQ(kalman_chunk(10000, 2, 64, true), 1024);
  KalmanProblem p({5, 1, 2, 1, 0, false, false, false, false, false, 0});
  EXPECT_THAT([&] { Filtered(p, KalmanForm::joseph, -1); },
              testing::ThrowsMessage<InvalidArgument>("kalman_filter: chunk = -1, must be >= 0"));
}

}  // namespace
}  // namespace seqvae::test

// Filter, smoother and gradient on threads: the same bits on any number of them.
#include <gmock/gmock.h>

#include "seqvae/core/threads.hpp"
#include "tests/support/kalman_problem.hpp"

namespace seqvae::test {
namespace {

class KalmanThreads : public testing::TestWithParam<KalmanShape> {};

TEST_P(KalmanThreads, GiveTheSameBitsWhateverTheirNumber) {
  KalmanProblem p(GetParam(), 9);
  const Filtered filtered(p, KalmanForm::joseph, p.shape.T);
  EXPECT_THAT(filtered.status, testing::Each(0));
  const Smoothed smoothed(p, filtered);
  const auto gradients = gradients_of(p, filtered.view(p));
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    const std::string on = std::to_string(threads) + " threads: ";
    Filtered(p, KalmanForm::joseph, p.shape.T, &pool).expect_near(filtered, 0, on);
    const Smoothed other(p, filtered.view(p), &pool);
    expect_near(other.mean, smoothed.mean, 0, on + "smoothed mean");
    expect_near(other.covariance, smoothed.covariance, 0, on + "smoothed covariance");
    expect_near(other.lag_one, smoothed.lag_one, 0, on + "lag one");
    for (const auto& [name, values] : gradients_of(p, filtered.view(p), &pool)) {
      expect_near(values, gradients.at(name), 0, on + name);
    }
  }
}

// Fewer sequences than parts and more; their covariances shared, where parts are of 32 and one may
// be alone, in ragged lengths too; of their own; gradients of each row.
INSTANTIATE_TEST_SUITE_P(
    Shapes, KalmanThreads,
    testing::Values(KalmanShape{30, 1, 2, 1, 0, false, false, false, false, false, 0},
                    KalmanShape{12, 5, 3, 2, 1, true, true, false, true, false, 0},
                    KalmanShape{9, 37, 2, 2, 1, true, false, false, true, true, 0},
                    KalmanShape{40, 100, 2, 1, 1, false, true, false, false, false, 0},
                    KalmanShape{30, 80, 4, 2, 0, false, false, false, true, true, 0},
                    KalmanShape{24, 33, 9, 2, 1, false, true, false, false, false, 0},
                    KalmanShape{8, 21, 3, 2, 2, true, true, true, true, false, 0},
                    KalmanShape{20, 18, 3, 2, 0, true, true, false, false, false, 2}),
    testing::PrintToStringParamName());

/// Covariances that all share are written once, by the thread of the longest sequence.
TEST(KalmanThreads, WriteWhatAllShareOnce) {
  KalmanProblem p({50, 96, 3, 2, 0, false, true, false, false, false, 0}, 4);
  for (std::size_t b = 0; b < 64; ++b) p.lengths[b] = 20;
  const auto run = [&](ThreadPool* pool) {
    std::vector<double> mean(50 * 96 * 3, kPoison), covariance(50 * 9, kPoison);
    std::vector<std::int32_t> status(96, -1);
    KalmanFilterArgs<double> args;
    args.model = p.model(), args.data = p.data(), args.shared_covariance = true, args.pool = pool;
    args.mean = {mean.data(), 3}, args.covariance = {covariance.data(), 9};
    args.status = status.data();
    with_workspace(args, [](const auto& a) { cpu::kalman_filter(a); });
    EXPECT_THAT(status, testing::Each(0));
    mean.insert(mean.end(), covariance.begin(), covariance.end());
    return mean;
  };
  ThreadPool pool(3);
  const std::vector<double> one = run(nullptr);
  EXPECT_THAT(one, testing::Each(testing::Truly([](double x) { return std::isfinite(x); })));
  EXPECT_EQ(run(&pool), one);
}

}  // namespace
}  // namespace seqvae::test

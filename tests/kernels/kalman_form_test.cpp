// The filter's three forms give the same moments where the problem is well conditioned; in float,
// on a vague prior, the square root keeps the digits that the covariance form loses.
#include <gmock/gmock.h>

#include <cstdio>

#include "seqvae/core/error.hpp"
#include "tests/support/kalman_problem.hpp"

namespace seqvae::test {
namespace {

constexpr KalmanForm kForms[] = {KalmanForm::covariance, KalmanForm::joseph,
                                 KalmanForm::square_root};

class KalmanForms : public testing::TestWithParam<KalmanShape> {};

TEST_P(KalmanForms, GiveTheSameMoments) {
  KalmanProblem p(GetParam());
  const Filtered joseph(p, KalmanForm::joseph);
  for (const KalmanForm form : kForms) {
    const Filtered f(p, form);
    const std::string name = "form " + std::to_string(int(form)) + ": ";
    f.expect_near(joseph, 1e-10, name);
    for (std::size_t i = 0; i + 1 < f.covariance.size(); ++i) {  // exactly symmetric
      const auto n = std::size_t(p.shape.n), r = i / (n * n), j = i % (n * n);
      const double other = f.covariance[r * n * n + j % n * n + j / n];
      ASSERT_TRUE(f.covariance[i] == other || std::isnan(other)) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, KalmanForms,
    testing::Values(KalmanShape{40, 1, 1, 1, 0, false, false, false, false, false, 0},
                    KalmanShape{40, 3, 2, 3, 1, true, true, true, true, false, 0},
                    KalmanShape{30, 3, 4, 2, 1, true, true, false, true, true, 0},
                    KalmanShape{40, 2, 3, 2, 0, true, false, false, false, false, 2},
                    KalmanShape{40, 2, 5, 3, 1, true, true, true, true, true, 3},
                    KalmanShape{30, 1, 9, 4, 0, false, true, false, false, false, 0},
                    KalmanShape{20, 2, 16, 8, 0, true, true, true, false, false, 0}),
    testing::PrintToStringParamName());

/// Positions and velocities in the plane, positions seen, by a float and a double filter.
template <class Real>
struct Track {
  static constexpr std::int64_t n = 4, m = 2, T = 4096;
  std::vector<Real> mean = std::vector<Real>(T * n), covariance = std::vector<Real>(T * n * n);
  std::int32_t status = -1;

  Track(const std::vector<double>& y, double prior, KalmanForm form) {
    const auto typed = [](std::vector<double> values) {
      return std::vector<Real>(values.begin(), values.end());
    };
    const auto A = typed({1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1});
    const auto C = typed({1, 0, 0, 0, 0, 1, 0, 0}), R = typed({1e-4, 1e-4}), observed = typed(y);
    std::vector<double> Q(16, 0.0), P0(16, 0.0);
    for (std::size_t i = 0; i < 2; ++i) {
      Q[i * 5] = 1e-3 / 3, Q[i * 4 + i + 2] = Q[(i + 2) * 4 + i] = 5e-4, Q[(i + 2) * 5] = 1e-3;
    }
    for (std::size_t i = 0; i < 4; ++i) P0[i * 5] = prior;
    const auto real_Q = typed(Q), real_P0 = typed(P0);
    KalmanFilterArgs<Real> args;
    args.model.n = n, args.model.m = m, args.model.diagonal_R = true;
    args.model.A = {A.data()}, args.model.Q = {real_Q.data()}, args.model.C = {C.data()};
    args.model.R = {R.data()}, args.model.P0 = {real_P0.data()};
    args.data.layout.T = T, args.data.layout.B = 1, args.data.y = {observed.data(), m};
    args.form = form, args.status = &status;
    args.mean = {mean.data(), n}, args.covariance = {covariance.data(), n * n};
    with_workspace(args, [](const auto& a) { cpu::kalman_filter(a); });
  }
};

struct Loss {
  double covariance = 0, mean = 0;  // of a covariance's largest entry; posterior deviations
};

Loss loss_of(const Track<float>& actual, const Track<double>& exact) {
  constexpr std::int64_t n = Track<float>::n;
  Loss loss;
  for (std::int64_t t = 0; t < Track<float>::T; ++t) {
    const double* P = exact.covariance.data() + t * n * n;
    const double largest = *std::max_element(P, P + n * n);
    for (std::int64_t i = 0; i < n * n; ++i) {
      const double error = std::abs(double(actual.covariance[std::size_t(t * n * n + i)]) - P[i]);
      if (!(error / largest <= loss.covariance)) loss.covariance = error / largest;
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const auto at = std::size_t(t * n + i);
      const double error = std::abs(double(actual.mean[at]) - exact.mean[at]);
      const double deviations = error / std::sqrt(P[i * (n + 1)]);
      if (!(deviations <= loss.mean)) loss.mean = deviations;
    }
  }
  return loss;
}

TEST(KalmanForms, InFloatTheSquareRootKeepsAVaguePriorsDigits) {
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  std::vector<double> y;
  double x[4] = {0, 0, 0.1, -0.05};
  for (std::int64_t t = 0; t < Track<float>::T; ++t) {
    for (int i = 0; i < 2; ++i) {
      x[i] += x[i + 2] + 0.01 * normal(random), x[i + 2] = 0.99 * x[i + 2] + 0.03 * normal(random);
      y.push_back(float(x[i] + 0.01 * normal(random)));
    }
  }
  for (const double prior : {1.0, 1e4}) {
    const Track<double> exact(y, prior, KalmanForm::square_root);
    Loss losses[3];
    for (const KalmanForm form : kForms) {
      const Track<float> track(y, prior, form);
      losses[int(form)] = loss_of(track, exact);
    }
    const auto& [covariance, joseph, root] = losses;
    std::printf(
        "P0 = %g I: covariance form %.1e, Joseph %.1e, square root %.1e of the covariance; means "
        "%.1e, %.1e, %.1e deviations\n",
        prior, covariance.covariance, joseph.covariance, root.covariance, covariance.mean,
        joseph.mean, root.mean);
    EXPECT_LE(root.covariance, 1e-5);
    EXPECT_LE(root.mean, 5e-3);
    if (prior > 1) {
      EXPECT_GT(covariance.covariance, 0.1);
    }
  }
}

TEST(KalmanForms, TheSquareRootSaysWhatIsNotPositiveSemidefinite) {
  for (const bool of_prior : {true, false}) {
    KalmanProblem p({5, 1, 2, 1, 0, false, false, false, false, false, 0});
    (of_prior ? p.P0 : p.Q).values = {1, 2, 2, 1};
    const Filtered f(p, KalmanForm::square_root);
    EXPECT_THAT(f.status, testing::ElementsAre(of_prior ? 1 : 2));
    EXPECT_EQ(std::isnan(f.mean[0]), of_prior);
    EXPECT_TRUE(std::isnan(f.mean[2]));
  }
}

TEST(KalmanForms, RefusesAnother) {
  KalmanProblem p({5, 1, 2, 1, 0, false, false, false, false, false, 0});
  EXPECT_THAT(
      [&] { Filtered(p, static_cast<KalmanForm>(3)); },
      testing::ThrowsMessage<InvalidArgument>("kalman_filter: form = 3, must be a KalmanForm"));
}

}  // namespace
}  // namespace seqvae::test

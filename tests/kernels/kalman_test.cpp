// The Kalman contracts against the dense normal distribution, on random systems with masks, ragged
// and packed layouts, controls, full R and diffuse components.
#include <gmock/gmock.h>

#include "seqvae/core/error.hpp"
#include "tests/kernels/kalman_problem.hpp"

namespace seqvae::test {
namespace {

const auto kShapes = testing::Values(
    // T, B, n, m, U, masked, full_R, varying, ragged, packed, diffuse
    KalmanShape{1, 1, 1, 1, 0, false, false, false, false, false, 0},
    KalmanShape{6, 2, 3, 2, 0, false, true, false, false, false, 0},
    KalmanShape{7, 3, 2, 4, 2, true, true, true, true, false, 0},
    KalmanShape{7, 3, 4, 2, 1, true, false, true, true, true, 0},
    KalmanShape{9, 2, 3, 1, 0, true, true, false, false, false, 3},
    KalmanShape{5, 2, 3, 2, 2, true, true, true, false, false, 2},
    KalmanShape{6, 3, 4, 3, 1, false, true, false, false, false, 4},
    KalmanShape{8, 1, 4, 2, 0, true, false, true, false, true, 1});

/// Of the largest entry.
template <class Actual, class Expected>
void expect_close(const Actual& actual, const Expected& expected, double tolerance,
                  const std::string& what) {
  const double scale = expected.cwiseAbs().maxCoeff();
  const double error = (actual - expected).cwiseAbs().maxCoeff();
  EXPECT_TRUE(error <= tolerance * scale) << what << ": error " << error << ", scale " << scale;
}

class KalmanAgainstDense : public testing::TestWithParam<KalmanShape> {
 protected:
  Eigen::Map<const Vector> vector(const std::vector<double>& v, std::int64_t row) {
    return {v.data() + row * GetParam().n, GetParam().n};
  }
  Eigen::Map<const Matrix> matrix(const std::vector<double>& v, std::int64_t row) {
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

struct Smoothed {
  std::vector<double> mean, covariance, lag_one;
  Smoothed(KalmanProblem& p, const Filtered& filtered) {
    const std::int64_t n = p.shape.n;
    mean.assign(std::size_t(p.rows() * n), kPoison);
    covariance.assign(std::size_t(p.rows() * n * n), kPoison);
    lag_one = covariance;
    KalmanSmootherArgs<double> args;
    args.model = p.model();
    args.data = p.data();
    args.filtered = filtered.view(p);
    args.mean = {mean.data(), n};
    args.covariance = {covariance.data(), n * n};
    args.lag_one = {lag_one.data(), n * n};
    with_workspace(args, [](const auto& a) { cpu::kalman_smoother(a); });
  }
};

TEST_P(KalmanAgainstDense, SmootherHasTheMomentsGivenAllObservations) {
  KalmanProblem p(GetParam(), 3);
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

/// What kalman_backward differentiates, with fixed weights.
struct Objective {
  KalmanProblem& p;
  std::vector<double> kappa, mean, covariance;

  explicit Objective(KalmanProblem& problem, bool moments) : p(problem) {
    const std::int64_t n = p.shape.n;
    for (std::int64_t r = 0; r < p.rows(); ++r) kappa.push_back(1 + 0.3 * p.draw());
    mean.assign(std::size_t(p.rows() * n), 0);
    covariance.assign(std::size_t(p.rows() * n * n), 0);
    if (!moments) return;
    for (double& x : mean) x = p.draw();
    for (std::int64_t r = 0; r < p.rows(); ++r) {
      Eigen::Map<Matrix> G(covariance.data() + r * n * n, n, n);
      for (auto& x : G.reshaped()) x = p.draw();
      G = (G + G.transpose()).eval() / 2;
    }
  }
  double operator()() const {
    const Filtered f(p);
    double sum = 0;
    const auto rows = std::size_t(p.rows());
    for (std::size_t r = 0; r < rows; ++r) sum += kappa[r] * f.log_likelihood[r];
    for (std::size_t j = 0; j < mean.size(); ++j) sum += mean[j] * f.mean[j];
    for (std::size_t j = 0; j < covariance.size(); ++j) sum += covariance[j] * f.covariance[j];
    return sum;
  }
};

struct Gradient {
  Array A, B, b, Q, C, D, d, R, m0, P0;
  std::vector<double> y;

  Gradient(KalmanProblem& p, const Filtered& filtered, const Objective& objective,
           double start = kPoison)
      : A(p.A), B(p.B), b(p.b), Q(p.Q), C(p.C), D(p.D), d(p.d), R(p.R), m0(p.m0), P0(p.P0), y(p.y) {
    for (Array* a : {&A, &B, &b, &Q, &C, &D, &d, &R, &m0, &P0}) {
      std::fill(a->values.begin(), a->values.end(), start);
    }
    std::fill(y.begin(), y.end(), start);
    const std::int64_t n = p.shape.n;
    KalmanBackwardArgs<double> args;
    args.model = p.model();
    args.data = p.data();
    args.filtered = filtered.view(p);
    args.grad_log_likelihood = {objective.kappa.data(), 1};
    args.grad_mean = {objective.mean.data(), n};
    args.grad_covariance = {objective.covariance.data(), n * n};
    args.grad = {A.view(),
                 B.view(),
                 b.view(),
                 Q.view(),
                 C.view(),
                 D.view(),
                 d.view(),
                 R.view(),
                 m0.view(),
                 P0.view(),
                 {y.data(), p.shape.m}};
    args.accumulate = !std::isnan(start);
    with_workspace(args, [](const auto& a) { cpu::kalman_backward(a); });
  }
};

TEST_P(KalmanAgainstDense, GradientIsThatOfFiniteDifferences) {
  for (const bool moments : {false, true}) {
    if (moments && GetParam().diffuse > 0) continue;  // moments while diffuse are not functions
    KalmanProblem p(GetParam(), 2);
    const Objective objective(p, moments);
    const Gradient gradient(p, Filtered(p), objective);
    double largest = 1;
    const auto compare = [&](std::vector<double>& x, const std::vector<double>& g,
                             std::int64_t symmetric, const std::string& name) {
      for (double v : g) largest = std::max(largest, std::abs(v));
      for (std::size_t j = 0; j < x.size(); ++j) {
        if (std::isnan(x[j])) continue;
        std::size_t twin = j;
        if (symmetric > 0) {  // both halves move together
          const auto k = std::size_t(symmetric), base = j / (k * k) * (k * k), e = j - base;
          twin = base + e % k * k + e / k;
          if (twin < j) continue;
        }
        const double kept = x[j], other = x[twin], h = 1e-5;
        x[j] = x[twin] = kept + h;
        const double above = objective();
        x[j] = x[twin] = kept - h;
        const double below = objective();
        x[j] = kept, x[twin] = other;
        const double expected = (above - below) / (2 * h);
        const double actual = g[j] + (twin != j ? g[twin] : 0);
        ASSERT_TRUE(std::abs(actual - expected) <= 1e-6 * largest)
            << name << "[" << j << "]: " << actual << ", differences " << expected
            << (moments ? ", with moments" : "");
      }
    };
    compare(p.C.values, gradient.C.values, 0, "C");
    compare(p.d.values, gradient.d.values, 0, "d");
    compare(p.D.values, gradient.D.values, 0, "D");
    compare(p.R.values, gradient.R.values, p.shape.full_R ? p.shape.m : 0, "R");
    compare(p.y, gradient.y, 0, "y");
    compare(p.Q.values, gradient.Q.values, p.shape.n, "Q");
    compare(p.b.values, gradient.b.values, 0, "b");
    compare(p.B.values, gradient.B.values, 0, "B");
    compare(p.A.values, gradient.A.values, 0, "A");
    compare(p.m0.values, gradient.m0.values, 0, "m0");
    compare(p.P0.values, gradient.P0.values, p.shape.n, "P0");
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, KalmanAgainstDense, kShapes, testing::PrintToStringParamName());

TEST(KalmanBackward, AddsWhereItIsAskedTo) {
  KalmanProblem p({6, 3, 2, 3, 1, true, true, false, true, false, 0});
  const Filtered filtered(p);
  const Objective objective(p, true);
  const Gradient once(p, filtered, objective), twice(p, filtered, objective, 2.5);
  for (std::size_t j = 0; j < once.A.values.size(); ++j) {
    EXPECT_DOUBLE_EQ(twice.A.values[j], once.A.values[j] + 2.5);
  }
  for (std::size_t j = 0; j < once.y.size(); ++j) {
    EXPECT_DOUBLE_EQ(twice.y[j], once.y[j] + 2.5);
  }
}

}  // namespace
}  // namespace seqvae::test

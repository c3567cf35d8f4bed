// Gradients of the Kalman contracts, by central differences, on random systems with masks, ragged
// and packed layouts, controls and full R; of likelihoods, moments and draws.
#include <gmock/gmock.h>

#include "seqvae/core/error.hpp"
#include "tests/support/kalman_problem.hpp"

namespace seqvae::test {
namespace {

enum class Of { likelihood, filtered, smoothed, drawn };

/// Draws of the states, two a sequence.
struct Drawn {
  static constexpr std::int64_t kDraws = 2;
  std::vector<double> z;
  std::vector<std::int32_t> status;

  Drawn(KalmanProblem& p, const Filtered& filtered) {
    z.assign(std::size_t(kDraws * p.rows() * p.shape.n), kPoison);
    status.assign(std::size_t(p.shape.B), -1);
    KalmanSampleArgs<double> args;
    args.model = p.model(), args.data = p.data(), args.filtered = filtered.view(p);
    args.noise = noise_of(p), args.S = kDraws;
    args.z = {z.data(), p.shape.n}, args.status = status.data();
    with_workspace(args, [](const auto& a) { cpu::kalman_sample(a); });
    EXPECT_THAT(status, testing::Each(0));
  }
  static constexpr std::uint64_t kStep = 5;
  static KalmanNoise noise_of(const KalmanProblem& p) { return {{11, 3}, &kStep, p.ids.data()}; }
};

/// What is differentiated, with fixed weights: the likelihood, and these moments or draws.
struct Objective {
  KalmanProblem& p;
  Of of;
  std::vector<double> kappa, mean, covariance;

  Objective(KalmanProblem& problem, Of of_) : p(problem), of(of_) {
    const std::int64_t n = p.shape.n;
    for (std::int64_t r = 0; r < p.rows(); ++r)
      kappa.push_back(p.shape.diffuse > 0 ? 1.3 : 1 + 0.3 * p.draw());
    if (of == Of::likelihood) return;
    mean.assign(std::size_t(p.rows() * n * (of == Of::drawn ? Drawn::kDraws : 1)), 0);
    for (double& x : mean) x = p.draw();
    if (of == Of::drawn) return;
    covariance.assign(std::size_t(p.rows() * n * n), 0);
    for (std::int64_t r = 0; r < p.rows(); ++r) {
      Eigen::Map<EigenMatrix> G(covariance.data() + r * n * n, n, n);
      for (auto& x : G.reshaped()) x = p.draw();
      G = (G + G.transpose()).eval() / 2;
    }
  }
  double operator()() const {
    const Filtered f(p);
    double sum = 0;
    const auto rows = std::size_t(p.rows());
    for (std::size_t r = 0; r < rows; ++r) sum += kappa[r] * f.log_likelihood[r];
    if (of == Of::likelihood) return sum;
    if (of == Of::filtered) return sum + weighted(f.mean, f.covariance);
    if (of == Of::drawn) return sum + weighted(Drawn(p, f).z, {});
    const Smoothed s(p, f);
    return sum + weighted(s.mean, s.covariance);
  }

 private:
  double weighted(const std::vector<double>& means, const std::vector<double>& covariances) const {
    double sum = 0;
    for (std::size_t j = 0; j < mean.size(); ++j) sum += mean[j] * means[j];
    for (std::size_t j = 0; j < covariance.size(); ++j) sum += covariance[j] * covariances[j];
    return sum;
  }
};

struct Gradient {
  Array A, B, b, Q, C, D, d, R, m0, P0;
  std::vector<double> y;

  Gradient(KalmanProblem& p, const Filtered& filtered, const Objective& objective,
           double start = kPoison, std::int64_t chunk = 0, ThreadPool* pool = nullptr)
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
    const Rows<const double> of_mean(objective.mean.data(), n);
    const Rows<const double> of_covariance(objective.covariance.data(), n * n);
    if (objective.of == Of::filtered) {
      args.grad_mean = of_mean, args.grad_covariance = of_covariance;
    } else if (objective.of == Of::smoothed) {
      args.grad_smoothed_mean = of_mean, args.grad_smoothed_covariance = of_covariance;
    }
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
    args.chunk = chunk, args.pool = pool;
    with_workspace(args, [](const auto& a) { cpu::kalman_backward(a); });
    if (objective.of != Of::drawn) return;
    KalmanSampleBackwardArgs<double> draws;
    draws.model = args.model, draws.data = args.data;
    draws.noise = Drawn::noise_of(p), draws.S = Drawn::kDraws;
    draws.grad_z = of_mean, draws.grad = args.grad, draws.accumulate = true;
    with_workspace(draws, [](const auto& a) { cpu::kalman_sample_backward(a); });
  }
};

class KalmanGradients : public testing::TestWithParam<KalmanShape> {};

TEST_P(KalmanGradients, AreThoseOfFiniteDifferences) {
  for (const Of of : {Of::likelihood, Of::filtered, Of::smoothed, Of::drawn}) {
    // Moments while diffuse are not functions, and draws have no gradient then.
    if (of != Of::likelihood && GetParam().diffuse > 0) continue;
    KalmanProblem p(GetParam(), 2);
    const Objective objective(p, of);
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
            << name << "[" << j << "]: " << actual << ", differences " << expected << ", objective "
            << static_cast<int>(of);
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

TEST_P(KalmanGradients, OfChunksAreThoseOfStepsOneAfterTheOther) {
  for (const Of of : {Of::likelihood, Of::filtered}) {
    if (of != Of::likelihood && GetParam().diffuse > 0) continue;
    KalmanProblem p(GetParam(), 2);
    const Objective objective(p, of);
    const Filtered filtered(p);
    Gradient expected(p, filtered, objective, kPoison, p.shape.T);
    ThreadPool pool(3);
    for (const std::int64_t chunk : {1, 2, 3, 5}) {
      Gradient one(p, filtered, objective, kPoison, chunk);
      Gradient many(p, filtered, objective, kPoison, chunk, &pool);
      for (Array Gradient::*array :
           {&Gradient::A, &Gradient::B, &Gradient::b, &Gradient::Q, &Gradient::C, &Gradient::D,
            &Gradient::d, &Gradient::R, &Gradient::m0, &Gradient::P0}) {
        expect_near((one.*array).values, (expected.*array).values, 1e-12, "of chunks");
        expect_near((many.*array).values, (one.*array).values, 0, "on threads");
      }
      expect_near(one.y, expected.y, 1e-12, "y");
      expect_near(many.y, one.y, 0, "y on threads");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, KalmanGradients, testing::ValuesIn(kalman_shapes()),
                         testing::PrintToStringParamName());

TEST(KalmanBackward, IsFishersIdentity) {
  // grad log p(y) = E[grad log p(z, y) | y], by smoothed moments and inverses of Q, R and P0.
  KalmanProblem p({8, 1, 3, 2, 0, false, true, false, false, false, 0});
  const Filtered filtered(p);
  const Smoothed smoothed(p, filtered);
  Objective objective(p, Of::likelihood);
  std::fill(objective.kappa.begin(), objective.kappa.end(), 1.0);
  Gradient gradient(p, filtered, objective);
  const std::int64_t n = 3, m = 2;
  const EigenMatrix A = p.matrix(p.A, 0, 0, n), C = p.matrix(p.C, 0, 0, n);
  const EigenMatrix Qi = inverse(p.matrix(p.Q, 0, 0, n)), Ri = inverse(p.matrix(p.R, 0, 0, m));
  EigenMatrix grad_A = EigenMatrix::Zero(n, n), grad_Q = grad_A, grad_C = EigenMatrix::Zero(m, n);
  EigenMatrix grad_R = EigenMatrix::Zero(m, m);
  const auto mean = [&](std::int64_t t) {
    return Vector(Eigen::Map<const Vector>(smoothed.mean.data() + t * n, n));
  };
  const auto square = [&](std::vector<double> v, std::int64_t t) {
    return EigenMatrix(Eigen::Map<EigenMatrix>(v.data() + t * n * n, n, n));
  };
  for (std::int64_t t = 0; t < 8; ++t) {
    const Vector z = mean(t),
                 y = Eigen::Map<Vector>(p.y.data() + t * m, m) - Vector(p.matrix(p.d, 0, 0, 1));
    const EigenMatrix P = square(smoothed.covariance, t);
    const Vector e = y - C * z;
    grad_C += Ri * (e * z.transpose() - C * P);
    grad_R += (Ri * (e * e.transpose() + C * P * C.transpose()) * Ri - Ri) / 2;
    if (t == 0) continue;
    const Vector before = mean(t - 1), q = z - A * before - Vector(p.matrix(p.b, 0, 0, 1));
    const EigenMatrix lag = square(smoothed.lag_one, t), Pb = square(smoothed.covariance, t - 1);
    grad_A += Qi * (q * before.transpose() + lag - A * Pb);
    const EigenMatrix S =
        q * q.transpose() + P - lag * A.transpose() - A * lag.transpose() + A * Pb * A.transpose();
    grad_Q += (Qi * S * Qi - Qi) / 2;
  }
  expect_close(p.matrix(gradient.A, 0, 0, n), grad_A, 1e-10, "A");
  expect_close(p.matrix(gradient.Q, 0, 0, n), grad_Q, 1e-10, "Q");
  expect_close(p.matrix(gradient.C, 0, 0, n), grad_C, 1e-10, "C");
  expect_close(p.matrix(gradient.R, 0, 0, m), grad_R, 1e-10, "R");
}

TEST(KalmanBackward, AddsWhereItIsAskedTo) {
  KalmanProblem p({6, 3, 2, 3, 1, true, true, false, true, false, 0});
  const Filtered filtered(p);
  const Objective objective(p, Of::filtered);
  const Gradient once(p, filtered, objective), twice(p, filtered, objective, 2.5);
  for (std::size_t j = 0; j < once.A.values.size(); ++j) {
    EXPECT_DOUBLE_EQ(twice.A.values[j], once.A.values[j] + 2.5);
  }
  for (std::size_t j = 0; j < once.y.size(); ++j) {
    EXPECT_DOUBLE_EQ(twice.y[j], once.y[j] + 2.5);
  }
}

/// A level and its slope, of which the slope alone has noise: Q, and R of two sensors that share
/// their noise, are singular.
TEST(KalmanSampleBackward, LeavesWhatHasNoNoiseWithout) {
  KalmanProblem p({7, 1, 2, 2, 0, false, true, false, false, false, 0});
  p.Q.values = {0, 0, 0, 0.3};
  p.R.values = {0.4, 0.4, 0.4, 0.4};
  const Objective objective(p, Of::drawn);
  const Gradient gradient(p, Filtered(p), objective);
  const auto difference = [&](double& x) {
    const double kept = x, h = 1e-5;
    x = kept + h;
    const double above = objective();
    x = kept - h;
    const double below = objective();
    x = kept;
    return (above - below) / (2 * h);
  };
  const double of_noise = difference(p.Q.values[3]);
  EXPECT_NEAR(gradient.Q.values[3], of_noise, 1e-6 * std::abs(of_noise));
  for (std::size_t i = 0; i < 4; ++i) {
    const double of_A = difference(p.A.values[i]);
    EXPECT_NEAR(gradient.A.values[i], of_A, 1e-6 * std::abs(of_A)) << i;
    EXPECT_TRUE(std::isfinite(gradient.Q.values[i]) && std::isfinite(gradient.R.values[i])) << i;
  }
}

TEST(KalmanSampleBackward, RefusesBadArgumentsByName) {
  KalmanProblem p({4, 1, 2, 1, 0, false, false, false, false, false, 0});
  const std::vector<double> weights(16, 1);
  std::vector<double> workspace(1 << 16);
  const auto message = [&](auto change) -> std::string {
    KalmanSampleBackwardArgs<double> args;
    args.model = p.model(), args.data = p.data();
    args.noise = Drawn::noise_of(p), args.S = 2, args.grad_z = {weights.data(), 2};
    args.workspace = workspace.data(), args.workspace_bytes = workspace.size() * sizeof(double);
    change(args);
    try {
      cpu::kalman_sample_backward(args);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "";
  };
  const std::vector<std::uint8_t> flags = {1, 0};
  EXPECT_EQ(message([](auto&) {}), "");
  EXPECT_EQ(message([&](auto& a) { a.model.diffuse = flags.data(); }),
            "kalman_sample_backward: model.diffuse is given, must be null");
  EXPECT_EQ(message([](auto& a) { a.grad_z = {}; }),
            "kalman_sample_backward: grad_z is null, must point to memory");
  EXPECT_EQ(message([](auto& a) { a.noise.sequence_id = nullptr; }),
            "kalman_sample_backward: noise.sequence_id is null, must point to memory");
  EXPECT_EQ(
      message([&](auto& a) {
        a.grad.R = {workspace.data(), 0, -1};
      }),
      "kalman_sample_backward: grad.R.sequence = -1, must be 0, or at least the array's size");
  EXPECT_THAT(
      message([](auto& a) { a.workspace_bytes = 8; }),
      testing::StartsWith("kalman_sample_backward: workspace_bytes = 8, must be at least "));
}

}  // namespace
}  // namespace seqvae::test

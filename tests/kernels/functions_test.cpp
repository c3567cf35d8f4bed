// The non-linear functions over the whole range of float, against double: a few ulp everywhere, and
// the right limits at zeros, denormals and infinities; NaN stays NaN.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "seqvae/kernels/activation.hpp"
#include "seqvae/kernels/gaussian.hpp"
#include "tests/kernels/matrix.hpp"

namespace seqvae::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Every 4099th float, both signs, infinities and the ends of the denormals among them.
std::vector<float> sweep() {
  std::vector<float> all = {0.0f, -0.0f, 1e-45f, -1e-45f, 1.17549435e-38f, kInfinity, -kInfinity};
  for (std::uint32_t bits = 1; bits < 0x7f800000u; bits += 4099) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    all.push_back(x);
    all.push_back(-x);
  }
  for (float x = -110; x < 110; x += 0.0037f) all.push_back(x);
  return all;
}

/// |actual - expected| in units of the last place of expected as a float.
double ulps(float actual, double expected) {
  const float rounded = static_cast<float>(expected);
  if (std::isinf(rounded) || std::isinf(actual)) return actual == rounded ? 0 : 1e9;
  int exponent;
  std::frexp(expected, &exponent);
  return std::abs(actual - expected) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

using Function = double (*)(double);

void expect_within(
    double bound,
    const std::function<void(const std::vector<float>&, std::vector<float>&)>& compute,
    Function exact, double absolute = 0) {
  const std::vector<float> x = sweep();
  std::vector<float> y(x.size());
  compute(x, y);
  double worst = 0;
  float at = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = exact(static_cast<double>(x[i]));
    double error = ulps(y[i], expected);
    if (absolute > 0 && std::abs(y[i] - expected) <= absolute) error = 0;
    ASSERT_FALSE(std::isnan(error)) << "at x = " << x[i];
    if (error > worst) worst = error, at = x[i];
  }
  EXPECT_LE(worst, bound) << "at x = " << at;
}

void expect_activation(Activation kind, double bound, Function exact) {
  expect_within(
      bound,
      [&](const auto& x, auto& y) {
        const auto n = static_cast<std::int64_t>(x.size());
        cpu::activation<float>({kind, 1, n, Rows<const float>{x.data(), n}, {y.data(), n}});
      },
      exact);
  Matrix<float> nan(1, 19), y(1, 19);
  nan.fill([](auto, auto) { return kNan; });
  cpu::activation<float>({kind, 1, 19, nan, y});
  for (std::int64_t d = 0; d < 19; ++d) EXPECT_TRUE(std::isnan(y(0, d)));
}

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

TEST(Functions, Exp) {
  expect_activation(Activation::exp, 1.5, [](double x) { return std::exp(x); });
}
TEST(Functions, Tanh) {
  expect_activation(Activation::tanh, 2, [](double x) { return std::tanh(x); });
}
TEST(Functions, Sigmoid) {
  expect_activation(Activation::sigmoid, 2.5, [](double x) {
    return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
  });
}
TEST(Functions, Softplus) { expect_activation(Activation::softplus, 2.5, softplus); }
TEST(Functions, Elu) {
  expect_activation(Activation::elu, 2, [](double x) { return x > 0 ? x : std::expm1(x); });
}
TEST(Functions, Relu) {
  expect_activation(Activation::relu, 0, [](double x) { return x > 0 ? x : 0; });
}
TEST(Functions, LeakyRelu) {
  expect_activation(Activation::leaky_relu, 1.5, [](double x) { return x > 0 ? x : x / 100; });
}
TEST(Functions, Identity) {
  expect_activation(Activation::identity, 0, [](double x) { return x; });
}

TEST(Functions, LogOfSoftplusTendsToItsArgument) {
  const auto head = [](const std::vector<float>& x, std::vector<float>& y) {
    const auto n = static_cast<std::int64_t>(x.size());
    cpu::gaussian_head<float>(
        {ScaleMap::softplus_var, 0, 0, 1, n, Rows<const float>{x.data(), n}, {y.data(), n}});
  };
  // Near log(softplus(x)) = 0 (x = 0.54) an ulp of the softplus is what counts.
  expect_within(
      2.5, head, [](double x) { return x < -30 ? x : std::log(softplus(x)); }, 1.5e-7);
}

TEST(Functions, SlopeOfLogSoftplusTendsToOne) {
  const auto head = [](const std::vector<float>& x, std::vector<float>& y) {
    const auto n = static_cast<std::int64_t>(x.size());
    const float one = 1;
    cpu::gaussian_head_backward<float>({ScaleMap::softplus_var,
                                        0,
                                        0,
                                        n,
                                        1,
                                        Rows<const float>{x.data(), 1},
                                        Rows<const float>{&one, 0},
                                        {y.data(), 1}});
  };
  expect_within(4, head,
                [](double x) { return x < -30 ? 1 : 1 / ((1 + std::exp(-x)) * softplus(x)); });
}

TEST(Functions, KlIsZeroWherePosteriorEqualsPriorAndSmallNearIt) {
  const std::int64_t D = 40;
  Matrix<float> mu(1, D), q(1, D), p(1, D), kl(1, D), kl_sum(1, 1);
  mu.fill_normal(1), q.fill_normal(2, 30);
  q(0, 0) = 100, q(0, 1) = -100;  // exp overflows float beyond 88.7
  cpu::gaussian_kl<float>({1, D, mu, q, mu, q, kl, kl_sum});
  for (std::int64_t d = 0; d < D; ++d) EXPECT_EQ(kl(0, d), 0);
  EXPECT_EQ(kl_sum(0, 0), 0);

  // 1/2 (exp(x) - 1 - x) = x^2 / 4 + x^3 / 12 + ...
  q.fill([](auto, auto d) { return 1e-3 * std::pow(0.5, d); });
  p.fill([](auto, auto) { return 0; });
  cpu::gaussian_kl<float>({1, D, mu, q, mu, p, kl, kl_sum});
  for (std::int64_t d = 0; d < D; ++d) {
    const double x = q(0, d), exact = x * x / 4 + x * x * x / 12 + x * x * x * x / 48;
    EXPECT_LE(std::abs(kl(0, d) - exact), 3e-7 * exact) << d;
  }
}

}  // namespace
}  // namespace seqvae::test

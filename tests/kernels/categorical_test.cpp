// Draws of categorical latents and dropout follow the distribution they claim, by the word of their
// place; extremes; what is not chosen does not matter.
#include "seqvae/kernels/categorical.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/dropout.hpp"
#include "seqvae/kernels/normalization.hpp"
#include "tests/kernels/matrix.hpp"

namespace seqvae::test {
namespace {

constexpr std::int64_t kDraws = 100'000;

/// Noise of `kDraws` sequences of one step.
struct ManyDraws {
  std::vector<std::uint32_t> ids = std::vector<std::uint32_t>(kDraws);
  std::uint64_t step = 1;
  NoiseArgs<float> noise;

  ManyDraws() {
    std::iota(ids.begin(), ids.end(), 0u);
    noise.layout.T = 1, noise.layout.B = kDraws;
    noise.key = {2024, 3}, noise.sequence_id = ids.data(), noise.step = &step;
  }
};

/// |seen - p| within 3.9 standard deviations of the share of `n` draws: 1 in 10^4 a check.
void expect_share(double seen, double p, double n) {
  EXPECT_LE(std::abs(seen / n - p), 3.9 * std::sqrt(p * (1 - p) / n)) << "p = " << p;
}

TEST(OneHotSample, FollowsItsProbabilitiesInEachGroupApart) {
  const std::vector<float> p = {0.1f, 0.6f, 0.3f, 0.5f, 0, 0.5f, 2, 1, 1};  // the last sums to 4
  ManyDraws many;
  Matrix<float> y(kDraws, 9);
  cpu::one_hot_sample<float>({3, 3, many.noise, Rows<const float>{p.data(), 0}, y});
  double seen[9] = {}, both = 0;
  for (std::int64_t r = 0; r < kDraws; ++r) {
    for (std::int64_t g = 0; g < 3; ++g) {
      ASSERT_EQ(y(r, 3 * g) + y(r, 3 * g + 1) + y(r, 3 * g + 2), 1);
    }
    for (std::int64_t d = 0; d < 9; ++d) seen[d] += y(r, d);
    both += y(r, 1) * y(r, 3);
  }
  for (std::size_t d = 0; d < 9; ++d) expect_share(seen[d], p[d] / (d < 6 ? 1.0 : 4.0), kDraws);
  EXPECT_EQ(seen[4], 0);
  expect_share(both, 0.6 * 0.5, kDraws);  // groups are independent
}

TEST(OneHotSample, IsTheWordOfItsGroupAndZeroInPadding) {
  const std::int32_t lengths[] = {2, 1};
  const std::uint32_t ids[] = {8, 9};
  const std::uint64_t step = 4;
  constexpr std::int64_t groups = 6, C = 3;
  NoiseArgs<double> noise;
  noise.layout.T = 2, noise.layout.B = 2, noise.layout.lengths = lengths;
  noise.key = {1, 2}, noise.sequence_id = ids, noise.step = &step;
  Matrix<double> p(4, groups * C), y(4, groups * C), given(4, groups * C), uniforms(4, groups);
  p.fill([](auto r, auto d) { return 0.1 + static_cast<double>((5 * r + 3 * d) % 7); });
  cpu::one_hot_sample<double>({groups, C, noise, p, y});
  for (std::int64_t row = 0; row < 4; ++row) {
    for (std::int64_t g = 0; g < groups; ++g) {
      const Words random = philox(noise_counter(2, 4, ids[row % 2], 0, row / 2, groups, g / 4), 1);
      const double u = uniforms(row, g) = uniform(random.w[g % 4]);
      const double a = p(row, g * C), b = p(row, g * C + 1), sum = a + b + p(row, g * C + 2);
      const std::int64_t chosen = u * sum <= a ? 0 : u * sum <= a + b ? 1 : 2;
      for (std::int64_t c = 0; c < C; ++c) {
        EXPECT_EQ(y(row, g * C + c), row != 3 && c == chosen) << row << " " << g;
      }
    }
  }
  noise.eps = uniforms;
  cpu::one_hot_sample<double>({groups, C, noise, p, given});
  for (std::int64_t d = 0; d < groups * C; ++d) EXPECT_EQ(given(0, d), y(0, d));
}

TEST(OneHotSample, IsNaNWhereThereIsNoDistribution) {
  const float nan = std::nanf("");
  Matrix<float> p(1, 8), y(1, 8), u(1, 4);
  const float values[] = {0, 0, 0.5f, nan, 1, 0, 0.5f, 0.5f};
  p.fill([&](auto, auto d) { return values[d]; });
  u.fill([](auto, auto) { return 0.999; });
  OneHotSampleArgs<float> args{4, 2, {}, p, y};
  args.noise.layout.T = args.noise.layout.B = 1, args.noise.eps = u;
  cpu::one_hot_sample(args);
  for (const std::int64_t d : {0, 1, 2, 3}) EXPECT_TRUE(std::isnan(y(0, d)));
  EXPECT_EQ(y(0, 4), 1);  // never a class without probability
  EXPECT_EQ(y(0, 7), 1);
}

template <class Real>
void expect_extremes_of_categories(double tolerance) {
  const Real inf = std::numeric_limits<Real>::infinity();
  const auto kl = [](std::vector<Real> q, std::vector<Real> p) {
    Real sum = 0;
    const auto C = static_cast<std::int64_t>(q.size());
    cpu::categorical_kl<Real>({1, 1, C, Rows<const Real>{q.data(), C},
                               Rows<const Real>{p.data(), C}, Rows<Real>{&sum, 1}});
    return static_cast<double>(sum);
  };
  EXPECT_EQ(kl({-inf, 0}, {0, 0}), kl({-1000, 0}, {0, 0}));
  EXPECT_NEAR(kl({-inf, 0}, {0, 0}), std::log(2.0), tolerance);
  EXPECT_EQ(kl({0, 0}, {0, -inf}), static_cast<double>(inf));
  EXPECT_EQ(kl({3, 3}, {-5, -5}), 0);
  EXPECT_NEAR(kl({800, 790}, {0, 0}) / (std::log(2.0) - 11 * std::exp(-10.0)), 1, 1e-6);
  EXPECT_TRUE(std::isnan(kl({0, static_cast<Real>(std::nan(""))}, {0, 0})));
  Real l[] = {-inf, 1000, 1000}, p[3];
  cpu::softmax<Real>({1, 1, 3, Rows<const Real>{l, 3}, Rows<Real>{p, 3}});
  EXPECT_THAT(p, testing::ElementsAre(0, Real(0.5), Real(0.5)));
}
TEST(Categories, AtTheirExtremes) {
  expect_extremes_of_categories<float>(1e-7);
  expect_extremes_of_categories<double>(1e-15);
}

TEST(Dropout, KeepsItsShareAndTheMean) {
  ManyDraws many;
  Matrix<float> x(1, 5), y(kDraws, 5);
  x.fill([](auto, auto d) { return d == 4 ? INFINITY : 1.0 + d; });
  const Rows<const float> one(x.view().data, 0);
  cpu::dropout<float>({5, many.noise, 0.25f, one, y});
  for (std::int64_t d = 0; d < 5; ++d) {
    double kept = 0;
    for (std::int64_t r = 0; r < kDraws; ++r) {
      const float expected = static_cast<float>(4.0 / 3) * x(0, d);
      ASSERT_TRUE(y(r, d) == 0 || y(r, d) == expected) << y(r, d);
      kept += y(r, d) != 0;
    }
    expect_share(kept, 0.75, kDraws);
  }
}

TEST(Dropout, IsTheWordOfItsComponentAndZeroInPadding) {
  const std::int32_t lengths[] = {2, 1};
  const std::uint32_t ids[] = {8, 9};
  const std::uint64_t step = 4;
  constexpr std::int64_t D = 6;
  NoiseArgs<float> noise;
  noise.layout.T = 2, noise.layout.B = 2, noise.layout.lengths = lengths;
  noise.key = {1, 2}, noise.sequence_id = ids, noise.step = &step;
  Matrix<float> x(4, D), y(4, D);
  x.fill([](auto, auto) { return 3; });
  cpu::dropout<float>({D, noise, 0.5f, x, y});
  for (std::int64_t row = 0; row < 4; ++row) {
    for (std::int64_t d = 0; d < D; ++d) {
      const Words random = philox(noise_counter(2, 4, ids[row % 2], 0, row / 2, D, d / 4), 1);
      EXPECT_EQ(y(row, d), row != 3 && uniform(random.w[d % 4]) >= 0.5f ? 6 : 0);
    }
  }
}

template <class Real>
void expect_only_the_chosen_matters() {
  constexpr std::int64_t rows = 3, D = 21;
  const double nan = std::nan("");
  Matrix<Real> condition(rows, D), a(rows, D), b(rows, D), y(rows, D);
  condition.fill([](auto r, auto d) { return (r + d) % 3 == 0 ? 0 : d % 2 == 0 ? 1 : -0.5; });
  a.fill([&](auto r, auto d) { return condition(r, d) == 0 ? nan : 1; });
  b.fill([&](auto r, auto d) { return condition(r, d) == 0 ? 2 : nan; });
  cpu::select<Real>({rows, D, false, condition, a, b, y});
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t d = 0; d < D; ++d) EXPECT_EQ(y(r, d), condition(r, d) == 0 ? 2 : 1);
  }
  condition.fill([&](auto, auto) { return nan; });
  a.fill([](auto, auto) { return 1; });
  cpu::select<Real>({rows, D, false, condition, a, b, y});
  EXPECT_EQ(y(2, D - 1), 1);
}
TEST(Select, PassesNothingOfWhatIsNotChosen) {
  expect_only_the_chosen_matters<float>();
  expect_only_the_chosen_matters<double>();
}

template <class Real>
void expect_bounds() {
  const Real inf = std::numeric_limits<Real>::infinity();
  const Real x[] = {-inf, -2, -1, 0, 3, 4, inf}, ones[] = {1, 1, 1, 1, 1, 1, 1};
  Real y[7], grad[7];
  const Rows<const Real> in(x, 7), of_one(ones, 7);
  cpu::clamp<Real>({-1, 3, 1, 7, in, Rows<Real>{y, 7}});
  EXPECT_THAT(y, testing::ElementsAre(-1, -1, -1, 0, 3, 3, 3));
  cpu::clamp_backward<Real>({-1, 3, 1, 7, in, of_one, Rows<Real>{grad, 7}});
  EXPECT_THAT(grad, testing::ElementsAre(0, 0, 1, 1, 1, 0, 0));
  const Real nan = std::numeric_limits<Real>::quiet_NaN();
  cpu::clamp<Real>({-1, inf, 1, 1, Rows<const Real>{&nan, 1}, Rows<Real>{y, 7}});
  EXPECT_TRUE(std::isnan(y[0]));
}
TEST(Clamp, HoldsToItsBoundsAndPassesNaN) {
  expect_bounds<float>();
  expect_bounds<double>();
}

template <class Real>
void expect_normalized(double tolerance) {
  constexpr std::int64_t D = 37;
  Matrix<Real> x(2, D), y(2, D);
  x.fill_normal(3, 2);
  x.fill([&](auto r, auto d) { return x(r, d) + 100; });
  cpu::normalize<Real>({Normalization::layer, 0, 2, D, x, y});
  for (std::int64_t r = 0; r < 2; ++r) {
    double mean = 0, square = 0;
    for (std::int64_t d = 0; d < D; ++d) mean += y(r, d) / D, square += y(r, d) * y(r, d) / D;
    EXPECT_NEAR(mean, 0, tolerance);
    EXPECT_NEAR(square, 1, tolerance);
  }
  const Real same[] = {5, 5, 5};
  Real out[3];
  cpu::normalize<Real>(
      {Normalization::layer, Real(1e-5), 1, 3, Rows<const Real>{same, 3}, Rows<Real>{out, 3}});
  EXPECT_THAT(out, testing::Each(0));  // no variance: epsilon keeps it finite
}
TEST(Normalize, HasMeanZeroAndVarianceOne) {
  expect_normalized<float>(2e-5);
  expect_normalized<double>(1e-12);
}

}  // namespace
}  // namespace seqvae::test

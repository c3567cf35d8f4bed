// Draws follow the distribution they claim; masked components cannot matter; extremes.
#include "seqvae/kernels/likelihood.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "tests/kernels/matrix.hpp"

namespace seqvae::test {
namespace {

constexpr std::int64_t kSampled = 100'000;

/// `kSampled` rows of one distribution; seeds and counters are fixed.
Matrix<float> draws(Likelihood kind, const std::vector<float>& logits) {
  const auto D = static_cast<std::int64_t>(logits.size());
  std::vector<std::uint32_t> ids(kSampled);
  std::iota(ids.begin(), ids.end(), 0u);
  const std::uint64_t step = 1;
  LikelihoodSampleArgs<float> args;
  args.kind = kind, args.D = D;
  args.noise.layout.T = 1, args.noise.layout.B = kSampled;
  args.noise.key = {2024, 3}, args.noise.sequence_id = ids.data(), args.noise.step = &step;
  Matrix<float> x(kSampled, D);
  args.logits = Rows<const float>{logits.data(), 0}, args.x = x;
  cpu::likelihood_sample(args);
  return x;
}

/// Pearson's statistic against the probabilities of 0, 1, 2, ...; classes expected fewer than 5
/// times are thrown together with the last. Its 0.1 % point is below df + 3.1 sqrt(2 df) + 7.
void expect_chi_square(const std::vector<double>& observed, const std::vector<double>& p) {
  double statistic = 0, seen_rest = 0, p_rest = 0;
  int classes = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] * kSampled < 5) {
      seen_rest += observed[i], p_rest += p[i];
      continue;
    }
    statistic += std::pow(observed[i] - p[i] * kSampled, 2) / (p[i] * kSampled);
    ++classes;
  }
  if (p_rest * kSampled >= 1) {
    statistic += std::pow(seen_rest - p_rest * kSampled, 2) / (p_rest * kSampled);
    ++classes;
  } else {
    EXPECT_LE(seen_rest, 5) << "draws of what has almost no probability";
  }
  const double df = classes - 1;
  EXPECT_LE(statistic, df + 3.1 * std::sqrt(2 * df) + 7) << "df = " << df;
}

TEST(LikelihoodSample, BernoulliFollowsItsProbabilities) {
  const std::vector<float> logits = {-3, -0.5f, 0, 1, 4, -60, 60};
  const Matrix<float> x = draws(Likelihood::bernoulli, logits);
  for (std::int64_t d = 0; d < x.D(); ++d) {
    std::vector<double> seen(2);
    for (std::int64_t r = 0; r < kSampled; ++r) seen.at(static_cast<std::size_t>(x(r, d))) += 1;
    const double p = 1 / (1 + std::exp(-static_cast<double>(logits[static_cast<std::size_t>(d)])));
    expect_chi_square(seen, {1 - p, p});
  }
  double both = 0;  // components are independent: P(x_2 = x_3 = 1) = 0.5 sigmoid(1)
  for (std::int64_t r = 0; r < kSampled; ++r) both += x(r, 2) * x(r, 3);
  const double p = 0.5 / (1 + std::exp(-1.0));
  EXPECT_LE(std::abs(both - p * kSampled), 3.3 * std::sqrt(kSampled * p * (1 - p)));
}

TEST(LikelihoodSample, CategoricalFollowsItsProbabilities) {
  const std::vector<float> logits = {1, -2, 0.5f, -std::numeric_limits<float>::infinity(), 3, -30};
  const Matrix<float> x = draws(Likelihood::categorical, logits);
  std::vector<double> seen(logits.size()), p(logits.size());
  double sum = 0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l));
  for (std::size_t c = 0; c < p.size(); ++c) p[c] = std::exp(static_cast<double>(logits[c])) / sum;
  for (std::int64_t r = 0; r < kSampled; ++r) {
    double ones = 0;
    for (std::int64_t c = 0; c < x.D(); ++c) {
      ASSERT_TRUE(x(r, c) == 0 || x(r, c) == 1);
      ones += x(r, c);
      seen[static_cast<std::size_t>(c)] += x(r, c);
    }
    ASSERT_EQ(ones, 1);
  }
  EXPECT_EQ(seen[3], 0);  // impossible
  expect_chi_square(seen, p);
}

TEST(LikelihoodSample, PoissonFollowsItsProbabilitiesOnBothSidesOfInversion) {
  const std::vector<double> rates = {0.01, 0.7, 5, 30, 63.9, 100};
  std::vector<float> logits;
  for (const double rate : rates) logits.push_back(static_cast<float>(std::log(rate)));
  const Matrix<float> x = draws(Likelihood::poisson, logits);
  for (std::int64_t d = 0; d < x.D(); ++d) {
    const double rate = std::exp(static_cast<double>(logits[static_cast<std::size_t>(d)]));
    std::vector<double> seen(400), p(400);
    double mean = 0, square = 0;
    for (std::int64_t r = 0; r < kSampled; ++r) {
      seen.at(static_cast<std::size_t>(x(r, d))) += 1;
      mean += x(r, d) / kSampled, square += x(r, d) * x(r, d) / kSampled;
    }
    for (std::size_t k = 0; k < p.size(); ++k) {
      p[k] = std::exp(k * std::log(rate) - rate - std::lgamma(k + 1.0));
    }
    if (rate < 64) expect_chi_square(seen, p);  // above: a rounded normal of the same moments
    EXPECT_LE(std::abs(mean - rate), 3.5 * std::sqrt(rate / kSampled));
    EXPECT_LE(std::abs((square - mean * mean) / rate - 1),
              4 * std::sqrt((2 + 1 / rate) / kSampled));
  }
}

TEST(LikelihoodSample, IsTheWordOfItsComponentAndZeroInPadding) {
  const std::int32_t lengths[] = {2, 1};
  const std::uint32_t ids[] = {8, 9};
  const std::uint64_t step = 4;
  constexpr std::int64_t D = 6;
  LikelihoodSampleArgs<double> args;
  args.D = D;
  args.noise.layout.T = 2, args.noise.layout.B = 2, args.noise.layout.lengths = lengths;
  args.noise.key = {1, 2}, args.noise.sequence_id = ids, args.noise.step = &step;
  Matrix<double> logits(4, D), x(4, D);
  logits.fill_normal(1);
  args.logits = logits, args.x = x;
  cpu::likelihood_sample(args);
  for (std::int64_t row = 0; row < 4; ++row) {
    for (std::int64_t d = 0; d < D; ++d) {
      const Words random = philox(noise_counter(2, 4, ids[row % 2], 0, row / 2, D, d / 4), 1);
      const bool one = uniform(random.w[d % 4]) < 1 / (1 + std::exp(-logits(row, d)));
      EXPECT_EQ(x(row, d), row == 3 ? 0 : one);
    }
  }
}

template <class Real>
void expect_mask_hides() {
  constexpr std::int64_t rows = 5, D = 21;
  Matrix<Real> mask(rows, D), mu(rows, D), logvar(rows, D), grad(rows, 1);
  mask.fill([](auto r, auto d) { return (r + d) % 3 == 0 ? 0 : 1; });
  mu.fill_normal(1), logvar.fill_normal(2), grad.fill_normal(3);
  for (const int kind : {0, 1, 2, 3}) {  // 3: Gaussian
    std::vector<Matrix<Real>> sums, gradients;
    for (const double hidden : {0.0, 1e30}) {
      Matrix<Real> x(rows, D);
      x.fill([&](auto r, auto d) {
        const bool observed = mask(r, kind == 1 ? 0 : d) != 0;
        return observed ? (kind == 1 ? d == r : (r * d) % 2) : hidden;
      });
      sums.emplace_back(rows, 1), gradients.emplace_back(rows, D);
      const auto discrete = static_cast<Likelihood>(kind % 3);
      if (kind == 3) {
        cpu::gaussian_log_density<Real>({rows, D, x, mask, mu, logvar, sums.back()});
        cpu::gaussian_log_density_backward<Real>(
            {rows, D, x, mask, mu, logvar, grad, {}, gradients.back(), {}});
      } else {
        cpu::likelihood<Real>({discrete, rows, D, x, mask, mu, sums.back()});
        cpu::likelihood_backward<Real>({discrete, rows, D, x, mask, mu, grad, gradients.back()});
      }
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      EXPECT_EQ(sums[0](r, 0), sums[1](r, 0)) << kind;
      for (std::int64_t d = 0; d < D; ++d) {
        EXPECT_EQ(gradients[0](r, d), gradients[1](r, d));
        if (mask(r, kind == 1 ? 0 : d) == 0) {
          EXPECT_EQ(gradients[1](r, d), 0);
        }
      }
    }
  }
}
TEST(Mask, HidesWhatIsMissing) {
  expect_mask_hides<float>();
  expect_mask_hides<double>();
}

template <class Real>
Real log_likelihood(Likelihood kind, std::vector<Real> x, std::vector<Real> logits) {
  const auto D = static_cast<std::int64_t>(x.size());
  Real result = 0;
  cpu::likelihood<Real>({kind,
                         1,
                         D,
                         Rows<const Real>{x.data(), D},
                         {},
                         Rows<const Real>{logits.data(), D},
                         Rows<Real>{&result, 1}});
  return result;
}

template <class Real>
void expect_extremes(double tolerance) {
  const Real inf = std::numeric_limits<Real>::infinity();
  // log sigmoid(20) = -2.06e-9: nothing is lost beside 20
  EXPECT_NEAR(log_likelihood<Real>(Likelihood::bernoulli, {1}, {20}) / -std::log1p(std::exp(-20.0)),
              1, tolerance);
  EXPECT_EQ(log_likelihood<Real>(Likelihood::bernoulli, {1}, {-1000}), -1000);
  EXPECT_EQ(log_likelihood<Real>(Likelihood::bernoulli, {0}, {-1000}), 0);
  EXPECT_EQ(log_likelihood<Real>(Likelihood::categorical, {0, 1}, {-inf, 5}), 0);
  EXPECT_EQ(log_likelihood<Real>(Likelihood::categorical, {1, 0}, {-inf, 5}), -inf);
  EXPECT_NEAR(log_likelihood<Real>(Likelihood::categorical, {0, 1}, {800, 790}),
              -10 - std::log1p(std::exp(-10.0)), 11 * tolerance);
  EXPECT_EQ(log_likelihood<Real>(Likelihood::poisson, {0}, {-inf}), 0);
  EXPECT_NEAR(log_likelihood<Real>(Likelihood::poisson, {3}, {std::log(Real(2))}),
              3 * std::log(2.0) - 2 - std::log(6.0), 4 * tolerance);
  const Real nan = std::numeric_limits<Real>::quiet_NaN();
  EXPECT_TRUE(std::isnan(log_likelihood<Real>(Likelihood::bernoulli, {1, 1}, {0, nan})));
  EXPECT_TRUE(std::isnan(log_likelihood<Real>(Likelihood::categorical, {1, 0}, {0, nan})));
  EXPECT_TRUE(std::isnan(log_likelihood<Real>(Likelihood::categorical, {nan, 0}, {0, 0})));
}
TEST(Likelihood, AtItsExtremes) {
  expect_extremes<float>(2e-7);
  expect_extremes<double>(1e-15);
}

}  // namespace
}  // namespace seqvae::test

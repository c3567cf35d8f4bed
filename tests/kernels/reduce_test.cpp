// Sums over time and over rows, and log-mean-exp: against sums written out, at the edges that
// particles and impossible paths bring, and bit by bit from one way of calling to another.
#include "seqvae/kernels/reduce.hpp"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/kernels/matrix.hpp"

namespace seqvae::test {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(SumOverTime, AddsEachSequencesStepsInBothLayouts) {
  const std::int32_t lengths[] = {4, 2, 2, 0}, offsets[] = {0, 3, 6, 7, 8};
  for (const std::int64_t K : {1, 3}) {
    for (const std::int64_t D : {1, 5, 300}) {
      RowLayout padded, packed;
      padded.T = packed.T = 4, padded.B = packed.B = 4, padded.K = packed.K = K;
      padded.lengths = lengths, packed.offsets = offsets;
      Matrix<float> x(16 * K, D, {1, 2}), dense(8 * K, D), y(4 * K, D), y_packed(4 * K, D);
      x.fill_normal(3);
      std::int64_t row = 0;
      for (std::int64_t t = 0; t < 4; ++t) {
        for (std::int64_t b = 0; b < 4; ++b) {
          for (std::int64_t k = 0; k < K; ++k) {
            for (std::int64_t d = 0; d < D; ++d) {
              float& at = x((t * 4 + b) * K + k, d);
              if (t < lengths[b])
                dense(row, d) = at;
              else
                at = std::numeric_limits<float>::quiet_NaN();  // padding is not read
            }
            if (t < lengths[b]) ++row;
          }
        }
      }
      ASSERT_EQ(row, packed.rows());
      cpu::sum_over_time<float>({padded, D, x, y});
      cpu::sum_over_time<float>({packed, D, dense, y_packed});
      for (std::int64_t o = 0; o < 4 * K; ++o) {
        for (std::int64_t d = 0; d < D; ++d) {
          double expected = 0;
          for (std::int64_t t = 0; t < lengths[o / K]; ++t) expected += x(t * 4 * K + o, d);
          EXPECT_EQ(y(o, d), static_cast<float>(expected));
          EXPECT_EQ(y_packed(o, d), static_cast<float>(expected));
        }
      }
    }
  }
}

TEST(SumOverTime, OfASequenceIsTheSameBitsInAnyCompany) {
  constexpr std::int64_t T = 50, B = 70, D = 33;
  RowLayout all, one;
  all.T = one.T = T, all.B = B, one.B = 1;
  Matrix<float> x(T * B, D), y(B, D), alone(1, D);
  x.fill_normal(4);
  cpu::sum_over_time<float>({all, D, x, y});
  for (std::int64_t b = 0; b < B; ++b) {
    cpu::sum_over_time<float>({one, D, Rows<const float>{x.view()[b], B * D}, alone});
    for (std::int64_t d = 0; d < D; ++d) EXPECT_EQ(alone(0, d), y(b, d));
  }
}

TEST(SumOverRows, OverwritesOrAccumulates) {
  for (const std::int64_t D : {1, 16, 257, 700}) {
    constexpr std::int64_t rows = 37;
    Matrix<float> x(rows, D, {3, 5});
    x.fill_normal(5);
    std::vector<float> y(static_cast<std::size_t>(D), std::nanf(""));
    std::vector<float> more(static_cast<std::size_t>(D), 2.5f);
    cpu::sum_over_rows<float>({rows, D, false, x, y.data()});
    cpu::sum_over_rows<float>({rows, D, true, x, more.data()});
    for (std::int64_t d = 0; d < D; ++d) {
      double sum = 0;
      for (std::int64_t r = 0; r < rows; ++r) sum += x(r, d);
      EXPECT_LE(std::abs(y[static_cast<std::size_t>(d)] - sum), 6e-8 * std::abs(sum) + 1e-14);
      EXPECT_LE(std::abs(more[static_cast<std::size_t>(d)] - (sum + 2.5)),
                6e-8 * std::abs(sum + 2.5) + 1e-14);
    }
  }
  std::vector<float> y = {7, 7};
  cpu::sum_over_rows<float>({0, 2, false, {}, y.data()});
  EXPECT_THAT(y, testing::Each(0.0f));
}

template <class Real>
void expect_log_mean_exp(Real tolerance) {
  for (const std::int64_t K : {1, 2, 7, 16, 33, 1000}) {
    Matrix<Real> x(3, K), y(3, 1), grad_y(3, 1), grad_x(3, K);
    x.fill_normal(6, 4);
    x(1, K / 2) = 3000;  // far beyond what exp can hold
    for (std::int64_t k = 0; k < K; ++k) x(2, k) -= 5000;
    grad_y.fill([](auto r, auto) { return r - 0.5; });
    cpu::log_mean_exp<Real>({3, K, x.view().data, y.view().data});
    cpu::log_mean_exp_backward<Real>({3, K, x.view().data, grad_y.view().data, grad_x.view().data});
    for (std::int64_t r = 0; r < 3; ++r) {
      long double largest = x(r, 0), sum = 0;
      for (std::int64_t k = 0; k < K; ++k) largest = std::max<long double>(largest, x(r, k));
      for (std::int64_t k = 0; k < K; ++k) sum += std::exp(x(r, k) - largest);
      const long double expected = largest + std::log(sum / K);
      EXPECT_LE(std::abs(y(r, 0) - expected), tolerance * (1 + std::abs(expected)));
      for (std::int64_t k = 0; k < K; ++k) {
        const long double weight = std::exp(x(r, k) - largest) / sum;
        EXPECT_LE(std::abs(grad_x(r, k) - weight * grad_y(r, 0)), 3 * tolerance * (1e-3 + weight));
      }
    }
  }
}
TEST(LogMeanExp, InDouble) { expect_log_mean_exp<double>(1e-14); }
TEST(LogMeanExp, InFloat) { expect_log_mean_exp<float>(2e-7f); }

template <class Real>
void expect_edges() {
  const auto value = [](std::vector<double> row) {
    const std::vector<Real> x(row.begin(), row.end());
    const auto K = static_cast<std::int64_t>(x.size());
    Real y = 0, grad_y = 2;
    std::vector<Real> grad_x(x.size());
    cpu::log_mean_exp<Real>({1, K, x.data(), &y});
    cpu::log_mean_exp_backward<Real>({1, K, x.data(), &grad_y, grad_x.data()});
    return std::pair(y, grad_x);
  };
  const auto none = value({-kInf, -kInf, -kInf});
  EXPECT_EQ(none.first, -kInf);
  EXPECT_THAT(none.second, testing::Each(0));
  const auto half = value({-kInf, 1});
  EXPECT_NEAR(half.first, 1 - std::log(2.0), 1e-7);
  EXPECT_THAT(half.second, testing::ElementsAre(0, 2));
  EXPECT_EQ(value({kInf, 0}).first, kInf);
  for (const auto& row : {std::vector<double>{std::nan(""), -kInf, -kInf},
                          std::vector<double>{-kInf, std::nan("")},
                          {0, std::nan(""), 3}}) {
    EXPECT_TRUE(std::isnan(value(row).first));
  }
}
TEST(LogMeanExp, AtInfinitiesAndNan) {
  expect_edges<float>();
  expect_edges<double>();
}

}  // namespace
}  // namespace seqvae::test

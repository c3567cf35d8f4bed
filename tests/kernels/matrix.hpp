// A matrix of rows for the tests of the contracts: any stride and misalignment; what lies between
// its rows is NaN, so that a read of it shows, and is looked at again, so that a write shows.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "seqvae/kernels/rows.hpp"

namespace seqvae::test {

/// Where a matrix lies: its first element `offset` elements after a 64-byte boundary, `gap`
/// elements between its rows.
struct Placement {
  std::int64_t offset = 0, gap = 0;
};

template <class Real>
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t D, Placement place = {})
      : rows_(rows), D_(D), stride_(D + place.gap) {
    constexpr Real nan = std::numeric_limits<Real>::quiet_NaN();
    memory_.assign(static_cast<std::size_t>(rows * stride_ + place.offset) + 128, nan);
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    first_ = static_cast<std::int64_t>((64 - address % 64) % 64 / sizeof(Real)) + place.offset;
  }
  Matrix(const Matrix&) = delete;
  Matrix(Matrix&&) = default;

  Real& operator()(std::int64_t r, std::int64_t d) {
    return memory_[static_cast<std::size_t>(first_ + r * stride_ + d)];
  }
  Real operator()(std::int64_t r, std::int64_t d) const {
    return memory_[static_cast<std::size_t>(first_ + r * stride_ + d)];
  }
  std::int64_t rows() const { return rows_; }
  std::int64_t D() const { return D_; }
  Rows<Real> view() { return {memory_.data() + first_, stride_}; }
  Rows<const Real> view() const { return {memory_.data() + first_, stride_}; }
  operator Rows<Real>() { return view(); }
  operator Rows<const Real>() const { return view(); }

  Matrix& fill(const std::function<double(std::int64_t, std::int64_t)>& value) {
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t d = 0; d < D_; ++d) (*this)(r, d) = static_cast<Real>(value(r, d));
    }
    return *this;
  }
  /// Normals times `scale`, the same for float and double (rounded to float).
  Matrix& fill_normal(unsigned seed, double scale = 1) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    return fill([&](auto, auto) { return static_cast<float>(scale * normal(engine)); });
  }

  /// Nothing outside the rows was written.
  void expect_surroundings_untouched() const {
    std::int64_t written = 0;
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(memory_.size()); ++i) {
      const std::int64_t at = i - first_;
      const bool inside = at >= 0 && at < rows_ * stride_ && at % stride_ < D_;
      if (!inside && !std::isnan(memory_[static_cast<std::size_t>(i)])) ++written;
    }
    EXPECT_EQ(written, 0) << "elements outside the rows were written";
  }

 private:
  std::int64_t rows_, D_, stride_, first_;
  std::vector<Real> memory_;
};

/// Central differences of `loss` by each element of `x` against `gradient`, 1e-6 relative.
inline void expect_gradient(const char* what, Matrix<double>& x, const Matrix<double>& gradient,
                            const std::function<double()>& loss) {
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    for (std::int64_t d = 0; d < x.D(); ++d) {
      const double at = x(r, d), h = 1e-5 * std::max(1.0, std::abs(at));
      x(r, d) = at + h;
      const double above = loss();
      x(r, d) = at - h;
      const double below = loss();
      x(r, d) = at;
      const double expected = (above - below) / (2 * h);
      const double error = std::abs(gradient(r, d) - expected);
      ASSERT_LE(error, 1e-6 * std::max(1.0, std::abs(expected)))
          << what << "[" << r << "][" << d << "] = " << gradient(r, d) << ", differences say "
          << expected;
    }
  }
}

/// sum of the elements times fixed weights of their place: a loss that tells every element apart.
inline double weighted_sum(const Matrix<double>& y) {
  double sum = 0;
  for (std::int64_t r = 0; r < y.rows(); ++r) {
    for (std::int64_t d = 0; d < y.D(); ++d) sum += y(r, d) * std::cos(1.0 + 3 * r + 0.7 * d);
  }
  return sum;
}

/// The gradient of weighted_sum.
inline Matrix<double> weights(std::int64_t rows, std::int64_t D) {
  Matrix<double> w(rows, D);
  w.fill([](auto r, auto d) { return std::cos(1.0 + 3 * r + 0.7 * d); });
  return w;
}

}  // namespace seqvae::test

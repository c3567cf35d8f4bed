// How far results are from what they should be.
#pragma once
#include <cmath>

namespace seqvae::test {

/// NaN where one of them is, which std::max would forget.
inline double larger(double a, double b) { return std::isnan(a) || a > b ? a : b; }

/// The largest errors of two kinds of results against a third, NaN where one of them is NaN.
struct Errors {
  double actual = 0, plain = 0;
  double largest = 0;  ///< expected value

  void add(double actual_value, double plain_value, double expected) {
    actual = larger(actual, std::abs(actual_value - expected));
    plain = larger(plain, std::abs(plain_value - expected));
    largest = larger(largest, std::abs(expected));
  }
};

}  // namespace seqvae::test

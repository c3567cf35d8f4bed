// The non-linear functions in their plain form: no overflow, no cancellation, NaN stays NaN.
#pragma once
#include <algorithm>
#include <cmath>

#include "seqvae/kernels/activation.hpp"

namespace seqvae::cpu::plain {

/// log(1 + exp(x))
template <class Real>
Real softplus(Real x) {
  return std::max(x, Real{0}) + std::log1p(std::exp(-std::abs(x)));
}

/// 1 / (1 + exp(-x))
template <class Real>
Real sigmoid(Real x) {
  const Real u = std::exp(-std::abs(x));
  return (std::signbit(x) ? u : Real{1}) / (1 + u);
}

/// log(softplus(x)), which tends to x - exp(x) / 2 as x falls, long before softplus underflows.
template <class Real>
Real log_softplus(Real x) {
  if (!(x < 0)) return std::log(softplus(x));
  const Real u = std::exp(x);
  return x < -20 ? x - u / 2 : x + std::log(std::log1p(u) / u);
}

/// d log(softplus(x)) / dx = sigmoid(x) / softplus(x), which tends to 1 as x falls.
template <class Real>
Real log_softplus_slope(Real x) {
  return x < -20 ? 1 - std::exp(x) / 2 : sigmoid(x) / softplus(x);
}

/// The larger of two; NaN if either is.
template <class Real>
Real max_or_nan(Real a, Real b) {
  return a < b || std::isnan(b) ? b : a;
}

template <class Real>
Real activate(Activation kind, Real x) {
  switch (kind) {
    case Activation::relu:
      return x < 0 ? 0 : x;
    case Activation::tanh:
      return std::tanh(x);
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::softplus:
      return softplus(x);
    case Activation::exp:
      return std::exp(x);
    case Activation::elu:
      return x > 0 ? x : std::expm1(x);
    case Activation::leaky_relu:
      return x > 0 ? x : x * Real(0.01);
    case Activation::identity:
      break;
  }
  return x;
}

/// dy / dx as a function of y.
template <class Real>
Real activation_slope(Activation kind, Real y) {
  switch (kind) {
    case Activation::relu:
      return y > 0 ? 1 : 0;
    case Activation::tanh:
      return (1 - y) * (1 + y);
    case Activation::sigmoid:
      return y * (1 - y);
    case Activation::softplus:
      return -std::expm1(-y);
    case Activation::exp:
      return y;
    case Activation::elu:
      return y > 0 ? 1 : 1 + y;
    case Activation::leaky_relu:
      return y > 0 ? Real(1) : Real(0.01);
    case Activation::identity:
      break;
  }
  return 1;
}

}  // namespace seqvae::cpu::plain

// A number with its derivative along one direction: forward mode, for maps of a few parameters.
#pragma once
#include <cmath>

namespace seqvae {

struct Dual {
  double value = 0, slope = 0;
  Dual() = default;
  Dual(double value_, double slope_ = 0) : value(value_), slope(slope_) {}
};

inline Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.slope + b.slope}; }
inline Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.slope - b.slope}; }
inline Dual operator*(Dual a, Dual b) {
  return {a.value * b.value, a.slope * b.value + a.value * b.slope};
}
inline Dual operator/(Dual a, Dual b) {
  const double ratio = a.value / b.value;
  return {ratio, (a.slope - ratio * b.slope) / b.value};
}
inline Dual exp(Dual a) { return {std::exp(a.value), a.slope * std::exp(a.value)}; }
inline Dual sin(Dual a) { return {std::sin(a.value), a.slope * std::cos(a.value)}; }
inline Dual cos(Dual a) { return {std::cos(a.value), -a.slope * std::sin(a.value)}; }
inline Dual tanh(Dual a) {
  const double t = std::tanh(a.value);
  return {t, a.slope * (1 - t * t)};
}

}  // namespace seqvae

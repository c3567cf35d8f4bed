#include <algorithm>
#include <cmath>
#include <numbers>

#include "seqvae/core/error.hpp"
#include "seqvae/inference/predictor.hpp"

namespace seqvae {
namespace {

/// Quantile of the standard normal: bisection of the distribution function, to 1e-15.
double normal_quantile(double level) {
  double low = -40, high = 40;
  for (int i = 0; i < 200 && high - low > 1e-15 * std::abs(low); ++i) {
    const double middle = 0.5 * (low + high);
    (0.5 * std::erfc(-middle / std::numbers::sqrt2) < level ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

}  // namespace

std::vector<double> Forecast::quantiles(std::span<const double> levels) const {
  const std::size_t size = mean.size(), draws = static_cast<std::size_t>(S);
  std::vector<double> out(levels.size() * size), column(draws);
  for (double level : levels)
    require(level > 0 && level < 1, "quantiles", "level", level, "in (0, 1)");
  if (gaussian) {
    for (std::size_t l = 0; l < levels.size(); ++l) {
      const double z = normal_quantile(levels[l]);
      for (std::size_t i = 0; i < size; ++i) out[l * size + i] = mean[i] + z * std[i];
    }
    return out;
  }
  for (std::size_t i = 0; i < size; ++i) {
    for (std::size_t s = 0; s < draws; ++s) column[s] = samples[s * size + i];
    std::sort(column.begin(), column.end());
    for (std::size_t l = 0; l < levels.size(); ++l) {
      const double at = levels[l] * static_cast<double>(draws - 1);
      const std::size_t below = static_cast<std::size_t>(at);
      const double share = at - static_cast<double>(below);
      const double above = column[std::min(below + 1, draws - 1)];
      out[l * size + i] = column[below] + share * (above - column[below]);
    }
  }
  return out;
}

}  // namespace seqvae

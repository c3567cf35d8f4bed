// Log-weights of one sequence's particles.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

namespace seqvae {

/// log( 1/S sum_s exp w_s ); -inf where all are.
inline double log_mean_exp(std::span<const double> w) {
  const double most = *std::max_element(w.begin(), w.end());
  if (!std::isfinite(most)) return most;
  double sum = 0;
  for (double x : w) sum += std::exp(x - most);
  return most + std::log(sum / static_cast<double>(w.size()));
}

/// exp w_s / sum; equal where all are -inf.
inline std::vector<double> normalised(std::span<const double> w) {
  const double total = log_mean_exp(w) + std::log(static_cast<double>(w.size()));
  std::vector<double> share(w.size());
  for (std::size_t s = 0; s < w.size(); ++s) {
    share[s] = std::isfinite(total) ? std::exp(w[s] - total) : 1 / static_cast<double>(w.size());
  }
  return share;
}

/// 1 / sum of squares of normalised weights, between 1 and S.
inline double effective_sample_size(std::span<const double> share) {
  double squares = 0;
  for (double w : share) squares += w * w;
  return 1 / squares;
}

/// Systematic resampling (Kitagawa 1996): S ancestors for one uniform u in [0, 1), ascending.
inline std::vector<std::size_t> resample(std::span<const double> share, double u) {
  const std::size_t S = share.size();
  std::vector<std::size_t> ancestors(S);
  double cumulative = share[0];
  std::size_t i = 0;
  for (std::size_t s = 0; s < S; ++s) {
    const double at = (static_cast<double>(s) + u) / static_cast<double>(S);
    while (at > cumulative && i + 1 < S) cumulative += share[++i];
    ancestors[s] = i;
  }
  return ancestors;
}

}  // namespace seqvae

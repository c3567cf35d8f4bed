// What the Kalman recursions cost at least: their arithmetic.
#pragma once
#include <string>

namespace seqvae::bench {

/// FLOP of a step by the textbook, halves of symmetric matrices once: filter 3 n^3 + 3 n^2 m + 3 n
/// m^2
/// + m^3 / 3 + 2 n^2 + 4 n m (A P A^T, C P C^T and its Cholesky factor, the gain, the covariance,
/// the means); smoother 22/3 n^3 more (factor of the predicted covariance, gain, its product with
/// the change and the transposed, lag one); gradient twice the filter's more (each product has two
/// in reverse). With the filter before the reverse pass.
inline double kalman_step_flop(const std::string& task, double n, double m) {
  const double filter =
      3 * n * n * n + 3 * n * n * m + 3 * n * m * m + m * m * m / 3 + 2 * n * n + 4 * n * m;
  if (task == "smoother") return filter + 22 * n * n * n / 3;
  return task == "gradient" ? 3 * filter : filter;
}

}  // namespace seqvae::bench

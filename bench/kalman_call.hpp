// What the programs that time the Kalman contracts share: the call, and the arithmetic it stands
// for.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "seqvae/kernels/kalman.hpp"

namespace seqvae::bench {

/// A contract's call with a workspace that grows to what it asks for.
template <class Args>
void call(Args& args, std::vector<double>& workspace, void (*contract)(const Args&)) {
  args.workspace_bytes = kalman_workspace_bytes(args);
  workspace.resize(std::max(workspace.size(), args.workspace_bytes / sizeof(double) + 2));
  args.workspace = workspace.data();  // 16-byte aligned, as new gives it
  contract(args);
}

/// FLOP of a step by the textbook, halves of symmetric matrices once:
///
///     filter    3 n^3 + 3 n^2 m + 3 n m^2 + m^3 / 3 + 2 n^2 + 4 n m
///               A P A^T, C P C^T and its Cholesky factor, the gain, the covariance, the means
///     smoother  22/3 n^3 more: factor of the predicted covariance, gain, its product with the
///               change and the transposed, lag one
///     gradient  twice the filter's more: each product has two in reverse
inline double kalman_step_flop(const std::string& task, double n, double m) {
  const double filter =
      3 * n * n * n + 3 * n * n * m + 3 * n * m * m + m * m * m / 3 + 2 * n * n + 4 * n * m;
  if (task == "smoother") return filter + 22 * n * n * n / 3;
  return task == "gradient" ? 3 * filter : filter;
}

}  // namespace seqvae::bench

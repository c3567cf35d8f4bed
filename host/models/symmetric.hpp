// What the linear-Gaussian model decomposes: symmetric matrices, by Eigen, compiled once.
#pragma once
#include <Eigen/Core>

namespace seqvae::lgssm {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

/// S = V diag(values) V^T
struct Spectrum {
  Vector values;   ///< they ascend
  Matrix vectors;  ///< V, a column each
};
Spectrum spectrum(const Matrix& S);
Vector eigenvalues(const Matrix& S);

/// X with S X = B.
Matrix solve(const Matrix& S, const Matrix& B);
/// The X of least norm among those that minimise |S X - B|, where S may be singular.
Matrix solve_least_squares(const Matrix& S, const Matrix& B);

}  // namespace seqvae::lgssm

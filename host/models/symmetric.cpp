#include "host/models/symmetric.hpp"

#include <Eigen/Dense>

namespace seqvae::lgssm {

Spectrum spectrum(const Matrix& S) {
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(S);
  return {solver.eigenvalues(), solver.eigenvectors()};
}

Vector eigenvalues(const Matrix& S) {
  return Eigen::SelfAdjointEigenSolver<Matrix>(S, Eigen::EigenvaluesOnly).eigenvalues();
}

Matrix solve(const Matrix& S, const Matrix& B) { return S.ldlt().solve(B); }

Matrix solve_least_squares(const Matrix& S, const Matrix& B) {
  return S.completeOrthogonalDecomposition().solve(B);
}

}  // namespace seqvae::lgssm

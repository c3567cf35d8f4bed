#include "host/cpu/kalman_solve.hpp"

#include <Eigen/Cholesky>
#include <Eigen/LU>
#include <algorithm>

namespace seqvae::cpu::kalman {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class Real>
Matrix read(const Real* values, std::int64_t rows, std::int64_t columns) {
  Matrix M(rows, columns);
  std::copy_n(values, rows * columns, M.data());
  return M;
}
template <class Real>
void write(const Matrix& M, Real* values) {
  std::transform(M.data(), M.data() + M.size(), values, [](double x) { return Real(x); });
}

}  // namespace

template <class Real>
void invert_positive(std::int64_t n, Real* S, Real* inverse) {
  using InPlace = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Eigen::Map<InPlace> factor(S, n, n), solution(inverse, n, n);
  solution.setIdentity();
  Eigen::LLT<Eigen::Ref<InPlace>>(factor).solveInPlace(solution);
}
template void invert_positive(std::int64_t, float*, float*);
template void invert_positive(std::int64_t, double*, double*);

template <class Real>
void given_delta(std::int64_t n, std::int64_t q, const Real* factor, const Real* spread,
                 const Real* delta, const Real* r, Real* N, Real* center, Real* root) {
  const Matrix G = read(spread, q, q), merged = read(N, n, n);
  // The merged P is P + Y Y^T: with J the later observations' information, N = J (I + P J)^-1.
  const Matrix Y = read(factor, n, q) * G, Yt = Y.transpose();
  Matrix system = -(merged * Y) * Yt;
  system.diagonal().array() += 1;
  const Matrix given = system.partialPivLu().solve(merged);
  const Matrix symmetric = (given + given.transpose()) / 2, along = Yt * read(r, n, 1);
  write(symmetric, N);
  write(read(delta, q, 1) + G * along, center);
  Matrix information = Yt * Matrix(symmetric * Y);
  information.diagonal().array() += 1;
  const Matrix upper = information.llt().matrixU();
  // G U^-1
  write(upper.transpose().triangularView<Eigen::Lower>().solve(Matrix(G.transpose())).transpose(),
        root);
}
template void given_delta(std::int64_t, std::int64_t, const float*, const float*, const float*,
                          const float*, float*, float*, float*);
template void given_delta(std::int64_t, std::int64_t, const double*, const double*, const double*,
                          const double*, double*, double*, double*);

}  // namespace seqvae::cpu::kalman

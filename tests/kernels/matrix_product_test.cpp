// Products of small matrices, one a row, against Eigen: all transpositions, gaps between rows,
// a shared factor, empty matrices.
#include <gmock/gmock.h>

#include <Eigen/Dense>
#include <cmath>
#include <vector>

#include "seqvae/kernels/arithmetic.hpp"

namespace seqvae::test {
namespace {

using EigenMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::int64_t kPaddedRows = 3, kGap = 2;

/// [kPaddedRows][width] with gaps of NaN between the rows.
template <class Real>
struct Padded {
  std::int64_t width;
  std::vector<Real> memory;
  explicit Padded(std::int64_t width_, double phase = 0)
      : width(width_), memory(static_cast<std::size_t>(kPaddedRows * (width_ + kGap)), Real(NAN)) {
    for (std::int64_t r = 0; r < kPaddedRows; ++r) {
      for (std::int64_t i = 0; i < width; ++i)
        row(r)[i] = static_cast<Real>(std::sin(1.3 * static_cast<double>(r * width + i) + phase));
    }
  }
  Real* row(std::int64_t r) { return memory.data() + r * (width + kGap); }
  Rows<Real> rows() { return {memory.data(), width + kGap}; }
  EigenMatrix matrix(std::int64_t r, std::int64_t n, std::int64_t m) {
    EigenMatrix x(n, m);
    for (std::int64_t i = 0; i < n * m; ++i) x(i / m, i % m) = static_cast<double>(row(r)[i]);
    return x;
  }
};

template <class Real>
void compare(const MatrixShape& s, bool shared) {
  Padded<Real> a(s.n * s.k, 0.2), b(s.k * s.m, 1.1), y(s.n * s.m);
  Rows<const Real> b_rows = b.rows();
  if (shared) b_rows.stride = 0;
  cpu::matrix_product<Real>({kPaddedRows, s, a.rows(), b_rows, y.rows()});
  for (std::int64_t r = 0; r < kPaddedRows; ++r) {
    const EigenMatrix A =
        s.transpose_a ? EigenMatrix(a.matrix(r, s.k, s.n).transpose()) : a.matrix(r, s.n, s.k);
    const std::int64_t at = shared ? 0 : r;
    const EigenMatrix B =
        s.transpose_b ? EigenMatrix(b.matrix(at, s.m, s.k).transpose()) : b.matrix(at, s.k, s.m);
    const EigenMatrix expected = A * B, found = y.matrix(r, s.n, s.m);
    const double epsilon = std::numeric_limits<Real>::epsilon();
    EXPECT_LE((found - expected).cwiseAbs().sum(),
              static_cast<double>(s.k * s.n * s.m) * epsilon * (1 + expected.cwiseAbs().sum()));
    for (std::int64_t i = 0; i < kGap; ++i) EXPECT_TRUE(std::isnan(y.row(r)[s.n * s.m + i]));
  }
}

TEST(MatrixProduct, IsEigens) {
  const std::vector<std::vector<std::int64_t>> sizes = {{1, 1, 1}, {3, 2, 4}, {1, 5, 1}, {2, 0, 3},
                                                        {4, 4, 4}, {0, 2, 2}, {7, 3, 2}};
  for (const auto& size : sizes) {
    for (int variant = 0; variant < 8; ++variant) {
      const MatrixShape shape{size[0], size[1], size[2], (variant & 1) != 0, (variant & 2) != 0};
      compare<double>(shape, (variant & 4) != 0);
      compare<float>(shape, (variant & 4) != 0);
    }
  }
}

}  // namespace
}  // namespace seqvae::test

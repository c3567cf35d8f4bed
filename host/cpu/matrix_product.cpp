// Products of small matrices, one a row. An entry is a sum in the order of the inner index, so a
// row's bits hang on that row alone; the matrices are too small for more to pay.
#include "seqvae/kernels/arithmetic.hpp"

namespace seqvae::cpu {

template <class Real>
void matrix_product(const MatrixProductArgs<Real>& args) {
  check(args);
  const MatrixShape& s = args.shape;
  const std::int64_t a_row = s.transpose_a ? 1 : s.k, a_column = s.transpose_a ? s.n : 1;
  const std::int64_t b_row = s.transpose_b ? 1 : s.m, b_column = s.transpose_b ? s.k : 1;
  for (std::int64_t r = 0; r < args.rows; ++r) {
    const Real *a = args.a[r], *b = args.b[r];
    Real* y = args.y[r];
    for (std::int64_t i = 0; i < s.n; ++i) {
      for (std::int64_t j = 0; j < s.m; ++j) {
        Real sum = 0;
        for (std::int64_t k = 0; k < s.k; ++k) {
          sum += a[i * a_row + k * a_column] * b[k * b_row + j * b_column];
        }
        y[i * s.m + j] = sum;
      }
    }
  }
}

template void matrix_product(const MatrixProductArgs<float>&);
template void matrix_product(const MatrixProductArgs<double>&);

}  // namespace seqvae::cpu

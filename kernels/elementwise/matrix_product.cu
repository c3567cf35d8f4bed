// A product of two small matrices a row: L neighbouring lanes serve a row, L the power of two at or
// above the n m elements of its result, at most 32, each lane every L-th element, its sum over k in
// order. No barrier.
// Floor: memory, 4 (n k + k m) bytes read and 4 n m written a row; a row of a or b is read once
// from memory and k, n or m times from L1.
#include "kernels/common/rows.cuh"
#include "seqvae/kernels/arithmetic.hpp"

namespace seqvae::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads)
    multiply_rows(MatrixProductArgs<float> p, int lanes) {
  const auto [row, lane] = row_lane(lanes);
  if (row >= p.rows) return;  // nothing below waits for the others
  const auto [n, k, m, transpose_a, transpose_b] = p.shape;
  const float *a = p.a[row], *b = p.b[row];
  const std::int64_t a_row = transpose_a ? 1 : k, a_step = transpose_a ? n : 1;
  const std::int64_t b_column = transpose_b ? k : 1, b_step = transpose_b ? 1 : m;
  for (std::int64_t e = lane; e < n * m; e += lanes) {
    const std::int64_t i = e / m, j = e - i * m;
    float sum = 0.0f;
    for (std::int64_t l = 0; l < k; ++l) {
      sum += a[i * a_row + l * a_step] * b[j * b_column + l * b_step];
    }
    p.y[row][e] = sum;
  }
}

}  // namespace

void matrix_product(const MatrixProductArgs<float>& p, Stream stream) {
  check(p);
  const int lanes = lanes_for(4 * p.shape.n * p.shape.m);  // an element a lane, not four
  launch(multiply_rows, row_shape(p.rows, lanes), stream, p, lanes);
}

}  // namespace seqvae::cuda

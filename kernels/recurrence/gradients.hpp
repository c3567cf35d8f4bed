// What is made of a recurrence's gradients after its loop: products over all rows, and copies.
#pragma once
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {

/// The gradient of a matrix [N][K] that multiplied x; optional. Args: of a recurrence's backward;
/// Workspace: with `sums` and `sums_bytes`.
template <class Args, class Workspace>
void weight_gradient(const Args& a, const Workspace& workspace, Rows<const float> grad_y,
                     std::int64_t N, Rows<const float> x, std::int64_t K, float* grad_W,
                     Stream stream) {
  if (grad_W == nullptr) return;
  DenseWeightGradientArgs<float> product;
  product.M = a.layout.rows_at_most(), product.N = N, product.K = K;
  product.grad_y = grad_y, product.x = x, product.accumulate = a.accumulate_weights;
  product.precision = a.precision;
  product.grad_W = {grad_W, K};
  product.workspace = workspace.sums, product.workspace_bytes = workspace.sums_bytes;
  dense_weight_gradient(product, stream);
}

/// y = x, or y += x; optional.
inline void give(Rows<const float> x, std::int64_t rows, std::int64_t D, Rows<float> y,
                 bool accumulate, Stream stream) {
  if (!y) return;
  MultiplyAddArgs<float> copy;
  copy.rows = rows, copy.D = D, copy.a = x, copy.y = y;
  if (accumulate) copy.c = y;
  multiply_add(copy, stream);
}

}  // namespace seqvae::cuda

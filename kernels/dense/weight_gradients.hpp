// How the weight gradients of one call are cut, by sizes alone: what hosts and kernels agree on.
#pragma once
#include <algorithm>
#include <cstdint>

#include "seqvae/core/arena.hpp"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {

constexpr std::int64_t kGradientTile = 64;   // rows and columns of a gradient that a block sums
constexpr std::int64_t kGradientRows = 256;  // of the sum that a block adds

/// Too large a product to be one of many: a library's is faster then.
template <class Real>
bool stands_alone(const DenseWeightGradientArgs<Real>& a) {
  return a.precision != Precision::float32 || a.M * a.N * a.K > std::int64_t{2} << 30;
}

/// Slices of the rows of one of many.
inline std::int64_t gradient_slices_of(std::int64_t M) {
  return std::max<std::int64_t>(1, (M + kGradientRows - 1) / kGradientRows);
}

/// What stands between the two kernels: the slices' sums of each call that has more than one.
struct SliceSums {
  float* products;  ///< [slices][N][K]
  double* bias;     ///< [slices][N]
  SliceSums(const DenseWeightGradientArgs<float>& a, Arena& arena) {
    const std::int64_t slices = gradient_slices_of(a.M);
    products = arena.take<float>(slices > 1 ? slices * a.N * a.K : 0);
    bias = arena.take<double>(slices > 1 && a.grad_bias != nullptr ? slices * a.N : 0);
  }
};

}  // namespace seqvae::cuda

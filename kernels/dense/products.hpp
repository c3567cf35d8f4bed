// Who computes a product: a choice by sizes alone.
#pragma once
#include <cstdint>

#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {

enum class ProductBy { few_rows, tiles, library };

/// Whether a product is one that does not fill a device, nor is of few rows.
inline bool fits_tiles(const DenseArgs<float>& a) {
  constexpr std::int64_t kAtMost = std::int64_t{1} << 26;  // multiply-adds
  return a.precision == Precision::float32 && a.M > 64 && a.M * a.W.N * a.W.K <= kAtMost;
}

/// What stands alone and is nothing but sums is a library's, as is what fills a device
/// (docs/kernels/dense.md). `tiles`: how many of a call fit_tiles.
inline ProductBy product_by(const DenseArgs<float>& a, std::int64_t tiles) {
  if (a.precision == Precision::float32 && a.M <= 64) return ProductBy::few_rows;
  const bool plain = a.activation == Activation::identity && !a.activated;
  return fits_tiles(a) && (tiles > 1 || !plain) ? ProductBy::tiles : ProductBy::library;
}

/// cuBLASLt, with what it has no epilogue for after it. M > 0; checked before.
void dense_by_library(const DenseArgs<float>& args, Stream stream);

}  // namespace seqvae::cuda

// Who computes a product: a choice by sizes alone.
#pragma once
#include <cstdint>

#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {

enum class ProductBy { few_rows, tiles, library };

/// What fills a device by itself, and what stands alone and is nothing but sums, is a library's:
/// 1256 x 200 x 100 takes 5.9 us there and 7.8 by tiles on an H200, but an activation 1.7 more, and
/// four such products 4 x 5.9.
inline ProductBy product_by(const DenseArgs<float>& a, std::int64_t beside) {
  constexpr std::int64_t kFewRowsAtMost = 64, kTilesAtMost = std::int64_t{1} << 26;
  if (a.precision != Precision::float32) return ProductBy::library;
  if (a.M <= kFewRowsAtMost) return ProductBy::few_rows;
  const bool plain = a.activation == Activation::identity && !a.activated;
  if (a.M * a.W.N * a.W.K > kTilesAtMost || (plain && beside == 0)) return ProductBy::library;
  return ProductBy::tiles;
}

/// cuBLASLt, with what it has no epilogue for after it. M > 0; checked before.
void dense_by_library(const DenseArgs<float>& args, Stream stream);

}  // namespace seqvae::cuda

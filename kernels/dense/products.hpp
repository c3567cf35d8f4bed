// Who computes a product: a choice by sizes alone.
#pragma once
#include <cstdint>

#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {

enum class ProductBy { few_rows, tiles, library };

/// What fills a device by itself is a library's. On an H200 tiles and cuBLASLt meet at 2^31
/// multiply-adds.
inline ProductBy product_by(const DenseArgs<float>& a) {
  constexpr std::int64_t kFewRowsAtMost = 64, kTilesAtMost = std::int64_t{1} << 28;
  if (a.precision != Precision::float32) return ProductBy::library;
  if (a.M <= kFewRowsAtMost) return ProductBy::few_rows;
  return a.M * a.W.N * a.W.K <= kTilesAtMost ? ProductBy::tiles : ProductBy::library;
}

/// cuBLASLt, with what it has no epilogue for after it. M > 0; checked before.
void dense_by_library(const DenseArgs<float>& args, Stream stream);

}  // namespace seqvae::cuda

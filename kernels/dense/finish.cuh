// What becomes of a product's sums.
#pragma once
#include "kernels/common/functions.cuh"
#include "kernels/common/load_store.cuh"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {

/// Whether finish_quad reads and writes 16 bytes at a time.
inline bool finishes_by_16_bytes(const DenseArgs<float>& a) {
  const Rows<const float> bias(a.bias, a.W.N);
  return all_fit_float4(a.W.N, Rows<const float>(a.y), bias, a.addend, a.activated);
}

/// Columns n .. n + 3 of a row of y, whose sums over K are given. `wide`: finishes_by_16_bytes.
__device__ __forceinline__ void finish_quad(const DenseArgs<float>& a, std::int64_t row,
                                            std::int64_t n, float4 sum, bool wide) {
  const std::int64_t N = a.W.N;
  if (a.bias != nullptr) sum = plus4(sum, load_quad(a.bias, n, N, wide));
  if (a.addend) sum = plus4(sum, load_quad(a.addend[row], n, N, wide));
  if (a.activated) {
    const auto times_slope = [&](float x, float y) {
      return x * activation_slope(a.activation, y);
    };
    sum = map4(times_slope, sum, load_quad(a.activated[row], n, N, wide));
  } else {
    sum = map4([&](float x) { return activate(a.activation, x); }, sum);
  }
  store_quad(a.y[row], n, N, wide, sum);
}

}  // namespace seqvae::cuda

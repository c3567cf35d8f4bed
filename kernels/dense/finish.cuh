// What becomes of a product's sums: bias, addend, then the activation or its slope.
#pragma once
#include "kernels/common/functions.cuh"
#include "kernels/common/load_store.cuh"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {

/// Whether rows of y, and what is added to them, are read and written 16 bytes at a time.
inline bool finishes_by_16_bytes(const DenseArgs<float>& a) {
  const Rows<const float> bias(a.bias, a.W.N);
  return all_fit_float4(a.W.N, Rows<const float>(a.y), bias, a.addend, a.activated);
}

/// Functions of their own: eight activations are much code to have at every element of a tile.
[[gnu::noinline]] inline __device__ float4 activate_quad(Activation kind, float4 x) {
  return map4([&](float one) { return activate(kind, one); }, x);
}
[[gnu::noinline]] inline __device__ float4 slopes_of_quad(Activation kind, float4 y) {
  return map4([&](float one) { return activation_slope(kind, one); }, y);
}

/// Columns n .. n + 3 of a row of y, from their sums over K: all that is to be read first, so that
/// several may be on their way at a time.
struct Quad {
  float4 sum, activated;

  /// `wide`: finishes_by_16_bytes.
  __device__ __forceinline__ void read(const DenseArgs<float>& a, std::int64_t row, std::int64_t n,
                                       float4 of_product, bool wide) {
    const std::int64_t N = a.W.N;
    sum = of_product;
    if (a.bias != nullptr) sum = plus4(sum, load_quad(a.bias, n, N, wide));
    if (a.addend) sum = plus4(sum, load_quad(a.addend[row], n, N, wide));
    if (a.activated) activated = load_quad(a.activated[row], n, N, wide);
  }
  __device__ __forceinline__ void write(const DenseArgs<float>& a, std::int64_t row, std::int64_t n,
                                        bool wide) {
    if (a.activated) {
      const float4 slopes = slopes_of_quad(a.activation, activated);
      sum = map4([](float x, float slope) { return x * slope; }, sum, slopes);
    } else if (a.activation != Activation::identity) {
      sum = activate_quad(a.activation, sum);
    }
    store_quad(a.y[row], n, a.W.N, wide, sum);
  }
};

}  // namespace seqvae::cuda

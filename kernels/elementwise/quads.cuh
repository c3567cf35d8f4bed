// Four components of a row, for the elementwise kernels and the stages of a chain alike.
// Hazards: select takes the chosen value, not a sum with zeros (0 * NaN).
#pragma once
#include "kernels/common/functions.cuh"
#include "kernels/common/load_store.cuh"
#include "seqvae/kernels/activation.hpp"
#include "seqvae/kernels/arithmetic.hpp"

namespace seqvae::cuda {

__device__ __forceinline__ void do_quad(const MultiplyAddArgs<float>& a, std::int64_t row,
                                        std::int64_t d, bool wide) {
  float4 y = map4([&](float x) { return a.alpha * x; }, load_quad(a.a[row], d, a.D, wide));
  if (a.b) {
    y = map4([](float x, float b) { return x * b; }, y, load_quad(a.b[row], d, a.D, wide));
  }
  if (a.c) {
    y = map4([&](float x, float c) { return x + a.beta * c; }, y,
             load_quad(a.c[row], d, a.D, wide));
  }
  store_quad(a.y[row], d, a.D, wide, y);
}

__device__ __forceinline__ void do_quad(const GatedMixArgs<float>& a, std::int64_t row,
                                        std::int64_t d, bool wide) {
  const float4 g = load_quad(a.g[row], d, a.D, wide);
  const float4 first = load_quad(a.a[row], d, a.D, wide);
  const float4 second = load_quad(a.b[row], d, a.D, wide);
  store_quad(a.y[row], d, a.D, wide,
             map4([](float gate, float x, float y) { return (1.0f - gate) * x + gate * y; }, g,
                  first, second));
}

__device__ __forceinline__ void do_quad(const GatedMixBackwardArgs<float>& a, std::int64_t row,
                                        std::int64_t d, bool wide) {
  const float4 g = load_quad(a.g[row], d, a.D, wide);
  const float4 grad = load_quad(a.grad_y[row], d, a.D, wide);
  if (a.grad_g) {
    const float4 first = load_quad(a.a[row], d, a.D, wide);
    const float4 second = load_quad(a.b[row], d, a.D, wide);
    store_quad(a.grad_g[row], d, a.D, wide,
               map4([](float x, float y, float dy) { return (y - x) * dy; }, first, second, grad));
  }
  if (a.grad_a) {
    store_quad(a.grad_a[row], d, a.D, wide,
               map4([](float gate, float dy) { return (1.0f - gate) * dy; }, g, grad));
  }
  if (a.grad_b) {
    store_quad(a.grad_b[row], d, a.D, wide,
               map4([](float gate, float dy) { return gate * dy; }, g, grad));
  }
}

/// Of a row that is chosen as a whole the other is not read.
__device__ __forceinline__ void do_quad(const SelectArgs<float>& a, std::int64_t row,
                                        std::int64_t d, bool wide) {
  if (a.by_row) {
    const Rows<const float> chosen = a.condition[row][0] != 0.0f ? a.a : a.b;
    store_quad(a.y[row], d, a.D, wide, load_quad_or_zero(chosen, row, d, a.D, wide));
    return;
  }
  const float4 condition = load_quad(a.condition[row], d, a.D, wide);
  store_quad(
      a.y[row], d, a.D, wide,
      map4([](float c, float x, float y) { return c != 0.0f ? x : y; }, condition,
           load_quad_or_zero(a.a, row, d, a.D, wide), load_quad_or_zero(a.b, row, d, a.D, wide)));
}

__device__ __forceinline__ void do_quad(const ActivationArgs<float>& a, std::int64_t row,
                                        std::int64_t d, bool wide) {
  const float4 x = load_quad(a.x[row], d, a.D, wide);
  store_quad(a.y[row], d, a.D, wide, map4([&](float v) { return activate(a.kind, v); }, x));
}

__device__ __forceinline__ void do_quad(const ActivationBackwardArgs<float>& a, std::int64_t row,
                                        std::int64_t d, bool wide) {
  const float4 y = load_quad(a.y[row], d, a.D, wide);
  const float4 grad = load_quad(a.grad_y[row], d, a.D, wide);
  store_quad(a.grad_x[row], d, a.D, wide,
             map4([&](float v, float g) { return activation_slope(a.kind, v) * g; }, y, grad));
}

}  // namespace seqvae::cuda

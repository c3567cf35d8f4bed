// Four components of a row's log-variances, from what a network says of them.
// Hazard: exp(raw) under- and overflows where log(softplus(raw)) does not; see functions.cuh.
#pragma once
#include "kernels/common/functions.cuh"
#include "kernels/common/load_store.cuh"
#include "seqvae/kernels/gaussian.hpp"

namespace seqvae::cuda {

constexpr float kLargestLogvar = 15.0f;  // of the map exp

__device__ __forceinline__ float logvar_of(ScaleMap map, float raw, float shift, float floor) {
  switch (map) {
    case ScaleMap::exp:  // comparisons, not fminf and fmaxf, which would drop a NaN
      return raw < -kLargestLogvar ? -kLargestLogvar : raw > kLargestLogvar ? kLargestLogvar : raw;
    case ScaleMap::softplus_var:
      return log_softplus(raw);
    case ScaleMap::softplus_std:
      break;
  }
  const float x = raw + shift;
  return 2.0f * (floor > 0.0f ? logf(softplus(x) + floor) : log_softplus(x));
}

__device__ __forceinline__ float slope_of(ScaleMap map, float raw, float shift, float floor) {
  switch (map) {
    case ScaleMap::exp:
      return fabsf(raw) <= kLargestLogvar ? 1.0f : 0.0f;
    case ScaleMap::softplus_var:
      return log_softplus_slope(raw);
    case ScaleMap::softplus_std:
      break;
  }
  const float x = raw + shift;
  return 2.0f * (floor > 0.0f ? sigmoid(x) / (softplus(x) + floor) : log_softplus_slope(x));
}

__device__ __forceinline__ void do_quad(const GaussianHeadArgs<float>& a, std::int64_t row,
                                        std::int64_t d, bool wide) {
  const float4 raw = load_quad(a.raw[row], d, a.D, wide);
  store_quad(a.logvar[row], d, a.D, wide,
             map4([&](float x) { return logvar_of(a.map, x, a.shift, a.floor); }, raw));
}

__device__ __forceinline__ void do_quad(const GaussianHeadBackwardArgs<float>& a, std::int64_t row,
                                        std::int64_t d, bool wide) {
  const float4 raw = load_quad(a.raw[row], d, a.D, wide);
  const float4 grad = load_quad(a.grad_logvar[row], d, a.D, wide);
  store_quad(
      a.grad_raw[row], d, a.D, wide,
      map4([&](float x, float g) { return g * slope_of(a.map, x, a.shift, a.floor); }, raw, grad));
}

}  // namespace seqvae::cuda

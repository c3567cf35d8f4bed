// Non-linear functions without overflow or cancellation, as in host/cpu/plain_math.hpp.
#pragma once
#include <cuda_runtime.h>

namespace seqvae::cuda {

/// log(1 + exp(x))
__device__ __forceinline__ float softplus(float x) {
  const float tail = log1pf(expf(-fabsf(x)));
  return x > 0.0f ? x + tail : tail;  // NaN: tail is NaN
}

/// 1 / (1 + exp(-x))
__device__ __forceinline__ float sigmoid(float x) {
  const float u = expf(-fabsf(x));
  return (x < 0.0f ? u : 1.0f) / (1.0f + u);
}

/// log(softplus(x)), which tends to x - exp(x) / 2 as x falls, long before softplus underflows.
__device__ __forceinline__ float log_softplus(float x) {
  if (!(x < 0.0f)) return logf(softplus(x));
  const float u = expf(x);
  return x < -20.0f ? x - 0.5f * u : x + logf(log1pf(u) / u);
}

/// d log(softplus(x)) / dx = sigmoid(x) / softplus(x), which tends to 1 as x falls.
__device__ __forceinline__ float log_softplus_slope(float x) {
  return x < -20.0f ? 1.0f - 0.5f * expf(x) : sigmoid(x) / softplus(x);
}

}  // namespace seqvae::cuda

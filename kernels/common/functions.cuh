// Non-linear functions without overflow or cancellation, as in host/cpu/plain/math.hpp.
#pragma once
#include <cuda_runtime.h>

#include "seqvae/kernels/activation.hpp"

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

/// The larger of two; NaN if either is.
__device__ __forceinline__ float max_or_nan(float a, float b) { return a < b || isnan(b) ? b : a; }

__device__ __forceinline__ float activate(Activation kind, float x) {
  switch (kind) {
    case Activation::relu:
      return x < 0.0f ? 0.0f : x;
    case Activation::tanh:
      return tanhf(x);
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::softplus:
      return softplus(x);
    case Activation::exp:
      return expf(x);
    case Activation::elu:
      return x > 0.0f ? x : expm1f(x);
    case Activation::leaky_relu:
      return x > 0.0f ? x : x * 0.01f;
    case Activation::identity:
      break;
  }
  return x;
}

/// dy / dx as a function of y.
__device__ __forceinline__ float activation_slope(Activation kind, float y) {
  switch (kind) {
    case Activation::relu:
      return y > 0.0f ? 1.0f : 0.0f;
    case Activation::tanh:
      return (1.0f - y) * (1.0f + y);
    case Activation::sigmoid:
      return y * (1.0f - y);
    case Activation::softplus:
      return -expm1f(-y);
    case Activation::exp:
      return y;
    case Activation::elu:
      return y > 0.0f ? 1.0f : 1.0f + y;
    case Activation::leaky_relu:
      return y > 0.0f ? 1.0f : 0.01f;
    case Activation::identity:
      break;
  }
  return 1.0f;
}

}  // namespace seqvae::cuda

// Non-linear functions without overflow or cancellation, as in host/cpu/plain/math.hpp.
#pragma once
#include <cuda_runtime.h>

#include "seqvae/kernels/activation.hpp"

namespace seqvae::cuda {

/// (log(1 + u) - u) / u^2 of u in [0, 1], to 2^-27 of log(1 + u) / u: interpolation at Chebyshev's
/// points. log(1 + u) = u + u^2 q is within 1.5 ulp of it, and 1 + u q is log(1 + u) / u.
__device__ __forceinline__ float log1p_tail(float u) {
  float q = -0x1.24b298p-8f;
  q = fmaf(q, u, 0x1.9d455ap-6f);
  q = fmaf(q, u, -0x1.11708cp-4f);
  q = fmaf(q, u, 0x1.d992bcp-4f);
  q = fmaf(q, u, -0x1.448ee2p-3f);
  q = fmaf(q, u, 0x1.969cb2p-3f);
  q = fmaf(q, u, -0x1.ffb95cp-3f);
  q = fmaf(q, u, 0x1.55540cp-2f);
  return fmaf(q, u, -0x1.fffffep-2f);
}

/// log(1 + u) of u in [0, 1]
__device__ __forceinline__ float log1p_unit(float u) { return fmaf(u * u, log1p_tail(u), u); }

/// log(1 + exp(x))
__device__ __forceinline__ float softplus(float x) {
  const float tail = log1p_unit(expf(-fabsf(x)));
  return x > 0.0f ? x + tail : tail;  // NaN: tail is NaN
}

/// 1 / (1 + exp(-x))
__device__ __forceinline__ float sigmoid(float x) {
  const float u = expf(-fabsf(x));
  return (x < 0.0f ? u : 1.0f) / (1.0f + u);
}

/// log(softplus(x)), which tends to x - exp(x) / 2 as x falls, long before softplus underflows:
/// with u = exp(-|x|) it is log(x + log(1 + u)) above 0, x + log(log(1 + u) / u) below.
__device__ __forceinline__ float log_softplus(float x) {
  const float u = expf(-fabsf(x)), tail = log1p_tail(u);
  const bool below = x < 0.0f;
  const float of = below ? fmaf(u, tail, 1.0f) : x + fmaf(u * u, tail, u);
  return (below ? x : 0.0f) + logf(of);
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

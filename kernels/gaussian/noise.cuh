// The noise of four components of a row, drawn or given, and what is made of it.
#pragma once
#include "kernels/common/noise.cuh"

namespace seqvae::cuda {

/// eps[d .. d + 3] of a row that exists and is no padding; d is a multiple of 4.
__device__ __forceinline__ float4 noise_quad(const NoiseArgs<float>& noise, const RowPlace& place,
                                             std::int64_t d, std::int64_t D, bool wide) {
  if (noise.eps) return load_quad(noise.eps[place.row], d, D, wide);
  const Words random = noise_words(noise, place, D, d / 4);
  float4 eps;
  normal_pair(random.w[0], random.w[1], eps.x, eps.y);
  normal_pair(random.w[2], random.w[3], eps.z, eps.w);
  return eps;
}

__device__ __forceinline__ float sample_of(float mu, float logvar, float eps) {
  return mu + expf(0.5f * logvar) * eps;
}

/// grad_z times dz / dlogvar.
__device__ __forceinline__ float sample_slope(float grad_z, float logvar, float eps) {
  return 0.5f * (grad_z * eps * expf(0.5f * logvar));
}

}  // namespace seqvae::cuda

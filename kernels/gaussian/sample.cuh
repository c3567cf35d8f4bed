// Four components of a row that is drawn, and the gradient of the draw.
#pragma once
#include "kernels/gaussian/noise.cuh"

namespace seqvae::cuda {

/// Zeros in padding, which is not read.
__device__ __forceinline__ void do_quad(const GaussianSampleArgs<float>& a, const RowPlace& place,
                                        std::int64_t d, bool wide) {
  float4 z = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (place.valid) {
    const float4 eps = noise_quad(a.noise, place, d, a.D, wide);
    const float4 mu = load_quad(a.mu[place.row], d, a.D, wide);
    const float4 logvar = load_quad(a.logvar[place.row], d, a.D, wide);
    z = map4(sample_of, mu, logvar, eps);
  }
  store_quad(a.z[place.row], d, a.D, wide, z);
}

__device__ __forceinline__ void do_quad(const GaussianSampleBackwardArgs<float>& a,
                                        const RowPlace& place, std::int64_t d, bool wide) {
  float4 grad_z = make_float4(0.0f, 0.0f, 0.0f, 0.0f), grad_logvar = grad_z;
  if (place.valid) {
    const float4 eps = noise_quad(a.noise, place, d, a.D, wide);
    const float4 logvar = load_quad(a.logvar[place.row], d, a.D, wide);
    grad_z = load_quad(a.grad_z[place.row], d, a.D, wide);
    grad_logvar = map4(sample_slope, grad_z, logvar, eps);
  }
  if (a.grad_mu) store_quad(a.grad_mu[place.row], d, a.D, wide, grad_z);
  store_quad(a.grad_logvar[place.row], d, a.D, wide, grad_logvar);
}

}  // namespace seqvae::cuda

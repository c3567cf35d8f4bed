// KL( N(mu_q, exp logvar_q) || N(mu_p, exp logvar_p) ) of one dimension, and its gradient.
// Hazards: exp(-logvar_p / 2) before the square, exp(logvar_q - logvar_p) not a ratio (no inf /
// inf, no 0 * inf); expm1(x) - x where q is near p.
#pragma once
#include "kernels/common/load_store.cuh"

namespace seqvae::cuda {

__device__ __forceinline__ float kl_of(float mu_q, float logvar_q, float mu_p, float logvar_p) {
  const float ratio = logvar_q - logvar_p;
  const float scaled = (mu_q - mu_p) * expf(-0.5f * logvar_p);
  return 0.5f * (expm1f(ratio) - ratio + scaled * scaled);
}

/// grad times the slopes of four dimensions; that by mu_p is -mu_q.
struct KlGradient {
  float4 mu_q, logvar_q, logvar_p;
};

__device__ __forceinline__ KlGradient kl_gradient(float4 grad, float4 mu_q, float4 logvar_q,
                                                  float4 mu_p, float4 logvar_p) {
  const float4 root = map4([](float l) { return expf(-0.5f * l); }, logvar_p);
  const float4 scaled =
      map4([](float q, float p, float r) { return (q - p) * r; }, mu_q, mu_p, root);
  const float4 excess = map4([](float q, float p) { return expm1f(q - p); }, logvar_q, logvar_p);
  return {map4([](float g, float s, float r) { return g * s * r; }, grad, scaled, root),
          map4([](float g, float e) { return 0.5f * (g * e); }, grad, excess),
          map4([](float g, float e, float s) { return -0.5f * (g * (e + s * s)); }, grad, excess,
               scaled)};
}

__device__ __forceinline__ float4 negated(float4 quad) {
  return map4([](float x) { return -x; }, quad);
}

}  // namespace seqvae::cuda

// The random words and uniforms of four components of a row (core/random.hpp).
#pragma once
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "seqvae/kernels/gaussian.hpp"

namespace seqvae::cuda {

/// Of components 4 quad .. 4 quad + 3 of a row that exists and is no padding.
__device__ __forceinline__ Words noise_words(const NoiseArgs<float>& noise, const RowPlace& place,
                                             std::int64_t D, std::int64_t quad) {
  return philox(noise_counter(noise.key.site, *noise.step, noise.sequence_id[place.b],
                              static_cast<std::uint32_t>(place.k), place.t, D, quad),
                noise.key.seed);
}

/// The word of component d alone, chosen without a run-time index, which would cost a stack.
__device__ __forceinline__ std::uint32_t noise_word(const NoiseArgs<float>& noise,
                                                    const RowPlace& place, std::int64_t D,
                                                    std::int64_t d) {
  const Words random = noise_words(noise, place, D, d / 4);
  const std::uint32_t pair[] = {d & 2 ? random.w[2] : random.w[0],
                                d & 2 ? random.w[3] : random.w[1]};
  return d & 1 ? pair[1] : pair[0];
}

/// Uniforms in (0, 1) of components d .. d + 3, drawn or given; d is a multiple of 4.
__device__ __forceinline__ float4 uniform_quad(const NoiseArgs<float>& noise, const RowPlace& place,
                                               std::int64_t d, std::int64_t D, bool wide) {
  if (noise.eps) return load_quad(noise.eps[place.row], d, D, wide);
  const Words random = noise_words(noise, place, D, d / 4);
  return make_float4(uniform(random.w[0]), uniform(random.w[1]), uniform(random.w[2]),
                     uniform(random.w[3]));
}

}  // namespace seqvae::cuda

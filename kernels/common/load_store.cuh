// Four neighbouring floats of a row at once.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "seqvae/kernels/rows.hpp"

namespace seqvae::cuda {

/// True where every row of a matrix of width D can be read four floats at a time; so can a matrix
/// that is not given.
inline bool fits_float4(Rows<const float> matrix, std::int64_t D) {
  return D % 4 == 0 && matrix.stride % 4 == 0 &&
         reinterpret_cast<std::uintptr_t>(matrix.data) % alignof(float4) == 0;
}

template <class... Matrices>
bool all_fit_float4(std::int64_t D, const Matrices&... matrices) {
  return (fits_float4(matrices, D) && ...);
}

/// Components d .. d + 3 of a row of width D, zeros beyond it. `wide`: all_fit_float4.
__device__ __forceinline__ float4 load_quad(const float* row, std::int64_t d, std::int64_t D,
                                            bool wide) {
  if (wide) return *reinterpret_cast<const float4*>(row + d);
  float4 quad = make_float4(row[d], 0.0f, 0.0f, 0.0f);
  if (d + 1 < D) quad.y = row[d + 1];
  if (d + 2 < D) quad.z = row[d + 2];
  if (d + 3 < D) quad.w = row[d + 3];
  return quad;
}

/// Zeros where the matrix is not given.
__device__ __forceinline__ float4 load_quad_or_zero(Rows<const float> matrix, std::int64_t r,
                                                    std::int64_t d, std::int64_t D, bool wide) {
  return matrix ? load_quad(matrix[r], d, D, wide) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

__device__ __forceinline__ void store_quad(float* row, std::int64_t d, std::int64_t D, bool wide,
                                           float4 quad) {
  if (wide) {
    *reinterpret_cast<float4*>(row + d) = quad;
    return;
  }
  row[d] = quad.x;
  if (d + 1 < D) row[d + 1] = quad.y;
  if (d + 2 < D) row[d + 2] = quad.z;
  if (d + 3 < D) row[d + 3] = quad.w;
}

/// f of the first components, of the second, and so on.
template <class F, class... Quads>
__device__ __forceinline__ float4 map4(F f, Quads... quads) {
  return make_float4(f(quads.x...), f(quads.y...), f(quads.z...), f(quads.w...));
}

__device__ __forceinline__ float4 plus4(float4 a, float4 b) {
  return map4([](float x, float y) { return x + y; }, a, b);
}

}  // namespace seqvae::cuda

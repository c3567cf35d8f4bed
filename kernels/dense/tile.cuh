// 64 x 64 of a product by a block of 64 threads, 8 x 8 sums a thread in registers. Sixteen elements
// of the sum at a time lie in shared memory, [k][line] of either factor (a line: a row of the
// product, or a column), the next sixteen on their way in registers while these are multiplied; an
// element's 16 numbers of a thread are four loads for 64 multiply-adds.
// Floor: arithmetic, 128 multiply-adds a clock and multiprocessor.
// Hazards: a stage is read by all between two barriers, and written after the second. Lines lie 68
// elements apart, so that a warp that turns a factor over meets no bank twice: it holds 16 lines by
// two quads of k. What lies beyond the sum or the last line is zero there.
#pragma once
#include "kernels/common/load_store.cuh"

namespace seqvae::cuda::tile {

constexpr int kThreads = 64, kSide = 64, kDepth = 16, kStride = kSide + 4;
constexpr int kQuads = kDepth * kSide / 4 / kThreads;  // of a stage and factor, a thread

/// A factor's part in a stage.
struct Slab {
  float at[kDepth][kStride];  ///< [k][line]
};
struct Stage {
  Slab a, b;
};

/// A factor that lies line after line, [line][k], or element after element, [k][line].
struct Factor {
  const float* data;
  std::int64_t stride;
  std::int64_t lines, K;  ///< from data on
  bool across;            ///< [k][line]
  bool wide;              ///< can be read by 16 bytes, as far as K, or lines, reach
};

/// This thread's quads of elements k .. k + 15 of the lines from `line` on.
__device__ __forceinline__ void fetch(float4 (&quads)[kQuads], const Factor& f, std::int64_t line,
                                      std::int64_t k) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    const float4 zero = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (f.across) {
      const std::int64_t row = k + thread / 16 + 4 * i, column = line + 4 * (thread % 16);
      const bool inside = row < f.K && column < f.lines;
      quads[i] = inside ? load_quad(f.data + row * f.stride, column, f.lines, f.wide) : zero;
    } else {
      const std::int64_t row = line + 16 * i + thread % 32 / 2;
      const std::int64_t column = k + 8 * (thread / 32) + 4 * (thread % 2);
      const bool inside = row < f.lines && column < f.K;
      quads[i] = inside ? load_quad(f.data + row * f.stride, column, f.K, f.wide) : zero;
    }
  }
}
/// Puts them where all see them after a barrier.
__device__ __forceinline__ void keep(const float4 (&quads)[kQuads], bool across, Slab& slab) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    if (across) {
      *reinterpret_cast<float4*>(&slab.at[thread / 16 + 4 * i][4 * (thread % 16)]) = quads[i];
    } else {
      const int line = 16 * i + thread % 32 / 2, k = 8 * (thread / 32) + 4 * (thread % 2);
      slab.at[k][line] = quads[i].x, slab.at[k + 1][line] = quads[i].y;
      slab.at[k + 2][line] = quads[i].z, slab.at[k + 3][line] = quads[i].w;
    }
  }
}

/// A thread's sums: of lines line_of(i) of a, and columns column_of(0) and column_of(1) .. + 3.
using Sums = float4[8][2];
__device__ __forceinline__ int line_of(int i) {
  return 4 * (static_cast<int>(threadIdx.x) / 8) + (i < 4 ? i : 28 + i);
}
__device__ __forceinline__ int column_of(int half) {
  return 4 * (static_cast<int>(threadIdx.x) % 8) + 32 * half;
}

__device__ __forceinline__ void add_products(float4& sums, float a, float4 b) {
  sums.x = fmaf(a, b.x, sums.x), sums.y = fmaf(a, b.y, sums.y);
  sums.z = fmaf(a, b.z, sums.z), sums.w = fmaf(a, b.w, sums.w);
}

/// Element k of a stage.
__device__ __forceinline__ void add_element(Sums& sums, const Stage& stage, int k) {
  const float4 a0 = *reinterpret_cast<const float4*>(&stage.a.at[k][line_of(0)]);
  const float4 a1 = *reinterpret_cast<const float4*>(&stage.a.at[k][line_of(4)]);
  const float a[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w};
  const float4 b0 = *reinterpret_cast<const float4*>(&stage.b.at[k][column_of(0)]);
  const float4 b1 = *reinterpret_cast<const float4*>(&stage.b.at[k][column_of(1)]);
#pragma unroll
  for (int i = 0; i < 8; ++i)
    add_products(sums[i][0], a[i], b0), add_products(sums[i][1], a[i], b1);
}

/// sums += a b over elements begin .. end of the sum, of the lines from a_line and b_line on;
/// each(stage, k) sees every element. The stage is nobody's after it.
template <class Each>
__device__ __forceinline__ void multiply(Sums& sums, Stage& stage, const Factor& a,
                                         std::int64_t a_line, const Factor& b, std::int64_t b_line,
                                         std::int64_t begin, std::int64_t end, Each each) {
  float4 next_a[kQuads], next_b[kQuads];
  fetch(next_a, a, a_line, begin), fetch(next_b, b, b_line, begin);
  for (std::int64_t k = begin; k < end; k += kDepth) {
    keep(next_a, a.across, stage.a), keep(next_b, b.across, stage.b);
    __syncthreads();
    fetch(next_a, a, a_line, k + kDepth), fetch(next_b, b, b_line, k + kDepth);
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      add_element(sums, stage, i);
      each(stage, i);
    }
    __syncthreads();
  }
}

}  // namespace seqvae::cuda::tile

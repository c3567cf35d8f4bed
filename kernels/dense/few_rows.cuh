// Products of few rows, y = act(x W^T + bias + addend) with M <= 64, as a loop over time has them:
// the weights are read once, by all of the device, which a library that may not split sums cannot.
// A block is 16 columns, 256 threads: 8 pairs of columns by R groups of rows by S slices of K, with
// R the power of two at or above M / 4 and R S = 32. A thread adds 4 rows by 2 columns over its
// slice, four elements of K at a time; the slices' sums meet in shared memory in their order. x
// comes by chunks of 256 elements of K into shared memory.
// Floor: W once from memory or L2, 4 N K bytes; 2 M N K flop.
// Hazards: rows of a group lie R apart, so that neighbouring groups read neighbouring banks; a
// chunk is overwritten only after all have read it.
#pragma once
#include "kernels/common/functions.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/load_store.cuh"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {

constexpr std::int64_t kFewRowsAtMost = 64;

namespace few_rows {

constexpr int kThreads = 256, kColumns = 16, kPairs = kColumns / 2, kRows = 4, kChunk = 256;
constexpr int kGroupsBySlices = kThreads / kPairs;
constexpr int kStride = kChunk + 4;

struct Shared {
  float partial[kGroupsBySlices * kRows * kColumns];  // [slice][row][column]
  float x[1];                                         // [rows][kStride], as many as there are
};

/// Elements k .. k + 3 of the two columns of W.
template <bool kTransposed>
__device__ __forceinline__ void load_weights(float (&w)[2][4], const PlainWeights<float>& W,
                                             std::int64_t n, std::int64_t k, bool wide) {
  if constexpr (kTransposed) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* row = W.data + (k + i) * W.stride + n;
      const bool inside = k + i < W.K;
      if (wide) {
        const float2 two = inside ? *reinterpret_cast<const float2*>(row) : make_float2(0.0f, 0.0f);
        w[0][i] = two.x, w[1][i] = two.y;
      } else {
        w[0][i] = inside && n < W.N ? row[0] : 0.0f;
        w[1][i] = inside && n + 1 < W.N ? row[1] : 0.0f;
      }
    }
  } else {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const float4 quad = n + c < W.N ? load_quad(W.data + (n + c) * W.stride, k, W.K, wide)
                                      : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      w[c][0] = quad.x, w[c][1] = quad.y, w[c][2] = quad.z, w[c][3] = quad.w;
    }
  }
}

template <bool kTransposed>
__global__ void __launch_bounds__(kThreads)
    multiply(const __grid_constant__ DenseArgs<float> a, int groups, bool wide_x, bool wide_W) {
  Shared& shared = shared_storage<Shared>();
  float* const x = shared.x;
  const int thread = static_cast<int>(threadIdx.x), M = static_cast<int>(a.M);
  const int pair = thread % kPairs, group = thread / kPairs % groups;
  const int slice = thread / kPairs / groups, slices = kGroupsBySlices / groups;
  const std::int64_t first = std::int64_t{blockIdx.x} * kColumns, n = first + 2 * pair;
  const std::int64_t K = a.W.K;
  const int length = kChunk / slices, begin = slice * length;
  const bool wide = wide_W && (!kTransposed || n + 1 < a.W.N);

  float sums[kRows][2] = {};
  for (std::int64_t chunk = 0; chunk < K; chunk += kChunk) {
    __syncthreads();
    for (int i = thread; i < groups * kRows * (kChunk / 4); i += kThreads) {
      const int row = i / (kChunk / 4), k = i % (kChunk / 4) * 4;
      const float4 quad = row < M && chunk + k < K ? load_quad(a.x[row], chunk + k, K, wide_x)
                                                   : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      *reinterpret_cast<float4*>(x + row * kStride + k) = quad;
    }
    __syncthreads();
    if (n >= a.W.N) continue;
#pragma unroll 4
    for (int k = begin; k < begin + length; k += 4) {
      if (chunk + k >= K) break;
      float w[2][4];
      load_weights<kTransposed>(w, a.W, n, chunk + k, wide);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float4 quad =
            *reinterpret_cast<const float4*>(x + (group + r * groups) * kStride + k);
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          sums[r][c] = fmaf(quad.x, w[c][0], sums[r][c]);
          sums[r][c] = fmaf(quad.y, w[c][1], sums[r][c]);
          sums[r][c] = fmaf(quad.z, w[c][2], sums[r][c]);
          sums[r][c] = fmaf(quad.w, w[c][3], sums[r][c]);
        }
      }
    }
  }
  const int rows = groups * kRows;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      shared.partial[(slice * rows + group + r * groups) * kColumns + 2 * pair + c] = sums[r][c];
    }
  }
  __syncthreads();
  for (int i = thread; i < M * kColumns; i += kThreads) {
    const int row = i / kColumns, column = i % kColumns;
    const std::int64_t at = first + column;
    if (at >= a.W.N) continue;
    float sum = 0.0f;
    for (int s = 0; s < slices; ++s) sum += shared.partial[(s * rows + row) * kColumns + column];
    if (a.bias != nullptr) sum += a.bias[at];
    if (a.addend) sum += a.addend[row][at];
    a.y[row][at] = activate(a.activation, sum);
  }
}

inline void enqueue(const DenseArgs<float>& a, Stream stream) {
  int groups = 1;
  while (groups * kRows < a.M) groups *= 2;
  const PlainWeights<float>& W = a.W;
  const bool aligned = reinterpret_cast<std::uintptr_t>(W.data) % (W.transposed ? 8 : 16) == 0;
  const bool wide_W =
      aligned && (W.transposed ? W.stride % 2 == 0 : W.stride % 4 == 0 && W.K % 4 == 0);
  const bool wide_x = fits_float4(a.x, W.K) || (a.M == 1 && fits_float4({a.x.data, 0}, W.K));
  const LaunchShape shape{
      blocks_for(W.N, kColumns), kThreads,
      sizeof(Shared) + static_cast<std::size_t>(groups) * kRows * kStride * sizeof(float)};
  launch(W.transposed ? multiply<true> : multiply<false>, shape, stream, a, groups, wide_x, wide_W);
}

}  // namespace few_rows
}  // namespace seqvae::cuda

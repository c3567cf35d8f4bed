// One product of a chain in one CTA: its share of the columns, for all of its rows.
//
// Plain weights [N][K]: a warp takes four columns, its lanes the elements of K four at a time; the
// 32 sums (4 columns by 8 rows) then meet by halves, 31 shuffles, and lane l keeps row l / 4,
// column l % 4. Transposed ones [K][N]: a warp takes eight quads of columns, four lanes a quad deal
// out K among themselves, and warps that are left over share K further. Either way partial sums go
// to shared memory, [part][row][column of the share], and are added in the order of their parts.
// Floor: the share's weights from L1 or L2, 4 N K / C bytes a step.
#pragma once
#include "kernels/common/load_store.cuh"
#include "kernels/common/warp.cuh"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {

constexpr int kChainThreads = 256, kChainWarps = kChainThreads / kWarpSize;
constexpr int kChainRows = 8;  // of a CTA, at most

/// The quads of columns that CTA `rank` of `ctas` has of N columns, and how their sums are cut.
struct ColumnShare {
  int first, count;  ///< quads
  int parts;         ///< of K, among warps
  __device__ ColumnShare(std::int64_t N, bool transposed, int rank, int ctas) {
    const int quads = static_cast<int>((N + 3) / 4);
    first = quads * rank / ctas;
    count = quads * (rank + 1) / ctas - first;
    const int groups = (count + 7) / 8;  // of eight quads
    parts = transposed && groups > 0 && groups < kChainWarps ? kChainWarps / groups : 1;
  }
};

/// Elements of shared memory that the partial sums of a share of N columns take, at most.
inline std::int64_t partial_sums_of(std::int64_t N, int ctas) {
  const std::int64_t quads = (N + 3) / 4, count = (quads + ctas - 1) / ctas;
  const std::int64_t groups = (count + 7) / 8;
  return kChainRows * 32 * (groups < kChainWarps ? kChainWarps : groups);
}

/// Adds up v[i] over the lanes: lane i keeps the sum of v[i].
__device__ __forceinline__ float sum_by_halves(float (&v)[kWarpSize], int lane) {
#pragma unroll
  for (int level = 0; level < 5; ++level) {
    const int half = kWarpSize / 2 >> level;
    const bool upper = (lane & half) != 0;
#pragma unroll
    for (int i = 0; i < kWarpSize / 2; ++i) {
      if (i >= half) continue;
      const float other = upper ? v[i] : v[i + half];
      v[i] = (upper ? v[i + half] : v[i]) + __shfl_xor_sync(kFullMask, other, half);
    }
  }
  return v[0];
}

/// x is given row by row: x(r) points to the row's elements. `wide`: x and W by 16 bytes.
template <class X>
__device__ __forceinline__ void multiply_plain(const PlainWeights<float>& W, X x, int rows,
                                               const ColumnShare& share, bool wide,
                                               float* partial) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for (int q = static_cast<int>(threadIdx.x) / kWarpSize; q < share.count; q += kChainWarps) {
    const std::int64_t n = 4 * (share.first + q);
    float sums[kWarpSize] = {};
    for (std::int64_t k = 4 * lane; k < W.K; k += 4 * kWarpSize) {
      float4 w[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        w[c] = n + c < W.N ? load_quad(W.data + (n + c) * W.stride, k, W.K, wide)
                           : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      }
#pragma unroll
      for (int r = 0; r < kChainRows; ++r) {
        if (r >= rows) continue;
        const float4 values = load_quad(x(r), k, W.K, wide);
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          float& sum = sums[4 * r + c];
          sum = fmaf(values.x, w[c].x, sum), sum = fmaf(values.y, w[c].y, sum);
          sum = fmaf(values.z, w[c].z, sum), sum = fmaf(values.w, w[c].w, sum);
        }
      }
    }
    const float sum = sum_by_halves(sums, lane);
    partial[(lane / 4) * 4 * share.count + 4 * q + lane % 4] = sum;
  }
}

template <class X>
__device__ __forceinline__ void multiply_transposed(const PlainWeights<float>& W, X x, int rows,
                                                    const ColumnShare& share, bool wide,
                                                    float* partial) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int groups = (share.count + 7) / 8, width = 4 * share.count;
  for (int unit = warp; unit < groups * share.parts; unit += kChainWarps) {
    const int group = unit % groups, part = unit / groups, q = 8 * group + lane % 8;
    const std::int64_t n = 4 * (share.first + q);
    float4 sums[kChainRows] = {};
    for (std::int64_t k = 4 * part + lane / 8; q < share.count && k < W.K; k += 4 * share.parts) {
      const float4 w = load_quad(W.data + k * W.stride, n, W.N, wide);
#pragma unroll
      for (int r = 0; r < kChainRows; ++r) {
        if (r >= rows) continue;
        const float value = x(r)[k];
        sums[r] = make_float4(fmaf(value, w.x, sums[r].x), fmaf(value, w.y, sums[r].y),
                              fmaf(value, w.z, sums[r].z), fmaf(value, w.w, sums[r].w));
      }
    }
#pragma unroll
    for (int r = 0; r < kChainRows; ++r) {
      if (r >= rows) continue;
#pragma unroll
      for (int apart = 8; apart < kWarpSize; apart *= 2) {
        sums[r].x += __shfl_xor_sync(kFullMask, sums[r].x, apart);
        sums[r].y += __shfl_xor_sync(kFullMask, sums[r].y, apart);
        sums[r].z += __shfl_xor_sync(kFullMask, sums[r].z, apart);
        sums[r].w += __shfl_xor_sync(kFullMask, sums[r].w, apart);
      }
      if (lane < 8 && q < share.count) {
        *reinterpret_cast<float4*>(partial + (part * kChainRows + r) * width + 4 * q) = sums[r];
      }
    }
  }
}

}  // namespace seqvae::cuda

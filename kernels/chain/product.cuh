// One product of a chain in one CTA: its share of the columns, for all of its rows.
//
// By quads, weights [K][N]: a thread has four columns and every parts-th block of four elements of
// K; so a warp reads whole lines of weights, and nobody waits for another. This is how weights lie
// in shared memory, whichever way they were given. By columns, weights [N][K] where they are given:
// a warp takes 32 / R columns, its lanes the elements of K four at a time; the 32 sums (columns by
// rows) then meet by halves, 31 shuffles. Either way partial sums go to shared memory,
// [part][row][column of the share], and are added in the order of their parts.
// Floor: the share's weights from shared memory, 128 bytes a cycle, or else from L2; each is used
// for up to 8 rows.
#pragma once
#include "kernels/common/cluster.cuh"
#include "kernels/common/load_store.cuh"
#include "kernels/common/warp.cuh"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {

constexpr int kChainThreads = 512, kChainWarps = kChainThreads / kWarpSize;
constexpr int kChainRows = 8;  // of a CTA, at most

/// Division by a number that is known long before: i / n for i n < 2^32.
struct Divisor {
  unsigned over;  ///< 2^32 / n, rounded up; 0 for n = 1
  static __device__ Divisor of(int n) {
    return {n > 1 ? 0xffffffffu / static_cast<unsigned>(n) + 1 : 0};
  }
  __device__ __forceinline__ int divide(int i) const {
    return over == 0 ? i : static_cast<int>(static_cast<std::uint64_t>(i) * over >> 32);
  }
};

/// Rows that a product of so many rows reads, at most.
SEQVAE_HOST_DEVICE constexpr int rows_read(int rows) {
  return rows <= 4 ? rows : rows <= 6 ? 6 : 8;
}

/// Elements of shared memory that the partial sums of any product take, of columns up to `widest`
/// and so many rows: as many as multiply_share says, at most.
inline std::int64_t partial_sums_of(std::int64_t widest, int rows) {
  const std::int64_t quads = (widest + 3) / 4;
  const int R = rows <= 2 ? 2 : rows <= 4 ? 4 : 8;
  return 4 * R * (quads < kChainThreads ? kChainThreads : quads);
}

/// A product's weights as a CTA reads them: of its own columns alone, from the share's first on.
struct ShareWeights {
  const float* data;
  std::int64_t stride;
  int N, K;         ///< N: columns from the share's first on, at most those of the share
  bool by_columns;  ///< [N][K], else [K][N]
  bool quads;       ///< can be read by 16 bytes, as far as N and K reach
  bool stays;       ///< in shared memory, [K][columns], padded to quads
};

/// A CTA's share of a product: `count` quads of columns from the `first` on, K cut into parts.
struct ProductShare {
  ShareWeights W;
  int first, count, parts;
  Divisor by_count;
  bool shared;  ///< others have the other columns; else all are everyone's own
  bool quick;   ///< multiply_staying can do it
};

/// The product's other side: rows of K elements.
struct ShareRows {
  const float* data;
  std::int64_t stride;
  int rows;
  bool quads;  ///< can be read by 16 bytes, as far as K reaches
  __device__ __forceinline__ float4 load(int r, int k, int K) const {
    return r < rows ? load_quad(data + r * stride, k, K, quads)
                    : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
};

/// Parts that K is cut into, for a share of so many quads.
__device__ __forceinline__ int parts_of(const ShareWeights& W, int count) {
  if (W.by_columns || count >= kChainThreads || count == 0) return 1;
  const int parts = kChainThreads / count, blocks = (W.K + 3) / 4;
  return parts < blocks ? parts : blocks;
}

/// Four elements of a row by four rows of weights, four columns each.
__device__ __forceinline__ float4 add_products(float4 v, const float4 (&w)[4], float4 sum) {
  const auto add = [&](float value, float4 weights) {
    sum = map4([&](float a, float b) { return fmaf(value, a, b); }, weights, sum);
  };
  add(v.x, w[0]), add(v.y, w[1]), add(v.z, w[2]), add(v.w, w[3]);
  return sum;
}

/// Weights and rows both in shared memory, whole quads of K. There are R rows to be read, though
/// those beyond x.rows may hold anything. Returns R.
template <int R>
__device__ __forceinline__ int multiply_staying(const ProductShare& share, const ShareRows& x,
                                                float* partial) {
  const int count = share.count, parts = share.parts, thread = static_cast<int>(threadIdx.x);
  const int part = share.by_count.divide(thread), K = share.W.K;
  if (part >= parts) return R;
  const unsigned stride = 16 * static_cast<unsigned>(count);  // bytes
  const unsigned x_stride = 4 * static_cast<unsigned>(x.stride);
  const SharedAddress W_at = shared_address(share.W.data), x_at = shared_address(x.data);
  for (int q = thread - part * count; q < count; q += kChainThreads) {
    float4 sums[R] = {};
    SharedAddress w_at = W_at + 4 * static_cast<unsigned>(part) * stride + 16 * q;
    SharedAddress v_at = x_at + 16 * part;
#pragma unroll(R > 4 ? 1 : 2)
    for (int k = 4 * part; k < K; k += 4 * parts) {
      float4 w[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) w[j] = load_shared4(w_at + j * stride);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const float4 v = load_shared4(v_at + r * x_stride);
        sums[r] = add_products(v, w, sums[r]);
      }
      w_at += 4 * static_cast<unsigned>(parts) * stride;
      v_at += 16 * static_cast<unsigned>(parts);
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      *reinterpret_cast<float4*>(partial + ((part * R + r) * count + q) * 4) = sums[r];
    }
  }
  return R;
}

template <int R>
__device__ __forceinline__ void multiply_by_quads(const ProductShare& share, const ShareRows& x,
                                                  float* partial) {
  const ShareWeights& W = share.W;
  const int count = share.count, parts = share.parts, thread = static_cast<int>(threadIdx.x);
  const int part = share.by_count.divide(thread);
  if (part >= parts) return;
  for (int q = thread - part * count; q < count; q += kChainThreads) {
    float4 sums[R] = {};
#pragma unroll(R > 4 ? 1 : 2)
    for (int k = 4 * part; k < W.K; k += 4 * parts) {
      float4 w[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        w[j] = k + j < W.K ? load_quad(W.data + (k + j) * W.stride, 4 * q, W.N, W.quads)
                           : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      }
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const float4 v = x.load(r, k, W.K);
        sums[r] = add_products(v, w, sums[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      *reinterpret_cast<float4*>(partial + ((part * R + r) * count + q) * 4) = sums[r];
    }
  }
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

template <int R>
__device__ __forceinline__ void multiply_by_columns(const ProductShare& share, const ShareRows& x,
                                                    float* partial) {
  const ShareWeights& W = share.W;
  constexpr int C = kWarpSize / R;  // columns of a warp's turn: a sum a lane
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const bool wide = W.quads && x.quads;
  for (int n = static_cast<int>(threadIdx.x) / kWarpSize * C; n < W.N; n += kChainWarps * C) {
    float sums[kWarpSize] = {};
#pragma unroll 1
    for (int k = 4 * lane; k < W.K; k += 4 * kWarpSize) {
      float4 v[R];
#pragma unroll
      for (int r = 0; r < R; ++r) v[r] = x.load(r, k, W.K);
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const float4 w = n + c < W.N ? load_quad(W.data + (n + c) * W.stride, k, W.K, wide)
                                     : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          float& sum = sums[C * r + c];
          sum = fmaf(v[r].x, w.x, sum), sum = fmaf(v[r].y, w.y, sum);
          sum = fmaf(v[r].z, w.z, sum), sum = fmaf(v[r].w, w.w, sum);
        }
      }
    }
    const float sum = sum_by_halves(sums, lane);
    const int column = n + lane % C;
    if (column < 4 * share.count) partial[lane / C * 4 * share.count + column] = sum;
  }
}

template <int R>
__device__ __forceinline__ int multiply_anywhere(const ProductShare& share, const ShareRows& x,
                                                 float* partial) {
  if (share.W.by_columns) {
    multiply_by_columns<R>(share, x, partial);
  } else {
    multiply_by_quads<R>(share, x, partial);
  }
  return R;
}

/// Partial sums of a product; as many rows of them as are returned, of which those beyond x's are
/// to be left alone.
__device__ __forceinline__ int multiply_share(const ProductShare& share, const ShareRows& x,
                                              float* partial) {
  if (share.quick) {
    switch (x.rows) {
      case 1:
        return multiply_staying<1>(share, x, partial);
      case 2:
        return multiply_staying<2>(share, x, partial);
      case 3:
        return multiply_staying<3>(share, x, partial);
      case 4:
        return multiply_staying<4>(share, x, partial);
      case 5:
      case 6:
        return multiply_staying<6>(share, x, partial);
      default:
        return multiply_staying<8>(share, x, partial);
    }
  }
  if (x.rows > 4) return multiply_anywhere<8>(share, x, partial);
  if (x.rows > 2) return multiply_anywhere<4>(share, x, partial);
  return multiply_anywhere<2>(share, x, partial);
}

}  // namespace seqvae::cuda

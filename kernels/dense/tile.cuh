// 64 x 64 of a product by a block of 64 threads, 8 x 8 sums a thread in registers. Sixteen elements
// of the sum at a time lie in shared memory, [k][line] of either factor (a line: a row of the
// product, or a column), the next sixteen on their way in registers while these are multiplied; an
// element's 16 numbers of a thread are four loads for 64 multiply-adds.
// Floor: arithmetic, 128 multiply-adds a clock and multiprocessor.
// Hazards: a stage is read by all between two barriers, and written after the second. Elements lie
// 68 lines apart, lines of the last eight elements with their eights exchanged, so that a warp that
// turns a factor over, 8 lines by four quads of k, meets no bank twice. What lies beyond the sum or
// the last line is zero there.
#pragma once
#include "kernels/common/load_store.cuh"

namespace seqvae::cuda::tile {

constexpr int kThreads = 64, kSide = 64, kDepth = 16, kStride = kSide + 4;
constexpr int kQuads = kDepth * kSide / 4 / kThreads;  // of a stage and factor, a thread

/// A factor's part in a stage.
struct Slab {
  float at[kDepth][kStride];
  /// Lines `line` .. line + 3 of element k.
  __device__ __forceinline__ float4& quad(int k, int line) {
    return *reinterpret_cast<float4*>(&at[k][line ^ (k & 8)]);
  }
  __device__ __forceinline__ float& element(int k, int line) { return at[k][line ^ (k & 8)]; }
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

/// This thread's quads of a factor, stage after stage.
class Reader {
 public:
  /// From element `begin` of the lines from `line` on.
  __device__ __forceinline__ Reader(const Factor& f, std::int64_t line, std::int64_t begin)
      : across_(f.across), wide_(f.wide) {
    const int thread = static_cast<int>(threadIdx.x);
    line += across_ ? 4 * (thread % 16) : thread / 4;
    const std::int64_t k = begin + (across_ ? thread / 16 : 4 * (thread % 4));
    at_ = f.data + (across_ ? k * f.stride + line : line * f.stride + k);
    apart_ = (across_ ? 4 : 16) * f.stride;
    lines_ = static_cast<int>(f.lines - line), elements_ = static_cast<int>(f.K - k);
  }
  /// Those of the next stage.
  __device__ __forceinline__ void fetch(float4 (&quads)[kQuads]) {
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
      const bool inside =
          across_ ? lines_ > 0 && elements_ > 4 * i : lines_ > 16 * i && elements_ > 0;
      quads[i] = inside ? load_quad(at_ + i * apart_, 0, across_ ? lines_ : elements_, wide_)
                        : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    at_ += across_ ? 4 * apart_ : kDepth;
    elements_ -= kDepth;
  }

 private:
  const float* at_;
  std::int64_t apart_;    ///< elements from a quad to the next
  int lines_, elements_;  ///< from the first quad on
  bool across_, wide_;
};

/// Puts them where all see them after a barrier.
__device__ __forceinline__ void keep(const float4 (&quads)[kQuads], bool across, Slab& slab) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    if (across) {
      slab.quad(thread / 16 + 4 * i, 4 * (thread % 16)) = quads[i];
    } else {
      const int line = 16 * i + thread / 4, k = 4 * (thread % 4);
      slab.element(k, line) = quads[i].x, slab.element(k + 1, line) = quads[i].y;
      slab.element(k + 2, line) = quads[i].z, slab.element(k + 3, line) = quads[i].w;
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
__device__ __forceinline__ void add_element(Sums& sums, Stage& stage, int k) {
  const float4 a0 = stage.a.quad(k, line_of(0)), a1 = stage.a.quad(k, line_of(4));
  const float a[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w};
  const float4 b0 = stage.b.quad(k, column_of(0)), b1 = stage.b.quad(k, column_of(1));
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    add_products(sums[i][0], a[i], b0), add_products(sums[i][1], a[i], b1);
  }
}

/// sums += a b over elements begin .. end of the sum, of the lines from a_line and b_line on;
/// each(stage, k) sees every element. The stage is nobody's after it.
template <class Each>
__device__ __forceinline__ void multiply(Sums& sums, Stage& stage, const Factor& a,
                                         std::int64_t a_line, const Factor& b, std::int64_t b_line,
                                         std::int64_t begin, std::int64_t end, Each each) {
  Reader from_a(a, a_line, begin), from_b(b, b_line, begin);
  float4 next_a[kQuads], next_b[kQuads];
  from_a.fetch(next_a), from_b.fetch(next_b);
#pragma unroll 1
  for (std::int64_t k = begin; k < end; k += kDepth) {
    keep(next_a, a.across, stage.a), keep(next_b, b.across, stage.b);
    __syncthreads();
    from_a.fetch(next_a), from_b.fetch(next_b);
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      add_element(sums, stage, i);
      each(stage, i);
    }
    __syncthreads();
  }
}

}  // namespace seqvae::cuda::tile

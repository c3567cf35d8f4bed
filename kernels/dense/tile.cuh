// A square of a product, 64 or 32 a side, by a block of 64 threads, 8 x 8 or 4 x 4 sums a thread in
// registers: the large one reads less for its arithmetic, the small ones are four times as many. 16
// or 32 elements of the sum at a time lie in shared memory, [k][line] of either factor (a line: a
// row of the product, or a column), the next on their way in registers while these are multiplied.
// Floor: arithmetic, 128 multiply-adds a clock and multiprocessor.
// Hazards: a stage is read by all between two barriers, and written after the second. A warp that
// turns a factor over has 8 lines by 4 quads of k, or 4 by 8, and meets no bank twice: elements lie
// 4 lines more than a side apart, and every eight of them have their lines exchanged otherwise.
// What lies beyond the sum or the last line is zero there.
#pragma once
#include "kernels/common/load_store.cuh"

namespace seqvae::cuda {

/// A factor that lies line after line, [line][k], or element after element, [k][line].
struct Factor {
  const float* data;
  std::int64_t stride;
  std::int64_t lines, K;  ///< from data on
  bool across;            ///< [k][line]
  bool wide;              ///< can be read by 16 bytes, as far as K, or lines, reach
};

template <int kSide>
struct Tile {
  static constexpr int kThreads = 64, kDepth = 1024 / kSide, kStride = kSide + 4;
  static constexpr int kQuads = 4;                   // of a stage and factor, a thread
  static constexpr int kParts = kSide / 32;          // of 32 lines; a thread has 4 of each
  static constexpr int kLinesAtOnce = 128 / kDepth;  // that a warp turns over
  using Sums = float4[4 * kParts][kParts];           // of lines line_of(i), columns column_of(part)

  /// A factor's part in a stage.
  struct Slab {
    float at[kDepth][kStride];  ///< [k][line]
    static __device__ __forceinline__ int place(int k, int line) {
      return line ^ k / 8 * kLinesAtOnce;
    }
    /// Lines `line` .. line + 3 of element k, and those 32 further on.
    __device__ __forceinline__ float4& quad(int k, int line, int part = 0) {
      return *reinterpret_cast<float4*>(&at[k][place(k, line) + 32 * part]);
    }
    __device__ __forceinline__ float& element(int k, int line) { return at[k][place(k, line)]; }
  };
  struct Stage {
    Slab a, b;
  };

  /// Where a thread's quads of a stage lie: quad i is of element k and the lines from `line` on,
  /// or, turned over, of line `line` and the elements from k on.
  struct Place {
    int k, line;
  };
  static __device__ __forceinline__ Place place_of(bool across, int i) {
    constexpr int kAcross = kSide / 4, kAlong = kDepth / 4;
    const int thread = static_cast<int>(threadIdx.x);
    return across ? Place{thread / kAcross + i * (kThreads / kAcross), 4 * (thread % kAcross)}
                  : Place{4 * (thread % kAlong), thread / kAlong + i * (kThreads / kAlong)};
  }

  /// This thread's quads of a factor, stage after stage.
  class Reader {
   public:
    /// From element `begin` of the lines from `line` on.
    __device__ __forceinline__ Reader(const Factor& f, std::int64_t line, std::int64_t begin)
        : across_(f.across), wide_(f.wide) {
      const Place mine = place_of(across_, 0);
      line += mine.line, begin += mine.k;
      at_ = f.data + (across_ ? begin * f.stride + line : line * f.stride + begin);
      stride_ = f.stride;
      lines_ = static_cast<int>(f.lines - line), elements_ = static_cast<int>(f.K - begin);
    }
    /// Those of the next stage.
    __device__ __forceinline__ void fetch(float4 (&quads)[kQuads]) {
      const int apart = across_ ? place_of(true, 1).k - place_of(true, 0).k
                                : place_of(false, 1).line - place_of(false, 0).line;
#pragma unroll
      for (int i = 0; i < kQuads; ++i) {
        const bool inside =
            across_ ? lines_ > 0 && elements_ > apart * i : lines_ > apart * i && elements_ > 0;
        const float* at = at_ + i * apart * stride_;
        quads[i] = inside ? load_quad(at, 0, across_ ? lines_ : elements_, wide_)
                          : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      }
      at_ += across_ ? kDepth * stride_ : kDepth;
      elements_ -= kDepth;
    }

   private:
    const float* at_;
    std::int64_t stride_;
    int lines_, elements_;  ///< from the first quad on
    bool across_, wide_;
  };

  /// Puts them where all see them after a barrier.
  static __device__ __forceinline__ void keep(const float4 (&quads)[kQuads], bool across,
                                              Slab& slab) {
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
      const auto [k, line] = place_of(across, i);
      if (across) {
        slab.quad(k, line) = quads[i];
      } else {
        slab.element(k, line) = quads[i].x, slab.element(k + 1, line) = quads[i].y;
        slab.element(k + 2, line) = quads[i].z, slab.element(k + 3, line) = quads[i].w;
      }
    }
  }

  static __device__ __forceinline__ int line_of(int i) {
    return 4 * (static_cast<int>(threadIdx.x) / 8) + i % 4 + i / 4 * 32;
  }
  static __device__ __forceinline__ int column_of(int part) {
    return 4 * (static_cast<int>(threadIdx.x) % 8) + 32 * part;
  }

  /// Element k of a stage.
  static __device__ __forceinline__ void add_element(Sums& sums, Stage& stage, int k) {
    float4 a[kParts], b[kParts];
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      a[part] = stage.a.quad(k, line_of(0), part), b[part] = stage.b.quad(k, column_of(0), part);
    }
    const auto add = [&](float x, float4(&row)[kParts]) {
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        row[part] = map4([&](float y, float sum) { return fmaf(x, y, sum); }, b[part], row[part]);
      }
    };
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      add(a[part].x, sums[4 * part]), add(a[part].y, sums[4 * part + 1]);
      add(a[part].z, sums[4 * part + 2]), add(a[part].w, sums[4 * part + 3]);
    }
  }

  /// sums += a b over elements begin .. end of the sum, of the lines from a_line and b_line on;
  /// each(stage, k) sees every element. The stage is nobody's after it.
  template <class Each>
  static __device__ __forceinline__ void multiply(Sums& sums, Stage& stage, const Factor& a,
                                                  std::int64_t a_line, const Factor& b,
                                                  std::int64_t b_line, std::int64_t begin,
                                                  std::int64_t end, Each each) {
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
};

}  // namespace seqvae::cuda

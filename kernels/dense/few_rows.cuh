// Products of few rows, y = act(x W^T + bias + addend) with M <= 64, as a loop over time has them:
// the weights are read once, by all of the device, which a library that may not split sums cannot.
// A block is 16 columns, 256 threads: 4 quads of columns by R groups of rows by S slices of K, with
// R the power of two at or above M / 4 and R S = 64. A thread adds 4 rows by 4 columns over its
// slice, four elements of K at a time; the slices' sums meet in shared memory in their order. x
// comes by chunks of up to 256 elements of K into shared memory. Where N has too few blocks for the
// device, a cluster of them splits K: each sends its sums to the first, which adds them in order.
// Products that do not wait for each other share a launch.
// Floor: W once from memory or L2, 4 N K bytes; 2 M N K flop.
// Hazards: rows of a group lie R apart, so that neighbouring groups read neighbouring banks; a
// chunk is overwritten only after all have read it. The first block of a cluster waits for all that
// is sent to it before it ends.
#pragma once
#include <algorithm>

#include "kernels/common/cluster.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/load_store.cuh"
#include "kernels/dense/finish.cuh"
#include "kernels/dense/group.cuh"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {

namespace few_rows {

constexpr int kThreads = 256, kColumns = 16, kColumnQuads = kColumns / 4, kRows = 4;
constexpr int kChunk = 256;
constexpr int kAhead = 3;  // quads of K of a thread that are on their way
constexpr int kGroupsBySlices = kThreads / kColumnQuads;
constexpr int kStride = kChunk + 4;

struct Shared {
  alignas(16) float partial[kGroupsBySlices * kRows * kColumns];  // [slice][row][column]
  std::uint64_t received[2];  // the first is the mbarrier of what other blocks send
  float x[4];                 // [rows][kStride], as many as there are; then what was sent
};

/// One product of a launch. K is cut among the blocks of a cluster, as many for all of the launch,
/// and into chunks of a block.
struct Product {
  DenseArgs<float> args;
  int groups, blocks, of_block, chunk;
  bool wide_x, wide_W, wide_y;
  unsigned end;
};

/// Four columns of W as a thread reads them along K. `wide`: by 16 bytes, of a row of [K][N] or of
/// each of four rows of [N][K].
template <bool kTransposed, bool kWide>
class Columns {
 public:
  __device__ __forceinline__ Columns(const PlainWeights<float>& W, std::int64_t n, std::int64_t k)
      : stride_(W.stride),
        at_(W.data + (kTransposed ? k * W.stride + n : n * W.stride + k)),
        columns_(static_cast<int>(W.N - n)),
        elements_(static_cast<int>(W.K - k)) {}
  /// w[c] of elements 4 q .. 4 q + 3; K has them all, but for the last ones of a last quad.
  __device__ __forceinline__ void load(float4 (&w)[4], int q) const {
    const float4 zero = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if constexpr (kTransposed) {
      float4 rows[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool inside = 4 * q + i < elements_;
        rows[i] = inside ? load_quad(at_ + (4 * q + i) * stride_, 0, columns_, kWide) : zero;
      }
      w[0] = make_float4(rows[0].x, rows[1].x, rows[2].x, rows[3].x);
      w[1] = make_float4(rows[0].y, rows[1].y, rows[2].y, rows[3].y);
      w[2] = make_float4(rows[0].z, rows[1].z, rows[2].z, rows[3].z);
      w[3] = make_float4(rows[0].w, rows[1].w, rows[2].w, rows[3].w);
    } else {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        w[c] =
            c < columns_ ? load_quad(at_ + c * stride_ + 4 * q, 0, elements_ - 4 * q, kWide) : zero;
      }
    }
  }

 private:
  std::int64_t stride_;
  const float* at_;
  int columns_, elements_;  ///< from the first on
};

/// sums += x W^T over `count` quads of K, of which kAhead are on their way at a time. Rows of x in
/// shared memory lie `apart`.
template <bool kTransposed, bool kWide>
__device__ __forceinline__ void add_slice(float (&sums)[kRows][4],
                                          const Columns<kTransposed, kWide>& W, int count,
                                          const float* x, int apart) {
  float4 w[kAhead][4];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (i < count) W.load(w[i], i);
  }
#pragma unroll 1
  for (int q = 0; q < count; q += kAhead) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (q + i >= count) break;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float4 quad = *reinterpret_cast<const float4*>(x + r * apart + 4 * (q + i));
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          sums[r][c] = fmaf(quad.x, w[i][c].x, sums[r][c]);
          sums[r][c] = fmaf(quad.y, w[i][c].y, sums[r][c]);
          sums[r][c] = fmaf(quad.z, w[i][c].z, sums[r][c]);
          sums[r][c] = fmaf(quad.w, w[i][c].w, sums[r][c]);
        }
      }
      if (q + i + kAhead < count) W.load(w[i], q + i + kAhead);
    }
  }
}

/// Elements k .. k + chunk - 1 of x's rows to shared memory, zeros from M and K on: a thread has
/// one quad of every fourth row.
template <bool kWide>
__device__ __forceinline__ void bring_rows(const Rows<const float>& from, int M, int rows,
                                           std::int64_t k, std::int64_t K, int chunk, float* x) {
  constexpr int kQuads = kChunk / 4, kApart = kThreads / kQuads, kOnTheWay = 4;
  const int column = static_cast<int>(threadIdx.x) % kQuads * 4;
  if (column >= chunk) return;
  const std::int64_t left = K - k - column;
  const float* at = from.data + k + column;
#pragma unroll 1
  for (int row = static_cast<int>(threadIdx.x) / kQuads; row < rows; row += kOnTheWay * kApart) {
    float4 quads[kOnTheWay];
#pragma unroll
    for (int i = 0; i < kOnTheWay; ++i) {
      const int r = row + i * kApart;
      quads[i] = r < M && left > 0 ? load_quad(at + r * from.stride, 0, left, kWide)
                                   : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
#pragma unroll
    for (int i = 0; i < kOnTheWay; ++i) {
      const int r = row + i * kApart;
      if (r < rows) *reinterpret_cast<float4*>(x + r * kStride + column) = quads[i];
    }
  }
}

template <bool kTransposed>
__global__ void __launch_bounds__(kThreads, 2)
    multiply(const __grid_constant__ Group<Product> products) {
  const auto [p, number] = call_of_block(products, &Product::end);
  const DenseArgs<float>& a = p.args;
  const int groups = p.groups, blocks = p.blocks;
  Shared& shared = shared_storage<Shared>();
  float* const x = shared.x;
  const int thread = static_cast<int>(threadIdx.x), M = static_cast<int>(a.M);
  const int column_quad = thread % kColumnQuads, group = thread / kColumnQuads % groups;
  const int slice = thread / kColumnQuads / groups, slices = kGroupsBySlices / groups;
  const int rank = blocks > 1 ? static_cast<int>(cluster_rank()) : 0;
  const std::int64_t first = std::int64_t{number} / blocks * kColumns, n = first + 4 * column_quad;
  const std::int64_t from = std::int64_t{rank} * p.of_block, to = from + p.of_block;
  const std::int64_t K = to < a.W.K ? to : a.W.K;  // of this block's part
  const int length = p.chunk / slices, begin = slice * length;
  const int rows = groups * kRows, quads = M * (kColumns / 4);
  float* const sent = x + rows * kStride;  // [block - 1][row][column]
  const SharedAddress received = shared_address(&shared.received[0]);
  if (blocks > 1) {
    if (rank == 0 && thread == 0) {
      mbarrier_init(received, 1);
      mbarrier_init_fence();
      mbarrier_arm(received, static_cast<unsigned>(blocks - 1) * quads * 16);
    }
    cluster_barrier();
  }
  const float* own = x + group * kStride + begin;

  float sums[kRows][4] = {};
  for (std::int64_t chunk = from; chunk < K; chunk += p.chunk) {
    __syncthreads();
    if (p.wide_x) {
      bring_rows<true>(a.x, M, rows, chunk, K, p.chunk, x);
    } else {
      bring_rows<false>(a.x, M, rows, chunk, K, p.chunk, x);
    }
    __syncthreads();
    const std::int64_t k = chunk + begin, left = K - k < length ? K - k : length;
    const int count = n < a.W.N && left > 0 ? static_cast<int>(left + 3) / 4 : 0;
    if (p.wide_W) {
      add_slice(sums, Columns<kTransposed, true>(a.W, n, k), count, own, groups * kStride);
    } else {
      add_slice(sums, Columns<kTransposed, false>(a.W, n, k), count, own, groups * kStride);
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int place = (slice * rows + group + r * groups) * kColumns + 4 * column_quad;
    *reinterpret_cast<float4*>(shared.partial + place) =
        make_float4(sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
  }
  __syncthreads();
  // Four columns of a row a thread: the slices' sums, then the blocks'.
  const auto sum_of = [&](int i) {
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int s = 0; s < slices; ++s) {
      sum = plus4(sum,
                  *reinterpret_cast<const float4*>(shared.partial + s * rows * kColumns + 4 * i));
    }
    return sum;
  };
  if (rank > 0) {
    for (int i = thread; i < quads; i += kThreads) {
      const float4 sum = sum_of(i);
      const SharedAddress to_first = shared_address(sent + ((rank - 1) * quads + i) * 4);
      st_async(map_shared(to_first, 0),
               make_uint4(__float_as_uint(sum.x), __float_as_uint(sum.y), __float_as_uint(sum.z),
                          __float_as_uint(sum.w)),
               map_shared(received, 0));
    }
    return;
  }
  if (blocks > 1) mbarrier_wait(received, 0);
  for (int i = thread; i < quads; i += kThreads) {
    float4 sum = sum_of(i);
    for (int block = 1; block < blocks; ++block) {
      sum = plus4(sum, *reinterpret_cast<const float4*>(sent + ((block - 1) * quads + i) * 4));
    }
    const std::int64_t column = first + i % (kColumns / 4) * 4;
    if (column >= a.W.N) continue;
    Quad quad;
    quad.read(a, i / (kColumns / 4), column, sum, p.wide_y);
    quad.write(a, i / (kColumns / 4), column, p.wide_y);
  }
}

/// Blocks of a cluster that share the K of each product: as many as there is room for side by side,
/// each with 128 elements of K, which is the largest, at least. `blocks`: how many there are
/// without.
inline int cluster_of(std::int64_t K, std::int64_t blocks) {
  int cluster = 1;
  const bool has_clusters = device_limit(cudaDevAttrComputeCapabilityMajor) >= 9;
  const int room = 2 * device_limit(cudaDevAttrMultiProcessorCount);
  while (has_clusters && cluster < 8 && 2 * cluster * blocks <= room && K >= 2 * 128 * cluster) {
    cluster *= 2;
  }
  return cluster;
}

inline Product product_of(const DenseArgs<float>& a, int cluster) {
  Product p{a, 1, cluster, 0, 0, false, false, finishes_by_16_bytes(a), 0};
  while (p.groups * kRows < a.M) p.groups *= 2;
  const int slices = kGroupsBySlices / p.groups;
  const auto up = [](std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; };
  const std::int64_t of_block = up((a.W.K + cluster - 1) / cluster, 4);
  const std::int64_t chunks = (of_block + kChunk - 1) / kChunk;
  p.of_block = static_cast<int>(of_block);
  p.chunk = static_cast<int>(up((of_block + chunks - 1) / chunks, 4 * slices));
  const PlainWeights<float>& W = a.W;
  p.wide_W = fits_float4({W.data, W.stride}, W.transposed ? W.N : W.K);
  p.wide_x = fits_float4(a.x, W.K) || (a.M == 1 && fits_float4({a.x.data, 0}, W.K));
  return p;
}

/// Products of 1 to 64 rows, whose weights all stand one way.
inline void enqueue(const DenseArgs<float>* calls, int count, Stream stream) {
  std::int64_t K = 0, columns = 0;
  for (int i = 0; i < count; ++i) {
    K = calls[i].W.K > K ? calls[i].W.K : K;
    columns += blocks_for(calls[i].W.N, kColumns);
  }
  const int cluster = cluster_of(K, columns);
  Group<Product> group{};
  std::size_t elements = 0;
  unsigned blocks = 0;
  for (group.count = 0; group.count < count; ++group.count) {
    Product& p = group.of[group.count] = product_of(calls[group.count], cluster);
    p.end = blocks += blocks_for(p.args.W.N, kColumns) * static_cast<unsigned>(cluster);
    const auto rows = static_cast<std::size_t>(p.groups) * kRows;
    const auto M = static_cast<std::size_t>(p.args.M);
    const std::size_t sent = static_cast<std::size_t>(cluster - 1) * M * kColumns;
    elements = std::max(elements, rows * kStride + sent);
  }
  LaunchShape shape{blocks, kThreads, sizeof(Shared) + elements * sizeof(float)};
  shape.cluster = static_cast<unsigned>(cluster);
  launch(calls[0].W.transposed ? multiply<true> : multiply<false>, shape, stream, group);
}

}  // namespace few_rows
}  // namespace seqvae::cuda

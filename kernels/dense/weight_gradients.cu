// Many weight gradients at once, each too small to fill a device: grad_W = grad_y^T x, 64 x 64 of
// it and up to 256 rows of the sum a block of 64 threads, 8 x 8 sums a thread in registers. Both
// matrices lie by rows of the sum, so 16 rows of either are copied to shared memory as they are,
// the next 16 on their way while these are multiplied; a row's 16 numbers of a thread are four
// loads for 64 multiply-adds. Blocks of a gradient's first columns add up the bias too. Where a sum
// has several slices a second kernel adds them in order, in double: the same bits in every run.
// Floor: arithmetic, 2 M N K operations; 4 (N + K) bytes read a row and tile, and slices N K
// written and read.
// Hazards: a stage is read by all between two barriers, and written after the second; rows past the
// slice and columns past the matrix are zeros there.
#include "kernels/dense/weight_gradients.hpp"

#include <vector>

#include "kernels/common/launch.cuh"
#include "kernels/common/load_store.cuh"
#include "kernels/common/runtime.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae::cuda {
namespace {

constexpr int kThreads = 64, kDepth = 16, kTile = static_cast<int>(kGradientTile);
constexpr int kQuads = kDepth * kTile / 4 / kThreads;  // of a stage and matrix, a thread
constexpr unsigned kSumThreads = 256;

/// One gradient of a launch.
struct Gradient {
  Rows<const float> grad_y, x;
  Rows<float> grad_W;
  float *grad_bias, *products;
  double* bias_sums;
  std::int64_t M;
  int N, K, slices, tiles_n, tiles_k;
  bool accumulate, wide_y, wide_x, wide_W;
  unsigned products_end, sums_end;  ///< blocks of this and of those before it, in either kernel
};
/// As many as a kernel's parameters hold.
struct Gradients {
  static constexpr int kMost = 28;
  Gradient of[kMost];
  int count;
};
static_assert(sizeof(Gradients) <= 4096);

struct Stage {
  float grad_y[kDepth][kTile], x[kDepth][kTile];
};

/// This thread's quads of rows first .. first + 16 and columns from `column`, zeros beyond `end`
/// and `width`.
__device__ __forceinline__ void fetch(float4 (&quads)[kQuads], const Rows<const float>& from,
                                      std::int64_t first, std::int64_t end, std::int64_t column,
                                      std::int64_t width, bool wide) {
  const int row = static_cast<int>(threadIdx.x) / 16;
  const std::int64_t d = column + 4 * (threadIdx.x % 16);
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    const std::int64_t r = first + row + 4 * i;
    quads[i] = r < end && d < width ? load_quad(from[r], d, width, wide)
                                    : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
}
__device__ __forceinline__ void keep(const float4 (&quads)[kQuads], float (&to)[kDepth][kTile]) {
  const int row = static_cast<int>(threadIdx.x) / 16, d = 4 * static_cast<int>(threadIdx.x % 16);
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    *reinterpret_cast<float4*>(&to[row + 4 * i][d]) = quads[i];
  }
}

__device__ __forceinline__ void add_products(float4& sums, float a, float4 b) {
  sums.x = fmaf(a, b.x, sums.x), sums.y = fmaf(a, b.y, sums.y);
  sums.z = fmaf(a, b.z, sums.z), sums.w = fmaf(a, b.w, sums.w);
}

__global__ void __launch_bounds__(kThreads)
    slice_products(const __grid_constant__ Gradients gradients) {
  int which = 0;
  while (blockIdx.x >= gradients.of[which].products_end) ++which;
  const Gradient& g = gradients.of[which];
  const unsigned begin = which == 0 ? 0 : gradients.of[which - 1].products_end;
  const int tiles = g.tiles_n * g.tiles_k, place = static_cast<int>(blockIdx.x - begin);
  const int slice = place / tiles, tile = place % tiles;
  const std::int64_t n0 = std::int64_t{tile / g.tiles_k} * kTile;
  const std::int64_t k0 = std::int64_t{tile % g.tiles_k} * kTile;
  const std::int64_t first = slice * kGradientRows;
  const std::int64_t end = first + kGradientRows < g.M ? first + kGradientRows : g.M;
  const int ty = static_cast<int>(threadIdx.x) / 8, tx = static_cast<int>(threadIdx.x) % 8;
  const bool sums_bias = g.grad_bias != nullptr && k0 == 0;

  Stage& stage = shared_storage<Stage>();
  float4 sums[8][2] = {};
  double bias = 0.0;
  float4 next_y[kQuads], next_x[kQuads];
  fetch(next_y, g.grad_y, first, end, n0, g.N, g.wide_y);
  fetch(next_x, g.x, first, end, k0, g.K, g.wide_x);
  for (std::int64_t row = first; row < end; row += kDepth) {
    keep(next_y, stage.grad_y), keep(next_x, stage.x);
    __syncthreads();
    fetch(next_y, g.grad_y, row + kDepth, end, n0, g.N, g.wide_y);
    fetch(next_x, g.x, row + kDepth, end, k0, g.K, g.wide_x);
#pragma unroll
    for (int m = 0; m < kDepth; ++m) {
      const float4 a0 = *reinterpret_cast<const float4*>(&stage.grad_y[m][4 * ty]);
      const float4 a1 = *reinterpret_cast<const float4*>(&stage.grad_y[m][32 + 4 * ty]);
      const float a[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w};
      const float4 b0 = *reinterpret_cast<const float4*>(&stage.x[m][4 * tx]);
      const float4 b1 = *reinterpret_cast<const float4*>(&stage.x[m][32 + 4 * tx]);
#pragma unroll
      for (int i = 0; i < 8; ++i)
        add_products(sums[i][0], a[i], b0), add_products(sums[i][1], a[i], b1);
      if (sums_bias) bias += static_cast<double>(stage.grad_y[m][threadIdx.x]);
    }
    __syncthreads();
  }

  const std::int64_t n = n0 + threadIdx.x;
  if (sums_bias && n < g.N) {
    if (g.slices > 1) {
      g.bias_sums[slice * std::int64_t{g.N} + n] = bias;
    } else {
      if (g.accumulate) bias += static_cast<double>(g.grad_bias[n]);
      g.grad_bias[n] = static_cast<float>(bias);
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const std::int64_t r = n0 + 4 * ty + (i < 4 ? i : 28 + i);
    if (r >= g.N) continue;
    float* to = g.slices > 1 ? g.products + (slice * std::int64_t{g.N} + r) * g.K : g.grad_W[r];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t k = k0 + 32 * half + 4 * tx;
      if (k >= g.K) continue;
      float4 sum = sums[i][half];
      if (g.slices == 1 && g.accumulate) sum = plus4(sum, load_quad(to, k, g.K, g.wide_W));
      store_quad(to, k, g.K, g.wide_W, sum);
    }
  }
}

/// Four columns of a row of a gradient, or one entry of a bias, a thread.
__global__ void __launch_bounds__(kSumThreads)
    add_slices(const __grid_constant__ Gradients gradients) {
  int which = 0;
  while (blockIdx.x >= gradients.of[which].sums_end) ++which;
  const Gradient& g = gradients.of[which];
  const unsigned begin = which == 0 ? 0 : gradients.of[which - 1].sums_end;
  std::int64_t place = std::int64_t{blockIdx.x - begin} * kSumThreads + threadIdx.x;
  const std::int64_t N = g.N, K = g.K, quads = (K + 3) / 4;
  if (place < N * quads) {
    const std::int64_t row = place / quads, k = 4 * (place % quads);
    double x = 0.0, y = 0.0, z = 0.0, w = 0.0;
    const auto add = [&](float4 quad) {
      x += static_cast<double>(quad.x), y += static_cast<double>(quad.y);
      z += static_cast<double>(quad.z), w += static_cast<double>(quad.w);
    };
    if (g.accumulate) add(load_quad(g.grad_W[row], k, K, g.wide_W));
#pragma unroll 4
    for (int s = 0; s < g.slices; ++s) {
      add(load_quad(g.products + (s * N + row) * K, k, K, g.wide_W));
    }
    store_quad(g.grad_W[row], k, K, g.wide_W,
               make_float4(static_cast<float>(x), static_cast<float>(y), static_cast<float>(z),
                           static_cast<float>(w)));
    return;
  }
  place -= N * quads;
  if (place >= N || g.grad_bias == nullptr) return;
  double sum = g.accumulate ? static_cast<double>(g.grad_bias[place]) : 0.0;
  for (int s = 0; s < g.slices; ++s) sum += g.bias_sums[s * N + place];
  g.grad_bias[place] = static_cast<float>(sum);
}

Gradient gradient_of(const DenseWeightGradientArgs<float>& a, Arena& arena) {
  const SliceSums sums(a, arena);
  Gradient g{};
  g.grad_y = a.grad_y, g.x = a.x, g.grad_W = a.grad_W, g.grad_bias = a.grad_bias;
  g.products = sums.products, g.bias_sums = sums.bias;
  g.M = a.M, g.N = static_cast<int>(a.N), g.K = static_cast<int>(a.K);
  g.slices = static_cast<int>(gradient_slices_of(a.M));
  g.tiles_n = static_cast<int>(blocks_for(a.N, kGradientTile));
  g.tiles_k = a.K == 0 ? 1 : static_cast<int>(blocks_for(a.K, kGradientTile));
  g.accumulate = a.accumulate;
  g.wide_y = all_fit_float4(a.N, a.grad_y), g.wide_x = all_fit_float4(a.K, a.x);
  g.wide_W = a.K % 4 == 0 && all_fit_float4(a.K, Rows<const float>(a.grad_W));
  return g;
}

void enqueue(Gradients& gradients, Stream stream) {
  unsigned products = 0, sums = 0;
  for (int i = 0; i < gradients.count; ++i) {
    Gradient& g = gradients.of[i];
    products += static_cast<unsigned>(g.slices * g.tiles_n * g.tiles_k);
    const std::int64_t entries = std::int64_t{g.N} * ((g.K + 3) / 4) + g.N;
    if (g.slices > 1) sums += blocks_for(entries, kSumThreads);
    g.products_end = products, g.sums_end = sums;
  }
  launch(slice_products, {products, kThreads, sizeof(Stage)}, stream, gradients);
  launch(add_slices, {sums, kSumThreads}, stream, gradients);
}

}  // namespace

void weight_gradients(const WeightGradientsArgs<float>& a, Stream stream) {
  check(a);
  require_workspace(a.workspace, a.workspace_bytes, weight_gradients_workspace_bytes(a),
                    "weight_gradients");
  Arena arena(a.workspace, 16);
  Gradients gradients{};
  for (std::int64_t i = 0; i < a.count; ++i) {
    if (stands_alone(a.calls[i])) continue;
    gradients.of[gradients.count++] = gradient_of(a.calls[i], arena);
    if (gradients.count < Gradients::kMost) continue;
    enqueue(gradients, stream);
    gradients.count = 0;
  }
  if (gradients.count > 0) enqueue(gradients, stream);
  std::byte* rest = static_cast<std::byte*>(a.workspace) + arena.used();
  for (std::int64_t i = 0; i < a.count; ++i) {
    if (!stands_alone(a.calls[i])) continue;
    DenseWeightGradientArgs<float> call = a.calls[i];
    call.workspace = rest, call.workspace_bytes = a.workspace_bytes - arena.used();
    dense_weight_gradient(call, stream);
  }
}

}  // namespace seqvae::cuda

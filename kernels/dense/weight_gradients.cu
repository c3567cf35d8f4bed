// Many weight gradients at once, each too small to fill a device: grad_W = grad_y^T x, 64 x 64 of
// it and up to 256 rows of the sum a block (tile.cuh). Both matrices lie by elements of the sum.
// Blocks of a gradient's first columns add up the bias too. Where a sum has several slices a second
// kernel adds them in order, in double: the same bits in every run.
// Floor: arithmetic, 2 M N K operations; 4 (N + K) bytes read a row and tile, and slices N K
// written and read.
// Hazards: tile.cuh's.
#include "kernels/dense/weight_gradients.hpp"

#include "kernels/common/launch.cuh"
#include "kernels/common/load_store.cuh"
#include "kernels/common/runtime.hpp"
#include "kernels/dense/group.cuh"
#include "kernels/dense/tile.cuh"

namespace seqvae::cuda {
namespace {

using SumTile = Tile<kGradientTile>;
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
using Gradients = Group<Gradient>;

__global__ void __launch_bounds__(SumTile::kThreads, 5)
    slice_products(const __grid_constant__ Gradients gradients) {
  const auto [g, block] = call_of_block(gradients, &Gradient::products_end);
  const int tiles = g.tiles_n * g.tiles_k, slice = block / tiles, tile = block % tiles;
  const std::int64_t n0 = std::int64_t{tile / g.tiles_k} * kGradientTile;
  const std::int64_t k0 = std::int64_t{tile % g.tiles_k} * kGradientTile;
  const std::int64_t first = slice * kGradientRows;
  const std::int64_t end = first + kGradientRows < g.M ? first + kGradientRows : g.M;
  const bool sums_bias = g.grad_bias != nullptr && k0 == 0;

  SumTile::Stage& stage = shared_storage<SumTile::Stage>();
  SumTile::Sums sums = {};
  double bias = 0.0;
  SumTile::multiply(sums, stage, {g.grad_y.data, g.grad_y.stride, g.N, end, true, g.wide_y}, n0,
                    {g.x.data, g.x.stride, g.K, end, true, g.wide_x}, k0, first, end,
                    [&](SumTile::Stage& now, int m) {
                      const int line = static_cast<int>(threadIdx.x);
                      if (sums_bias) bias += static_cast<double>(now.a.element(m, line));
                    });

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
    const std::int64_t r = n0 + SumTile::line_of(i);
    if (r >= g.N) continue;
    float* to = g.slices > 1 ? g.products + (slice * std::int64_t{g.N} + r) * g.K : g.grad_W[r];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t k = k0 + SumTile::column_of(half);
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
  const auto [g, block] = call_of_block(gradients, &Gradient::sums_end);
  std::int64_t place = std::int64_t{block} * kSumThreads + threadIdx.x;
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
  launch(slice_products, {products, SumTile::kThreads, sizeof(SumTile::Stage)}, stream, gradients);
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
  enqueue(gradients, stream);
  std::byte* rest = static_cast<std::byte*>(a.workspace) + arena.used();
  for (std::int64_t i = 0; i < a.count; ++i) {
    if (!stands_alone(a.calls[i])) continue;
    DenseWeightGradientArgs<float> call = a.calls[i];
    call.workspace = rest, call.workspace_bytes = a.workspace_bytes - arena.used();
    dense_weight_gradient(call, stream);
  }
}

}  // namespace seqvae::cuda

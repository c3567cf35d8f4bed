// Products of a training step, y = act(x W^T + bias + addend), each too small to fill a device: a
// tile of y a block, 32 a side (tile.cuh), and as many products in a launch as do not wait for each
// other.
// Floor: arithmetic, 2 M N K operations; 4 (M + N) K bytes read for each tile of either.
// Hazards: tile.cuh's. Where the addend is y, the thread that writes an element has read it.
#pragma once
#include "kernels/common/launch.cuh"
#include "kernels/dense/finish.cuh"
#include "kernels/dense/group.cuh"
#include "kernels/dense/tile.cuh"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda::tile {

constexpr int kSide = 32;
using ProductTile = Tile<kSide>;

/// One product of a launch.
struct Product {
  DenseArgs<float> args;
  int columns;  ///< tiles
  bool wide_x, wide_W, wide_y;
  unsigned end;
};

/// The tile's sums, for rows to be written in whole lines; or the stage before.
union Shared {
  ProductTile::Stage stage;
  float sums[kSide][ProductTile::kStride];
};

template <bool kTransposed>
__global__ void __launch_bounds__(ProductTile::kThreads, 8)
    tile_products(const __grid_constant__ Group<Product> products) {
  const auto [p, number] = call_of_block(products, &Product::end);
  const DenseArgs<float>& a = p.args;
  const std::int64_t m0 = std::int64_t{number / p.columns} * kSide;
  const std::int64_t n0 = std::int64_t{number % p.columns} * kSide;
  Shared& shared = shared_storage<Shared>();
  ProductTile::Sums sums = {};
  ProductTile::multiply(sums, shared.stage, {a.x.data, a.x.stride, a.M, a.W.K, false, p.wide_x}, m0,
                        {a.W.data, a.W.stride, a.W.N, a.W.K, kTransposed, p.wide_W}, n0, 0, a.W.K,
                        [](ProductTile::Stage&, int) {});
#pragma unroll
  for (int i = 0; i < 4 * ProductTile::kParts; ++i) {
#pragma unroll
    for (int part = 0; part < ProductTile::kParts; ++part) {
      *reinterpret_cast<float4*>(
          &shared.sums[ProductTile::line_of(i)][ProductTile::column_of(part)]) = sums[i][part];
    }
  }
  __syncthreads();
  // A row's quads by neighbouring threads; four rows of a thread on their way at a time.
  constexpr int kQuadsOfRow = kSide / 4, kApart = ProductTile::kThreads / kQuadsOfRow,
                kOnTheWay = 4;
  const int column = 4 * (static_cast<int>(threadIdx.x) % kQuadsOfRow);
  const std::int64_t n = n0 + column;
  if (n >= a.W.N) return;
#pragma unroll 1
  for (int first = static_cast<int>(threadIdx.x) / kQuadsOfRow; first < kSide;
       first += kOnTheWay * kApart) {
    Quad quads[kOnTheWay];
#pragma unroll
    for (int i = 0; i < kOnTheWay; ++i) {
      const int line = first + i * kApart;
      const float4 sum = *reinterpret_cast<const float4*>(&shared.sums[line][column]);
      if (m0 + line < a.M) quads[i].read(a, m0 + line, n, sum, p.wide_y);
    }
#pragma unroll
    for (int i = 0; i < kOnTheWay; ++i) {
      const std::int64_t row = m0 + first + i * kApart;
      if (row < a.M) quads[i].write(a, row, n, p.wide_y);
    }
  }
}

/// Products whose weights all stand one way.
inline void enqueue(const DenseArgs<float>* calls, int count, Stream stream) {
  Group<Product> group{};
  unsigned blocks = 0;
  for (group.count = 0; group.count < count; ++group.count) {
    const DenseArgs<float>& a = calls[group.count];
    Product& p = group.of[group.count];
    p.args = a;
    const unsigned columns = blocks_for(a.W.N, kSide);
    p.columns = static_cast<int>(columns);
    p.wide_x = fits_float4(a.x, a.W.K);
    p.wide_W = fits_float4({a.W.data, a.W.stride}, a.W.transposed ? a.W.N : a.W.K);
    p.wide_y = finishes_by_16_bytes(a);
    p.end = blocks += columns * blocks_for(a.M, kSide);
  }
  launch(calls[0].W.transposed ? tile_products<true> : tile_products<false>,
         {blocks, ProductTile::kThreads, sizeof(Shared)}, stream, group);
}

}  // namespace seqvae::cuda::tile

// One product, or several at once: of few rows (few_rows.cuh), of tiles that several products fill
// a device with (tile_products.cuh), or so large that a library's is as fast (dense.cu).
#include "kernels/dense/products.hpp"

#include <algorithm>

#include "kernels/dense/few_rows.cuh"
#include "kernels/dense/tile_products.cuh"

namespace seqvae::cuda {
namespace {

/// Calls of one kind until there is a launch of them.
struct Waiting {
  static constexpr int kMost =
      std::min(Group<few_rows::Product>::kMost, Group<tile::Product>::kMost);
  DenseArgs<float> calls[kMost];
  int count = 0;

  void add(const DenseArgs<float>& call, ProductBy by, Stream stream) {
    calls[count++] = call;
    if (count == kMost) enqueue(by, stream);
  }
  void enqueue(ProductBy by, Stream stream) {
    if (count == 0) return;
    if (by == ProductBy::few_rows) {
      few_rows::enqueue(calls, count, stream);
    } else {
      tile::enqueue(calls, count, stream);
    }
    count = 0;
  }
};

}  // namespace

void products(const ProductsArgs<float>& a, Stream stream) {
  check(a, WeightForm::plain);
  const std::int64_t tiles = std::count_if(a.calls, a.calls + a.count, fits_tiles);
  for (const ProductBy by : {ProductBy::few_rows, ProductBy::tiles}) {
    Waiting of[2];  // by whether the weights are transposed
    for (std::int64_t i = 0; i < a.count; ++i) {
      const DenseArgs<float>& call = a.calls[i];
      if (call.M > 0 && product_by(call, tiles) == by) of[call.W.transposed].add(call, by, stream);
    }
    for (Waiting& waiting : of) waiting.enqueue(by, stream);
  }
  for (std::int64_t i = 0; i < a.count; ++i) {
    const DenseArgs<float>& call = a.calls[i];
    if (call.M > 0 && product_by(call, tiles) == ProductBy::library) dense_by_library(call, stream);
  }
}

void dense(const DenseArgs<float>& a, Stream stream) { products({&a, 1}, stream); }

}  // namespace seqvae::cuda

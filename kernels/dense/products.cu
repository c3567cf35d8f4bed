// One product, or several at once: of few rows (few_rows.cuh), of tiles, where several share a
// launch or an activation comes after (tile_products.cuh), or by a library (dense.cu).
#include "kernels/dense/products.hpp"

#include <algorithm>

#include "kernels/dense/few_rows.cuh"
#include "kernels/dense/tile_products.cuh"

namespace seqvae::cuda {
namespace {

/// Calls of a kind, and whose weights all stand one way, in one launch.
void enqueue(ProductBy by, const DenseArgs<float>* calls, int count, Stream stream) {
  switch (by) {
    case ProductBy::few_rows:
      return few_rows::enqueue(calls, count, stream);
    case ProductBy::tiles:
      return tile::enqueue(calls, count, stream);
    case ProductBy::library:
      for (int i = 0; i < count; ++i) dense_by_library(calls[i], stream);
  }
}

/// Calls of one kind until there is a launch of them.
struct Waiting {
  static constexpr int kMost =
      std::min(Group<few_rows::Product>::kMost, Group<tile::Product>::kMost);
  DenseArgs<float> calls[kMost];
  int count = 0;

  void add(const DenseArgs<float>& call, ProductBy by, Stream stream) {
    calls[count++] = call;
    if (count == kMost) flush(by, stream);
  }
  void flush(ProductBy by, Stream stream) {
    if (count > 0) enqueue(by, calls, count, stream);
    count = 0;
  }
};

}  // namespace

void products(const ProductsArgs<float>& a, Stream stream) {
  check(a, WeightForm::plain);
  const std::int64_t tiles = std::count_if(a.calls, a.calls + a.count, fits_tiles);
  for (const ProductBy by : {ProductBy::few_rows, ProductBy::tiles, ProductBy::library}) {
    Waiting of[2];  // by whether the weights are transposed
    for (std::int64_t i = 0; i < a.count; ++i) {
      const DenseArgs<float>& call = a.calls[i];
      if (call.M > 0 && product_by(call, tiles) == by) of[call.W.transposed].add(call, by, stream);
    }
    for (Waiting& waiting : of) waiting.flush(by, stream);
  }
}

void dense(const DenseArgs<float>& a, Stream stream) {
  check(a, WeightForm::plain);
  if (a.M > 0) enqueue(product_by(a, 1), &a, 1, stream);
}

}  // namespace seqvae::cuda

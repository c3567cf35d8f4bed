// Products in float: oneDNN's matmul over prepacked weights, and its sgemm for weight gradients.
//
// A oneDNN primitive is made for one M, which costs 0.1 to 0.7 ms, so rows are taken in blocks:
// of 128, then the largest multiple of 32, then what is left. At most 35 sizes of M then occur for
// one matrix, all fast (docs/kernels/dense.md).
#include <algorithm>
#include <cstring>
#include <limits>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "host/cpu/onednn.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cpu {
namespace {

using dnnl::memory;
using Layout = memory::format_tag;
constexpr auto kFloat = memory::data_type::f32;
constexpr std::int64_t kBlockRows = 128;

memory::desc matrix(std::int64_t rows, std::int64_t columns) {
  return {{rows, columns}, kFloat, Layout::ab};
}

template <class Real>
void copy_rows(Rows<const Real> from, std::int64_t rows, std::int64_t width, Rows<Real> to) {
  for (std::int64_t r = 0; r < rows; ++r) std::copy_n(from[r], width, to[r]);
}

std::int64_t rows_of_next_block(std::int64_t rest) {
  if (rest >= kBlockRows) return kBlockRows;
  return rest > 32 ? rest / 32 * 32 : rest;
}

// What a primitive is made for.
struct ProductKey {
  std::int64_t M, N, K;
  bool bias, add_to_y;
  bool operator==(const ProductKey&) const = default;
};

struct ProductKeyHash {
  std::size_t operator()(const ProductKey& key) const {
    std::size_t hash = 0;
    for (const std::int64_t part :
         {key.M, key.N, key.K, std::int64_t{key.bias + 2 * key.add_to_y}}) {
      hash = (hash ^ static_cast<std::size_t>(part)) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 32;
    }
    return hash;
  }
};

struct Product {
  dnnl::matmul primitive;
  memory::desc x, bias, y, scratch;
};

dnnl::matmul::primitive_desc describe(const ProductKey& key, const memory::desc& weights) {
  dnnl::post_ops after;
  if (key.add_to_y) after.append_sum(1.0f);
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(after);
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const auto x = matrix(key.M, key.K), y = matrix(key.M, key.N);
  if (!key.bias) return {{x, weights, y}, attributes, engine()};
  return {{x, weights, matrix(1, key.N), y}, attributes, engine()};
}

// The layout that the blocks of 128 rows like best serves every M.
memory::desc packed_layout(std::int64_t N, std::int64_t K) {
  const memory::desc any({K, N}, kFloat, Layout::any);
  return describe({kBlockRows, N, K, false, false}, any).weights_desc();
}

// Primitives of this process, made once, never dropped.
class Products {
 public:
  const Product& find(const ProductKey& key, const memory::desc& weights) {
    {
      const std::shared_lock reading(mutex_);
      const auto found = products_.find(key);
      if (found != products_.end()) return *found->second;
    }
    const auto description = describe(key, weights);
    auto made = std::make_unique<Product>(Product{dnnl::matmul(description), description.src_desc(),
                                                  description.bias_desc(), description.dst_desc(),
                                                  description.scratchpad_desc()});
    const std::unique_lock writing(mutex_);
    return *products_.try_emplace(key, std::move(made)).first->second;
  }

 private:
  std::shared_mutex mutex_;
  std::unordered_map<ProductKey, std::unique_ptr<Product>, ProductKeyHash> products_;
};

Products& products() {
  static Products all;
  return all;
}

// A product with this thread's memory objects: making them anew costs more than a small product.
struct BoundProduct {
  const Product* product = nullptr;
  memory x, bias, y;
  std::unordered_map<int, memory> arguments;
};

BoundProduct& bound_product(const ProductKey& key, const memory& weights) {
  thread_local std::unordered_map<ProductKey, BoundProduct, ProductKeyHash> own;
  auto& bound = own[key];
  if (bound.product == nullptr) {
    const Product& product = products().find(key, weights.get_desc());
    bound.x = memory(product.x, engine(), nullptr);
    bound.y = memory(product.y, engine(), nullptr);
    bound.arguments = {{DNNL_ARG_SRC, bound.x},
                       {DNNL_ARG_DST, bound.y},
                       {DNNL_ARG_SCRATCHPAD, memory(product.scratch, engine())}};
    if (key.bias) {
      bound.bias = memory(product.bias, engine(), nullptr);
      bound.arguments[DNNL_ARG_BIAS] = bound.bias;
    }
    bound.product = &product;
  }
  // Not set_data_handle: that would write the zeros of the packed layout's padding anew.
  bound.arguments[DNNL_ARG_WEIGHTS] = weights;
  return bound;
}

}  // namespace

template <>
struct PackedWeights<float>::Impl {
  std::int64_t N, K;
  memory weights;
};

template <>
PackedWeights<float>::PackedWeights(std::int64_t N, std::int64_t K) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  require(N >= 1, "PackedWeights", "N", N, ">= 1");
  require(K >= 1, "PackedWeights", "K", K, ">= 1");
  require(N <= most / K, "PackedWeights", "N", N, "<= (2^31 - 1) / K");
  const SingleThreaded alone;
  impl_ = std::make_unique<Impl>(Impl{N, K, memory(packed_layout(N, K), engine())});
  std::memset(impl_->weights.get_data_handle(), 0, impl_->weights.get_desc().get_size());
}
template <>
PackedWeights<float>::~PackedWeights() = default;
template <>
PackedWeights<float>::PackedWeights(PackedWeights&&) noexcept = default;
template <>
PackedWeights<float>& PackedWeights<float>::operator=(PackedWeights&&) noexcept = default;

template <>
std::int64_t PackedWeights<float>::N() const {
  return impl_->N;
}
template <>
std::int64_t PackedWeights<float>::K() const {
  return impl_->K;
}

template <>
void PackedWeights<float>::pack(const float* W, std::int64_t ldw, bool transposed) {
  require_pointer(W, "PackedWeights::pack", "W");
  const std::int64_t width = transposed ? N() : K();
  require(ldw >= width, "PackedWeights::pack", "ldw", ldw, fmt::format(">= {}", width));
  const SingleThreaded alone;
  const memory::dims strides = transposed ? memory::dims{ldw, 1} : memory::dims{1, ldw};
  memory given({{K(), N()}, kFloat, strides}, engine(), const_cast<float*>(W));
  dnnl::reorder(given, impl_->weights).execute(stream(), given, impl_->weights);
}

template <>
void dense(const DenseArgs<float>& a) {
  check(a);
  const SingleThreaded alone;
  const memory& weights = a.weights->impl().weights;
  const std::int64_t N = a.weights->N(), K = a.weights->K();
  // oneDNN has no fast kernel for rows with gaps between them: they pass through dense copies.
  thread_local std::vector<float> x_copy, y_copy;
  if (a.x.stride != K) x_copy.resize(static_cast<std::size_t>(kBlockRows * K));
  if (a.y.stride != N) y_copy.resize(static_cast<std::size_t>(kBlockRows * N));
  for (std::int64_t row = 0, m = 0; row < a.M; row += m) {
    m = rows_of_next_block(a.M - row);
    const Rows<const float> given(a.x[row], a.x.stride);
    const Rows<float> wanted(a.y[row], a.y.stride);
    const bool copy_x = m > 1 && given.stride != K, copy_y = m > 1 && wanted.stride != N;
    const Rows<float> y = copy_y ? Rows<float>(y_copy.data(), N) : Rows<float>(wanted.data, N);
    if (copy_x) copy_rows<float>(given, m, K, {x_copy.data(), K});
    if (a.addend && a.addend[row] != y.data) {
      copy_rows<float>({a.addend[row], a.addend.stride}, m, N, y);
    }
    auto& bound = bound_product({m, N, K, a.bias != nullptr, static_cast<bool>(a.addend)}, weights);
    bound.x.set_data_handle(copy_x ? x_copy.data() : const_cast<float*>(given.data));
    bound.y.set_data_handle(y.data);
    if (a.bias != nullptr) bound.bias.set_data_handle(const_cast<float*>(a.bias));
    bound.product->primitive.execute(stream(), bound.arguments);
    if (a.activation != Activation::identity) activation<float>({a.activation, m, N, y, y});
    if (copy_y) copy_rows<float>(y, m, N, wanted);
  }
}

template <>
void dense_weight_gradient(const DenseWeightGradientArgs<float>& a) {
  check(a);
  if (a.M == 0) {
    for (std::int64_t n = 0; n < a.N && !a.accumulate; ++n) std::fill_n(a.grad_W[n], a.K, 0.0f);
    return;
  }
  const SingleThreaded alone;
  // One row has no stride, but sgemm still asks that it be a row's length at least.
  const auto stride = [](auto rows, std::int64_t width) { return std::max(rows.stride, width); };
  const auto status = dnnl_sgemm('T', 'N', a.N, a.K, a.M, 1.0f, a.grad_y.data,
                                 stride(a.grad_y, a.N), a.x.data, stride(a.x, a.K),
                                 a.accumulate ? 1.0f : 0.0f, a.grad_W.data, stride(a.grad_W, a.K));
  if (status != dnnl_success) {
    throw Error(fmt::format("dense_weight_gradient: oneDNN's sgemm failed with status {}",
                            static_cast<int>(status)));
  }
}

}  // namespace seqvae::cpu

// Checks of the dense contracts: sizes before pointers, then strides.
#include "seqvae/kernels/dense.hpp"

#include <algorithm>
#include <limits>

#include "host/kernels/check_rows.hpp"
#include "kernels/dense/slices.hpp"
#include "kernels/dense/weight_gradients.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae {
namespace {

// A stride shorter than a row is a mistake. One row has no stride. The message is built only where
// the rule is broken.
void require_stride(std::int64_t stride, std::int64_t rows, std::int64_t width, const char* where,
                    const char* argument, const char* rule = "") {
  if (rows > 1 && stride < width) {
    require(false, where, argument, stride, fmt::format("{}>= {} (a row's length)", rule, width));
  }
}

// Sizes of a matrix whose elements fit 31 bits.
void require_matrix(std::int64_t N, std::int64_t K, const char* where, const char* first,
                    const char* second) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  if (N < 1) require(false, where, first, N, ">= 1");
  if (K < 1) require(false, where, second, K, ">= 1");
  if (N > most / K) require(false, where, first, N, fmt::format("<= (2^31 - 1) / {}", second));
}

}  // namespace

template <class Real>
void check(const DenseArgs<Real>& a, WeightForm form) {
  const char* where = "dense";
  const bool plain = form == WeightForm::plain;
  require_size(a.M, where, "M");
  if (plain) {
    require_pointer(a.W.data, where, "W.data");
    require_matrix(a.W.N, a.W.K, where, "W.N", "W.K");
    require_stride(a.W.stride, a.W.transposed ? a.W.K : a.W.N, a.W.transposed ? a.W.N : a.W.K,
                   where, "W.stride");
  } else {
    require_pointer(a.weights, where, "weights");
  }
  const int kind = static_cast<int>(a.activation);
  if (kind < 0 || kind > static_cast<int>(Activation::leaky_relu)) {
    require(false, where, "activation", kind, "an Activation");
  }
  if (a.M == 0) return;
  const std::int64_t N = plain ? a.W.N : a.weights->N(), K = plain ? a.W.K : a.weights->K();
  require_pointer(a.x.data, where, "x");
  require_pointer(a.y.data, where, "y");
  require_stride(a.x.stride, a.M, K, where, "x.stride");
  require_stride(a.y.stride, a.M, N, where, "y.stride");
  if (a.activated) {
    require_stride(a.activated.stride, a.M, N, where, "activated.stride");
    if (a.activated.data == a.y.data) require(false, where, "activated", "y", "other memory");
  }
  if (!a.addend) return;
  if (a.addend.data == a.y.data && a.M > 1 && a.addend.stride != a.y.stride) {
    if (a.addend.stride >= N) {
      require(false, where, "addend.stride", a.addend.stride,
              fmt::format("y.stride = {} where addend is y", a.y.stride));
    }
  }
  if (a.addend.stride != 0 || a.addend.data == a.y.data) {
    require_stride(a.addend.stride, a.M, N, where, "addend.stride", "0 or ");
  }
}

template <class Real>
void check(const ProductsArgs<Real>& a, WeightForm form) {
  require_size(a.count, "products", "count");
  if (a.count > 0) require_pointer(a.calls, "products", "calls");
  for (std::int64_t i = 0; i < a.count; ++i) check(a.calls[i], form);
}

template <class Real>
void check(const DenseWeightGradientArgs<Real>& a) {
  const char* where = "dense_weight_gradient";
  require_size(a.M, where, "M");
  require_matrix(a.N, a.K, where, "N", "K");
  require_pointer(a.grad_W.data, where, "grad_W");
  require_stride(a.grad_W.stride, a.N, a.K, where, "grad_W.stride");
  if (a.M == 0) return;
  require_pointer(a.grad_y.data, where, "grad_y");
  require_pointer(a.x.data, where, "x");
  require_stride(a.grad_y.stride, a.M, a.N, where, "grad_y.stride");
  require_stride(a.x.stride, a.M, a.K, where, "x.stride");
}

template <class Real>
void check(const WeightGradientsArgs<Real>& a) {
  const char* where = "weight_gradients";
  require_size(a.count, where, "count");
  if (a.count > 0) require_pointer(a.calls, where, "calls");
  for (std::int64_t i = 0; i < a.count; ++i) {
    const DenseWeightGradientArgs<Real>& call = a.calls[i];
    if (call.K != 0) {
      check(call);
      continue;
    }
    require_size(call.M, where, "M");
    require_matrix(call.N, 1, where, "N", "K");
    require_pointer(call.grad_bias, where, "grad_bias");
    if (call.M == 0) continue;
    require_pointer(call.grad_y.data, where, "grad_y");
    require_stride(call.grad_y.stride, call.M, call.N, where, "grad_y.stride");
  }
}

std::size_t cuda::weight_gradients_workspace_bytes(const WeightGradientsArgs<float>& a) {
  Arena arena(nullptr, 16);
  std::size_t alone = 0;
  for (std::int64_t i = 0; i < a.count; ++i) {
    const DenseWeightGradientArgs<float>& call = a.calls[i];
    if (stands_alone(call)) {
      alone = std::max(alone, dense_weight_gradient_workspace_bytes(call.M, call.N, call.K));
    } else {
      SliceSums(call, arena);
    }
  }
  return arena.used() + alone;
}

std::size_t cuda::dense_weight_gradient_workspace_bytes(std::int64_t M, std::int64_t N,
                                                        std::int64_t K) {
  const std::int64_t slices = gradient_slices(M, N, K).count();
  const std::size_t of_slices = slices > 1 ? static_cast<std::size_t>(slices * N * K) * 4 : 0;
  return std::max(of_slices, sum_over_rows_workspace_bytes(M, N));
}

template void check(const DenseArgs<float>&, WeightForm);
template void check(const DenseArgs<double>&, WeightForm);
template void check(const ProductsArgs<float>&, WeightForm);
template void check(const ProductsArgs<double>&, WeightForm);
template void check(const DenseWeightGradientArgs<float>&);
template void check(const DenseWeightGradientArgs<double>&);
template void check(const WeightGradientsArgs<float>&);
template void check(const WeightGradientsArgs<double>&);

}  // namespace seqvae

// Checks of the dense contracts: sizes before pointers, then strides.
#include "seqvae/kernels/dense.hpp"

#include <limits>

#include "host/kernels/check_rows.hpp"

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

}  // namespace

template <class Real>
void check(const DenseArgs<Real>& a) {
  const char* where = "dense";
  require_size(a.M, where, "M");
  require_pointer(a.weights, where, "weights");
  if (a.M == 0) return;
  const std::int64_t N = a.weights->N(), K = a.weights->K();
  require_pointer(a.x.data, where, "x");
  require_pointer(a.y.data, where, "y");
  require_stride(a.x.stride, a.M, K, where, "x.stride");
  require_stride(a.y.stride, a.M, N, where, "y.stride");
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
void check(const DenseWeightGradientArgs<Real>& a) {
  const char* where = "dense_weight_gradient";
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  require_size(a.M, where, "M");
  require(a.N >= 1, where, "N", a.N, ">= 1");
  require(a.K >= 1, where, "K", a.K, ">= 1");
  require(a.N <= most / a.K, where, "N", a.N, "<= (2^31 - 1) / K");
  require_pointer(a.grad_W.data, where, "grad_W");
  require_stride(a.grad_W.stride, a.N, a.K, where, "grad_W.stride");
  if (a.M == 0) return;
  require_pointer(a.grad_y.data, where, "grad_y");
  require_pointer(a.x.data, where, "x");
  require_stride(a.grad_y.stride, a.M, a.N, where, "grad_y.stride");
  require_stride(a.x.stride, a.M, a.K, where, "x.stride");
}

template void check(const DenseArgs<float>&);
template void check(const DenseArgs<double>&);
template void check(const DenseWeightGradientArgs<float>&);
template void check(const DenseWeightGradientArgs<double>&);

}  // namespace seqvae

// Products in double: Eigen on the calling thread.
#include <Eigen/Core>
#include <limits>

#include "seqvae/core/error.hpp"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cpu {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Strided = Eigen::Map<Matrix, Eigen::Unaligned, Eigen::OuterStride<>>;
using ConstStrided = Eigen::Map<const Matrix, Eigen::Unaligned, Eigen::OuterStride<>>;

}  // namespace

template <>
struct PackedWeights<double>::Impl {
  Matrix transposed;  // [K][N]
};

template <>
PackedWeights<double>::PackedWeights(std::int64_t N, std::int64_t K) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  require(N >= 1, "PackedWeights", "N", N, ">= 1");
  require(K >= 1, "PackedWeights", "K", K, ">= 1");
  require(N <= most / K, "PackedWeights", "N", N, "<= (2^31 - 1) / K");
  impl_ = std::make_unique<Impl>(Impl{Matrix::Zero(K, N)});
}
template <>
PackedWeights<double>::~PackedWeights() = default;
template <>
PackedWeights<double>::PackedWeights(PackedWeights&&) noexcept = default;
template <>
PackedWeights<double>& PackedWeights<double>::operator=(PackedWeights&&) noexcept = default;

template <>
std::int64_t PackedWeights<double>::N() const {
  return impl_->transposed.cols();
}
template <>
std::int64_t PackedWeights<double>::K() const {
  return impl_->transposed.rows();
}

template <>
void PackedWeights<double>::pack(const double* W, std::int64_t ldw, bool transposed) {
  require_pointer(W, "PackedWeights::pack", "W");
  const std::int64_t width = transposed ? N() : K();
  require(ldw >= width, "PackedWeights::pack", "ldw", ldw, fmt::format(">= {}", width));
  if (transposed) {
    impl_->transposed = ConstStrided(W, K(), N(), Eigen::OuterStride<>(ldw));
  } else {
    impl_->transposed = ConstStrided(W, N(), K(), Eigen::OuterStride<>(ldw)).transpose();
  }
}

template <>
void dense(const DenseArgs<double>& a) {
  check(a);
  if (a.M == 0) return;
  const std::int64_t N = a.weights->N(), K = a.weights->K();
  const ConstStrided x(a.x.data, a.M, K, Eigen::OuterStride<>(a.x.stride));
  Strided y(a.y.data, a.M, N, Eigen::OuterStride<>(a.y.stride));
  if (!a.addend) {
    y.setZero();
  } else if (a.addend.data != a.y.data) {
    y = ConstStrided(a.addend.data, a.M, N, Eigen::OuterStride<>(a.addend.stride));
  }
  if (a.bias != nullptr) y.rowwise() += Eigen::Map<const Eigen::RowVectorXd>(a.bias, N);
  y.noalias() += x * a.weights->impl().transposed;
  if (a.activation != Activation::identity) {
    activation<double>({a.activation, a.M, N, a.y, a.y});
  }
}

template <>
void dense_weight_gradient(const DenseWeightGradientArgs<double>& a) {
  check(a);
  Strided grad_W(a.grad_W.data, a.N, a.K, Eigen::OuterStride<>(a.grad_W.stride));
  if (!a.accumulate) grad_W.setZero();
  if (a.M == 0) return;
  const ConstStrided grad_y(a.grad_y.data, a.M, a.N, Eigen::OuterStride<>(a.grad_y.stride));
  const ConstStrided x(a.x.data, a.M, a.K, Eigen::OuterStride<>(a.x.stride));
  grad_W.noalias() += grad_y.transpose() * x;
}

}  // namespace seqvae::cpu

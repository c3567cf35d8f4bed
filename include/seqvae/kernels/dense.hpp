/// \file  Affine maps of rows: y = act( x W^T + bias + addend ), their input and weight gradients.
///
/// Weights stand as PyTorch's [out][in] and are packed once an optimiser step: `PackedWeights` is
/// the CPU's prepacked form of W (y = x W^T) or of its transpose (grad_x = grad_y W).
#pragma once
#include <memory>

#include "seqvae/kernels/activation.hpp"

namespace seqvae {

namespace cpu {

/// A matrix laid out for products x[M][K] -> y[M][N], whatever M. Not thread-safe while packing;
/// products from several threads may share it.
template <class Real>
class PackedWeights {
 public:
  PackedWeights(std::int64_t N, std::int64_t K);
  ~PackedWeights();
  PackedWeights(PackedWeights&&) noexcept;
  PackedWeights& operator=(PackedWeights&&) noexcept;

  /// From W row-major [N][K], row stride ldw; or, transposed, from W [K][N].
  void pack(const Real* W, std::int64_t ldw, bool transposed);
  std::int64_t N() const;
  std::int64_t K() const;

  struct Impl;
  Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace cpu

template <class Real>
struct DenseArgs {
  std::int64_t M = 0;                                 ///< rows; >= 0
  const cpu::PackedWeights<Real>* weights = nullptr;  ///< [N][K]
  Rows<const Real> x;                                 ///< [M][K]
  const Real* bias = nullptr;                         ///< [N]  optional
  Rows<const Real> addend;                            ///< [M][N]  optional; may be y itself
  Activation activation = Activation::identity;       ///< applied last
  Rows<Real> y;                                       ///< out [M][N]
};

/// grad_W[n][k] = sum over rows of grad_y[r][n] x[r][k], in blocks of 128 rows.
template <class Real>
struct DenseWeightGradientArgs {
  std::int64_t M = 0, N = 0, K = 0;
  Rows<const Real> grad_y;  ///< [M][N]
  Rows<const Real> x;       ///< [M][K]
  bool accumulate = false;  ///< add to grad_W instead of overwriting it
  Rows<Real> grad_W;        ///< out [N][K]
};

template <class Real>
void check(const DenseArgs<Real>& args);
template <class Real>
void check(const DenseWeightGradientArgs<Real>& args);

namespace cpu {
template <class Real>
void dense(const DenseArgs<Real>& args);
template <class Real>
void dense_weight_gradient(const DenseWeightGradientArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

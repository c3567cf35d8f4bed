/// \file  Affine maps of rows: y = act( x W^T + bias + addend ), their input and weight gradients.
///
///     y[r][n]      = act( sum_k x[r][k] W[n][k] + bias[n] + addend[r][n] )
///     grad_x[r][k] = sum_n grad_y[r][n] W[n][k]        the same contract, W packed transposed
///     grad_W[n][k] = sum_r grad_y[r][n] x[r][k]
///
/// Weights stand as PyTorch's [out][in] and are packed once an optimiser step: `PackedWeights` is
/// the CPU's prepacked form of W (y = x W^T) or of its transpose (grad_x = grad_y W).
///
/// Every call runs on the calling thread alone: callers share rows, or rows of grad_W, out among
/// their own threads. In float, where oneDNN has its AVX-512 kernels, a row of y has the same bits
/// whatever M and wherever the row stands; elsewhere, and in double, up to rounding.
#pragma once
#include <cstddef>
#include <memory>

#include "seqvae/kernels/activation.hpp"

namespace seqvae {

namespace cpu {

/// A matrix laid out for products x[M][K] -> y[M][N], whatever M. Not thread-safe while packing;
/// products from several threads may share it.
template <class Real>
class PackedWeights {
 public:
  /// Room for N x K values, zeros until packed.
  /// \throws InvalidArgument unless 1 <= N, K <= 2^31 - 1 and N K <= 2^31 - 1.
  PackedWeights(std::int64_t N, std::int64_t K);
  ~PackedWeights();
  PackedWeights(PackedWeights&&) noexcept;
  PackedWeights& operator=(PackedWeights&&) noexcept;

  /// From W row-major [N][K], row stride ldw; or, transposed, from W [K][N]. Packing again
  /// replaces the values. \throws InvalidArgument where W is null or ldw shorter than a row.
  void pack(const Real* W, std::int64_t ldw, bool transposed);
  std::int64_t N() const;
  std::int64_t K() const;

  struct Impl;
  Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace cpu

/// y overlaps neither x nor bias nor, unless it is the same rows, addend.
template <class Real>
struct DenseArgs {
  std::int64_t M = 0;                                 ///< rows; >= 0
  const cpu::PackedWeights<Real>* weights = nullptr;  ///< [N][K]
  Rows<const Real> x;                                 ///< [M][K]
  const Real* bias = nullptr;                         ///< [N]  optional
  Rows<const Real> addend;                            ///< [M][N]  optional; may be y itself;
                                                      ///<   stride 0: one row for all
  Activation activation = Activation::identity;       ///< applied last
  Rows<Real> y;                                       ///< out [M][N]
};

/// M = 0 gives zeros, or, accumulating, leaves grad_W as it is. grad_W overlaps nothing.
template <class Real>
struct DenseWeightGradientArgs {
  std::int64_t M = 0, N = 0, K = 0;  ///< M >= 0; N, K >= 1
  Rows<const Real> grad_y;           ///< [M][N]
  Rows<const Real> x;                ///< [M][K]
  bool accumulate = false;           ///< add to grad_W instead of overwriting it
  Rows<Real> grad_W;                 ///< out [N][K]
};

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const DenseArgs<Real>& args);
template <class Real>
void check(const DenseWeightGradientArgs<Real>& args);

namespace cpu {  ///< float: oneDNN. double: Eigen.
template <class Real>
void dense(const DenseArgs<Real>& args);
template <class Real>
void dense_weight_gradient(const DenseWeightGradientArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

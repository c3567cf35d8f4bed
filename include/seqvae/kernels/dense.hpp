/// \file  Affine maps of rows: y = act( x W^T + bias + addend ), their input and weight gradients.
///
///     y[r][n]      = act( sum_k x[r][k] W[n][k] + bias[n] + addend[r][n] )
///     grad_x[r][k] = sum_n grad_y[r][n] W[n][k]        the same contract, W packed transposed;
///                    times act'(x[r][k]), as a function of act's output x, where that is
///                    `activated`
///     grad_W[n][k] = sum_r grad_y[r][n] x[r][k],   grad_bias[n] = sum_r grad_y[r][n]
///
/// Weights stand as PyTorch's [out][in]. CUDA reads them there (`PlainWeights`). For the CPU they
/// are packed once an optimiser step: `PackedWeights` is the prepacked form of W (y = x W^T) or of
/// its transpose (grad_x = grad_y W).
///
/// On the CPU every call runs on the calling thread alone: callers share rows, or rows of grad_W,
/// out among their own threads. A row of y has the same bits whatever M and wherever the row
/// stands, in float and in double; an element of grad_W or grad_bias has the same bits however
/// grad_W is shared out.
///
/// On CUDA products of few rows, and small ones of several at once or with an activation, are
/// kernels of this library, the others cuBLASLt's: in float32 no tf32, and no sums are split but by
/// sizes alone. The bits are the same in every run on one device and library for the same sizes,
/// strides and alignments (of 16, 8 or 4 bytes); they may differ for another M.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <memory>

#include "seqvae/core/stream.hpp"
#include "seqvae/kernels/activation.hpp"
#include "seqvae/kernels/precision.hpp"

namespace seqvae {

namespace cpu {

/// A matrix laid out for products x[M][K] -> y[M][N], whatever M. Not thread-safe while packing;
/// products from several threads may share it.
///
/// Panels of 128 bytes of columns, each [K][width]: panel p holds W[p width + j][k] at
/// [k][j], with zeros where p width + j >= N. The last panel is 64 bytes wide where that suffices.
template <class Real>
class PackedWeights {
 public:
  /// Memory of its own, zeros until packed.
  /// \throws InvalidArgument unless N, K >= 1 and N K <= 2^31 - 1.
  PackedWeights(std::int64_t N, std::int64_t K);
  /// In the caller's memory of bytes(N, K), 64-byte aligned, which outlives this; undefined until
  /// packed. \throws InvalidArgument as above, or on null or misaligned memory.
  PackedWeights(std::int64_t N, std::int64_t K, void* memory);
  static std::size_t bytes(std::int64_t N, std::int64_t K);

  /// From W row-major [N][K], row stride ldw; or, transposed, from W [K][N]. Packing again
  /// replaces the values. \throws InvalidArgument where W is null or ldw shorter than a row.
  void pack(const Real* W, std::int64_t ldw, bool transposed);
  std::int64_t N() const { return N_; }
  std::int64_t K() const { return K_; }
  const Real* data() const { return data_; }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::int64_t N_, K_;
  std::unique_ptr<void, Free> own_;
  Real* data_;
};

}  // namespace cpu

/// The matrix that x is multiplied by, y = x W^T, where it stands in memory.
template <class Real>
struct PlainWeights {
  const Real* data = nullptr;  ///< [N][K]  or, transposed, [K][N]
  std::int64_t stride = 0;     ///< elements from one row of data to the next
  std::int64_t N = 0;          ///< columns of y; >= 1
  std::int64_t K = 0;          ///< columns of x; >= 1, N K <= 2^31 - 1
  bool transposed = false;  ///< y = x data: grad_x = grad_y W reads W[out][in] as N = in, K = out
};

/// Each twin multiplies by its own form of the weights, which must be given; it does not look at
/// the other.
enum class WeightForm { packed, plain };

/// y overlaps neither x nor bias nor activated nor, unless it is the same rows, addend.
template <class Real>
struct DenseArgs {
  std::int64_t M = 0;                                 ///< rows; >= 0
  const cpu::PackedWeights<Real>* weights = nullptr;  ///< [N][K]  CPU
  Rows<const Real> x;                                 ///< [M][K]
  const Real* bias = nullptr;                         ///< [N]  optional
  Rows<const Real> addend;                            ///< [M][N]  optional; may be y itself;
                                                      ///<   stride 0: one row for all
  Activation activation = Activation::identity;       ///< applied last
  Rows<Real> y;                                       ///< out [M][N]
  PlainWeights<Real> W;                               ///< [N][K]  CUDA
  Precision precision = Precision::float32;           ///< CUDA: of x and W in the product
  Rows<const Real> activated;  ///< [M][N]  optional: what the activation gave; then the sum is not
                               ///<   activated but multiplied by the activation's slope there
};

/// Several products, which need not wait for each other: none writes what another reads or writes.
template <class Real>
struct ProductsArgs {
  const DenseArgs<Real>* calls = nullptr;  ///< [count]  host
  std::int64_t count = 0;
};

/// M = 0 gives zeros, or, accumulating, leaves the outputs as they are. They overlap nothing.
template <class Real>
struct DenseWeightGradientArgs {
  std::int64_t M = 0, N = 0, K = 0;  ///< M >= 0; N, K >= 1
  Rows<const Real> grad_y;           ///< [M][N]
  Rows<const Real> x;                ///< [M][K]
  bool accumulate = false;           ///< add to both outputs instead of overwriting them
  Rows<Real> grad_W;                 ///< out [N][K]
  Real* grad_bias = nullptr;         ///< out [N]  optional
  void* workspace = nullptr;         ///< CUDA: 16-byte aligned; undefined afterwards
  std::size_t workspace_bytes = 0;   ///< CUDA: >= dense_weight_gradient_workspace_bytes(M, N, K)
  Precision precision = Precision::float32;  ///< CUDA: of grad_y and x in the product
};

/// Several weight gradients, which need not wait for each other. Their outputs overlap nothing, nor
/// each other; their own workspaces are not looked at. K = 0: the bias alone, x and grad_W not
/// given.
template <class Real>
struct WeightGradientsArgs {
  const DenseWeightGradientArgs<Real>* calls = nullptr;  ///< [count]  host
  std::int64_t count = 0;
  void* workspace = nullptr;        ///< CUDA: 16-byte aligned; undefined afterwards
  std::size_t workspace_bytes = 0;  ///< CUDA: >= weight_gradients_workspace_bytes(*this)
};

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const DenseArgs<Real>& args, WeightForm form);
template <class Real>
void check(const ProductsArgs<Real>& args, WeightForm form);
template <class Real>
void check(const DenseWeightGradientArgs<Real>& args);
template <class Real>
void check(const WeightGradientsArgs<Real>& args);

namespace cuda {  ///< Enqueues on the stream; capturable once a call of the same sizes, strides and
                  ///< alignments was made, since the first one asks cuBLASLt for its algorithm.
void dense(const DenseArgs<float>& args, Stream stream);
/// Those of up to 64 rows in one launch, other small ones in another, each apart by how their
/// weights stand; cuBLASLt's one by one. Bits hang on what else there is, and may differ from
/// dense()'s.
void products(const ProductsArgs<float>& args, Stream stream);
std::size_t dense_weight_gradient_workspace_bytes(std::int64_t M, std::int64_t N, std::int64_t K);
void dense_weight_gradient(const DenseWeightGradientArgs<float>& args, Stream stream);
std::size_t weight_gradients_workspace_bytes(const WeightGradientsArgs<float>& args);
/// In two kernels for up to 36 of them, but for large ones and those in bfloat16.
void weight_gradients(const WeightGradientsArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {  ///< Highway, on the vectors of the machine that runs.
template <class Real>
void dense(const DenseArgs<Real>& args);
template <class Real>
void products(const ProductsArgs<Real>& args);
template <class Real>
void dense_weight_gradient(const DenseWeightGradientArgs<Real>& args);
template <class Real>
void weight_gradients(const WeightGradientsArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

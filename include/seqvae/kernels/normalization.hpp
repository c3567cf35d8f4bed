/// \file  A row brought to mean 0 and variance 1, or to mean square 1, and its gradient.
///
///     layer  y = (x - mean(x)) s,  s = 1 / sqrt(mean((x - mean(x))^2) + epsilon)
///            grad_x = s (g - mean(g) - y mean(g y)),  g = grad_y
///     rms    y = x s,  s = 1 / sqrt(mean(x^2) + epsilon)
///            grad_x = s (g - y mean(g y))
///
/// Means are over the D columns of a row. Ba, Kiros, Hinton, arXiv:1607.06450; Zhang, Sennrich,
/// arXiv:1910.07467; torch.nn.functional.layer_norm and rms_norm without their weights, which are a
/// multiply_add of their own.
#pragma once
#include "seqvae/core/stream.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae {

enum class Normalization { layer, rms };

template <class Real>
struct NormalizeArgs {
  Normalization kind = Normalization::layer;
  Real epsilon = Real(1e-5);     ///< >= 0
  std::int64_t rows = 0, D = 0;  ///< >= 0
  Rows<const Real> x;            ///< [rows][D]
  Rows<Real> y;                  ///< out [rows][D]; may be x
};

/// s and y are computed again from x.
template <class Real>
struct NormalizeBackwardArgs {
  Normalization kind = Normalization::layer;
  Real epsilon = Real(1e-5);
  std::int64_t rows = 0, D = 0;
  Rows<const Real> x;       ///< [rows][D]  the forward's input
  Rows<const Real> grad_y;  ///< [rows][D]
  Rows<Real> grad_x;        ///< out [rows][D]; may be x or grad_y
};

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const NormalizeArgs<Real>& args);
template <class Real>
void check(const NormalizeBackwardArgs<Real>& args);

namespace cuda {  ///< Enqueues one kernel on the stream; capturable; the same bits in every run.
void normalize(const NormalizeArgs<float>& args, Stream stream);
void normalize_backward(const NormalizeBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void normalize(const NormalizeArgs<Real>& args);
template <class Real>
void normalize_backward(const NormalizeBackwardArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

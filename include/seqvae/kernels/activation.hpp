/// \file  Elementwise non-linearities, and their gradients from the output alone.
///
///     relu  max(x, 0)   tanh   sigmoid  1 / (1 + exp(-x))   softplus  max(x, 0) + log1p(exp(-|x|))
///     exp   elu  x if x > 0 else exp(x) - 1   leaky_relu  x if x > 0 else x / 100   identity
///
/// The gradient is a function of y: relu 1[y > 0], tanh 1 - y^2, sigmoid y (1 - y),
/// softplus 1 - exp(-y), exp y, elu y > 0 ? 1 : 1 + y, leaky_relu y > 0 ? 1 : 1 / 100. So x need
/// not be kept, and y may be x.
#pragma once
#include "seqvae/core/stream.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae {

enum class Activation { identity, relu, tanh, sigmoid, softplus, exp, elu, leaky_relu };

template <class Real>
struct ActivationArgs {
  Activation kind = Activation::identity;
  std::int64_t rows = 0, D = 0;  ///< >= 0
  Rows<const Real> x;            ///< [rows][D]
  Rows<Real> y;                  ///< out [rows][D]; may be x
};

template <class Real>
struct ActivationBackwardArgs {
  Activation kind = Activation::identity;
  std::int64_t rows = 0, D = 0;
  Rows<const Real> y;       ///< [rows][D]  the forward's output
  Rows<const Real> grad_y;  ///< [rows][D]
  Rows<Real> grad_x;        ///< out [rows][D]; may be grad_y
};

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const ActivationArgs<Real>& args);
template <class Real>
void check(const ActivationBackwardArgs<Real>& args);

namespace cuda {  ///< Enqueues one kernel on the stream; capturable; the same bits in every run.
void activation(const ActivationArgs<float>& args, Stream stream);
void activation_backward(const ActivationBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void activation(const ActivationArgs<Real>& args);
template <class Real>
void activation_backward(const ActivationBackwardArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

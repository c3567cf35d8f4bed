/// \file  y = alpha a (.) b + beta c, elementwise: sums, products, scalings and copies of rows; and
/// products of small matrices, one a row.
#pragma once
#include <compare>

#include "seqvae/kernels/rows.hpp"

namespace seqvae {

/// Sums and products of the graph, gradients being added up among them.
template <class Real>
struct MultiplyAddArgs {
  std::int64_t rows = 0, D = 0;  ///< >= 0
  Real alpha = 1, beta = 1;
  Rows<const Real> a;  ///< [rows][D]
  Rows<const Real> b;  ///< [rows][D]  not given: ones
  Rows<const Real> c;  ///< [rows][D]  not given: zeros
  Rows<Real> y;        ///< out [rows][D]; may be a, b or c
};

/// y = (1 - g) (.) a + g (.) b: the gated mean of a transition.
template <class Real>
struct GatedMixArgs {
  std::int64_t rows = 0, D = 0;
  Rows<const Real> g, a, b;  ///< [rows][D]
  Rows<Real> y;              ///< out [rows][D]
};

/// grad_g = (b - a) grad_y, grad_a = (1 - g) grad_y, grad_b = g grad_y. Each output may be left
/// out.
template <class Real>
struct GatedMixBackwardArgs {
  std::int64_t rows = 0, D = 0;
  Rows<const Real> g, a, b, grad_y;   ///< [rows][D]
  Rows<Real> grad_g, grad_a, grad_b;  ///< out [rows][D]
};

/// op(a)[n][k] op(b)[k][m]; op transposes where it is said, so that a then stands as [k][n].
struct MatrixShape {
  std::int64_t n = 0, k = 0, m = 0;
  bool transpose_a = false, transpose_b = false;
  friend auto operator<=>(const MatrixShape&, const MatrixShape&) = default;
};

/// y = op(a) op(b), a matrix a row, each row-major: A_t z_t, L L^T, a mixture sum_k w_k A_k.
template <class Real>
struct MatrixProductArgs {
  std::int64_t rows = 0;
  MatrixShape shape;   ///< n, k, m >= 0
  Rows<const Real> a;  ///< [rows][n k]
  Rows<const Real> b;  ///< [rows][k m]
  Rows<Real> y;        ///< out [rows][n m]; overlaps neither
};

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const MultiplyAddArgs<Real>& args);
template <class Real>
void check(const GatedMixArgs<Real>& args);
template <class Real>
void check(const GatedMixBackwardArgs<Real>& args);
template <class Real>
void check(const MatrixProductArgs<Real>& args);

namespace cpu {
template <class Real>
void multiply_add(const MultiplyAddArgs<Real>& args);
template <class Real>
void gated_mix(const GatedMixArgs<Real>& args);
template <class Real>
void gated_mix_backward(const GatedMixBackwardArgs<Real>& args);
template <class Real>
void matrix_product(const MatrixProductArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

/// \file  y = alpha a (.) b + beta c, elementwise: sums, products, scalings and copies of rows; the
/// choice between two; bounds; and products of small matrices, one a row.
#pragma once
#include <compare>

#include "seqvae/core/stream.hpp"
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

/// y = a where the condition is not 0, else b. What is not chosen is not read into y, NaN or not; a
/// condition that is NaN chooses a.
template <class Real>
struct SelectArgs {
  std::int64_t rows = 0, D = 0;
  bool by_row = false;         ///< the condition has one column, for the whole row
  Rows<const Real> condition;  ///< [rows][D], or [rows][1]
  Rows<const Real> a, b;       ///< [rows][D]  not given: zeros
  Rows<Real> y;                ///< out [rows][D]; may be a, b, or a condition of D columns
};

/// y = min(max(x, low), high); NaN stays NaN.
template <class Real>
struct ClampArgs {
  Real low = 0, high = 0;  ///< low <= high; infinite where there is no bound
  std::int64_t rows = 0, D = 0;
  Rows<const Real> x;  ///< [rows][D]
  Rows<Real> y;        ///< out [rows][D]; may be x
};

/// grad_x = grad_y where low <= x <= high, else 0.
template <class Real>
struct ClampBackwardArgs {
  Real low = 0, high = 0;
  std::int64_t rows = 0, D = 0;
  Rows<const Real> x, grad_y;  ///< [rows][D]
  Rows<Real> grad_x;           ///< out [rows][D]; may be x or grad_y
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
void check(const SelectArgs<Real>& args);
template <class Real>
void check(const ClampArgs<Real>& args);
template <class Real>
void check(const ClampBackwardArgs<Real>& args);
template <class Real>
void check(const MatrixProductArgs<Real>& args);

namespace cuda {  ///< Enqueues one kernel on the stream; capturable; the same bits in every run.
void multiply_add(const MultiplyAddArgs<float>& args, Stream stream);
void gated_mix(const GatedMixArgs<float>& args, Stream stream);
void gated_mix_backward(const GatedMixBackwardArgs<float>& args, Stream stream);
void select(const SelectArgs<float>& args, Stream stream);
void clamp(const ClampArgs<float>& args, Stream stream);
void clamp_backward(const ClampBackwardArgs<float>& args, Stream stream);
void matrix_product(const MatrixProductArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void multiply_add(const MultiplyAddArgs<Real>& args);
template <class Real>
void gated_mix(const GatedMixArgs<Real>& args);
template <class Real>
void gated_mix_backward(const GatedMixBackwardArgs<Real>& args);
template <class Real>
void select(const SelectArgs<Real>& args);
template <class Real>
void clamp(const ClampArgs<Real>& args);
template <class Real>
void clamp_backward(const ClampBackwardArgs<Real>& args);
template <class Real>
void matrix_product(const MatrixProductArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

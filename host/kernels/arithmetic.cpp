#include "seqvae/kernels/arithmetic.hpp"

#include "host/kernels/check_rows.hpp"

namespace seqvae {

template <class Real>
void check(const MultiplyAddArgs<Real>& a) {
  const char* where = "multiply_add";
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  require_input(a.a, a.rows > 0 && a.D > 0, where, "a");
  require_optional_input(a.b, where, "b");
  require_optional_input(a.c, where, "c");
  require_output(a.y, a.rows, a.D, where, "y");
}

template <class Real>
void check(const GatedMixArgs<Real>& a) {
  const char* where = "gated_mix";
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  const bool some = a.rows > 0 && a.D > 0;
  require_input(a.g, some, where, "g");
  require_input(a.a, some, where, "a");
  require_input(a.b, some, where, "b");
  require_output(a.y, a.rows, a.D, where, "y");
}

template <class Real>
void check(const GatedMixBackwardArgs<Real>& a) {
  const char* where = "gated_mix_backward";
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  const bool some = a.rows > 0 && a.D > 0;
  require_input(a.g, some, where, "g");
  require_input(a.a, some, where, "a");
  require_input(a.b, some, where, "b");
  require_input(a.grad_y, some, where, "grad_y");
  require_optional_output(a.grad_g, a.rows, a.D, where, "grad_g");
  require_optional_output(a.grad_a, a.rows, a.D, where, "grad_a");
  require_optional_output(a.grad_b, a.rows, a.D, where, "grad_b");
}

template <class Real>
void check(const SelectArgs<Real>& a) {
  const char* where = "select";
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  require_input(a.condition, a.rows > 0 && a.D > 0, where, "condition");
  require_optional_input(a.a, where, "a");
  require_optional_input(a.b, where, "b");
  require_output(a.y, a.rows, a.D, where, "y");
}

namespace {
template <class Real>
void require_bounds(Real low, Real high, const char* where) {
  if (!(low <= high)) require(false, where, "low", low, fmt::format("<= high, {}", high));
}
}  // namespace

template <class Real>
void check(const ClampArgs<Real>& a) {
  const char* where = "clamp";
  require_bounds(a.low, a.high, where);
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  require_input(a.x, a.rows > 0 && a.D > 0, where, "x");
  require_output(a.y, a.rows, a.D, where, "y");
}

template <class Real>
void check(const ClampBackwardArgs<Real>& a) {
  const char* where = "clamp_backward";
  require_bounds(a.low, a.high, where);
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  const bool some = a.rows > 0 && a.D > 0;
  require_input(a.x, some, where, "x");
  require_input(a.grad_y, some, where, "grad_y");
  require_output(a.grad_x, a.rows, a.D, where, "grad_x");
}

template <class Real>
void check(const MatrixProductArgs<Real>& a) {
  const char* where = "matrix_product";
  require_size(a.rows, where, "rows");
  const MatrixShape& s = a.shape;
  require_size(s.n, where, "shape.n");
  require_size(s.k, where, "shape.k");
  require_size(s.m, where, "shape.m");
  require_input(a.a, a.rows > 0 && s.n > 0 && s.k > 0, where, "a");
  require_input(a.b, a.rows > 0 && s.k > 0 && s.m > 0, where, "b");
  require_output(a.y, a.rows, s.n * s.m, where, "y");
}

template void check(const MultiplyAddArgs<float>&);
template void check(const MultiplyAddArgs<double>&);
template void check(const GatedMixArgs<float>&);
template void check(const GatedMixArgs<double>&);
template void check(const GatedMixBackwardArgs<float>&);
template void check(const GatedMixBackwardArgs<double>&);
template void check(const SelectArgs<float>&);
template void check(const SelectArgs<double>&);
template void check(const ClampArgs<float>&);
template void check(const ClampArgs<double>&);
template void check(const ClampBackwardArgs<float>&);
template void check(const ClampBackwardArgs<double>&);
template void check(const MatrixProductArgs<float>&);
template void check(const MatrixProductArgs<double>&);

}  // namespace seqvae

#include "seqvae/kernels/normalization.hpp"

#include "host/kernels/check_rows.hpp"

namespace seqvae {
namespace {
template <class Real>
void require_rule(Normalization kind, Real epsilon, const char* where) {
  const int value = static_cast<int>(kind);
  if (value < 0 || value > static_cast<int>(Normalization::rms)) {
    require(false, where, "kind", value, "a Normalization");
  }
  if (!(epsilon >= 0)) require(false, where, "epsilon", epsilon, ">= 0");
}
}  // namespace

template <class Real>
void check(const NormalizeArgs<Real>& a) {
  const char* where = "normalize";
  require_rule(a.kind, a.epsilon, where);
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  require_input(a.x, a.rows > 0 && a.D > 0, where, "x");
  require_output(a.y, a.rows, a.D, where, "y");
}

template <class Real>
void check(const NormalizeBackwardArgs<Real>& a) {
  const char* where = "normalize_backward";
  require_rule(a.kind, a.epsilon, where);
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  const bool some = a.rows > 0 && a.D > 0;
  require_input(a.x, some, where, "x");
  require_input(a.grad_y, some, where, "grad_y");
  require_output(a.grad_x, a.rows, a.D, where, "grad_x");
}

template void check(const NormalizeArgs<float>&);
template void check(const NormalizeArgs<double>&);
template void check(const NormalizeBackwardArgs<float>&);
template void check(const NormalizeBackwardArgs<double>&);

}  // namespace seqvae

#include "seqvae/kernels/activation.hpp"

#include "host/kernels/check_rows.hpp"

namespace seqvae {
namespace {
void require_kind(Activation kind, const char* where) {
  const int value = static_cast<int>(kind);
  if (value < 0 || value > static_cast<int>(Activation::leaky_relu)) {
    require(false, where, "kind", value, "an Activation");
  }
}
}  // namespace

template <class Real>
void check(const ActivationArgs<Real>& a) {
  const char* where = "activation";
  require_kind(a.kind, where);
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  require_input(a.x, a.rows > 0 && a.D > 0, where, "x");
  require_output(a.y, a.rows, a.D, where, "y");
}

template <class Real>
void check(const ActivationBackwardArgs<Real>& a) {
  const char* where = "activation_backward";
  require_kind(a.kind, where);
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  const bool some = a.rows > 0 && a.D > 0;
  require_input(a.y, some, where, "y");
  require_input(a.grad_y, some, where, "grad_y");
  require_output(a.grad_x, a.rows, a.D, where, "grad_x");
}

template void check(const ActivationArgs<float>&);
template void check(const ActivationArgs<double>&);
template void check(const ActivationBackwardArgs<float>&);
template void check(const ActivationBackwardArgs<double>&);

}  // namespace seqvae

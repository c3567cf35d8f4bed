#include "seqvae/kernels/activation.hpp"

#include "host/cpu/plain_math.hpp"

namespace seqvae::cpu {

template <class Real>
void activation(const ActivationArgs<Real>& a) {
  check(a);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) a.y[r][d] = activate(a.kind, a.x[r][d]);
  }
}

template <class Real>
void activation_backward(const ActivationBackwardArgs<Real>& a) {
  check(a);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t d = 0; d < a.D; ++d) {
      a.grad_x[r][d] = activation_slope(a.kind, a.y[r][d]) * a.grad_y[r][d];
    }
  }
}

template void activation(const ActivationArgs<float>&);
template void activation(const ActivationArgs<double>&);
template void activation_backward(const ActivationBackwardArgs<float>&);
template void activation_backward(const ActivationBackwardArgs<double>&);

}  // namespace seqvae::cpu

// L lanes a row (kernels/common/rows.cuh), four components a lane; the sum over a row is a
// butterfly among its L lanes, so its order hangs on D alone. No atomics, no barrier but that.
// Floor: memory. Forward 16 bytes an element read (8 against N(0, I)), 4 written where kl is asked
// for; backward as many read and 4 for grad_kl, 4 written a gradient asked for.
// Hazards: kl.cuh.
#include "kernels/common/launch.cuh"
#include "kernels/common/rows.cuh"
#include "kernels/gaussian/kl.cuh"
#include "seqvae/kernels/gaussian.hpp"

namespace seqvae::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads)
    kl_rows(GaussianKlArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  float sum = 0.0f;
  for (std::int64_t d = 4 * lane; row < a.rows && d < a.D; d += 4 * lanes) {
    const float4 mu_q = load_quad(a.mu_q[row], d, a.D, wide);
    const float4 logvar_q = load_quad(a.logvar_q[row], d, a.D, wide);
    const float4 mu_p = load_quad_or_zero(a.mu_p, row, d, a.D, wide);
    const float4 logvar_p = load_quad_or_zero(a.logvar_p, row, d, a.D, wide);
    const float4 kl = map4(kl_of, mu_q, logvar_q, mu_p, logvar_p);  // 0 beyond D
    if (a.kl) store_quad(a.kl[row], d, a.D, wide, kl);
    sum += (kl.x + kl.y) + (kl.z + kl.w);
  }
  sum = group_sum(sum, lanes);
  if (a.kl_sum && lane == 0 && row < a.rows) a.kl_sum[row][0] = sum;
}

__global__ void __launch_bounds__(kRowThreads)
    kl_gradients(GaussianKlBackwardArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  if (row >= a.rows) return;  // nothing below waits for the others
  const float grad_sum = a.grad_kl_sum ? a.grad_kl_sum[row][0] : 0.0f;
  for (std::int64_t d = 4 * lane; d < a.D; d += 4 * lanes) {
    const float4 mu_q = load_quad(a.mu_q[row], d, a.D, wide);
    const float4 logvar_q = load_quad(a.logvar_q[row], d, a.D, wide);
    const float4 mu_p = load_quad_or_zero(a.mu_p, row, d, a.D, wide);
    const float4 logvar_p = load_quad_or_zero(a.logvar_p, row, d, a.D, wide);
    const float4 grad = map4([&](float g) { return g + grad_sum; },
                             load_quad_or_zero(a.grad_kl, row, d, a.D, wide));
    const KlGradient kl = kl_gradient(grad, mu_q, logvar_q, mu_p, logvar_p);
    if (a.grad_mu_q) store_quad(a.grad_mu_q[row], d, a.D, wide, kl.mu_q);
    if (a.grad_mu_p) store_quad(a.grad_mu_p[row], d, a.D, wide, negated(kl.mu_q));
    if (a.grad_logvar_q) store_quad(a.grad_logvar_q[row], d, a.D, wide, kl.logvar_q);
    if (a.grad_logvar_p) store_quad(a.grad_logvar_p[row], d, a.D, wide, kl.logvar_p);
  }
}

}  // namespace

void gaussian_kl(const GaussianKlArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(kl_rows, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.mu_q, a.logvar_q, a.mu_p, a.logvar_p, a.kl));
}

void gaussian_kl_backward(const GaussianKlBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(kl_gradients, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.mu_q, a.logvar_q, a.mu_p, a.logvar_p, a.grad_kl, a.grad_mu_q,
                        a.grad_logvar_q, a.grad_mu_p, a.grad_logvar_p));
}

}  // namespace seqvae::cuda

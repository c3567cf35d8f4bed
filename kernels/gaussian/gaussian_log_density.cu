// L lanes a row (kernels/common/rows.cuh), four components a lane; the sum over a row is a
// butterfly among its L lanes, so its order hangs on D alone.
// Floor: memory. Forward 12 bytes an element read, 4 more with a mask; backward as many read, 4
// written a gradient asked for.
// Hazard: exp(-logvar / 2) before the square, as in kl.cuh; what is masked out adds an exact 0.
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "seqvae/kernels/gaussian.hpp"

namespace seqvae::cuda {
namespace {

constexpr float kLog2Pi = 1.8378770664093454836f;

/// 1 where observed; 0 beyond D too.
__device__ __forceinline__ float4 observed_quad(Rows<const float> mask, std::int64_t row,
                                                std::int64_t d, std::int64_t D, bool wide) {
  if (mask) return load_quad(mask[row], d, D, wide);
  return make_float4(1.0f, d + 1 < D ? 1.0f : 0.0f, d + 2 < D ? 1.0f : 0.0f,
                     d + 3 < D ? 1.0f : 0.0f);
}

__global__ void __launch_bounds__(kRowThreads)
    density_rows(GaussianLogDensityArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  float sum = 0.0f;
  for (std::int64_t d = 4 * lane; row < a.rows && d < a.D; d += 4 * lanes) {
    const float4 term = map4(
        [](float seen, float x, float mu, float logvar) {
          const float scaled = (x - mu) * expf(-0.5f * logvar);
          return seen != 0.0f ? -0.5f * (kLog2Pi + logvar + scaled * scaled) : 0.0f;
        },
        observed_quad(a.mask, row, d, a.D, wide), load_quad(a.x[row], d, a.D, wide),
        load_quad(a.mu[row], d, a.D, wide), load_quad(a.logvar[row], d, a.D, wide));
    sum += (term.x + term.y) + (term.z + term.w);
  }
  sum = group_sum(sum, lanes);
  if (lane == 0 && row < a.rows) a.log_density[row][0] = sum;
}

__global__ void __launch_bounds__(kRowThreads)
    density_gradients(GaussianLogDensityBackwardArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes, [&](std::int64_t row, std::int64_t d) {
    const float grad = a.grad_log_density[row][0];
    const float4 seen = observed_quad(a.mask, row, d, a.D, wide);
    const float4 root =
        map4([](float l) { return expf(-0.5f * l); }, load_quad(a.logvar[row], d, a.D, wide));
    const float4 scaled =
        map4([](float x, float mu, float r) { return (x - mu) * r; },
             load_quad(a.x[row], d, a.D, wide), load_quad(a.mu[row], d, a.D, wide), root);
    const float4 grad_mu =
        map4([&](float o, float s, float r) { return o != 0.0f ? grad * s * r : 0.0f; }, seen,
             scaled, root);
    if (a.grad_x) {
      store_quad(a.grad_x[row], d, a.D, wide, map4([](float g) { return -g; }, grad_mu));
    }
    if (a.grad_mu) store_quad(a.grad_mu[row], d, a.D, wide, grad_mu);
    if (a.grad_logvar) {
      store_quad(
          a.grad_logvar[row], d, a.D, wide,
          map4([&](float o, float s) { return o != 0.0f ? 0.5f * (grad * (s * s - 1.0f)) : 0.0f; },
               seen, scaled));
    }
  });
}

}  // namespace

void gaussian_log_density(const GaussianLogDensityArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(density_rows, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.x, a.mask, a.mu, a.logvar));
}

void gaussian_log_density_backward(const GaussianLogDensityBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(density_gradients, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.x, a.mask, a.mu, a.logvar, a.grad_x, a.grad_mu, a.grad_logvar));
}

}  // namespace seqvae::cuda

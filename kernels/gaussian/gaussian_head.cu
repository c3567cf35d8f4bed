// Elementwise; L lanes a row (kernels/common/rows.cuh), four components a lane, no barrier.
// Floor: memory, 8 bytes an element forward (1 read, 1 write), 12 backward.
// Hazard: exp(raw) under- and overflows where log(softplus(raw)) does not; see functions.cuh.
#include "kernels/common/functions.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "seqvae/kernels/gaussian.hpp"

namespace seqvae::cuda {
namespace {

constexpr float kLargestLogvar = 15.0f;  // of the map exp

__device__ float logvar_of(ScaleMap map, float raw, float shift, float floor) {
  switch (map) {
    case ScaleMap::exp:  // comparisons, not fminf and fmaxf, which would drop a NaN
      return raw < -kLargestLogvar ? -kLargestLogvar : raw > kLargestLogvar ? kLargestLogvar : raw;
    case ScaleMap::softplus_var:
      return log_softplus(raw);
    case ScaleMap::softplus_std:
      break;
  }
  const float x = raw + shift;
  return 2.0f * (floor > 0.0f ? logf(softplus(x) + floor) : log_softplus(x));
}

__device__ float slope_of(ScaleMap map, float raw, float shift, float floor) {
  switch (map) {
    case ScaleMap::exp:
      return fabsf(raw) <= kLargestLogvar ? 1.0f : 0.0f;
    case ScaleMap::softplus_var:
      return log_softplus_slope(raw);
    case ScaleMap::softplus_std:
      break;
  }
  const float x = raw + shift;
  return 2.0f * (floor > 0.0f ? sigmoid(x) / (softplus(x) + floor) : log_softplus_slope(x));
}

__global__ void __launch_bounds__(kRowThreads)
    map_rows(GaussianHeadArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  if (row >= a.rows) return;  // nothing below waits for the others
  for (std::int64_t d = 4 * lane; d < a.D; d += 4 * lanes) {
    const float4 raw = load_quad(a.raw[row], d, a.D, wide);
    store_quad(a.logvar[row], d, a.D, wide,
               map4([&](float x) { return logvar_of(a.map, x, a.shift, a.floor); }, raw));
  }
}

__global__ void __launch_bounds__(kRowThreads)
    map_gradients(GaussianHeadBackwardArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  if (row >= a.rows) return;
  for (std::int64_t d = 4 * lane; d < a.D; d += 4 * lanes) {
    const float4 raw = load_quad(a.raw[row], d, a.D, wide);
    const float4 grad = load_quad(a.grad_logvar[row], d, a.D, wide);
    store_quad(a.grad_raw[row], d, a.D, wide,
               map4([&](float x, float g) { return g * slope_of(a.map, x, a.shift, a.floor); }, raw,
                    grad));
  }
}

}  // namespace

void gaussian_head(const GaussianHeadArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(map_rows, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.raw, a.logvar));
}

void gaussian_head_backward(const GaussianHeadBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(map_gradients, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.raw, a.grad_logvar, a.grad_raw));
}

}  // namespace seqvae::cuda

// L lanes a row (kernels/common/rows.cuh), four components a lane; sums over a row are butterflies
// among its L lanes, so their order hangs on D alone. A row is read two to three times: the second
// from L1 or L2, unless rows are longer than those.
// Floor: memory, 8 bytes an element forward, 12 backward.
// Hazards: the variance is of x - mean, not of squares less a square; rows past the last take part
// in the butterflies, and touch no memory.
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "seqvae/kernels/normalization.hpp"

namespace seqvae::cuda {
namespace {

__device__ __forceinline__ float sum4(float4 quad) { return (quad.x + quad.y) + (quad.z + quad.w); }

/// This lane's sum of f(x, rest...) over its components of a row, those beyond D left out.
template <class F>
__device__ __forceinline__ float lane_sum(bool exists, int lane, int lanes, std::int64_t D, F f) {
  float sum = 0.0f;
  for (std::int64_t d = 4 * lane; exists && d < D; d += 4 * lanes) {
    float4 term = f(d);
    if (d + 1 >= D) term.y = 0.0f;
    if (d + 2 >= D) term.z = 0.0f;
    if (d + 3 >= D) term.w = 0.0f;
    sum += sum4(term);
  }
  return sum;
}

/// mean of a row (rms: 0) and s = 1 / sqrt(mean (x - mean)^2 + epsilon).
struct RowScale {
  float mean = 0.0f, s;
};

__device__ __forceinline__ RowScale scale_of(Normalization kind, float epsilon, const float* x,
                                             bool exists, int lane, int lanes, std::int64_t D,
                                             bool wide) {
  RowScale scale;
  const float count = static_cast<float>(D);
  if (kind == Normalization::layer) {
    scale.mean = group_sum(lane_sum(exists, lane, lanes, D,
                                    [&](std::int64_t d) { return load_quad(x, d, D, wide); }),
                           lanes) /
                 count;
  }
  const float square =
      group_sum(lane_sum(exists, lane, lanes, D,
                         [&](std::int64_t d) {
                           return map4([&](float v) { return (v - scale.mean) * (v - scale.mean); },
                                       load_quad(x, d, D, wide));
                         }),
                lanes);
  scale.s = 1.0f / sqrtf(square / count + epsilon);
  return scale;
}

__global__ void __launch_bounds__(kRowThreads)
    normalize_rows(NormalizeArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  const bool exists = row < a.rows;
  const RowScale scale = scale_of(a.kind, a.epsilon, a.x[row], exists, lane, lanes, a.D, wide);
  for (std::int64_t d = 4 * lane; exists && d < a.D; d += 4 * lanes) {
    store_quad(a.y[row], d, a.D, wide,
               map4([&](float v) { return (v - scale.mean) * scale.s; },
                    load_quad(a.x[row], d, a.D, wide)));
  }
}

__global__ void __launch_bounds__(kRowThreads)
    normalize_gradients(NormalizeBackwardArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  const bool exists = row < a.rows;
  const float count = static_cast<float>(a.D);
  const RowScale scale = scale_of(a.kind, a.epsilon, a.x[row], exists, lane, lanes, a.D, wide);
  const auto grad_quad = [&](std::int64_t d) { return load_quad(a.grad_y[row], d, a.D, wide); };
  const auto y_quad = [&](std::int64_t d) {
    return map4([&](float v) { return (v - scale.mean) * scale.s; },
                load_quad(a.x[row], d, a.D, wide));
  };
  const float mean_grad =
      a.kind == Normalization::layer
          ? group_sum(lane_sum(exists, lane, lanes, a.D, grad_quad), lanes) / count
          : 0.0f;
  const float mean_grad_y = group_sum(lane_sum(exists, lane, lanes, a.D,
                                               [&](std::int64_t d) {
                                                 return map4([](float g, float y) { return g * y; },
                                                             grad_quad(d), y_quad(d));
                                               }),
                                      lanes) /
                            count;
  for (std::int64_t d = 4 * lane; exists && d < a.D; d += 4 * lanes) {
    store_quad(a.grad_x[row], d, a.D, wide,
               map4([&](float g, float y) { return scale.s * (g - mean_grad - y * mean_grad_y); },
                    grad_quad(d), y_quad(d)));
  }
}

}  // namespace

void normalize(const NormalizeArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(normalize_rows, row_shape(a.rows, lanes), stream, a, lanes, all_fit_float4(a.D, a.x, a.y));
}

void normalize_backward(const NormalizeBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(normalize_gradients, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.x, a.grad_y, a.grad_x));
}

}  // namespace seqvae::cuda

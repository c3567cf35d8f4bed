// L lanes keep a row in registers (kernels/common/rows.cuh); sums over a row are butterflies among
// them, so their order hangs on D alone.
// Floor: memory, 8 bytes an element forward, 12 backward.
// Hazards: the variance is of x - mean, not of squares less a square; rows past the last take part
// in the butterflies, and touch no memory. A lane alone reads the quads that it writes.
#include "kernels/common/rows.cuh"
#include "seqvae/kernels/normalization.hpp"

namespace seqvae::cuda {
namespace {

/// mean of a row (rms: 0) and s = 1 / sqrt(mean (x - mean)^2 + epsilon).
struct RowScale {
  float mean, s;

  __device__ __forceinline__ float4 y(float4 x) const {
    return map4([&](float v) { return (v - mean) * s; }, x);
  }
};

/// Mean over a row of f(i, d), four terms at a time; those from column D on are left out.
template <int Q, class F>
__device__ __forceinline__ float row_mean(const LaneQuads<Q>& mine, F f) {
  float sum = 0.0f;
  mine.for_each([&](int i, auto d) {
    float4 term = f(i, d);
    if (d >= mine.D) term.x = 0.0f;
    if (d + 1 >= mine.D) term.y = 0.0f;
    if (d + 2 >= mine.D) term.z = 0.0f;
    if (d + 3 >= mine.D) term.w = 0.0f;
    sum += sum4(term);
  });
  return group_sum(sum, mine.lanes) / static_cast<float>(mine.D);
}

template <int Q>
__device__ __forceinline__ RowScale scale_of(Normalization kind, float epsilon,
                                             const LaneQuads<Q>& mine, const KeptRow<Q>& x) {
  float mean = 0.0f;
  if (kind == Normalization::layer) mean = row_mean(mine, [&](int i, auto d) { return x(i, d); });
  const float square = row_mean(mine, [&](int i, auto d) {
    return map4([&](float v) { return (v - mean) * (v - mean); }, x(i, d));
  });
  return {mean, 1.0f / sqrtf(square + epsilon)};
}

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    normalize_rows(NormalizeArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  const LaneQuads<Q> mine(a.D, lane, lanes, wide, row < a.rows);
  const KeptRow<Q> x(mine, a.x[row], 0.0f);
  const RowScale scale = scale_of(a.kind, a.epsilon, mine, x);
  mine.for_each([&](int i, auto d) {
    if (mine.exists) mine.store(a.y[row], d, scale.y(x(i, d)));
  });
}

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    normalize_gradients(NormalizeBackwardArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  const LaneQuads<Q> mine(a.D, lane, lanes, wide, row < a.rows);
  const KeptRow<Q> x(mine, a.x[row], 0.0f), grad(mine, a.grad_y[row], 0.0f);
  const RowScale scale = scale_of(a.kind, a.epsilon, mine, x);
  const float mean_grad = a.kind == Normalization::layer
                              ? row_mean(mine, [&](int i, auto d) { return grad(i, d); })
                              : 0.0f;
  const float mean_grad_y = row_mean(mine, [&](int i, auto d) {
    return map4([](float g, float y) { return g * y; }, grad(i, d), scale.y(x(i, d)));
  });
  mine.for_each([&](int i, auto d) {
    const float4 slope =
        map4([&](float g, float y) { return scale.s * (g - mean_grad - y * mean_grad_y); },
             grad(i, d), scale.y(x(i, d)));
    if (mine.exists) mine.store(a.grad_x[row], d, slope);
  });
}

}  // namespace

void normalize(const NormalizeArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = keeping_lanes_for(a.D);
  with_quads_kept<4>(a.D, [&](auto Q) {
    launch(normalize_rows<Q>, row_shape(a.rows, lanes), stream, a, lanes,
           all_fit_float4(a.D, a.x, a.y));
  });
}

void normalize_backward(const NormalizeBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = keeping_lanes_for(a.D);
  with_quads_kept<4>(a.D, [&](auto Q) {
    launch(normalize_gradients<Q>, row_shape(a.rows, lanes), stream, a, lanes,
           all_fit_float4(a.D, a.x, a.grad_y, a.grad_x));
  });
}

}  // namespace seqvae::cuda

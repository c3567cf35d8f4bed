// The log of a mean of exponentials over the K particles of a row, which L lanes keep in registers
// (kernels/common/rows.cuh). Floor: memory, 4 bytes a particle read, and as many written backward.
// Hazards: all -inf is -inf, with a gradient of 0; a NaN makes its row NaN.
#include "kernels/common/rows.cuh"
#include "kernels/common/softmax.cuh"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae::cuda {
namespace {

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    log_mean_exp_rows(LogMeanExpArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  const LaneQuads<Q> mine(a.K, lane, lanes, wide, row < a.rows);
  const KeptRow<Q> x(mine, a.x + row * a.K, -INFINITY);
  const float largest = largest_of(mine, x);
  const float sum = group_sum(Exponentials<Q>(mine, x, largest).sum, lanes);
  if (lane != 0 || !mine.exists) return;
  a.y[row] = isinf(largest) ? largest : largest + logf(sum / static_cast<float>(a.K));
}

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    log_mean_exp_gradients(LogMeanExpBackwardArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  const LaneQuads<Q> mine(a.K, lane, lanes, wide, row < a.rows);
  const KeptRow<Q> x(mine, a.x + row * a.K, -INFINITY);
  const float largest = largest_of(mine, x);
  const Exponentials<Q> e(mine, x, largest);
  const float scale = 1.0f / group_sum(e.sum, lanes);
  const float grad = mine.exists ? a.grad_y[row] : 0.0f;
  mine.for_each([&](int i, auto d) {
    const float4 slope =
        map4([&](float v) { return largest == -INFINITY ? 0.0f : v * scale * grad; }, e(i, d));
    if (mine.exists) mine.store(a.grad_x + row * a.K, d, slope);
  });
}

constexpr int kMostQuads = 8;

}  // namespace

void log_mean_exp(const LogMeanExpArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = keeping_lanes_for(a.K);
  with_quads_kept<kMostQuads>(a.K, [&](auto Q) {
    launch(log_mean_exp_rows<Q>, row_shape(a.rows, lanes), stream, a, lanes,
           all_fit_float4(a.K, Rows<const float>(a.x, a.K)));
  });
}

void log_mean_exp_backward(const LogMeanExpBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = keeping_lanes_for(a.K);
  with_quads_kept<kMostQuads>(a.K, [&](auto Q) {
    launch(log_mean_exp_gradients<Q>, row_shape(a.rows, lanes), stream, a, lanes,
           all_fit_float4(a.K, Rows<const float>(a.x, a.K), Rows<const float>(a.grad_x, a.K)));
  });
}

}  // namespace seqvae::cuda

// The log of a mean of exponentials over the K particles of a row: L neighbouring lanes serve a
// row, L the power of two at or above K, at most 32, each lane every L-th particle (softmax.cuh).
// Floor: memory, 4 bytes a particle read, and as many written backward.
// Hazards: all -inf is -inf, with a gradient of 0; a NaN makes its row NaN.
#include "kernels/common/rows.cuh"
#include "kernels/common/softmax.cuh"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads)
    log_mean_exp_rows(LogMeanExpArgs<float> a, int lanes) {
  const auto [row, lane] = row_lane(lanes);
  const bool exists = row < a.rows;
  const MaxAndSum of = max_and_sum_of_exp(a.x + row * a.K, a.K, exists, lane, lanes);
  if (lane != 0 || !exists) return;
  a.y[row] = isinf(of.largest) ? of.largest : of.largest + logf(of.sum / static_cast<float>(a.K));
}

__global__ void __launch_bounds__(kRowThreads)
    log_mean_exp_gradients(LogMeanExpBackwardArgs<float> a, int lanes) {
  const auto [row, lane] = row_lane(lanes);
  const bool exists = row < a.rows;
  const float* x = a.x + row * a.K;
  const MaxAndSum of = max_and_sum_of_exp(x, a.K, exists, lane, lanes);
  const bool none = of.largest == -INFINITY;
  for (std::int64_t k = lane; exists && k < a.K; k += lanes) {
    a.grad_x[row * a.K + k] = none ? 0.0f : expf(x[k] - of.largest) / of.sum * a.grad_y[row];
  }
}

int particle_lanes(std::int64_t K) { return lanes_for(4 * K); }  // a particle a lane, not four

}  // namespace

void log_mean_exp(const LogMeanExpArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = particle_lanes(a.K);
  launch(log_mean_exp_rows, row_shape(a.rows, lanes), stream, a, lanes);
}

void log_mean_exp_backward(const LogMeanExpBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = particle_lanes(a.K);
  launch(log_mean_exp_gradients, row_shape(a.rows, lanes), stream, a, lanes);
}

}  // namespace seqvae::cuda

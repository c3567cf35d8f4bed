// Elementwise; L lanes a row (kernels/common/rows.cuh), four components a lane, no barrier.
// Floor: memory, 8 bytes an element forward (1 read, 1 write), 12 backward.
#include "kernels/common/rows.cuh"
#include "kernels/gaussian/head.cuh"

namespace seqvae::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads)
    map_rows(GaussianHeadArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes,
                [&](std::int64_t row, std::int64_t d) { do_quad(a, row, d, wide); });
}

__global__ void __launch_bounds__(kRowThreads)
    map_gradients(GaussianHeadBackwardArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes,
                [&](std::int64_t row, std::int64_t d) { do_quad(a, row, d, wide); });
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

// Elementwise; L lanes a row (kernels/common/rows.cuh), four components a lane, no barrier.
// Floor: memory, 8 bytes an element forward (1 read, 1 write), 12 backward.
// The kind is one for the whole grid: its branch never parts a warp.
#include "kernels/common/rows.cuh"
#include "kernels/elementwise/quads.cuh"

namespace seqvae::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads)
    activate_rows(ActivationArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes,
                [&](std::int64_t row, std::int64_t d) { do_quad(a, row, d, wide); });
}

__global__ void __launch_bounds__(kRowThreads)
    activation_gradients(ActivationBackwardArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes,
                [&](std::int64_t row, std::int64_t d) { do_quad(a, row, d, wide); });
}

}  // namespace

void activation(const ActivationArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(activate_rows, row_shape(a.rows, lanes), stream, a, lanes, all_fit_float4(a.D, a.x, a.y));
}

void activation_backward(const ActivationBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(activation_gradients, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.y, a.grad_y, a.grad_x));
}

}  // namespace seqvae::cuda

// Elementwise; L lanes a row (kernels/common/rows.cuh), four components a lane, no barrier.
// Floor: memory, 4 bytes an element for each matrix that is read or written.
// Hazard: clamp compares, since fminf and fmaxf would drop a NaN.
#include "kernels/common/rows.cuh"
#include "kernels/elementwise/quads.cuh"

namespace seqvae::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads)
    multiply_add_rows(MultiplyAddArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes,
                [&](std::int64_t row, std::int64_t d) { do_quad(a, row, d, wide); });
}

__global__ void __launch_bounds__(kRowThreads)
    mix_rows(GatedMixArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes,
                [&](std::int64_t row, std::int64_t d) { do_quad(a, row, d, wide); });
}

__global__ void __launch_bounds__(kRowThreads)
    mix_gradients(GatedMixBackwardArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes,
                [&](std::int64_t row, std::int64_t d) { do_quad(a, row, d, wide); });
}

__global__ void __launch_bounds__(kRowThreads)
    select_rows(SelectArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes,
                [&](std::int64_t row, std::int64_t d) { do_quad(a, row, d, wide); });
}

__global__ void __launch_bounds__(kRowThreads)
    clamp_rows(ClampArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes, [&](std::int64_t row, std::int64_t d) {
    const float4 x = load_quad(a.x[row], d, a.D, wide);
    store_quad(a.y[row], d, a.D, wide,
               map4([&](float v) { return v < a.low    ? a.low
                                          : v > a.high ? a.high
                                                       : v; }, x));
  });
}

__global__ void __launch_bounds__(kRowThreads)
    clamp_gradients(ClampBackwardArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes, [&](std::int64_t row, std::int64_t d) {
    const float4 x = load_quad(a.x[row], d, a.D, wide);
    const float4 grad = load_quad(a.grad_y[row], d, a.D, wide);
    store_quad(a.grad_x[row], d, a.D, wide,
               map4([&](float v, float g) { return v < a.low || v > a.high ? 0.0f : g; }, x, grad));
  });
}

}  // namespace

void multiply_add(const MultiplyAddArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(multiply_add_rows, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.a, a.b, a.c, a.y));
}

void gated_mix(const GatedMixArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(mix_rows, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.g, a.a, a.b, a.y));
}

void gated_mix_backward(const GatedMixBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(mix_gradients, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.g, a.a, a.b, a.grad_y, a.grad_g, a.grad_a, a.grad_b));
}

void select(const SelectArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  const Rows<const float> condition = a.by_row ? Rows<const float>() : a.condition;
  launch(select_rows, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, condition, a.a, a.b, a.y));
}

void clamp(const ClampArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(clamp_rows, row_shape(a.rows, lanes), stream, a, lanes, all_fit_float4(a.D, a.x, a.y));
}

void clamp_backward(const ClampBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(clamp_gradients, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.x, a.grad_y, a.grad_x));
}

}  // namespace seqvae::cuda

// Elementwise; L lanes a row (kernels/common/rows.cuh), four components a lane, no barrier.
// Floor: memory, 4 bytes an element for each matrix that is read or written.
// Hazards: select takes the chosen value, not a sum with zeros (0 * NaN); clamp compares, since
// fminf and fmaxf would drop a NaN.
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "seqvae/kernels/arithmetic.hpp"

namespace seqvae::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads)
    multiply_add_rows(MultiplyAddArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes, [&](std::int64_t row, std::int64_t d) {
    float4 y = map4([&](float x) { return a.alpha * x; }, load_quad(a.a[row], d, a.D, wide));
    if (a.b) {
      y = map4([](float x, float b) { return x * b; }, y, load_quad(a.b[row], d, a.D, wide));
    }
    if (a.c) {
      y = map4([&](float x, float c) { return x + a.beta * c; }, y,
               load_quad(a.c[row], d, a.D, wide));
    }
    store_quad(a.y[row], d, a.D, wide, y);
  });
}

__global__ void __launch_bounds__(kRowThreads)
    mix_rows(GatedMixArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes, [&](std::int64_t row, std::int64_t d) {
    const float4 g = load_quad(a.g[row], d, a.D, wide);
    const float4 first = load_quad(a.a[row], d, a.D, wide);
    const float4 second = load_quad(a.b[row], d, a.D, wide);
    store_quad(a.y[row], d, a.D, wide,
               map4([](float gate, float x, float y) { return (1.0f - gate) * x + gate * y; }, g,
                    first, second));
  });
}

__global__ void __launch_bounds__(kRowThreads)
    mix_gradients(GatedMixBackwardArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes, [&](std::int64_t row, std::int64_t d) {
    const float4 g = load_quad(a.g[row], d, a.D, wide);
    const float4 grad = load_quad(a.grad_y[row], d, a.D, wide);
    if (a.grad_g) {
      const float4 first = load_quad(a.a[row], d, a.D, wide);
      const float4 second = load_quad(a.b[row], d, a.D, wide);
      store_quad(
          a.grad_g[row], d, a.D, wide,
          map4([](float x, float y, float dy) { return (y - x) * dy; }, first, second, grad));
    }
    if (a.grad_a) {
      store_quad(a.grad_a[row], d, a.D, wide,
                 map4([](float gate, float dy) { return (1.0f - gate) * dy; }, g, grad));
    }
    if (a.grad_b) {
      store_quad(a.grad_b[row], d, a.D, wide,
                 map4([](float gate, float dy) { return gate * dy; }, g, grad));
    }
  });
}

__global__ void __launch_bounds__(kRowThreads)
    select_rows(SelectArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes, [&](std::int64_t row, std::int64_t d) {
    float4 condition;
    if (a.by_row) {
      const float c = a.condition[row][0];
      condition = make_float4(c, c, c, c);
    } else {
      condition = load_quad(a.condition[row], d, a.D, wide);
    }
    store_quad(
        a.y[row], d, a.D, wide,
        map4([](float c, float x, float y) { return c != 0.0f ? x : y; }, condition,
             load_quad_or_zero(a.a, row, d, a.D, wide), load_quad_or_zero(a.b, row, d, a.D, wide)));
  });
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

// Elementwise over the H units of a row; L lanes a row (kernels/common/rows.cuh), four units a
// lane, no barrier. The gates of a unit stand H apart, so that 16-byte accesses want H a multiple
// of four.
// Floor: memory. GRU forward 28 bytes a unit read, 16 written (4 without gates); backward 32 read,
// 28 written. LSTM forward 20 read, 24 written (8 without gates); backward 32 read, 20 written.
// Hazard: an output that stands where an input stood is written after all of its quad were read.
#include "kernels/common/functions.cuh"
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "seqvae/kernels/recurrent_cell.hpp"

namespace seqvae::cuda {
namespace {

__device__ __forceinline__ float4 sigmoid4(float4 quad) {
  return map4([](float x) { return sigmoid(x); }, quad);
}
__device__ __forceinline__ float4 tanh4(float4 quad) {
  return map4([](float x) { return tanhf(x); }, quad);
}
__device__ __forceinline__ float4 plus4(float4 a, float4 b) {
  return map4([](float x, float y) { return x + y; }, a, b);
}
__device__ __forceinline__ float4 times4(float4 a, float4 b) {
  return map4([](float x, float y) { return x * y; }, a, b);
}

__global__ void __launch_bounds__(kRowThreads)
    gru_cells(GruCellArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.H, lanes, [&](std::int64_t row, std::int64_t d) {
    // Units d .. d + 3 of gate g of one row.
    const auto gate = [&](const float* of_row, int g) {
      return load_quad(of_row + g * a.H, d, a.H, wide);
    };
    const float *pre = a.a[row], *q = a.q[row];
    const float4 r = sigmoid4(plus4(gate(pre, 0), gate(q, 0)));
    const float4 z = sigmoid4(plus4(gate(pre, 1), gate(q, 1)));
    const float4 n = tanh4(plus4(gate(pre, 2), times4(r, gate(q, 2))));
    const float4 h = load_quad(a.h[row], d, a.H, wide);
    store_quad(
        a.h_next[row], d, a.H, wide,
        map4([](float z1, float n1, float h1) { return (1.0f - z1) * n1 + z1 * h1; }, z, n, h));
    if (a.gates) {
      store_quad(a.gates[row], d, a.H, wide, r);
      store_quad(a.gates[row] + a.H, d, a.H, wide, z);
      store_quad(a.gates[row] + 2 * a.H, d, a.H, wide, n);
    }
  });
}

__global__ void __launch_bounds__(kRowThreads)
    gru_cell_gradients(GruCellBackwardArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.H, lanes, [&](std::int64_t row, std::int64_t d) {
    const float4 r = load_quad(a.gates[row], d, a.H, wide);
    const float4 z = load_quad(a.gates[row] + a.H, d, a.H, wide);
    const float4 n = load_quad(a.gates[row] + 2 * a.H, d, a.H, wide);
    const float4 q_n = load_quad(a.q[row] + 2 * a.H, d, a.H, wide);
    const float4 h = load_quad(a.h[row], d, a.H, wide);
    const float4 grad = load_quad(a.grad_h_next[row], d, a.H, wide);
    const float4 grad_n =  // by what stands inside tanh
        map4(
            [](float g, float z1, float n1) { return g * (1.0f - z1) * (1.0f - n1) * (1.0f + n1); },
            grad, z, n);
    const float4 grad_r =
        map4([](float g, float q1, float r1) { return g * q1 * r1 * (1.0f - r1); }, grad_n, q_n, r);
    const float4 grad_z =
        map4([](float g, float h1, float n1, float z1) { return g * (h1 - n1) * z1 * (1.0f - z1); },
             grad, h, n, z);
    const float4 grad_q_n = times4(grad_n, r), grad_h = times4(z, grad);
    float *grad_a = a.grad_a[row], *grad_q = a.grad_q[row];
    store_quad(grad_a, d, a.H, wide, grad_r);
    store_quad(grad_a + a.H, d, a.H, wide, grad_z);
    store_quad(grad_a + 2 * a.H, d, a.H, wide, grad_n);
    store_quad(grad_q, d, a.H, wide, grad_r);
    store_quad(grad_q + a.H, d, a.H, wide, grad_z);
    store_quad(grad_q + 2 * a.H, d, a.H, wide, grad_q_n);
    store_quad(a.grad_h[row], d, a.H, wide, grad_h);
  });
}

__global__ void __launch_bounds__(kRowThreads)
    lstm_cells(LstmCellArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.H, lanes, [&](std::int64_t row, std::int64_t d) {
    const float* pre = a.a[row];
    const float4 i = sigmoid4(load_quad(pre, d, a.H, wide));
    const float4 f = sigmoid4(load_quad(pre + a.H, d, a.H, wide));
    const float4 g = tanh4(load_quad(pre + 2 * a.H, d, a.H, wide));
    const float4 o = sigmoid4(load_quad(pre + 3 * a.H, d, a.H, wide));
    const float4 c = plus4(times4(f, load_quad(a.c[row], d, a.H, wide)), times4(i, g));
    store_quad(a.c_next[row], d, a.H, wide, c);
    store_quad(a.h_next[row], d, a.H, wide, times4(o, tanh4(c)));
    if (a.gates) {
      float* gates = a.gates[row];
      store_quad(gates, d, a.H, wide, i);
      store_quad(gates + a.H, d, a.H, wide, f);
      store_quad(gates + 2 * a.H, d, a.H, wide, g);
      store_quad(gates + 3 * a.H, d, a.H, wide, o);
    }
  });
}

__global__ void __launch_bounds__(kRowThreads)
    lstm_cell_gradients(LstmCellBackwardArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.H, lanes, [&](std::int64_t row, std::int64_t d) {
    const float* gates = a.gates[row];
    const float4 i = load_quad(gates, d, a.H, wide);
    const float4 f = load_quad(gates + a.H, d, a.H, wide);
    const float4 g = load_quad(gates + 2 * a.H, d, a.H, wide);
    const float4 o = load_quad(gates + 3 * a.H, d, a.H, wide);
    const float4 s = tanh4(load_quad(a.c_next[row], d, a.H, wide));
    const float4 c = load_quad(a.c[row], d, a.H, wide);
    const float4 grad_h = load_quad_or_zero(a.grad_h_next, row, d, a.H, wide);
    const float4 grad_c = map4([](float gh, float o1, float s1,
                                  float gc) { return gh * o1 * (1.0f - s1) * (1.0f + s1) + gc; },
                               grad_h, o, s, load_quad_or_zero(a.grad_c_next, row, d, a.H, wide));
    // factor times the slope of a sigmoid whose value is y.
    const auto through_sigmoid = [](float g1, float x, float y) { return g1 * x * y * (1.0f - y); };
    const float4 grad_i = map4(through_sigmoid, grad_c, g, i);
    const float4 grad_f = map4(through_sigmoid, grad_c, c, f);
    const float4 grad_g =
        map4([](float gc, float i1, float g1) { return gc * i1 * (1.0f - g1) * (1.0f + g1); },
             grad_c, i, g);
    const float4 grad_o = map4(through_sigmoid, grad_h, s, o);
    float* grad_a = a.grad_a[row];
    store_quad(grad_a, d, a.H, wide, grad_i);
    store_quad(grad_a + a.H, d, a.H, wide, grad_f);
    store_quad(grad_a + 2 * a.H, d, a.H, wide, grad_g);
    store_quad(grad_a + 3 * a.H, d, a.H, wide, grad_o);
    store_quad(a.grad_c[row], d, a.H, wide, times4(grad_c, f));
  });
}

}  // namespace

void gru_cell(const GruCellArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.H);
  launch(gru_cells, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.H, a.a, a.q, a.h, a.h_next, a.gates));
}

void gru_cell_backward(const GruCellBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.H);
  launch(gru_cell_gradients, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.H, a.gates, a.q, a.h, a.grad_h_next, a.grad_a, a.grad_q, a.grad_h));
}

void lstm_cell(const LstmCellArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.H);
  launch(lstm_cells, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.H, a.a, a.c, a.h_next, a.c_next, a.gates));
}

void lstm_cell_backward(const LstmCellBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.H);
  launch(lstm_cell_gradients, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.H, a.gates, a.c, a.c_next, a.grad_h_next, a.grad_c_next, a.grad_a,
                        a.grad_c));
}

}  // namespace seqvae::cuda

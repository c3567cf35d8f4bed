// Four units of a row of a recurrent cell. The gates of a unit stand H apart.
// Hazard: an output that stands where an input stood is written after all of its quad were read.
#pragma once
#include "kernels/common/functions.cuh"
#include "kernels/common/load_store.cuh"
#include "seqvae/kernels/recurrent_cell.hpp"

namespace seqvae::cuda {

__device__ __forceinline__ float4 sigmoid4(float4 quad) {
  return map4([](float x) { return sigmoid(x); }, quad);
}
__device__ __forceinline__ float4 tanh4(float4 quad) {
  return map4([](float x) { return tanhf(x); }, quad);
}
__device__ __forceinline__ float4 times4(float4 a, float4 b) {
  return map4([](float x, float y) { return x * y; }, a, b);
}

__device__ __forceinline__ void do_quad(const GruCellArgs<float>& a, std::int64_t row,
                                        std::int64_t d, bool wide) {
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
}

__device__ __forceinline__ void do_quad(const GruCellBackwardArgs<float>& a, std::int64_t row,
                                        std::int64_t d, bool wide) {
  const float4 r = load_quad(a.gates[row], d, a.H, wide);
  const float4 z = load_quad(a.gates[row] + a.H, d, a.H, wide);
  const float4 n = load_quad(a.gates[row] + 2 * a.H, d, a.H, wide);
  const float4 q_n = load_quad(a.q[row] + 2 * a.H, d, a.H, wide);
  const float4 h = load_quad(a.h[row], d, a.H, wide);
  const float4 grad = load_quad(a.grad_h_next[row], d, a.H, wide);
  const float4 grad_n =  // by what stands inside tanh
      map4([](float g, float z1, float n1) { return g * (1.0f - z1) * (1.0f - n1) * (1.0f + n1); },
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
}

__device__ __forceinline__ void do_quad(const LstmCellArgs<float>& a, std::int64_t row,
                                        std::int64_t d, bool wide) {
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
}

__device__ __forceinline__ void do_quad(const LstmCellBackwardArgs<float>& a, std::int64_t row,
                                        std::int64_t d, bool wide) {
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
      map4([](float gc, float i1, float g1) { return gc * i1 * (1.0f - g1) * (1.0f + g1); }, grad_c,
           i, g);
  const float4 grad_o = map4(through_sigmoid, grad_h, s, o);
  float* grad_a = a.grad_a[row];
  store_quad(grad_a, d, a.H, wide, grad_i);
  store_quad(grad_a + a.H, d, a.H, wide, grad_f);
  store_quad(grad_a + 2 * a.H, d, a.H, wide, grad_g);
  store_quad(grad_a + 3 * a.H, d, a.H, wide, grad_o);
  store_quad(a.grad_c[row], d, a.H, wide, times4(grad_c, f));
}

}  // namespace seqvae::cuda

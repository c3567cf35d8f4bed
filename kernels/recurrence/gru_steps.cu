// The recurrence of a GRU a step at a time: the product q = R carry + b, then one kernel for the
// gates of the step, a thread a unit of a sequence; 2 T launches, and as many for the gradient. In
// float throughout: what the kernel of gru_cluster.cu is held to, and what runs where that does not
// fit. Floor: a step reads R (12 H^2 bytes, from L2 where it fits), and 28 bytes a unit of each
// sequence. Hazard: the carry lies in scratch, apart from h, for a reset makes it another.
#include "kernels/common/functions.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/recurrence/gru_loop.hpp"
#include "kernels/recurrence/sequence.cuh"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {
namespace {

__device__ __forceinline__ float start_of(const GruLoop& a, const UnitPlace& at) {
  return a.h0 ? a.h0[at.b][at.unit] : 0.0f;
}

__global__ void __launch_bounds__(kStepThreads) begin_carry(GruLoop a, float* carry) {
  const UnitPlace at = unit_of_thread(a);
  if (!at.exists) return;
  const float start = start_of(a, at);
  carry[at.b * a.H + at.unit] = start;
  const int length = length_of(a.layout, at.b);
  if (a.h_final && length == 0) a.h_final[at.b][at.unit] = start;
  if (a.layout.offsets != nullptr) return;
  for (int t = length; t < a.layout.T; ++t) a.h[row_of(a.layout, t, at.b)][at.unit] = 0.0f;
}

__global__ void __launch_bounds__(kStepThreads)
    step(GruLoop a, int j, const float* q_rows, float* carry_rows) {
  const UnitPlace at = unit_of_thread(a);
  if (!at.exists) return;
  const int length = length_of(a.layout, at.b);
  if (j >= length) return;
  const auto row_at = [&](int i) { return row_of(a.layout, time_of(i, length, a.reverse), at.b); };
  const std::int64_t row = row_at(j), H = a.H;
  float *gates = a.gates + row * 3 * H + at.unit, *carry = carry_rows + at.b * H + at.unit;
  const float* q = q_rows + at.b * 3 * H + at.unit;
  const float r = sigmoid(gates[0] + q[0]), z = sigmoid(gates[H] + q[H]), q_n = q[2 * H];
  const float n = tanhf(gates[2 * H] + r * q_n), h = (1.0f - z) * n + z * *carry;
  a.h[row][at.unit] = h;
  if (a.q_n != nullptr) {
    gates[0] = r, gates[H] = z, gates[2 * H] = n;
    a.q_n[row * H + at.unit] = q_n;
  }
  const bool last = j + 1 == length;
  if (last && a.h_final) a.h_final[at.b][at.unit] = h;
  const bool begins = !last && a.reset != nullptr && a.reset[a.reverse ? row : row_at(j + 1)] != 0;
  *carry = begins ? start_of(a, at) : h;
}

/// Before the last step: the carry's gradient is h_final's; padding gets zeros.
__global__ void __launch_bounds__(kStepThreads) begin_gradients(GruBackwardLoop a, float* carry) {
  const UnitPlace at = unit_of_thread(a);
  if (!at.exists) return;
  const std::int64_t H = a.H, place = at.b * H + at.unit;
  const float grad = a.grad_h_final ? a.grad_h_final[at.b][at.unit] : 0.0f;
  const int length = length_of(a.layout, at.b);
  carry[place] = length > 0 ? grad : 0.0f;
  a.grad_h0[place] = length > 0 ? 0.0f : grad;
  if (a.layout.offsets != nullptr) return;
  for (int t = length; t < a.layout.T; ++t) {
    const std::int64_t row = row_of(a.layout, t, at.b);
    for (int g = 0; g < 3; ++g) a.gates[(row * 3 + g) * H + at.unit] = 0.0f;
    a.q_n[row * H + at.unit] = a.h_previous[row * H + at.unit] = 0.0f;
  }
}

/// The i-th step from a sequence's last. In: the gradient of the carry out of the step. Out: that
/// of q, zeros where the sequence has no such step, and of the carry into it but for R^T grad q.
__global__ void __launch_bounds__(kStepThreads)
    step_gradients(GruBackwardLoop a, int i, float* grad_q_rows, float* carry_rows) {
  const UnitPlace at = unit_of_thread(a);
  if (!at.exists) return;
  const std::int64_t H = a.H;
  float *grad_q = grad_q_rows + at.b * 3 * H + at.unit, *carry = carry_rows + at.b * H + at.unit;
  const int length = length_of(a.layout, at.b);
  const auto row_at = [&](int j) { return row_of(a.layout, time_of(j, length, a.reverse), at.b); };
  const auto begins_at = [&](int j) {  // step j's carry is h0
    return j == 0 || (a.reset != nullptr && a.reset[row_at(a.reverse ? j - 1 : j)] != 0);
  };
  const int j = length - 1 - i;
  if (i > 0 && j + 1 >= 0 && begins_at(j + 1)) {
    a.grad_h0[at.b * H + at.unit] += *carry;
    *carry = 0.0f;
  }
  if (j < 0) {
    grad_q[0] = grad_q[H] = grad_q[2 * H] = 0.0f;
    return;
  }
  const std::int64_t row = row_at(j);
  const float start = a.h0 ? a.h0[at.b][at.unit] : 0.0f;
  const float h_previous = begins_at(j) ? start : a.h[row_at(j - 1)][at.unit];
  float *gates = a.gates + row * 3 * H + at.unit, *q_n = a.q_n + row * H + at.unit;
  const float r = gates[0], z = gates[H], n = gates[2 * H];
  const float g = *carry + (a.grad_h ? a.grad_h[row][at.unit] : 0.0f);
  const float grad_n = g * (1.0f - z) * (1.0f - n) * (1.0f + n);
  const float grad_z = g * (h_previous - n) * z * (1.0f - z);
  const float grad_r = grad_n * *q_n * r * (1.0f - r);
  gates[0] = grad_q[0] = grad_r, gates[H] = grad_q[H] = grad_z;
  gates[2 * H] = grad_n, *q_n = grad_q[2 * H] = grad_n * r;
  a.h_previous[row * H + at.unit] = h_previous;
  *carry = g * z;
}

}  // namespace

void gru_by_steps(const GruLoop& a, float* q, float* carry, Stream stream) {
  const LaunchShape shape{blocks_for(a.layout.B * a.H, kStepThreads), kStepThreads};
  launch(begin_carry, shape, stream, a, carry);
  DenseArgs<float> product;
  product.M = a.layout.B;
  product.W = {a.weight_hh, a.H, 3 * a.H, a.H, false};
  product.x = {carry, a.H}, product.bias = a.bias_hh, product.y = {q, 3 * a.H};
  for (int j = 0; j < a.layout.T; ++j) {
    dense(product, stream);
    launch(step, shape, stream, a, j, q, carry);
  }
}

void gru_backward_by_steps(const GruBackwardLoop& a, float* grad_q, float* carry, Stream stream) {
  const LaunchShape shape{blocks_for(a.layout.B * a.H, kStepThreads), kStepThreads};
  launch(begin_gradients, shape, stream, a, carry);
  DenseArgs<float> product;  // carry += grad_q R
  product.M = a.layout.B;
  product.W = {a.weight_hh, a.H, a.H, 3 * a.H, true};
  product.x = {grad_q, 3 * a.H}, product.y = {carry, a.H}, product.addend = product.y;
  for (int i = 0; i <= a.layout.T; ++i) {  // the last only takes the gradient of h0 home
    launch(step_gradients, shape, stream, a, i, grad_q, carry);
    if (i < a.layout.T) dense(product, stream);
  }
}

}  // namespace seqvae::cuda

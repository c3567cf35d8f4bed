// The recurrence of an LSTM a step at a time: the product q = R carry + b, then one kernel for the
// gates of the step, a thread a unit of a sequence; 2 T launches, and as many for the gradient. In
// float throughout: what the kernel of lstm_cluster.cu is held to, and what runs where that does
// not fit. Floor: a step reads R (16 H^2 bytes, from L2 where it fits), and 36 bytes a unit of each
// sequence. Hazard: the carry lies in scratch, apart from h and c, for a reset makes it another.
#include "kernels/common/functions.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/recurrence/lstm_loop.hpp"
#include "kernels/recurrence/sequence.cuh"
#include "seqvae/kernels/dense.hpp"

namespace seqvae::cuda {
namespace {

/// Of starts or gradients that are optional.
__device__ __forceinline__ float value_of(const Rows<const float>& matrix, const UnitPlace& at) {
  return matrix ? matrix[at.b][at.unit] : 0.0f;
}

__global__ void __launch_bounds__(kStepThreads)
    begin_carry(LstmLoop a, float* carry_h, float* carry_c) {
  const UnitPlace at = unit_of_thread(a);
  if (!at.exists) return;
  const float h = value_of(a.h0, at), c = value_of(a.c0, at);
  carry_h[at.b * a.H + at.unit] = h, carry_c[at.b * a.H + at.unit] = c;
  const int length = length_of(a.layout, at.b);
  if (a.h_final && length == 0) a.h_final[at.b][at.unit] = h;
  if (a.c_final && length == 0) a.c_final[at.b][at.unit] = c;
  if (a.layout.offsets != nullptr) return;
  for (int t = length; t < a.layout.T; ++t) a.h[row_of(a.layout, t, at.b)][at.unit] = 0.0f;
}

__global__ void __launch_bounds__(kStepThreads)
    step(LstmLoop a, int j, const float* q_rows, float* carry_h, float* carry_c) {
  const UnitPlace at = unit_of_thread(a);
  if (!at.exists) return;
  const int length = length_of(a.layout, at.b);
  if (j >= length) return;
  const auto row_at = [&](int i) { return row_of(a.layout, time_of(i, length, a.reverse), at.b); };
  const std::int64_t row = row_at(j), H = a.H, place = at.b * H + at.unit;
  float* gates = a.gates + row * 4 * H + at.unit;
  const float* q = q_rows + at.b * 4 * H + at.unit;
  const float in = sigmoid(gates[0] + q[0]), f = sigmoid(gates[H] + q[H]);
  const float g = tanhf(gates[2 * H] + q[2 * H]), o = sigmoid(gates[3 * H] + q[3 * H]);
  const float c = f * carry_c[place] + in * g, h = o * tanhf(c);
  a.h[row][at.unit] = h;
  if (a.c != nullptr) {
    gates[0] = in, gates[H] = f, gates[2 * H] = g, gates[3 * H] = o;
    a.c[row * H + at.unit] = c;
  }
  const bool last = j + 1 == length;
  if (last && a.h_final) a.h_final[at.b][at.unit] = h;
  if (last && a.c_final) a.c_final[at.b][at.unit] = c;
  const bool begins = !last && a.reset != nullptr && a.reset[a.reverse ? row : row_at(j + 1)] != 0;
  carry_h[place] = begins ? value_of(a.h0, at) : h;
  carry_c[place] = begins ? value_of(a.c0, at) : c;
}

/// Before the last step: the carries' gradients are those of h_final and c_final.
__global__ void __launch_bounds__(kStepThreads)
    begin_gradients(LstmBackwardLoop a, float* carry_h, float* carry_c) {
  const UnitPlace at = unit_of_thread(a);
  if (!at.exists) return;
  const std::int64_t place = at.b * a.H + at.unit;
  const float grad_h = value_of(a.grad_h_final, at), grad_c = value_of(a.grad_c_final, at);
  const bool some = length_of(a.layout, at.b) > 0;
  carry_h[place] = some ? grad_h : 0.0f, a.grad_h0[place] = some ? 0.0f : grad_h;
  carry_c[place] = some ? grad_c : 0.0f, a.grad_c0[place] = some ? 0.0f : grad_c;
}

/// The i-th step from a sequence's last. In: the gradients of the carries out of the step. Out:
/// those of a, zeros where the sequence has no such step, and of the c that it began with.
__global__ void __launch_bounds__(kStepThreads)
    step_gradients(LstmBackwardLoop a, int i, float* grad_a_rows, float* carry_h, float* carry_c) {
  const UnitPlace at = unit_of_thread(a);
  if (!at.exists) return;
  const std::int64_t H = a.H, place = at.b * H + at.unit;
  float* grad_a = grad_a_rows + at.b * 4 * H + at.unit;
  const int length = length_of(a.layout, at.b);
  const auto row_at = [&](int j) { return row_of(a.layout, time_of(j, length, a.reverse), at.b); };
  const auto begins_at = [&](int j) {  // step j's carries are h0 and c0
    return j == 0 || (a.reset != nullptr && a.reset[row_at(a.reverse ? j - 1 : j)] != 0);
  };
  const int j = length - 1 - i;
  float from_h = carry_h[place], from_c = carry_c[place];
  if (i > 0 && j + 1 >= 0 && begins_at(j + 1)) {
    a.grad_h0[place] += from_h, a.grad_c0[place] += from_c;
    from_h = from_c = 0.0f;
  }
  if (j < 0) {
    carry_c[place] = 0.0f;
    for (int g = 0; g < 4; ++g) grad_a[g * H] = 0.0f;
    return;
  }
  const std::int64_t row = row_at(j);
  const float c_previous =
      begins_at(j) ? value_of(a.c0, at) : a.c[std::int64_t{row_at(j - 1)} * H + at.unit];
  float* gates = a.gates + row * 4 * H + at.unit;
  const float in = gates[0], f = gates[H], g = gates[2 * H], o = gates[3 * H];
  const float y = tanhf(a.c[row * H + at.unit]);
  const float grad_h = from_h + (a.grad_h ? a.grad_h[row][at.unit] : 0.0f);
  const float grad_c = grad_h * o * (1.0f - y) * (1.0f + y) + from_c;
  gates[0] = grad_a[0] = grad_c * g * in * (1.0f - in);
  gates[H] = grad_a[H] = grad_c * c_previous * f * (1.0f - f);
  gates[2 * H] = grad_a[2 * H] = grad_c * in * (1.0f - g) * (1.0f + g);
  gates[3 * H] = grad_a[3 * H] = grad_h * y * o * (1.0f - o);
  carry_c[place] = grad_c * f;
}

}  // namespace

void lstm_by_steps(const LstmLoop& a, float* q, float* carry, Stream stream) {
  const LaunchShape shape{blocks_for(a.layout.B * a.H, kStepThreads), kStepThreads};
  float* const carry_c = carry + a.layout.B * a.H;
  launch(begin_carry, shape, stream, a, carry, carry_c);
  DenseArgs<float> product;
  product.M = a.layout.B;
  product.W = {a.weight_hh, a.H, 4 * a.H, a.H, false};
  product.x = {carry, a.H}, product.bias = a.bias_hh, product.y = {q, 4 * a.H};
  for (int j = 0; j < a.layout.T; ++j) {
    dense(product, stream);
    launch(step, shape, stream, a, j, q, carry, carry_c);
  }
}

void lstm_backward_by_steps(const LstmBackwardLoop& a, float* grad_a, float* carry, Stream stream) {
  const LaunchShape shape{blocks_for(a.layout.B * a.H, kStepThreads), kStepThreads};
  float* const carry_c = carry + a.layout.B * a.H;
  launch(begin_gradients, shape, stream, a, carry, carry_c);
  DenseArgs<float> product;  // carry = grad_a R
  product.M = a.layout.B;
  product.W = {a.weight_hh, a.H, a.H, 4 * a.H, true};
  product.x = {grad_a, 4 * a.H}, product.y = {carry, a.H};
  for (int i = 0; i <= a.layout.T; ++i) {  // the last only takes the gradients of h0 and c0 home
    launch(step_gradients, shape, stream, a, i, grad_a, carry, carry_c);
    if (i < a.layout.T) dense(product, stream);
  }
}

}  // namespace seqvae::cuda

// An LSTM over sequences: the product for the input over all rows at once, then the recurrence, in
// a cluster's one kernel where that is asked for and fits, else a step at a time. Backward the
// other way round: the recurrence, then one product for each gradient over all rows.
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "kernels/recurrence/gradients.hpp"
#include "kernels/recurrence/lstm_loop.hpp"
#include "kernels/recurrence/lstm_memory.hpp"
#include "kernels/recurrence/sequence.cuh"
#include "seqvae/kernels/dense.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae::cuda {
namespace {

/// What the products for the weights' gradients multiply, row by row.
struct Factors {
  RowLayout layout;
  std::int64_t rows, D, H;
  bool reverse;
  const std::uint8_t* reset;
  Rows<const float> h0, h, x;
  Rows<float> h_previous;  ///< out [rows][H]  the h that a step began with; 0 in padding
  Rows<float> valid_x;     ///< out [rows][D]  x, 0 in padding; null: x has none
  Rows<float> gates;       ///< out [rows][4 H]  0 in padding, left alone elsewhere
};

/// A row's step of its sequence. Rows of a packed layout that belong to no step are padding.
struct Step {
  int t, b;
  bool valid;
};
__device__ __forceinline__ Step step_of(const RowLayout& layout, std::int64_t row) {
  const int B = static_cast<int>(layout.B), at = static_cast<int>(row);
  if (layout.offsets == nullptr) {
    const int t = at / B, b = at - t * B;
    return {t, b, t < length_of(layout, b)};
  }
  int low = 0, high = static_cast<int>(layout.T);
  if (high == 0 || at < layout.offsets[0] || at >= layout.offsets[high]) return {};
  while (high - low > 1) {  // the last step that begins at or before the row
    const int middle = (low + high) / 2;
    (layout.offsets[middle] <= at ? low : high) = middle;
  }
  return {low, at - layout.offsets[low], true};
}

__global__ void __launch_bounds__(kRowThreads)
    prepare_rows(Factors a, int lanes, bool wide_h, bool wide_x) {
  const auto [row, lane] = row_lane(lanes);
  if (row >= a.rows) return;
  const Step at = step_of(a.layout, row);
  const float4 zeros = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  const float* from = nullptr;  // what the step began with; null: zeros
  if (at.valid) {
    const int length = a.reverse ? length_of(a.layout, at.b) : 0;
    const bool first = a.reverse ? at.t + 1 == length : at.t == 0;
    const int before = first ? 0 : row_of(a.layout, a.reverse ? at.t + 1 : at.t - 1, at.b);
    const bool begins = first || (a.reset != nullptr && a.reset[a.reverse ? before : row] != 0);
    from = !begins ? a.h[before] : a.h0 ? a.h0[at.b] : nullptr;
  }
  for (std::int64_t d = 4 * lane; d < a.H; d += 4 * lanes) {
    store_quad(a.h_previous[row], d, a.H, wide_h,
               from != nullptr ? load_quad(from, d, a.H, wide_h) : zeros);
    for (int g = 0; g < 4 && !at.valid; ++g) {
      store_quad(a.gates[row] + g * a.H, d, a.H, wide_h, zeros);
    }
  }
  if (!a.valid_x) return;
  for (std::int64_t d = 4 * lane; d < a.D; d += 4 * lanes) {
    store_quad(a.valid_x[row], d, a.D, wide_x,
               at.valid ? load_quad(a.x[row], d, a.D, wide_x) : zeros);
  }
}

}  // namespace

void lstm(const LstmArgs<float>& a, Stream stream) {
  check(a);
  if (a.layout.B == 0) return;
  const LstmReserve reserve(a.layout, a.H, a.reserve);
  const LstmWorkspace workspace(a, a.workspace);

  LstmLoop loop;
  loop.layout = a.layout, loop.H = a.H, loop.reverse = a.reverse;
  loop.weight_hh = a.weight_hh, loop.bias_hh = a.bias_hh;
  loop.h0 = a.h0, loop.c0 = a.c0, loop.reset = a.reset;
  loop.h = a.h, loop.h_final = a.h_final, loop.c_final = a.c_final;
  loop.gates = a.reserve != nullptr ? reserve.gates : workspace.gates;
  loop.c = reserve.c;

  DenseArgs<float> product;  // of padding too: nothing reads what becomes of it
  product.M = a.layout.rows_at_most();
  product.W = {a.weight_ih, a.D, 4 * a.H, a.D, false};
  product.x = a.x, product.bias = a.bias_ih, product.y = {loop.gates, 4 * a.H};
  product.precision = a.precision;
  dense(product, stream);
  if (a.precision == Precision::bfloat16 &&
      lstm_fits_cluster(a.H, a.layout.rows_at_most(), a.h.stride)) {
    lstm_in_cluster(loop, workspace.fragments, stream);
  } else {
    lstm_by_steps(loop, workspace.q, workspace.carry, stream);
  }
}

void lstm_backward(const LstmBackwardArgs<float>& a, Stream stream) {
  check(a);
  const std::int64_t H = a.H, B = a.layout.B, rows = a.layout.rows_at_most();
  const LstmReserve reserve(a.layout, H, a.reserve);
  const LstmBackwardWorkspace workspace(a, a.workspace);
  const Rows<float> grad_a(reserve.gates, 4 * H), h_previous(workspace.h_previous, H);
  Rows<const float> x = a.x;

  Factors factors{a.layout, rows, a.D, H,          a.reverse, a.reset,
                  a.h0,     a.h,  a.x, h_previous, {},        grad_a};
  if (workspace.x != nullptr) x = factors.valid_x = {workspace.x, a.D};
  const int lanes = lanes_for(workspace.x != nullptr ? std::max(a.D, H) : H);
  launch(prepare_rows, row_shape(rows, lanes), stream, factors, lanes,
         all_fit_float4(H, a.h0, a.h, h_previous, grad_a),
         all_fit_float4(a.D, a.x, factors.valid_x));

  LstmBackwardLoop loop;
  loop.layout = a.layout, loop.H = H, loop.reverse = a.reverse, loop.weight_hh = a.weight_hh;
  loop.c0 = a.c0, loop.reset = a.reset, loop.grad_h = a.grad_h;
  loop.grad_h_final = a.grad_h_final, loop.grad_c_final = a.grad_c_final;
  loop.gates = reserve.gates, loop.c = reserve.c;
  loop.grad_h0 = workspace.grad_h0, loop.grad_c0 = workspace.grad_c0;
  if (B > 0) {
    if (a.precision == Precision::bfloat16 &&
        lstm_backward_fits_cluster(H, rows, a.grad_h.stride)) {
      lstm_backward_in_cluster(loop, workspace.fragments, stream);
    } else {
      lstm_backward_by_steps(loop, workspace.grad_a, workspace.carry, stream);
    }
  }
  // From here on the gates are the gradients of W x + b.
  give({workspace.grad_h0, H}, B, H, a.grad_h0, a.accumulate_inputs, stream);
  give({workspace.grad_c0, H}, B, H, a.grad_c0, a.accumulate_inputs, stream);
  if (a.grad_x) {
    DenseArgs<float> product;
    product.M = rows, product.W = {a.weight_ih, a.D, a.D, 4 * H, true};
    product.x = grad_a, product.y = a.grad_x;
    product.precision = a.precision;
    if (a.accumulate_inputs) product.addend = a.grad_x;
    dense(product, stream);
  }
  weight_gradient(a, workspace, grad_a, 4 * H, x, a.D, a.grad_weight_ih, stream);
  weight_gradient(a, workspace, grad_a, 4 * H, h_previous, H, a.grad_weight_hh, stream);
  if (a.grad_bias_ih == nullptr && a.grad_bias_hh == nullptr) return;
  // Both biases have the same gradient.
  sum_over_rows(
      {rows, 4 * H, false, grad_a, workspace.grad_bias, workspace.sums, workspace.sums_bytes},
      stream);
  const Rows<const float> grad_bias(workspace.grad_bias, 4 * H);
  give(grad_bias, 1, 4 * H, {a.grad_bias_ih, 4 * H}, a.accumulate_weights, stream);
  give(grad_bias, 1, 4 * H, {a.grad_bias_hh, 4 * H}, a.accumulate_weights, stream);
}

}  // namespace seqvae::cuda

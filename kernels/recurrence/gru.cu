// A GRU over sequences: the product for the input over all rows at once, then the recurrence, in a
// cluster's one kernel where that is asked for and fits, else a step at a time. Backward the other
// way round: the recurrence, then one product for each gradient over all rows.
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "kernels/recurrence/gradients.hpp"
#include "kernels/recurrence/gru_loop.hpp"
#include "kernels/recurrence/gru_memory.hpp"
#include "seqvae/kernels/dense.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae::cuda {
namespace {

/// x without what padding holds: zeros there.
__global__ void __launch_bounds__(kRowThreads)
    copy_valid_rows(RowLayout layout, std::int64_t D, int lanes, bool wide, Rows<const float> x,
                    Rows<float> y) {
  const auto [i, lane] = row_lane(lanes);
  const RowPlace place = place_of(layout, i);
  if (!place.exists) return;
  for (std::int64_t d = 4 * lane; d < D; d += 4 * lanes) {
    store_quad(
        y[place.row], d, D, wide,
        place.valid ? load_quad(x[place.row], d, D, wide) : make_float4(0.0f, 0.0f, 0.0f, 0.0f));
  }
}

/// Zeros in the rows of a packed layout that belong to no step: [rows][3 H], [rows][H], [rows][H].
__global__ void __launch_bounds__(kRowThreads)
    clear_spare_rows(const std::int32_t* end, std::int64_t rows, std::int64_t H, int lanes,
                     bool wide, float* gates, float* q_n, float* h_previous) {
  const std::int64_t used = *end;
  for_each_quad(rows, H, lanes, [&](std::int64_t row, std::int64_t d) {
    if (row < used) return;
    const float4 zeros = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int g = 0; g < 3; ++g) store_quad(gates + (row * 3 + g) * H, d, H, wide, zeros);
    store_quad(q_n + row * H, d, H, wide, zeros);
    store_quad(h_previous + row * H, d, H, wide, zeros);
  });
}

}  // namespace

void gru(const GruArgs<float>& a, Stream stream) {
  check(a);
  if (a.layout.B == 0) return;
  const GruReserve reserve(a.layout, a.H, a.reserve);
  const GruWorkspace workspace(a, a.workspace);

  GruLoop loop;
  loop.layout = a.layout, loop.H = a.H, loop.reverse = a.reverse;
  loop.weight_hh = a.weight_hh, loop.bias_hh = a.bias_hh;
  loop.h0 = a.h0, loop.reset = a.reset, loop.h = a.h, loop.h_final = a.h_final;
  loop.gates = a.reserve != nullptr ? reserve.gates : workspace.gates;
  loop.q_n = reserve.q_n;

  DenseArgs<float> product;  // of padding too: nothing reads what becomes of it
  product.M = a.layout.rows_at_most();
  product.W = {a.weight_ih, a.D, 3 * a.H, a.D, false};
  product.x = a.x, product.bias = a.bias_ih, product.y = {loop.gates, 3 * a.H};
  product.precision = a.precision;
  dense(product, stream);
  if (a.precision == Precision::bfloat16 &&
      gru_fits_cluster(a.H, a.layout.rows_at_most(), a.h.stride)) {
    gru_in_cluster(loop, workspace.fragments, stream);
  } else {
    gru_by_steps(loop, workspace.q, workspace.carry, stream);
  }
}

void gru_backward(const GruBackwardArgs<float>& a, Stream stream) {
  check(a);
  const std::int64_t H = a.H, rows = a.layout.rows_at_most();
  const GruReserve reserve(a.layout, H, a.reserve);
  const GruBackwardWorkspace workspace(a, a.workspace);

  GruBackwardLoop loop;
  loop.layout = a.layout, loop.H = H, loop.reverse = a.reverse, loop.weight_hh = a.weight_hh;
  loop.h0 = a.h0, loop.reset = a.reset, loop.h = a.h;
  loop.grad_h = a.grad_h, loop.grad_h_final = a.grad_h_final;
  loop.gates = reserve.gates, loop.q_n = reserve.q_n;
  loop.h_previous = workspace.h_previous, loop.grad_h0 = workspace.grad_h0;
  if (a.layout.B > 0) {
    if (a.precision == Precision::bfloat16 &&
        gru_fits_cluster(H, rows, std::max(a.h.stride, a.grad_h.stride))) {
      gru_backward_in_cluster(loop, workspace.fragments, stream);
    } else {
      gru_backward_by_steps(loop, workspace.grad_q, workspace.carry, stream);
    }
  }
  if (a.layout.offsets != nullptr) {
    const int lanes = lanes_for(H);
    launch(clear_spare_rows, row_shape(rows, lanes), stream, a.layout.offsets + a.layout.T, rows, H,
           lanes, H % 4 == 0, reserve.gates, reserve.q_n, workspace.h_previous);
  }
  // From here on the gates are the gradients of W x + b, and q_n is that of q_n.
  give({workspace.grad_h0, H}, a.layout.B, H, a.grad_h0, a.accumulate_inputs, stream);
  if (a.grad_x) {
    DenseArgs<float> product;
    product.M = rows, product.W = {a.weight_ih, a.D, a.D, 3 * H, true};
    product.x = {reserve.gates, 3 * H}, product.y = a.grad_x;
    product.precision = a.precision;
    if (a.accumulate_inputs) product.addend = a.grad_x;
    dense(product, stream);
  }
  Rows<const float> x = a.x;
  if (workspace.x != nullptr) {
    const int lanes = lanes_for(a.D);
    const Rows<float> valid(workspace.x, a.D);
    launch(copy_valid_rows, row_shape(rows, lanes), stream, a.layout, a.D, lanes,
           all_fit_float4(a.D, a.x, valid), a.x, valid);
    x = valid;
  }
  weight_gradient(a, workspace, {reserve.gates, 3 * H}, 3 * H, x, a.D, a.grad_weight_ih, stream);
  // Of the recurrent weights: r and z from the gates, n from q_n.
  const Rows<const float> h_previous(workspace.h_previous, H);
  const auto past = [](float* p, std::int64_t count) { return p == nullptr ? p : p + count; };
  float* const grad_weight_n = past(a.grad_weight_hh, 2 * H * H);
  weight_gradient(a, workspace, {reserve.gates, 3 * H}, 2 * H, h_previous, H, a.grad_weight_hh,
                  stream);
  weight_gradient(a, workspace, {reserve.q_n, H}, H, h_previous, H, grad_weight_n, stream);
  if (a.grad_bias_ih == nullptr && a.grad_bias_hh == nullptr) return;
  sum_over_rows({rows,
                 3 * H,
                 false,
                 {reserve.gates, 3 * H},
                 workspace.grad_bias,
                 workspace.sums,
                 workspace.sums_bytes},
                stream);
  const Rows<const float> grad_bias(workspace.grad_bias, 3 * H);
  give(grad_bias, 1, 3 * H, {a.grad_bias_ih, 3 * H}, a.accumulate_weights, stream);
  if (a.grad_bias_hh == nullptr) return;
  give(grad_bias, 1, 2 * H, {a.grad_bias_hh, 3 * H}, a.accumulate_weights, stream);
  sum_over_rows({rows,
                 H,
                 a.accumulate_weights,
                 {reserve.q_n, H},
                 a.grad_bias_hh + 2 * H,
                 workspace.sums,
                 workspace.sums_bytes},
                stream);
}

}  // namespace seqvae::cuda

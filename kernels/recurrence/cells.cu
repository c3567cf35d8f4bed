// Elementwise over the H units of a row; L lanes a row (kernels/common/rows.cuh), four units a
// lane, no barrier. The gates of a unit stand H apart, so that 16-byte accesses want H a multiple
// of four.
// Floor: memory. GRU forward 28 bytes a unit read, 16 written (4 without gates); backward 32 read,
// 28 written. LSTM forward 20 read, 24 written (8 without gates); backward 32 read, 20 written.
// Hazard: an output that stands where an input stood is written after all of its quad were read.
#include "kernels/common/rows.cuh"
#include "kernels/recurrence/cells.cuh"

namespace seqvae::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads)
    gru_cells(GruCellArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.H, lanes,
                [&](std::int64_t row, std::int64_t d) { do_quad(a, row, d, wide); });
}

__global__ void __launch_bounds__(kRowThreads)
    gru_cell_gradients(GruCellBackwardArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.H, lanes,
                [&](std::int64_t row, std::int64_t d) { do_quad(a, row, d, wide); });
}

__global__ void __launch_bounds__(kRowThreads)
    lstm_cells(LstmCellArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.H, lanes,
                [&](std::int64_t row, std::int64_t d) { do_quad(a, row, d, wide); });
}

__global__ void __launch_bounds__(kRowThreads)
    lstm_cell_gradients(LstmCellBackwardArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.H, lanes,
                [&](std::int64_t row, std::int64_t d) { do_quad(a, row, d, wide); });
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

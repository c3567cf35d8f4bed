/// \file  One step of a gated recurrent cell after its matrix products, forward and backward.
///
///     GRU (PyTorch and cuDNN: reset after the product)
///       r = sigmoid(a_r + q_r),  z = sigmoid(a_z + q_z),  n = tanh(a_n + r (.) q_n)
///       h' = (1 - z) (.) n + z (.) h,             a = W x + b_ih,  q = U h + b_hh, gates r, z, n
///     LSTM
///       i, f, o = sigmoid, g = tanh of a;  c' = f (.) c + i (.) g;  h' = o (.) tanh(c')
///       a = W x + b_ih + U h + b_hh, gates i, f, g, o
#pragma once
#include "seqvae/core/stream.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae {

template <class Real>
struct GruCellArgs {
  std::int64_t rows = 0, H = 0;  ///< >= 0
  Rows<const Real> a, q;         ///< [rows][3 H]
  Rows<const Real> h;            ///< [rows][H]
  Rows<Real> h_next;             ///< out [rows][H]
  Rows<Real> gates;              ///< out [rows][3 H]  r, z, n: kept for backward; optional
};

template <class Real>
struct GruCellBackwardArgs {
  std::int64_t rows = 0, H = 0;
  Rows<const Real> gates, q;     ///< [rows][3 H]  of the forward
  Rows<const Real> h;            ///< [rows][H]
  Rows<const Real> grad_h_next;  ///< [rows][H]
  Rows<Real> grad_a, grad_q;     ///< out [rows][3 H]
  Rows<Real> grad_h;             ///< out [rows][H]  the direct path alone: z (.) grad_h_next
};

template <class Real>
struct LstmCellArgs {
  std::int64_t rows = 0, H = 0;
  Rows<const Real> a;  ///< [rows][4 H]
  Rows<const Real> c;  ///< [rows][H]
  Rows<Real> h_next;   ///< out [rows][H]
  Rows<Real> c_next;   ///< out [rows][H]
  Rows<Real> gates;    ///< out [rows][4 H]  i, f, g, o: kept for backward; optional
};

template <class Real>
struct LstmCellBackwardArgs {
  std::int64_t rows = 0, H = 0;
  Rows<const Real> gates;                     ///< [rows][4 H]
  Rows<const Real> c, c_next;                 ///< [rows][H]
  Rows<const Real> grad_h_next, grad_c_next;  ///< [rows][H]  each optional
  Rows<Real> grad_a;                          ///< out [rows][4 H]
  Rows<Real> grad_c;                          ///< out [rows][H]
};

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const GruCellArgs<Real>& args);
template <class Real>
void check(const GruCellBackwardArgs<Real>& args);
template <class Real>
void check(const LstmCellArgs<Real>& args);
template <class Real>
void check(const LstmCellBackwardArgs<Real>& args);

namespace cuda {  ///< Enqueues one kernel on the stream; capturable; the same bits in every run.
void gru_cell(const GruCellArgs<float>& args, Stream stream);
void gru_cell_backward(const GruCellBackwardArgs<float>& args, Stream stream);
void lstm_cell(const LstmCellArgs<float>& args, Stream stream);
void lstm_cell_backward(const LstmCellBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void gru_cell(const GruCellArgs<Real>& args);
template <class Real>
void gru_cell_backward(const GruCellBackwardArgs<Real>& args);
template <class Real>
void lstm_cell(const LstmCellArgs<Real>& args);
template <class Real>
void lstm_cell_backward(const LstmCellBackwardArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

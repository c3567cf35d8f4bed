/// \file  An LSTM over whole sequences, forward and backward.
///
///     a = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh,   gates i, f, g, o
///     c_t = sigmoid(a_f) (.) c_{t-1} + sigmoid(a_i) (.) tanh(a_g),  h_t = sigmoid(a_o) (.)
///     tanh(c_t)
///
/// Hochreiter & Schmidhuber (1997) with forget gates, as torch.nn.LSTM.
/// Forward in time, t - 1 is the step before; `reverse`, it is the step after, and each sequence
/// begins at its own last step. At a sequence's beginning the carry is its start value h0, c0; so
/// it is at a reset: `reset` marks the first step of an episode inside a sequence, and no carry
/// crosses from one episode to another in either direction. A sequence of length 0 has no rows, and
/// its final state is its start.
///
/// What does not recur is done in large products: W_ih x before the loop over time, the gradients
/// of x and of the weights after it. On the CPU sequences are dealt to threads, each running its
/// own for the whole loop; results have the same bits whatever the number of threads.
#pragma once
#include <cstddef>
#include <cstdint>

#include "seqvae/core/stream.hpp"
#include "seqvae/kernels/precision.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae {

class ThreadPool;

/// Rows and weights are row-major, weights contiguous; outputs overlap nothing. Padding of x is not
/// read, and h is zero there.
template <class Real>
struct LstmArgs {
  RowLayout layout;                     ///< T, B >= 0; K is 1; t0 and origins have no meaning here
  std::int64_t D = 0, H = 0;            ///< >= 1
  bool reverse = false;                 ///< backward in time
  Rows<const Real> x;                   ///< [rows][D]
  const Real* weight_ih = nullptr;      ///< [4 H][D]
  const Real* weight_hh = nullptr;      ///< [4 H][H]
  const Real* bias_ih = nullptr;        ///< [4 H]  optional
  const Real* bias_hh = nullptr;        ///< [4 H]  optional
  Rows<const Real> h0;                  ///< [B][H]  null: zeros; stride 0: one for all
  Rows<const Real> c0;                  ///< [B][H]  likewise
  const std::uint8_t* reset = nullptr;  ///< [rows]  not 0: an episode's first step; optional
  Rows<Real> h;                         ///< out [rows][H]
  Rows<Real> h_final;                   ///< out [B][H]  after the last step taken; optional
  Rows<Real> c_final;                   ///< out [B][H]  optional
  void* reserve = nullptr;              ///< out, 64-byte aligned: gates and c, for backward; null
  std::size_t reserve_bytes = 0;        ///<   where there is none. >= lstm_reserve_bytes(*this)
  void* workspace = nullptr;            ///< 64-byte aligned; undefined afterwards
  std::size_t workspace_bytes = 0;      ///< >= lstm_workspace_bytes(*this)
  ThreadPool* threads = nullptr;        ///< CPU: null: the calling thread alone
  Precision precision = Precision::float32;  ///< CUDA: of what is multiplied; where bfloat16
                                             ///<   does not fit the chip, the steps are float32
};

/// The gradients of a loss from those of h, h_final, c_final. Layout, sizes, inputs and h are the
/// forward's.
template <class Real>
struct LstmBackwardArgs {
  RowLayout layout;
  std::int64_t D = 0, H = 0;
  bool reverse = false;
  Rows<const Real> x;                   ///< [rows][D]
  const Real* weight_ih = nullptr;      ///< [4 H][D]
  const Real* weight_hh = nullptr;      ///< [4 H][H]
  Rows<const Real> h0;                  ///< [B][H]
  Rows<const Real> c0;                  ///< [B][H]
  const std::uint8_t* reset = nullptr;  ///< [rows]
  Rows<const Real> h;                   ///< [rows][H]  the forward's output
  void* reserve = nullptr;              ///< the forward's; overwritten: one backward a forward
  std::size_t reserve_bytes = 0;
  Rows<const Real> grad_h;          ///< [rows][H]  null: zeros. Padding is not read
  Rows<const Real> grad_h_final;    ///< [B][H]  null: zeros
  Rows<const Real> grad_c_final;    ///< [B][H]  null: zeros
  bool accumulate_inputs = false;   ///< add to grad_x, grad_h0, grad_c0 instead of overwriting
  bool accumulate_weights = false;  ///< add to the four below
  Rows<Real> grad_x;                ///< out [rows][D]  0 in padding; optional, as all of these
  Rows<Real> grad_h0;               ///< out [B][H]  its rows apart, though h0 be one for all
  Rows<Real> grad_c0;               ///< out [B][H]
  Real* grad_weight_ih = nullptr;   ///< out [4 H][D]
  Real* grad_weight_hh = nullptr;   ///< out [4 H][H]
  Real* grad_bias_ih = nullptr;     ///< out [4 H]
  Real* grad_bias_hh = nullptr;     ///< out [4 H]
  void* workspace = nullptr;        ///< 64-byte aligned; undefined afterwards
  std::size_t workspace_bytes = 0;  ///< >= lstm_backward_workspace_bytes(*this)
  ThreadPool* threads = nullptr;
  Precision precision = Precision::float32;  ///< CUDA: the forward's
};

/// Pure: read sizes, and which optional fields are given. \throws InvalidArgument on a bad size.
template <class Real>
std::size_t lstm_reserve_bytes(const LstmArgs<Real>& args);
template <class Real>
std::size_t lstm_workspace_bytes(const LstmArgs<Real>& args);
template <class Real>
std::size_t lstm_backward_workspace_bytes(const LstmBackwardArgs<Real>& args);

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const LstmArgs<Real>& args);
template <class Real>
void check(const LstmBackwardArgs<Real>& args);

/// Lengths, offsets and reset lie on the device, so sizes are those of rows_at_most() rows. Forward
/// may read x in padding, which matters to nothing. A packed layout's rows outside of offsets[0] ..
/// offsets[T] hold numbers: x there is multiplied by zeros.
namespace cuda {
std::size_t lstm_reserve_bytes(const LstmArgs<float>& args);
std::size_t lstm_workspace_bytes(const LstmArgs<float>& args);
std::size_t lstm_backward_workspace_bytes(const LstmBackwardArgs<float>& args);
void check(const LstmArgs<float>& args);
void check(const LstmBackwardArgs<float>& args);
/// Enqueues on the stream; capturable, as dense is; the same bits in every run.
void lstm(const LstmArgs<float>& args, Stream stream);
void lstm_backward(const LstmBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void lstm(const LstmArgs<Real>& args);
template <class Real>
void lstm_backward(const LstmBackwardArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

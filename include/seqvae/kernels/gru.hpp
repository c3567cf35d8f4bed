/// \file  A GRU over whole sequences, forward and backward.
///
///     a = W_ih x_t + b_ih,  q = W_hh h_{t-1} + b_hh,   gates r, z, n
///     r = sigmoid(a_r + q_r),  z = sigmoid(a_z + q_z),  n = tanh(a_n + r (.) q_n)
///     h_t = (1 - z) (.) n + z (.) h_{t-1}
///
/// Cho et al., arXiv:1406.1078, with the reset after the product, as torch.nn.GRU and cuDNN.
/// Forward in time, t - 1 is the step before; `reverse`, it is the step after, and each sequence
/// begins at its own last step. At a sequence's beginning the carry is its start value h0; so it is
/// at a reset: `reset` marks the first step of an episode inside a sequence, and no carry crosses
/// from one episode to another in either direction. A sequence of length 0 has no rows, and its
/// final state is its start.
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
struct GruArgs {
  RowLayout layout;                     ///< T, B >= 0; K is 1; t0 and origins have no meaning here
  std::int64_t D = 0, H = 0;            ///< >= 1
  bool reverse = false;                 ///< backward in time
  Rows<const Real> x;                   ///< [rows][D]
  const Real* weight_ih = nullptr;      ///< [3 H][D]
  const Real* weight_hh = nullptr;      ///< [3 H][H]
  const Real* bias_ih = nullptr;        ///< [3 H]  optional
  const Real* bias_hh = nullptr;        ///< [3 H]  optional
  Rows<const Real> h0;                  ///< [B][H]  null: zeros; stride 0: one for all
  const std::uint8_t* reset = nullptr;  ///< [rows]  not 0: an episode's first step; optional
  Rows<Real> h;                         ///< out [rows][H]
  Rows<Real> h_final;                   ///< out [B][H]  after the last step taken; optional
  void* reserve = nullptr;              ///< out, 64-byte aligned: gates and q_n, for backward; null
  std::size_t reserve_bytes = 0;        ///<   where there is none. >= gru_reserve_bytes(*this)
  void* workspace = nullptr;            ///< 64-byte aligned; undefined afterwards
  std::size_t workspace_bytes = 0;      ///< >= gru_workspace_bytes(*this)
  ThreadPool* threads = nullptr;        ///< CPU: null: the calling thread alone
  Precision precision = Precision::float32;  ///< CUDA: of what is multiplied; where bfloat16
                                             ///<   does not fit the chip, the steps are float32
};

/// The gradients of a loss from those of h, h_final. Layout, sizes, inputs and h are the
/// forward's.
template <class Real>
struct GruBackwardArgs {
  RowLayout layout;
  std::int64_t D = 0, H = 0;
  bool reverse = false;
  Rows<const Real> x;                   ///< [rows][D]
  const Real* weight_ih = nullptr;      ///< [3 H][D]
  const Real* weight_hh = nullptr;      ///< [3 H][H]
  Rows<const Real> h0;                  ///< [B][H]
  const std::uint8_t* reset = nullptr;  ///< [rows]
  Rows<const Real> h;                   ///< [rows][H]  the forward's output
  void* reserve = nullptr;              ///< the forward's; overwritten: one backward a forward
  std::size_t reserve_bytes = 0;
  Rows<const Real> grad_h;          ///< [rows][H]  null: zeros. Padding is not read
  Rows<const Real> grad_h_final;    ///< [B][H]  null: zeros
  bool accumulate_inputs = false;   ///< add to grad_x, grad_h0 instead of overwriting
  bool accumulate_weights = false;  ///< add to the four below
  Rows<Real> grad_x;                ///< out [rows][D]  0 in padding; optional, as all of these
  Rows<Real> grad_h0;               ///< out [B][H]  its rows apart, though h0 be one for all
  Real* grad_weight_ih = nullptr;   ///< out [3 H][D]
  Real* grad_weight_hh = nullptr;   ///< out [3 H][H]
  Real* grad_bias_ih = nullptr;     ///< out [3 H]
  Real* grad_bias_hh = nullptr;     ///< out [3 H]
  void* workspace = nullptr;        ///< 64-byte aligned; undefined afterwards
  std::size_t workspace_bytes = 0;  ///< >= gru_backward_workspace_bytes(*this)
  ThreadPool* threads = nullptr;
  Precision precision = Precision::float32;  ///< CUDA: the forward's
};

/// Pure: read sizes, and which optional fields are given. \throws InvalidArgument on a bad size.
template <class Real>
std::size_t gru_reserve_bytes(const GruArgs<Real>& args);
template <class Real>
std::size_t gru_workspace_bytes(const GruArgs<Real>& args);
template <class Real>
std::size_t gru_backward_workspace_bytes(const GruBackwardArgs<Real>& args);

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const GruArgs<Real>& args);
template <class Real>
void check(const GruBackwardArgs<Real>& args);

/// Lengths, offsets and reset lie on the device, so sizes are those of rows_at_most() rows. Forward
/// may read x in padding, which matters to nothing. A packed layout's rows from offsets[T] to its
/// capacity hold numbers: x and h there are multiplied by zeros.
namespace cuda {
std::size_t gru_reserve_bytes(const GruArgs<float>& args);
std::size_t gru_workspace_bytes(const GruArgs<float>& args);
std::size_t gru_backward_workspace_bytes(const GruBackwardArgs<float>& args);
void check(const GruArgs<float>& args);
void check(const GruBackwardArgs<float>& args);
/// Enqueues on the stream; capturable, as dense is; the same bits in every run.
void gru(const GruArgs<float>& args, Stream stream);
void gru_backward(const GruBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void gru(const GruArgs<Real>& args);
template <class Real>
void gru_backward(const GruBackwardArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

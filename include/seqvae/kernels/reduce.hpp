/// \file  Reductions with lengths, each in a fixed order: the same bits in every run.
#pragma once
#include <cstddef>

#include "seqvae/core/stream.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae {

/// y[b,k][d] = sum over the sequence's steps of x[t,b,k][d], in order of t.
template <class Real>
struct SumOverTimeArgs {
  RowLayout layout;
  std::int64_t D = 0;
  Rows<const Real> x;  ///< [layout.rows()][D]  padding is not read
  Rows<Real> y;        ///< out [B * K][D]
};

/// y[d] = sum over rows of x[r][d] (a bias gradient), in an order that depends on rows and D alone.
template <class Real>
struct SumOverRowsArgs {
  std::int64_t rows = 0, D = 0;
  bool accumulate = false;          ///< add to y instead of overwriting it
  Rows<const Real> x;               ///< [rows][D]
  Real* y = nullptr;                ///< out [D]
  void* workspace = nullptr;        ///< CUDA: 16-byte aligned; undefined afterwards
  std::size_t workspace_bytes = 0;  ///< CUDA: >= cuda::sum_over_rows_workspace_bytes(rows, D)
};

/// y[r] = log( 1/K sum_k exp x[r K + k] ), and its gradient grad_x = softmax_k(x) grad_y.
/// All -inf gives -inf and a zero gradient.
template <class Real>
struct LogMeanExpArgs {
  std::int64_t rows = 0, K = 1;
  const Real* x = nullptr;  ///< [rows * K]
  Real* y = nullptr;        ///< out [rows]
};

template <class Real>
struct LogMeanExpBackwardArgs {
  std::int64_t rows = 0, K = 1;
  const Real* x = nullptr;       ///< [rows * K]
  const Real* grad_y = nullptr;  ///< [rows]
  Real* grad_x = nullptr;        ///< out [rows * K]
};

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const SumOverTimeArgs<Real>& args);
template <class Real>
void check(const SumOverRowsArgs<Real>& args);
template <class Real>
void check(const LogMeanExpArgs<Real>& args);
template <class Real>
void check(const LogMeanExpBackwardArgs<Real>& args);

namespace cuda {  ///< Enqueues on the stream; capturable; the same bits in every run.
std::size_t sum_over_rows_workspace_bytes(std::int64_t rows, std::int64_t D);
void sum_over_time(const SumOverTimeArgs<float>& args, Stream stream);
void sum_over_rows(const SumOverRowsArgs<float>& args, Stream stream);
void log_mean_exp(const LogMeanExpArgs<float>& args, Stream stream);
void log_mean_exp_backward(const LogMeanExpBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void sum_over_time(const SumOverTimeArgs<Real>& args);
template <class Real>
void sum_over_rows(const SumOverRowsArgs<Real>& args);
template <class Real>
void log_mean_exp(const LogMeanExpArgs<Real>& args);
template <class Real>
void log_mean_exp_backward(const LogMeanExpBackwardArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

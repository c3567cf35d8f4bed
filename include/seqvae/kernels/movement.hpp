/// \file  Rows brought from where they stand to where they are wanted: by time, by sequence, by
/// particle, and between the packed layout and the padded one.
#pragma once
#include "seqvae/core/stream.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae {

/// Which row of x each row of y is; (t, b) has K rows, k = 0 .. K - 1, as in RowLayout, and b alone
/// is row b K + k. Zeros where there is none.
enum class Move {
  from_step_before,  ///< y(t, b) = x(t - 1, b); at t = 0: start(b), or zeros
  from_step_after,   ///< y(t, b) = x(t + 1, b); at a sequence's last step: start(b), or zeros
  from_first,        ///< y(b) = x(0, b)
  from_last,         ///< y(b) = x(length of b - 1, b)
  to_first,          ///< y(0, b) = x(b), zeros at later steps
  to_last,           ///< y(length of b - 1, b) = x(b), zeros before
  to_steps,          ///< y(t, b) = x(b)
  to_particles,      ///< y(t, b, k) = x(t, b): x has one row where y has K
  to_padded,         ///< y padded [T][B] = x packed; zeros past a sequence's length
  to_packed,         ///< y packed = x padded [T][B]
};

/// The layout is packed (offsets given), but for to_particles, where it may be padded. Its times
/// (t0, origins) do not matter. Rows of y that the layout has no place for, between its rows and
/// its capacity, become zeros. x, start and y overlap nothing.
template <class Real>
struct MoveRowsArgs {
  Move move = Move::to_steps;
  RowLayout layout;
  std::int64_t D = 0;
  Rows<const Real> x;      ///< [layout rows | B K | layout rows / K | T B K][D]
  Rows<const Real> start;  ///< [B K][D]  optional; from_step_before and from_step_after
  Rows<Real> y;            ///< out [capacity | B K | T B K][D]
};

/// y[r] = sum over k = 0 .. K - 1 of x[r K + k], in order of k.
template <class Real>
struct SumOverParticlesArgs {
  std::int64_t rows = 0;  ///< of y
  std::int64_t K = 1;     ///< >= 1
  std::int64_t D = 0;
  Rows<const Real> x;  ///< [rows K][D]
  Rows<Real> y;        ///< out [rows][D]
};

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const MoveRowsArgs<Real>& args);
template <class Real>
void check(const SumOverParticlesArgs<Real>& args);

namespace cuda {  ///< Enqueues one kernel on the stream; capturable; the same bits in every run.
void move_rows(const MoveRowsArgs<float>& args, Stream stream);
void sum_over_particles(const SumOverParticlesArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void move_rows(const MoveRowsArgs<Real>& args);
template <class Real>
void sum_over_particles(const SumOverParticlesArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

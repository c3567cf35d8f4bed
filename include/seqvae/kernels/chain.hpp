/// \file  A chain: the contracts of a step over the same rows, run step after step in one kernel.
///
/// A recurrence whose steps are products, gates, mixtures, heads and draws, as a stochastic model
/// has it, is a list of contracts over the rows of a step. Rows do not hang on each other, so a few
/// of them can be taken through all steps with no regard to the rest: values that only the loop
/// reads stand in `slots`, a few columns of memory a row, and never leave it.
///
/// A stage is a contract's own argument struct, with two more things said of each matrix in it:
/// whether it lies in slots, and how far the rows of a step lie from those of the step before.
/// The first step runs `starts` where the others run `carries`; then all run `stages`.
///
/// With `offsets` sequences end: step t has the rows of those that have it, the first of all, and
/// matrices outside of the slots may be packed (kernels/rows.hpp). A sequence that begins later
/// than the first step taken, as in reverse, begins with `carries`.
#pragma once
#include <cstddef>
#include <type_traits>

#include "seqvae/core/stream.hpp"
#include "seqvae/kernels/activation.hpp"
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/dense.hpp"
#include "seqvae/kernels/gaussian.hpp"
#include "seqvae/kernels/recurrent_cell.hpp"

namespace seqvae {

/// The contracts that a stage may be.
enum class ChainOp : std::int32_t {
  dense,
  activation,
  activation_backward,
  multiply_add,
  gated_mix,
  gated_mix_backward,
  select,
  gru_cell,
  gru_cell_backward,
  lstm_cell,
  lstm_cell_backward,
  gaussian_head,
  gaussian_head_backward,
  gaussian_sample,
  gaussian_sample_backward,
};

/// One matrix of a stage's arguments.
struct ChainOperand {
  std::int64_t step = 0;    ///< elements from the rows of one step to those of the next taken
  std::uint16_t at = 0;     ///< where its Rows stand in the arguments, in bytes
  bool is_slot = false;     ///< `data` is then a column of the slots, in bytes, not an address
  bool is_packed = false;   ///< `data` is then row 0 of all; step t's begin at offsets[t] K
  std::int32_t width = 0;   ///< columns that the stage reads or writes
  std::int32_t input = -1;  ///< brought in before its step: its number among those, else -1
  std::int32_t column = 0;  ///< an input: where it begins among the columns of all inputs; a slot:
                            ///<   how far off it is at every other step
  std::int32_t mover = -1;  ///< stands elsewhere in the next step: its number among those, else -1
};

template <class Real>
struct ChainStage {
  static constexpr std::size_t kOperands = 8, kBytes = 256;
  ChainOp op = ChainOp::multiply_add;
  std::int32_t operands = 0;
  std::int64_t D = 0;         ///< columns, or units of a cell
  std::int32_t landing = 0;   ///< dense: where its columns begin among those of all products
  std::int32_t number = 0;    ///< dense: among the products
  std::int32_t mover = -1;    ///< a draw's time: its number among the movers, else -1
  bool wide = false;          ///< four components at a time, at 16-byte addresses
  bool leaves = false;        ///< writes outside of the slots
  bool lands = false;         ///< dense: its sums may not be sent to where they belong
  bool waits = false;         ///< reads or overwrites what other threads of a block may have had
  std::uint32_t per_row = 0;  ///< 2^32 / quads of a row, rounded up; 0 where it has one quad
  ChainOperand operand[kOperands];
  alignas(16) std::byte arguments[kBytes] = {};  ///< of the first step that runs the stage
};

/// Sizes of a product's weights.
struct ChainProduct {
  std::int32_t N = 0, K = 0;
};

/// T, rows >= 0. The arguments of all stages are over `rows` rows.
template <class Real>
struct ChainArgs {
  static constexpr std::int64_t kProducts = 16;  ///< at most
  std::int64_t T = 0;                            ///< steps taken
  std::int64_t rows = 0;                         ///< of a step
  std::int64_t columns = 0;  ///< of a row's slots; a multiple of 4; arrange_chain adds to it
  std::int64_t time = 1;     ///< from one step taken to the next: 1, or -1: from T - 1 on
  std::int64_t K = 1;        ///< rows of a sequence
  const std::int32_t* offsets = nullptr;  ///< [T + 1]  optional: sequences end, as packed rows say
  std::int64_t capacity = 0;  ///< packed: rows of the matrices; those to spare become zeros where a
                              ///<   stage writes
  std::int64_t starts = 0, carries = 0, stages = 0;
  std::int64_t stores = 0;  ///< of the stages, the last: sums that go from the slots to outside
  const ChainStage<Real>* table =
      nullptr;               ///< [starts + carries + stages]  made by the makers below
  std::int64_t landing = 0;  ///< columns of all products, each padded to 4
  bool lands = false;        ///< of any product
  std::int64_t widest = 0;   ///< columns of the widest product
  std::int64_t products = 0;
  ChainProduct product[kProducts];  ///< by their numbers
  std::int64_t inputs = 0;          ///< matrices outside of the slots that move and are read
  std::int64_t movers = 0;
  std::int64_t input_columns = 0;  ///< of all of them, each padded to 4
  unsigned cluster = 0;       ///< CUDA: CTAs that share the products; 0: as sizes and device say
  void* workspace = nullptr;  ///< CPU: 64-byte aligned; undefined afterwards
  std::size_t workspace_bytes = 0;  ///< CPU: >= cpu::chain_workspace_bytes(args)
};

/// What pointers mean while a chain is put together. Those in `slots .. slots + columns` are slots;
/// others that differ from step to step are packed where B is given, each step counted as B K rows,
/// but for those that at time 0 are in `fixed .. fixed + fixed_count`.
template <class Real>
struct ChainFrame {
  const Real* slots = nullptr;
  std::int64_t columns = 0;
  std::int64_t B = 0, K = 1;
  std::int64_t t = 0;     ///< time of the first arguments
  std::int64_t time = 1;  ///< from there to the next: 1 or -1
  const Real* fixed = nullptr;
  std::int64_t fixed_count = 0;
};

/// A stage from its arguments at the first step that runs it and at the one after: they differ in
/// where the rows of matrices outside of the slots stand, and in the time of draws.
/// \throws InvalidArgument as the contract's check, or where a matrix lies partly in the slots
template <class Args, class Real>
ChainStage<Real> chain_stage(const Args& first, const Args& next, const ChainFrame<Real>& frame);

/// What stages have to know of each other: numbers and places of products and inputs, and which
/// stages wait. Of `args` starts, carries and stages are given, and what the table needs is put in.
/// \throws InvalidArgument where there are more than kProducts products
template <class Real>
void arrange_chain(ChainStage<Real>* table, ChainArgs<Real>& args);

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const ChainArgs<Real>& args);

namespace cuda {
/// Whether one CTA's shared memory holds the chain over at least one row. Asks the device.
bool chain_fits(const ChainArgs<float>& args);
/// Enqueues one kernel on the stream; capturable; the same bits in every run.
void chain(const ChainArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
std::size_t chain_workspace_bytes(const ChainArgs<Real>& args);
template <class Real>
void chain(const ChainArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

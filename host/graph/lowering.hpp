// One node of a plan, ready to run on the rows of a scan: each op becomes calls of contracts.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "host/graph/chain_recorder.hpp"
#include "seqvae/graph/graph.hpp"
#include "seqvae/kernels/dense.hpp"
#include "seqvae/kernels/run.hpp"

namespace seqvae {

/// A value's rows as seen by an instruction. The rows of step t begin at data + scale * first[t]
/// rows; scale 0: at data, whatever the step (shared, per sequence, or local to a step).
template <class Real>
struct Operand {
  Real* data = nullptr;
  std::int64_t stride = 0;
  std::int64_t scale = 0;
  std::int64_t D = 0;
  RowKind kind;
  explicit operator bool() const { return data != nullptr; }
};

template <class Real>
struct Instruction {
  const Node* node = nullptr;
  std::vector<Operand<Real>> inputs;  ///< in the node's order; without data where not given
  Operand<Real> output;
  const cpu::PackedWeights<Real>* weights = nullptr;  ///< of a product, on the CPU
  PlainWeights<Real> W;                               ///< of a product, elsewhere
  const Real* bias = nullptr;
  Real* gradient = nullptr;  ///< sinks: first element in the gradient buffer
  std::int64_t gradient_stride = 0;
  Real* bias_gradient = nullptr;     ///< weight_gradient: of the bias, where there is one
  Operand<Real> noise;               ///< given in place of draws
  std::vector<std::int32_t> placed;  ///< concat: 1 where the part was written in place
  std::byte* scratch = nullptr;      ///< 64-byte aligned
  std::size_t scratch_bytes = 0;     ///< at least what scratch_bytes() says
};

/// What keys the noise of each particle of each sequence, [B K]. Not given where a shard's threads
/// make them.
struct Particles {
  std::uint32_t *sequence_id = nullptr, *draw = nullptr;
  std::int32_t* origin = nullptr;
};

/// The rows that a scan runs over: sequences, longest first, and what keys their noise. Pointers
/// are where the contracts read them, on the queue's device, but for `first`.
template <class Real>
struct ScanRows {
  const Queue* queue = nullptr;
  std::int64_t T = 0, B = 0, K = 1;
  std::int64_t R = 0;                     ///< packed rows, or how many there may be
  const std::int32_t* offsets = nullptr;  ///< [T + 1]  of the packed rows
  /// [T + 1]  of the packed rows with particles, each a sequence; not given where a shard's threads
  /// make them.
  const std::int32_t* particle_offsets = nullptr;
  const std::int32_t* origins = nullptr;       ///< [B]
  const std::uint32_t* sequence_id = nullptr;  ///< [B]
  Particles particles;
  const std::uint64_t* step = nullptr;  ///< [1]
  const Real* nothing = nullptr;        ///< [1]  a zero
  /// [T][B][K]  1 where a sequence has another step after t. Given: loops run over padded rows.
  const Real* goes_on = nullptr;
  const std::int32_t* first = nullptr;  ///< [T + 1]  host: first row of a step in a loop
  std::uint64_t seed = 0;
  ChainRecorder<Real>* recorder = nullptr;  ///< given: contracts become stages of it, and run not

  std::int64_t active(std::int64_t t) const { return first[t + 1] - first[t]; }
  /// Rows of a kind: of all steps, packed, or of step t of a loop where t >= 0.
  std::int64_t rows(RowKind kind, std::int64_t t) const {
    const std::int64_t particles = kind.particles ? K : 1;
    if (kind.base == RowKind::Base::shared) return 1;
    if (kind.base == RowKind::Base::sequence) return B * particles;
    return (t < 0 ? R : active(t)) * particles;
  }
};

/// The rows that an instruction works on now: all of them, or one step's.
template <class Real>
struct Call {
  const Instruction<Real>& instruction;
  const ScanRows<Real>& shard;
  std::int64_t t;     ///< -1: all steps
  std::int64_t rows;  ///< of the node's own kind

  Rows<Real> at(const Operand<Real>& operand) const {
    const std::int64_t first = t < 0 ? 0 : operand.scale * shard.first[t];
    return {operand.data + first * operand.stride, operand.stride};
  }
  Rows<const Real> in(std::size_t i) const {
    return i < instruction.inputs.size() && instruction.inputs[i]
               ? Rows<const Real>(at(instruction.inputs[i]))
               : Rows<const Real>();
  }
  Rows<Real> out(std::int64_t column = 0) const {
    Rows<Real> y = at(instruction.output);
    y.data += column;
    return y;
  }
  std::int64_t width(std::size_t i) const { return instruction.inputs[i].D; }
  const Node& node() const { return *instruction.node; }
  template <class Args>
  void run(const Args& args) const {
    if (shard.recorder != nullptr) {
      shard.recorder->add(args);
    } else {
      seqvae::run(args, *shard.queue);
    }
  }
};

/// What an instruction needs beside its operands, over these rows.
template <class Real>
std::size_t scratch_bytes(const Instruction<Real>& instruction, const ScanRows<Real>& shard);

/// Runs one instruction over all rows (t < 0), or over those of step t inside a loop.
template <class Real>
void execute(const Instruction<Real>& instruction, const ScanRows<Real>& shard, std::int64_t t);

bool is_product(Op op);
/// The product of an instruction that is one, over all rows.
template <class Real>
DenseArgs<Real> product_of(const Instruction<Real>& product, const ScanRows<Real>& shard);

/// What a sink, whose op is weight_gradient or row_gradient, adds to the gradients over all rows.
template <class Real>
DenseWeightGradientArgs<Real> gradient_of(const Instruction<Real>& sink,
                                          const ScanRows<Real>& shard);

/// The ops of linear-Gaussian models.
bool is_kalman(Op op);
template <class Real>
void run_kalman(const Call<Real>& call);
template <class Real>
std::size_t kalman_scratch_bytes(const Instruction<Real>& instruction, const ScanRows<Real>& shard);

}  // namespace seqvae

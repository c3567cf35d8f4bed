// A chain on the CPU: each stage the contract's own twin, over all rows of a step.
#include <algorithm>

#include "host/kernels/chain.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae::cpu {
namespace {

#define SEQVAE_TWIN(name, Args)            \
  template <class Real>                    \
  void run_stage(const Args<Real>& args) { \
    cpu::name(args);                       \
  }
SEQVAE_TWIN(dense, DenseArgs)
SEQVAE_TWIN(activation, ActivationArgs)
SEQVAE_TWIN(activation_backward, ActivationBackwardArgs)
SEQVAE_TWIN(multiply_add, MultiplyAddArgs)
SEQVAE_TWIN(gated_mix, GatedMixArgs)
SEQVAE_TWIN(gated_mix_backward, GatedMixBackwardArgs)
SEQVAE_TWIN(select, SelectArgs)
SEQVAE_TWIN(gru_cell, GruCellArgs)
SEQVAE_TWIN(gru_cell_backward, GruCellBackwardArgs)
SEQVAE_TWIN(lstm_cell, LstmCellArgs)
SEQVAE_TWIN(lstm_cell_backward, LstmCellBackwardArgs)
SEQVAE_TWIN(gaussian_head, GaussianHeadArgs)
SEQVAE_TWIN(gaussian_head_backward, GaussianHeadBackwardArgs)
SEQVAE_TWIN(gaussian_sample, GaussianSampleArgs)
SEQVAE_TWIN(gaussian_sample_backward, GaussianSampleBackwardArgs)
#undef SEQVAE_TWIN

/// Where one step of a chain is.
struct Step {
  std::int64_t t, rows;
  std::int64_t first;  ///< packed row that it begins at
};

/// The stage at the `number`-th step that runs it.
template <class Real>
void run_at(const ChainStage<Real>& stage, std::int64_t number, const Step& at, std::int64_t time,
            Real* slots) {
  ChainStage<Real> now = stage;
  with_arguments<Real>(now, [&](auto& args) {
    std::size_t i = 0;
    for_each_rows(args, [&](auto& rows, std::int64_t) {
      const ChainOperand& operand = stage.operand[i++];
      if (operand.is_slot) {
        rows.data = slots + reinterpret_cast<std::uintptr_t>(rows.data) / sizeof(Real);
      } else if (operand.is_packed) {
        rows.data += at.first * rows.stride;
      } else if (rows.data != nullptr) {
        rows.data += operand.step * number;
      }
    });
    if constexpr (requires { args.noise; }) {
      args.noise.layout.t0 += time * number;
      args.noise.layout.B = at.rows / args.noise.layout.K;
    } else if constexpr (requires { args.M; }) {
      args.M = at.rows;
    } else {
      args.rows = at.rows;
    }
    run_stage(args);
  });
}

/// Rows that no sequence has, of the matrices that a stage writes.
template <class Real>
void clear_spare(ChainStage<Real> stage, std::int64_t from, std::int64_t to) {
  with_arguments<Real>(stage, [&](auto& args) {
    std::size_t i = 0;
    for_each_rows(args, [&](auto& rows, std::int64_t width) {
      const ChainOperand& operand = stage.operand[i++];
      using Data = std::remove_reference_t<decltype(rows[0][0])>;
      if constexpr (!std::is_const_v<Data>) {
        for (std::int64_t r = from; operand.is_packed && r < to; ++r) {
          std::fill_n(rows[r], width, Real{0});
        }
      }
    });
  });
}

}  // namespace

template <class Real>
std::size_t chain_workspace_bytes(const ChainArgs<Real>& args) {
  return static_cast<std::size_t>(args.rows * args.columns) * sizeof(Real);
}

template <class Real>
void chain(const ChainArgs<Real>& a) {
  check(a);
  if (a.columns * a.rows > 0) require_pointer(a.workspace, "chain", "workspace");
  require(a.workspace_bytes >= chain_workspace_bytes(a), "chain", "workspace_bytes",
          a.workspace_bytes, fmt::format(">= {}", chain_workspace_bytes(a)));
  Real* slots = static_cast<Real*>(a.workspace);
  const ChainStage<Real>*carries = a.table + a.starts, *stages = carries + a.carries;
  for (std::int64_t s = 0; s < a.T; ++s) {
    const std::int64_t t = a.time > 0 ? s : a.T - 1 - s;
    Step at{t, a.rows, 0};
    if (a.offsets != nullptr) {
      at.first = a.offsets[t] * a.K, at.rows = a.offsets[t + 1] * a.K - at.first;
    }
    if (at.rows == 0) continue;
    for (std::int64_t i = 0; s == 0 && i < a.starts; ++i) run_at(a.table[i], 0, at, a.time, slots);
    for (std::int64_t i = 0; s > 0 && i < a.carries; ++i) {
      run_at(carries[i], s - 1, at, a.time, slots);
    }
    for (std::int64_t i = 0; i < a.stages; ++i) run_at(stages[i], s, at, a.time, slots);
  }
  if (a.offsets == nullptr) return;
  for (std::int64_t i = 0; i < a.stages; ++i) {
    if (stages[i].leaves) clear_spare(stages[i], a.offsets[a.T] * a.K, a.capacity);
  }
}

template std::size_t chain_workspace_bytes(const ChainArgs<float>&);
template std::size_t chain_workspace_bytes(const ChainArgs<double>&);
template void chain(const ChainArgs<float>&);
template void chain(const ChainArgs<double>&);

}  // namespace seqvae::cpu

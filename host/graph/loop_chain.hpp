// A loop of a scan as one chain of contracts (kernels/chain.hpp).
#pragma once
#include <string>

#include "host/graph/instructions.hpp"

namespace seqvae {

template <class Real>
struct LoopChain {
  std::string why_not;  ///< empty: it is one
  std::vector<ChainStage<Real>> table;
  ChainArgs<Real> args;  ///< but for where table and workspace lie
};

/// Draws that are given: of a latent, in place of its noise.
template <class Real>
using GivenNoise = std::vector<std::pair<const Node*, Operand<Real>>>;

/// Of a loop that stays packed (pad_loops), its carries first. None where an op of it is no stage,
/// its values have not all a row a sequence, or all a row a particle, or a carry has no slot.
template <class Real>
LoopChain<Real> make_loop_chain(const Scan& scan, const Region& region, const Plan& plan,
                                const Places& places, const ParameterTable& parameters,
                                const PackedParameters<Real>* packed,
                                const ScanMemory<Real>& memory, const ScanRows<Real>& rows,
                                const GivenNoise<Real>& noise);

/// Of each region of a scan whose carries stand first: why it is no chain on the queue's device;
/// empty where it is one. By a trial at the least sizes: neither ops nor room hang on them.
template <class Real>
std::vector<std::string> why_not_chains(const Scan& scan, const ParameterTable& parameters,
                                        const Queue& queue, std::int64_t particles);

}  // namespace seqvae

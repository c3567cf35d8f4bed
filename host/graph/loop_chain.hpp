// A loop of a scan as one chain of contracts (kernels/chain.hpp).
#pragma once
#include <memory>
#include <optional>

#include "host/graph/instructions.hpp"

namespace seqvae {

template <class Real>
struct LoopChain {
  std::vector<ChainStage<Real>> table;
  ChainArgs<Real> args;  ///< but for where table and workspace lie
};

/// Draws that are given: of a latent, in place of its noise.
template <class Real>
using GivenNoise = std::vector<std::pair<const Node*, Operand<Real>>>;

/// Of a loop that stays packed (pad_loops), its carries first. Nothing where an op of it is no
/// stage, or its values have not all a row a sequence, or all a row a particle.
template <class Real>
std::optional<LoopChain<Real>> make_loop_chain(
    const Scan& scan, const Region& region, const Plan& plan, const Places& places,
    const ParameterTable& parameters, const PackedParameters<Real>* packed,
    const ScanMemory<Real>& memory, const ScanRows<Real>& rows, const GivenNoise<Real>& noise);

}  // namespace seqvae

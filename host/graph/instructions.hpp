// The instructions of a scan over memory that is laid out for it.
#pragma once
#include <vector>

#include "host/graph/lowering.hpp"
#include "host/graph/plan.hpp"
#include "seqvae/graph/parameters.hpp"

namespace seqvae {

/// The weights of a scan's products, packed as the CPU reads them; products share what is the same.
template <class Real>
class PackedParameters {
 public:
  PackedParameters(const Scan& scan, const ParameterTable& parameters);
  /// Packs every `of`-th from `part` on, so that threads may share the work.
  void pack(const Real* values, std::size_t part, std::size_t of);
  /// Of a product's node; else null.
  const cpu::PackedWeights<Real>* of(NodeId id) const {
    const std::int32_t i = of_[static_cast<std::size_t>(id)];
    return i < 0 ? nullptr : &packed_[static_cast<std::size_t>(i)].weights;
  }

 private:
  /// Columns of a parameter, or their transpose.
  struct Packed {
    ParameterView view;
    bool transposed;
    cpu::PackedWeights<Real> weights;
  };
  std::int32_t find(const ParameterView& view, bool transposed);

  const ParameterTable& parameters_;
  std::vector<Packed> packed_;
  std::vector<std::int32_t> of_;  // of each node; -1: no product
};

/// Values of one loop in slots (kernels/chain.hpp): a few columns of memory a row.
template <class Real>
struct LoopSlots {
  std::vector<std::int64_t> column;  ///< of each root; -1: not there
  std::vector<Real> memory;          ///< one row of them, for its addresses
};

/// Where a scan's values lie.
template <class Real>
struct ScanMemory {
  Real* arena = nullptr;
  Real* given = nullptr;         ///< apart, where the plan says so
  const Real* values = nullptr;  ///< the parameters
  Real* gradients = nullptr;
  LoopSlots<Real>* slots = nullptr;  ///< given: what they hold stands there
};

/// One instruction a node, without noise. `packed` may be null where the device reads plain
/// weights.
template <class Real>
void make_instructions(const Scan& scan, const Plan& plan, const Places& places,
                       const ParameterTable& parameters, const PackedParameters<Real>* packed,
                       const ScanMemory<Real>& memory, std::int64_t particles,
                       std::vector<Instruction<Real>>& instructions);

/// They run one after another: they share their scratch.
template <class Real>
std::size_t scratch_bytes(const std::vector<Instruction<Real>>& instructions,
                          const ScanRows<Real>& rows);

/// Runs a region of the schedule, a loop step by step.
template <class Real>
void execute(const Region& region, const std::vector<Instruction<Real>>& instructions,
             const ScanRows<Real>& rows);

/// Draws of a latent read these rows instead.
template <class Real>
void give_noise(std::vector<Instruction<Real>>& instructions, const Node& drawn,
                const Operand<Real>& noise);

/// The draw of a latent, by its name. \throws InvalidArgument where there is none
NodeId latent_of(const Scan& scan, const std::string& name);

}  // namespace seqvae

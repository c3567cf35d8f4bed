#include "host/graph/instructions.hpp"

#include <algorithm>

#include "seqvae/core/error.hpp"
#include "seqvae/core/index.hpp"

namespace seqvae {
namespace {

/// Where a view of a parameter begins.
template <class Pointer>
Pointer at(const ParameterTable& parameters, const ParameterView& view, Pointer buffer) {
  return buffer + parameters[view.parameter].offset + view.begin;
}

template <class Real>
class Maker {
 public:
  Maker(const Scan& scan, const Plan& plan, const Places& places, const ParameterTable& parameters,
        const ScanMemory<Real>& memory, std::int64_t particles)
      : scan_(scan),
        plan_(plan),
        places_(places),
        parameters_(parameters),
        memory_(memory),
        K_(particles) {}

  void make(NodeId id, const PackedParameters<Real>* packed, Instruction<Real>& instruction) const {
    const Node& node = scan_.graph[id];
    instruction.node = &node;
    instruction.inputs.resize(node.inputs.size());
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      instruction.inputs[k] = node.inputs[k] == kNoNode ? Operand<Real>() : operand(node.inputs[k]);
    }
    instruction.noise = {};
    switch (node.op) {
      case Op::weight_gradient:
        instruction.gradient = at(parameters_, node.weight, memory_.gradients);
        instruction.gradient_stride = parameters_[node.weight.parameter].cols;
        instruction.bias_gradient =
            node.bias.parameter < 0 ? nullptr : at(parameters_, node.bias, memory_.gradients);
        return;
      case Op::row_gradient:
        instruction.gradient = at(parameters_, node.bias, memory_.gradients);
        return;
      case Op::linear:
      case Op::linear_transposed:
        product(id, packed, instruction);
        break;
      case Op::concat:
        instruction.placed = plan_.placed[index(id)];
        break;
      default:
        break;
    }
    instruction.output = operand(id);
  }

 private:
  void product(NodeId id, const PackedParameters<Real>* packed,
               Instruction<Real>& instruction) const {
    const Node& node = scan_.graph[id];
    const Parameter& W = parameters_[node.weight.parameter];
    const bool transposed = node.op == Op::linear_transposed;
    if (packed != nullptr) instruction.weights = packed->of(id);
    instruction.W = {at(parameters_, node.weight, memory_.values), W.cols,
                     transposed ? node.weight.cols : W.rows, transposed ? W.rows : node.weight.cols,
                     transposed};
    instruction.bias = node.bias.parameter < 0 || transposed
                           ? nullptr
                           : at(parameters_, node.bias, memory_.values);
  }

  Operand<Real> operand(NodeId id) const {
    const Node& node = scan_.graph[id];
    const Storage& s = plan_.storage[index(id)];
    Operand<Real> o;
    o.D = node.D, o.kind = node.kind, o.stride = s.stride;
    if (s.parameter) {
      // Read only: nothing writes to a parameter row.
      o.data =
          const_cast<Real*>(at(parameters_, scan_.graph[s.root].bias, memory_.values)) + s.column;
      return o;
    }
    if (memory_.slots != nullptr && memory_.slots->column[index(s.root)] >= 0) {
      std::vector<Real>& slots = memory_.slots->memory;
      o.data = slots.data() + memory_.slots->column[index(s.root)] + s.column;
      o.stride = static_cast<std::int64_t>(slots.size());
      return o;
    }
    o.data = (s.given ? memory_.given : memory_.arena) + places_.offsets[index(s.root)] + s.column;
    if (node.kind.base == RowKind::Base::step && !s.local) o.scale = node.kind.particles ? K_ : 1;
    return o;
  }

  const Scan& scan_;
  const Plan& plan_;
  const Places& places_;
  const ParameterTable& parameters_;
  const ScanMemory<Real>& memory_;
  std::int64_t K_;
};

}  // namespace

template <class Real>
PackedParameters<Real>::PackedParameters(const Scan& scan, const ParameterTable& parameters)
    : parameters_(parameters), of_(scan.graph.nodes.size(), -1) {
  for (std::size_t i = 0; i < scan.graph.nodes.size(); ++i) {
    const Node& node = scan.graph.nodes[i];
    if (!is_product(node.op)) continue;
    of_[i] = find(node.weight, node.op == Op::linear_transposed);
  }
}

template <class Real>
std::int32_t PackedParameters<Real>::find(const ParameterView& view, bool transposed) {
  for (std::size_t p = 0; p < packed_.size(); ++p) {
    const ParameterView& v = packed_[p].view;
    if (v.parameter == view.parameter && v.begin == view.begin && v.cols == view.cols &&
        packed_[p].transposed == transposed) {
      return static_cast<std::int32_t>(p);
    }
  }
  const std::int64_t out = parameters_[view.parameter].rows;
  packed_.push_back({view, transposed,
                     transposed ? cpu::PackedWeights<Real>(view.cols, out)
                                : cpu::PackedWeights<Real>(out, view.cols)});
  return static_cast<std::int32_t>(packed_.size() - 1);
}

template <class Real>
void PackedParameters<Real>::pack(const Real* values, std::size_t part, std::size_t of) {
  for (std::size_t p = part; p < packed_.size(); p += of) {
    Packed& packed = packed_[p];
    packed.weights.pack(at(parameters_, packed.view, values),
                        parameters_[packed.view.parameter].cols, packed.transposed);
  }
}

template <class Real>
void make_instructions(const Scan& scan, const Plan& plan, const Places& places,
                       const ParameterTable& parameters, const PackedParameters<Real>* packed,
                       const ScanMemory<Real>& memory, std::int64_t particles,
                       std::vector<Instruction<Real>>& instructions) {
  const Maker<Real> maker(scan, plan, places, parameters, memory, particles);
  instructions.resize(scan.graph.nodes.size());
  for (std::size_t i = 0; i < instructions.size(); ++i) {
    maker.make(static_cast<NodeId>(i), packed, instructions[i]);
  }
}

template <class Real>
std::size_t scratch_bytes(const std::vector<Instruction<Real>>& instructions,
                          const ScanRows<Real>& rows) {
  std::size_t bytes = 0;
  for (const Instruction<Real>& instruction : instructions) {
    bytes = std::max(bytes, scratch_bytes(instruction, rows));
  }
  return bytes;
}

template <class Real>
void execute(const Region& region, const std::vector<Instruction<Real>>& instructions,
             const ScanRows<Real>& rows) {
  if (region.at_once) {
    std::vector<DenseArgs<Real>> calls;
    for (NodeId id : region.nodes) calls.push_back(product_of(instructions[index(id)], rows));
    return run(ProductsArgs<Real>{calls.data(), static_cast<std::int64_t>(calls.size())},
               *rows.queue);
  }
  if (!region.loop) {
    for (NodeId id : region.nodes) execute(instructions[index(id)], rows, -1);
    return;
  }
  for (std::int64_t s = 0; s < rows.T; ++s) {
    const std::int64_t t = region.backward_in_time ? rows.T - 1 - s : s;
    for (NodeId id : region.nodes) execute(instructions[index(id)], rows, t);
  }
}

template <class Real>
void give_noise(std::vector<Instruction<Real>>& instructions, const Node& drawn,
                const Operand<Real>& noise) {
  for (Instruction<Real>& instruction : instructions) {
    const Node& node = *instruction.node;
    if ((node.op == Op::gaussian_sample || node.op == Op::gaussian_sample_backward) &&
        node.site == drawn.site) {
      instruction.noise = noise;
    }
  }
}

NodeId latent_of(const Scan& scan, const std::string& name) {
  for (std::size_t i = scan.graph.nodes.size(); i-- > 0;) {
    const Node& node = scan.graph.nodes[i];
    if (node.op == Op::gaussian_sample && node.name == name) return static_cast<NodeId>(i);
  }
  throw InvalidArgument("Executor: no latent is called " + name);
}

#define SEQVAE_INSTANTIATE(Real)                                                                  \
  template class PackedParameters<Real>;                                                          \
  template void make_instructions(const Scan&, const Plan&, const Places&, const ParameterTable&, \
                                  const PackedParameters<Real>*, const ScanMemory<Real>&,         \
                                  std::int64_t, std::vector<Instruction<Real>>&);                 \
  template std::size_t scratch_bytes(const std::vector<Instruction<Real>>&,                       \
                                     const ScanRows<Real>&);                                      \
  template void execute(const Region&, const std::vector<Instruction<Real>>&,                     \
                        const ScanRows<Real>&);                                                   \
  template void give_noise(std::vector<Instruction<Real>>&, const Node&, const Operand<Real>&);
SEQVAE_INSTANTIATE(float)
SEQVAE_INSTANTIATE(double)
#undef SEQVAE_INSTANTIATE

}  // namespace seqvae

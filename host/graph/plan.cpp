#include "host/graph/plan.hpp"

#include <algorithm>
#include <map>

namespace seqvae {
namespace {

std::size_t index(NodeId id) { return static_cast<std::size_t>(id); }

bool is_sink(const Node& node) {
  return node.op == Op::weight_gradient || node.op == Op::row_gradient;
}

/// An op that computes its value anew may write it among another's columns.
bool may_be_placed(const Node& node) {
  switch (node.op) {
    case Op::input:
    case Op::parameter_row:
    case Op::constant:
    case Op::noise_position:
    case Op::slice:
    case Op::concat:
    case Op::stop_gradient:
    case Op::log_mean_exp:  // these two take plain vectors
    case Op::log_mean_exp_backward:
      return false;
    default:
      return true;
  }
}

}  // namespace

Plan make_plan(const Scan& scan) {
  const Graph& graph = scan.graph;
  const std::size_t count = graph.nodes.size();
  Plan plan;
  plan.storage.resize(count);
  plan.placed.resize(count);
  plan.first_use.assign(count, 0), plan.last_use.assign(count, 0);

  // Owners: concats take in their parts, slices and stop_gradients look at their inputs.
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    plan.storage[i] = {static_cast<std::int32_t>(i), 0,
                       node.kind.base == RowKind::Base::shared ? 0 : node.D, false,
                       node.op == Op::parameter_row};
  }
  std::vector<bool> is_output(count, false);
  for (const Output& output : graph.outputs) is_output[index(output.node)] = true;
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    if (node.op != Op::concat) continue;
    plan.placed[i].assign(node.inputs.size(), 0);
    std::int64_t column = 0;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      const NodeId part = node.inputs[k];
      Storage& s = plan.storage[index(part)];
      if (may_be_placed(graph[part]) && graph[part].kind == node.kind && s.root == part) {
        s = {static_cast<std::int32_t>(i), column, plan.storage[i].stride, false, false};
        plan.placed[i][k] = 1;
      }
      column += graph[part].D;
    }
  }
  for (const NodeId id : order_of_one_step(graph)) {
    const Node& node = graph[id];
    if (node.op != Op::slice && node.op != Op::stop_gradient) continue;
    const Storage& of = plan.storage[index(node.inputs[0])];
    plan.storage[index(id)] = {of.root, of.column + node.begin, of.stride, false, of.parameter};
  }

  // Places in the order of execution: a loop is one place, as its values live while it runs.
  std::vector<std::int32_t> place(count, 0);
  std::int32_t now = 0;
  for (const Region& region : scan.schedule.regions) {
    for (NodeId id : region.nodes) {
      place[index(id)] = now;
      if (!region.loop) ++now;
    }
    ++now;
  }

  // Local: written and read within one loop, at one step or by a carry from the step beside it.
  std::vector<bool> local(count, true), holds_carry(count, false);
  for (std::size_t i = 0; i < count; ++i) {
    if (graph.nodes[i].op == Op::carry) holds_carry[index(plan.storage[i].root)] = true;
  }
  const auto region = [&](NodeId id) { return scan.schedule.region_of[index(id)]; };
  for (std::size_t i = 0; i < count; ++i) {
    const NodeId id = static_cast<NodeId>(i);
    const Node& node = graph.nodes[i];
    const std::size_t root = index(plan.storage[i].root);
    const Region& mine = scan.schedule.regions[static_cast<std::size_t>(region(id))];
    const bool filled =
        node.op == Op::input || node.op == Op::noise_position;  // for all steps at once
    if (!mine.loop || node.kind.base != RowKind::Base::step || is_output[i] || filled)
      local[root] = false;
    for (NodeId input : node.inputs) {
      if (input == kNoNode) continue;
      // A carry of a carry, or of columns beside one, reads what its loop has written over.
      const bool delayed_carry =
          node.op == Op::carry && holds_carry[index(plan.storage[index(input)].root)];
      if (region(input) != region(id) || delayed_carry) {
        local[index(plan.storage[index(input)].root)] = false;
      }
    }
  }
  for (Storage& s : plan.storage) s.local = local[static_cast<std::size_t>(s.root)];

  std::fill(plan.first_use.begin(), plan.first_use.end(), now);
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    if (is_sink(node)) continue;
    const std::size_t root = index(plan.storage[i].root);
    // Inputs are packed before anything runs.
    const bool early =
        node.op == Op::input || node.op == Op::constant || node.op == Op::noise_position;
    plan.first_use[root] = std::min(plan.first_use[root], early ? 0 : place[i]);
    plan.last_use[root] = std::max(plan.last_use[root], is_output[i] ? now : place[i]);
  }
  for (std::size_t i = 0; i < count; ++i) {
    for (NodeId input : graph.nodes[i].inputs) {
      if (input == kNoNode) continue;
      const std::size_t root = index(plan.storage[index(input)].root);
      plan.last_use[root] = std::max(plan.last_use[root], place[i]);
    }
  }
  return plan;
}

std::vector<std::int64_t> place(const Scan& scan, const Plan& plan, const Capacity& capacity) {
  const Graph& graph = scan.graph;
  struct Block {
    std::int64_t size;
    std::int32_t first, last;
    std::size_t node;
  };
  std::vector<Block> blocks;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    const Storage& s = plan.storage[i];
    if (s.root != static_cast<std::int32_t>(i) || s.parameter || is_sink(node)) continue;
    std::int64_t rows = 1;
    if (node.kind.base == RowKind::Base::sequence || s.local) rows = capacity.sequences;
    if (node.kind.base == RowKind::Base::step && !s.local) rows = capacity.rows;
    if (node.kind.particles) rows *= capacity.particles;
    blocks.push_back({(rows * node.D + 15) / 16 * 16, plan.first_use[i], plan.last_use[i], i});
  }
  // Largest first, each at the lowest offset that no block alive at the same time covers.
  std::stable_sort(blocks.begin(), blocks.end(),
                   [](const Block& a, const Block& b) { return a.size > b.size; });
  std::vector<std::int64_t> offsets(graph.nodes.size() + 1, -1);
  std::vector<std::pair<std::int64_t, const Block*>> placed;  // by offset
  std::int64_t end = 0;
  for (const Block& block : blocks) {
    std::int64_t offset = 0;
    for (const auto& [other_offset, other] : placed) {
      if (other->last < block.first || block.last < other->first) continue;
      if (offset + block.size <= other_offset) break;
      offset = std::max(offset, other_offset + other->size);
    }
    offsets[block.node] = offset;
    end = std::max(end, offset + block.size);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), offset,
                                   [](std::int64_t o, const auto& p) { return o < p.first; }),
                  {offset, &block});
  }
  offsets.back() = end;
  return offsets;
}

}  // namespace seqvae

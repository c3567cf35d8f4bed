#include "host/graph/plan.hpp"

#include <algorithm>
#include <map>

#include "seqvae/core/index.hpp"

namespace seqvae {
namespace {

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

std::int64_t bucket(std::int64_t n) {
  std::int64_t capacity = 16;
  while (capacity < n) capacity += std::max<std::int64_t>(capacity / 8, 1);
  return capacity;
}

Plan make_plan(const Scan& scan, Loops loops) {
  const Graph& graph = scan.graph;
  const auto region = [&](NodeId id) { return scan.schedule.region_of[index(id)]; };
  const auto in_loop = [&](NodeId id) {
    return scan.schedule.regions[static_cast<std::size_t>(region(id))].loop;
  };
  const std::size_t count = graph.nodes.size();
  Plan plan;
  plan.storage.resize(count);
  plan.placed.resize(count);
  plan.first_use.assign(count, 0), plan.last_use.assign(count, 0);

  // Owners: concats take in their parts, slices and stop_gradients look at their inputs.
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    Storage& s = plan.storage[i];
    s.root = static_cast<std::int32_t>(i);
    s.stride = node.kind.base == RowKind::Base::shared ? 0 : node.D;
    s.parameter = node.op == Op::parameter_row;
    if (loops == Loops::packed) continue;
    s.given = is_given(node);
    s.padded = is_padded(scan, static_cast<NodeId>(i));
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
      if (may_be_placed(graph[part]) && graph[part].kind == node.kind && s.root == part &&
          (loops == Loops::packed || region(part) == region(static_cast<NodeId>(i)) ||
           !(in_loop(part) || in_loop(static_cast<NodeId>(i))))) {
        s.root = static_cast<std::int32_t>(i), s.column = column;
        s.stride = plan.storage[i].stride;
        plan.placed[i][k] = 1;
      }
      column += graph[part].D;
    }
  }
  for (const NodeId id : order_of_one_step(graph)) {
    const Node& node = graph[id];
    if (!is_view(node)) continue;
    Storage view = plan.storage[index(node.inputs[0])];
    view.column += node.begin;
    plan.storage[index(id)] = view;
  }

  // Places in the order of execution: a loop is one place, as its values live while it runs, and so
  // are products that run at once.
  std::vector<std::int32_t> place(count, 0);
  std::int32_t now = 0;
  for (const Region& region : scan.schedule.regions) {
    for (NodeId id : region.nodes) {
      place[index(id)] = now;
      if (!region.loop && !region.at_once) ++now;
    }
    ++now;
  }

  // Local: written and read within one loop, at one step or by a carry from the step beside it.
  std::vector<bool> local(count, true), holds_carry(count, false);
  for (std::size_t i = 0; i < count; ++i) {
    if (graph.nodes[i].op == Op::carry) holds_carry[index(plan.storage[i].root)] = true;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const NodeId id = static_cast<NodeId>(i);
    const Node& node = graph.nodes[i];
    const std::size_t root = index(plan.storage[i].root);
    const Region& mine = scan.schedule.regions[static_cast<std::size_t>(region(id))];
    const bool filled = is_given(node) || node.op == Op::to_padded;  // for all steps at once
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
    plan.first_use[root] = std::min(plan.first_use[root], is_given(node) ? 0 : place[i]);
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

Places place(const Scan& scan, const Plan& plan, const Capacity& capacity) {
  const Graph& graph = scan.graph;
  struct Block {
    std::int64_t size;
    std::int32_t first, last;
    std::size_t node;
  };
  Places places;
  places.offsets.assign(graph.nodes.size(), -1);
  std::vector<Block> blocks;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    const Storage& s = plan.storage[i];
    if (s.root != static_cast<std::int32_t>(i) || s.parameter || is_sink(node)) continue;
    std::int64_t rows = 1;
    if (node.kind.base == RowKind::Base::sequence || s.local) rows = capacity.sequences;
    if (node.kind.base == RowKind::Base::step && !s.local)
      rows = s.padded ? capacity.steps * capacity.sequences : capacity.rows;
    if (node.kind.particles) rows *= capacity.particles;
    const std::int64_t size = (rows * node.D + 15) / 16 * 16;
    if (s.given) {
      places.offsets[i] = places.given;
      places.given += size;
    } else {
      blocks.push_back({size, plan.first_use[i], plan.last_use[i], i});
    }
  }
  // Largest first, each at the lowest offset that no block alive at the same time covers.
  std::stable_sort(blocks.begin(), blocks.end(),
                   [](const Block& a, const Block& b) { return a.size > b.size; });
  std::vector<std::pair<std::int64_t, const Block*>> placed;  // by offset
  for (const Block& block : blocks) {
    std::int64_t offset = 0;
    for (const auto& [other_offset, other] : placed) {
      if (other->last < block.first || block.last < other->first) continue;
      if (offset + block.size <= other_offset) break;
      offset = std::max(offset, other_offset + other->size);
    }
    places.offsets[block.node] = offset;
    places.arena = std::max(places.arena, offset + block.size);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), offset,
                                   [](std::int64_t o, const auto& p) { return o < p.first; }),
                  {offset, &block});
  }
  return places;
}

}  // namespace seqvae

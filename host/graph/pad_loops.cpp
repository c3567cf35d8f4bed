// Loops over padded rows: what crosses a loop's edge is moved, once for all steps.
#include <map>

#include "host/graph/plan.hpp"
#include "host/graph/regions.hpp"
#include "seqvae/core/index.hpp"

namespace seqvae {

bool is_given(const Node& node) {
  return node.op == Op::input || node.op == Op::constant || node.op == Op::noise_position;
}

bool is_view(const Node& node) { return node.op == Op::slice || node.op == Op::stop_gradient; }

bool is_padded(const Scan& scan, NodeId id) {
  while (is_view(scan.graph[id])) id = scan.graph[id].inputs[0];
  const Node& node = scan.graph[id];
  if (node.kind.base != RowKind::Base::step || is_given(node)) return false;
  const std::int32_t region = scan.schedule.region_of[index(id)];
  return node.op == Op::to_padded || scan.schedule.regions[static_cast<std::size_t>(region)].padded;
}

void pad_loops(Scan& scan, const std::vector<bool>& stays_packed) {
  Graph& graph = scan.graph;
  for (std::size_t r = 0; r < scan.schedule.regions.size(); ++r) {
    Region& region = scan.schedule.regions[r];
    region.padded = region.loop && (stays_packed.empty() || !stays_packed[r]);
  }
  std::vector<Region> regions;
  std::map<NodeId, NodeId> moved;  // of a value: the same in the other layout
  for (const Region& region : scan.schedule.regions) {
    Region before;  // moves what this region is the first to want
    for (NodeId id : region.nodes) {
      if (is_view(graph[id])) continue;
      for (std::size_t k = 0; k < graph[id].inputs.size(); ++k) {
        const NodeId input = graph[id].inputs[k];
        if (input == kNoNode || graph[input].kind.base != RowKind::Base::step) continue;
        if (is_padded(scan, input) == region.padded) continue;
        if (!moved.contains(input)) {
          Node move;
          move.op = region.padded ? Op::to_padded : Op::to_packed;
          move.kind = graph[input].kind, move.D = graph[input].D, move.inputs = {input};
          moved[input] = graph.add(std::move(move));
          before.nodes.push_back(moved[input]);
        }
        graph[id].inputs[k] = moved[input];
      }
    }
    if (!before.nodes.empty()) regions.push_back(std::move(before));
    regions.push_back(region);
  }
  scan.schedule.regions = std::move(regions);
  scan.schedule.region_of.resize(graph.nodes.size());
  number_regions(scan.schedule);
}

}  // namespace seqvae

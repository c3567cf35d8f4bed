#include "seqvae/graph/schedule.hpp"

#include <algorithm>
#include <map>

#include "seqvae/core/error.hpp"
#include "seqvae/core/index.hpp"

namespace seqvae {
namespace {

/// Tarjan's algorithm, iterative. Components come out inputs first.
class Components {
 public:
  explicit Components(const Graph& graph) : graph_(graph) {
    const std::size_t count = graph.nodes.size();
    number_.assign(count, 0), low_.assign(count, 0), component_.assign(count, -1);
    for (std::size_t i = 0; i < count; ++i) {
      if (number_[i] == 0) visit(static_cast<NodeId>(i));
    }
  }

  std::vector<std::int32_t> take() { return std::move(component_); }

 private:
  struct Frame {
    NodeId id;
    std::size_t next_input;
  };

  void visit(NodeId root) {
    std::vector<Frame> frames = {{root, 0}};
    enter(root);
    while (!frames.empty()) {
      Frame& frame = frames.back();
      const auto& inputs = graph_[frame.id].inputs;
      if (frame.next_input < inputs.size()) {
        const NodeId input = inputs[frame.next_input++];
        if (input == kNoNode) continue;
        if (number_[index(input)] == 0) {
          enter(input);
          frames.push_back({input, 0});
        } else if (component_[index(input)] < 0) {
          low_[index(frame.id)] = std::min(low_[index(frame.id)], number_[index(input)]);
        }
        continue;
      }
      const NodeId id = frame.id;
      frames.pop_back();
      if (!frames.empty()) {
        low_[index(frames.back().id)] = std::min(low_[index(frames.back().id)], low_[index(id)]);
      }
      if (low_[index(id)] == number_[index(id)]) leave(id);
    }
  }

  void enter(NodeId id) {
    number_[index(id)] = low_[index(id)] = ++counter_;
    stack_.push_back(id);
  }

  void leave(NodeId root) {
    for (NodeId id = kNoNode; id != root;) {
      id = stack_.back();
      stack_.pop_back();
      component_[index(id)] = found_;
    }
    ++found_;
  }

  const Graph& graph_;
  std::vector<std::int32_t> number_, low_, component_;
  std::vector<NodeId> stack_;
  std::int32_t counter_ = 0, found_ = 0;
};

/// Reads or writes all steps of a sequence at once, though it has a row a step.
bool takes_whole_sequence(Op op) {
  switch (op) {
    case Op::weight_gradient:
    case Op::row_gradient:
    case Op::at_first:
    case Op::at_last:
    case Op::kalman_filter:
    case Op::kalman_filter_backward:
    case Op::kalman_sample:
    case Op::kalman_sample_backward:
      return true;
    default:
      return false;
  }
}

/// A component that is a loop: its carries' direction; \throws where it cannot run as one.
bool direction_of_loop(const Graph& graph, const std::vector<NodeId>& nodes) {
  std::string forward, backward;
  for (NodeId id : nodes) {
    const Node& node = graph[id];
    if (node.kind.base != RowKind::Base::step || takes_whole_sequence(node.op)) {
      std::string carries;
      for (NodeId other : nodes) {
        if (graph[other].op == Op::carry) carries += " " + graph[other].name;
      }
      throw InvalidArgument(
          fmt::format("graph: {} takes a whole sequence, yet lies on the cycle of the carries:{}",
                      to_string(node.op), carries));
    }
    if (node.op == Op::carry) (node.backward_in_time ? backward : forward) += " " + node.name;
  }
  if (!forward.empty() && !backward.empty()) {
    throw InvalidArgument(fmt::format(
        "graph: a cycle runs in both directions of time: forward through{}, backward through{}",
        forward, backward));
  }
  return !backward.empty();
}

bool is_loop(const Graph& graph, const std::vector<NodeId>& nodes) {
  if (nodes.size() > 1) return true;
  const Node& node = graph[nodes[0]];
  return node.op == Op::carry && node.inputs[0] == nodes[0];
}

/// The order of one step within each region.
void sort_regions(const Graph& graph, Schedule& schedule) {
  const std::vector<NodeId> order = order_of_one_step(graph);
  std::vector<std::int32_t> place(graph.nodes.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    place[index(order[i])] = static_cast<std::int32_t>(i);
  for (Region& region : schedule.regions) {
    std::sort(region.nodes.begin(), region.nodes.end(),
              [&](NodeId a, NodeId b) { return place[index(a)] < place[index(b)]; });
  }
}

/// All that has a row a step runs in loops. Levels: a node's is its inputs' highest; a loop of the
/// other direction, or a value a sequence between, begins the next.
Schedule without_hoisting(const Graph& graph, const std::vector<std::vector<NodeId>>& groups) {
  std::vector<std::int32_t> level(graph.nodes.size(), 0);
  std::map<std::int32_t, bool> direction;  // of the levels that have one
  std::int32_t highest = 0;
  for (const auto& nodes : groups) {
    const bool step = graph[nodes[0]].kind.base == RowKind::Base::step &&
                      !takes_whole_sequence(graph[nodes[0]].op);
    std::int32_t here = step ? 1 : 0;  // odd levels are loops, even ones are not
    for (NodeId id : nodes) {
      for (NodeId input : graph[id].inputs) {
        if (input == kNoNode) continue;
        const std::int32_t below = level[index(input)];
        here = std::max(here, (below % 2 == 1) == step ? below : below + 1);
      }
    }
    const bool has_carry = std::any_of(nodes.begin(), nodes.end(),
                                       [&](NodeId id) { return graph[id].op == Op::carry; });
    if (has_carry) {
      const bool backward = direction_of_loop(graph, nodes);
      while (direction.contains(here) && direction[here] != backward) here += 2;
      direction[here] = backward;
    }
    for (NodeId id : nodes) level[index(id)] = here;
    highest = std::max(highest, here);
  }
  Schedule schedule;
  schedule.regions.resize(static_cast<std::size_t>(highest) + 1);
  schedule.region_of = level;
  for (std::size_t i = 0; i < level.size(); ++i) {
    Region& region = schedule.regions[static_cast<std::size_t>(level[i])];
    region.nodes.push_back(static_cast<NodeId>(i));
    region.loop = level[i] % 2 == 1;
    region.backward_in_time = direction.contains(level[i]) && direction[level[i]];
  }
  sort_regions(graph, schedule);
  return schedule;
}

}  // namespace

std::vector<NodeId> order_of_one_step(const Graph& graph) {
  enum State : char { unseen, open, done };
  std::vector<State> state(graph.nodes.size(), unseen);
  std::vector<NodeId> order;
  std::vector<std::pair<NodeId, std::size_t>> stack;
  for (std::size_t root = 0; root < graph.nodes.size(); ++root) {
    if (state[root] == unseen) stack.push_back({static_cast<NodeId>(root), 0});
    while (!stack.empty()) {
      auto& [id, next] = stack.back();
      const Node& node = graph[id];
      if (next == 0) {
        state[index(id)] = open;
        if (node.op == Op::carry) next = 1;  // its `next` is of another step
      }
      if (next < node.inputs.size()) {
        const NodeId input = node.inputs[next++];
        if (input == kNoNode || state[index(input)] == done) continue;
        if (state[index(input)] == open) {
          throw InvalidArgument("graph: a cycle at " + std::string(to_string(node.op)) + " " +
                                node.name + " passes through no carry");
        }
        stack.push_back({input, 0});
        continue;
      }
      state[index(id)] = done;
      order.push_back(id);
      stack.pop_back();
    }
  }
  return order;
}

std::vector<std::int32_t> components(const Graph& graph) { return Components(graph).take(); }

Schedule make_schedule(const Graph& graph, bool hoist) {
  const std::vector<std::int32_t> component = components(graph);
  std::int32_t count = 0;
  for (std::int32_t c : component) count = std::max(count, c + 1);
  std::vector<std::vector<NodeId>> groups(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < component.size(); ++i) {
    groups[static_cast<std::size_t>(component[i])].push_back(static_cast<NodeId>(i));
  }
  if (!hoist) return without_hoisting(graph, groups);

  Schedule schedule;
  schedule.region_of.resize(graph.nodes.size());
  bool open = false;  // a region of hoisted nodes that still takes some
  for (const auto& nodes : groups) {
    const bool loop = is_loop(graph, nodes);
    if (loop || !open) {
      schedule.regions.emplace_back();
      schedule.regions.back().loop = loop;
      if (loop) schedule.regions.back().backward_in_time = direction_of_loop(graph, nodes);
    }
    open = !loop;
    Region& region = schedule.regions.back();
    for (NodeId id : nodes) {
      region.nodes.push_back(id);
      schedule.region_of[index(id)] = static_cast<std::int32_t>(schedule.regions.size() - 1);
    }
  }
  // Hoisted nodes came out inputs first, which is an order over whole sequences; a loop's do not.
  Schedule loops = schedule;
  sort_regions(graph, loops);
  for (std::size_t i = 0; i < schedule.regions.size(); ++i) {
    if (schedule.regions[i].loop) schedule.regions[i].nodes = loops.regions[i].nodes;
  }
  return schedule;
}

std::string describe(const Graph& graph, const Schedule& schedule,
                     const std::vector<std::string>& parameter_names) {
  std::string text;
  bool after = false;
  for (const Region& region : schedule.regions) {
    if (region.loop) {
      text += region.backward_in_time ? "loop, backward in time\n" : "loop, forward in time\n";
      after = true;
    } else {
      text += after ? "hoisted after\n" : "hoisted before\n";
    }
    for (NodeId id : region.nodes) {
      const Node& node = graph[id];
      text += fmt::format("  %{:<4} {:<29} {:>5}  {:<20}", id, to_string(node.op), node.D,
                          to_string(node.kind));
      for (NodeId input : node.inputs) text += input == kNoNode ? " -" : fmt::format(" %{}", input);
      for (const ParameterView* view : {&node.weight, &node.bias}) {
        if (view->parameter < 0) continue;
        text += " " + parameter_names[static_cast<std::size_t>(view->parameter)];
        if (view == &node.weight)
          text += fmt::format("[:, {}:{}]", view->begin, view->begin + view->cols);
      }
      if (node.op == Op::linear && node.activation != Activation::identity)
        text += " then activation";
      if (node.op == Op::linear_transposed && node.inputs.size() > 2) text += " times the slope";
      if (!node.name.empty()) text += "  " + node.name;
      text += "\n";
    }
  }
  return text;
}

}  // namespace seqvae

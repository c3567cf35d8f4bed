#include "seqvae/graph/passes.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include "seqvae/core/error.hpp"
#include "seqvae/core/index.hpp"
#include "seqvae/graph/schedule.hpp"

namespace seqvae {
namespace {

/// Every mention of a node becomes its replacement's.
void replace(Graph& graph, const std::vector<NodeId>& with) {
  for (Node& node : graph.nodes) {
    for (NodeId& input : node.inputs) {
      if (input != kNoNode) input = with[index(input)];
    }
  }
  for (Output& output : graph.outputs) output.node = with[index(output.node)];
  for (NodeId& sink : graph.sinks) sink = with[index(sink)];
}

std::vector<NodeId> identity(const Graph& graph) {
  std::vector<NodeId> ids(graph.nodes.size());
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<NodeId>(i);
  return ids;
}

auto key_of(const Node& n) {
  return std::make_tuple(
      n.op, n.kind.base, n.kind.particles, n.D, n.inputs, n.weight.parameter, n.weight.begin,
      n.weight.cols, n.bias.parameter, n.bias.begin, n.bias.cols,
      std::make_tuple(n.activation, n.scale_map, n.likelihood, n.normalization, n.alpha, n.beta,
                      n.begin, n.groups, n.site, n.name, n.shape));
}

std::vector<std::int32_t> use_counts(const Graph& graph) {
  std::vector<std::int32_t> uses(graph.nodes.size(), 0);
  for (const Node& node : graph.nodes) {
    for (NodeId input : node.inputs) {
      if (input != kNoNode) ++uses[index(input)];
    }
  }
  for (const Output& output : graph.outputs) uses[index(output.node)] += 2;  // kept as it is
  return uses;
}

}  // namespace

void share_common_subexpressions(Graph& graph) {
  std::map<decltype(key_of(graph.nodes[0])), NodeId> first;
  std::vector<NodeId> with = identity(graph);
  for (NodeId id : order_of_one_step(graph)) {
    Node node = graph[id];
    if (node.op == Op::carry || node.op == Op::weight_gradient || node.op == Op::row_gradient)
      continue;
    for (NodeId& input : node.inputs) {
      if (input != kNoNode) input = with[index(input)];
    }
    with[index(id)] = first.emplace(key_of(node), id).first->second;
  }
  replace(graph, with);
}

void fuse(Graph& graph) {
  const std::vector<std::int32_t> component = components(graph);
  std::vector<std::int32_t> uses = use_counts(graph);
  std::vector<std::int32_t> size(graph.nodes.size(), 0);
  for (std::int32_t c : component) ++size[static_cast<std::size_t>(c)];
  const auto hoisted = [&](NodeId id) {
    return size[static_cast<std::size_t>(component[index(id)])] == 1;
  };
  // A product that a reader may take over: nobody else reads its value, and it would not move
  // into a loop (hoisted nodes are components of their own and may run where their reader does).
  const auto may_take = [&](NodeId product, NodeId reader) {
    const Node& p = graph[product];
    return (p.op == Op::linear || p.op == Op::linear_transposed) && uses[index(product)] == 1 &&
           p.activation == Activation::identity && p.kind == graph[reader].kind &&
           (component[index(product)] == component[index(reader)] ||
            (hoisted(product) && hoisted(reader)));
  };

  for (NodeId id : order_of_one_step(graph)) {
    Node& node = graph[id];
    if (node.op == Op::multiply_add && node.alpha == 1 && node.beta == 1 &&
        node.inputs[1] == kNoNode && node.inputs[2] != kNoNode) {
      for (int side : {0, 2}) {
        const NodeId product = node.inputs[static_cast<std::size_t>(side)];
        const NodeId other = node.inputs[static_cast<std::size_t>(2 - side)];
        if (!may_take(product, id) || graph[product].inputs[1] != kNoNode || product == other)
          continue;
        // The sum becomes the product: it stands where the sum stood, so `other` is ready.
        Node fused = graph[product];
        fused.inputs[1] = other;
        uses[index(product)] = 0;
        node = std::move(fused);
        break;
      }
    } else if (node.op == Op::activation) {
      const NodeId product = node.inputs[0];
      if (graph[product].op == Op::linear && may_take(product, id)) {
        Node fused = graph[product];
        fused.activation = node.activation;
        uses[index(product)] = 0;
        node = std::move(fused);
      }
    } else if (node.op == Op::activation_backward) {
      const NodeId activated = node.inputs[0], product = node.inputs[1];
      if (graph[product].op == Op::linear_transposed && graph[product].inputs.size() == 2 &&
          may_take(product, id)) {
        Node fused = graph[product];
        fused.activation = node.activation;
        fused.inputs.push_back(activated);
        uses[index(product)] = 0;
        node = std::move(fused);
      }
    }
  }
}

void drop_dead(Graph& graph) {
  std::vector<bool> live(graph.nodes.size(), false);
  std::vector<NodeId> stack = graph.sinks;
  for (const Output& output : graph.outputs) stack.push_back(output.node);
  while (!stack.empty()) {
    const NodeId id = stack.back();
    stack.pop_back();
    if (live[index(id)]) continue;
    live[index(id)] = true;
    const Node& node = graph[id];
    if (node.op == Op::absent) {
      throw InvalidArgument("graph: the step reads " + node.name +
                            ", which a generated step does not have");
    }
    for (NodeId input : node.inputs) {
      if (input != kNoNode) stack.push_back(input);
    }
  }
  std::vector<NodeId> with(graph.nodes.size(), kNoNode);
  std::vector<Node> kept;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (!live[i]) continue;
    with[i] = static_cast<NodeId>(kept.size());
    kept.push_back(std::move(graph.nodes[i]));
  }
  graph.nodes = std::move(kept);
  replace(graph, with);
}

}  // namespace seqvae

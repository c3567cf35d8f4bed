// Graphs from the builders alone: ops and shapes of gradients that no word of a step gives.
#include "seqvae/graph/passes.hpp"
#include "tests/graph/gradient_cases.hpp"

namespace seqvae::test {
namespace {

NodeId add_node(Graph& g, Op op, RowKind kind, std::int64_t D, std::vector<NodeId> inputs) {
  Node node;
  node.op = op, node.kind = kind, node.D = D, node.inputs = std::move(inputs);
  return g.add(std::move(node));
}

/// A scan whose objective [B] is what `build` returns.
SmallScan built(const std::string& name,
                const std::function<NodeId(Graph&, ParameterTable&)>& build,
                std::int64_t particles = 1) {
  return {name,
          [build](ParameterTable& table, bool gradient, bool) {
            Scan scan;
            Graph& g = scan.graph;
            const NodeId objective = build(g, table);
            g.outputs = {{"objective", objective}};
            if (gradient) differentiate(g, objective, add_input(g, "seed", RowKind::shared(), 1));
            drop_dead(g);
            scan.schedule = make_schedule(g);
            return scan;
          },
          particles};
}

NodeId sum_over_time(Graph& g, NodeId x) {
  return add_node(g, Op::sum_over_time, RowKind::sequence(g[x].kind.particles), g[x].D, {x});
}
NodeId controls(Graph& g) { return add_input(g, "controls", RowKind::step(), kControls); }
ParameterView weight(ParameterTable& p, const std::string& name, std::int64_t out,
                     std::int64_t in) {
  return {p.add(name, out, in, {}), 0, in};
}
ParameterView row(ParameterTable& p, const std::string& name, std::int64_t D) {
  return {p.add_vector(name, D, {}), 0, D};
}

}  // namespace

std::vector<SmallScan> built_cases() {
  std::vector<SmallScan> cases;
  // The gradient of a sum is one row for all: each op must count it once a row.
  cases.push_back(built("sum_of_products", [](Graph& g, ParameterTable& p) {
    return sum_over_time(
        g, add_linear(g, controls(g), weight(p, "W", 1, kControls), 1, row(p, "b", 1)));
  }));
  cases.push_back(built("sum_of_rows", [](Graph& g, ParameterTable& p) {
    const NodeId r = add_parameter_row(g, row(p, "r", 1));
    Node all;
    all.op = Op::expand, all.kind = RowKind::step(), all.D = 1, all.inputs = {r};
    return sum_over_time(g, g.add(std::move(all)));
  }));
  cases.push_back(built("sum_of_scaled_rows", [](Graph& g, ParameterTable& p) {
    const NodeId r = add_parameter_row(g, row(p, "r", 1));
    const NodeId one = add_slice(g, controls(g), 0, 1);
    return sum_over_time(g, add_multiply_add(g, 0.5, one, r, 2, r));
  }));
  cases.push_back(built("sum_of_carried_products", [](Graph& g, ParameterTable& p) {
    const NodeId h0 = add_parameter_row(g, row(p, "h0", 1));
    const NodeId h = add_carry(g, "h", RowKind::step(), 1, h0, false);
    const NodeId u = add_linear(g, controls(g), weight(p, "W", 1, kControls), 1);
    g[h].inputs[0] = add_linear(g, h, weight(p, "A", 1, 1), 1, row(p, "b", 1), u);
    return sum_over_time(g, h);
  }));
  cases.push_back(built("sum_of_columns", [](Graph& g, ParameterTable& p) {
    const NodeId y = add_linear(g, controls(g), weight(p, "W", 3, kControls), 3, row(p, "b", 3));
    const NodeId r = add_parameter_row(g, row(p, "r", 2));
    const NodeId wide = add_concat(g, {add_slice(g, y, 1, 2), r, add_slice(g, y, 0, 1)});
    return sum_over_time(g, add_sum(g, add_slice(g, wide, 1, 1), add_slice(g, wide, 3, 1)));
  }));
  cases.push_back(built(
      "sum_of_draws",
      [](Graph& g, ParameterTable& p) {
        Node z;
        z.op = Op::gaussian_sample, z.D = 1, z.kind = RowKind::step(true), z.site = 1, z.name = "z";
        z.inputs = {add_parameter_row(g, row(p, "mu", 1)),
                    add_parameter_row(g, row(p, "logvar", 1))};
        const NodeId drawn = add_rowwise(g, std::move(z));
        return reduce_to(g, sum_over_time(g, drawn), RowKind::sequence());
      },
      3));
  cases.push_back(built("shared_x_with_addend", [](Graph& g, ParameterTable& p) {
    const NodeId r = add_parameter_row(g, row(p, "r", 3));
    const NodeId u = add_linear(g, controls(g), weight(p, "V", 2, kControls), 2);
    const NodeId y = add_linear(g, r, weight(p, "W", 2, 3), 2, row(p, "b", 2), u);
    const NodeId t = add_activation(g, Activation::tanh, y);
    return sum_over_time(
        g, add_multiply_add(g, 1, add_slice(g, t, 0, 1), add_slice(g, t, 1, 1), 0, kNoNode));
  }));
  cases.push_back(built("kl_to_standard_normal", [](Graph& g, ParameterTable& p) {
    const NodeId y = add_linear(g, controls(g), weight(p, "W", 4, kControls), 4, row(p, "b", 4));
    Node kl;
    kl.op = Op::gaussian_kl, kl.D = 1;
    kl.inputs = {add_slice(g, y, 0, 2), add_slice(g, y, 2, 2), kNoNode, kNoNode};
    return sum_over_time(g, add_rowwise(g, std::move(kl)));
  }));
  cases.push_back(built("first_and_last", [](Graph& g, ParameterTable& p) {
    const NodeId y = add_activation(g, Activation::tanh,
                                    add_linear(g, controls(g), weight(p, "W", 1, kControls), 1));
    const NodeId first = add_node(g, Op::first, RowKind::sequence(), 1, {y});
    const NodeId last = add_node(g, Op::last, RowKind::sequence(), 1, {y});
    return add_multiply_add(g, 2, first, last, -1, last);
  }));
  cases.push_back(built("sums_of_first", [](Graph& g, ParameterTable& p) {
    const NodeId y = add_linear(g, controls(g), weight(p, "W", 1, kControls), 1, row(p, "b", 1));
    return add_node(g, Op::first, RowKind::sequence(), 1, {y});
  }));
  // Objectives of a row a step, whose seed is one row for all.
  cases.push_back(built("products_themselves", [](Graph& g, ParameterTable& p) {
    return add_linear(g, controls(g), weight(p, "W", 1, kControls), 1, row(p, "b", 1));
  }));
  cases.push_back(built("products_of_products", [](Graph& g, ParameterTable& p) {
    const NodeId y = add_linear(g, controls(g), weight(p, "W", 2, kControls), 2, row(p, "b", 2));
    const NodeId r = add_parameter_row(g, row(p, "r", 1));
    return add_sum(g, add_linear(g, y, weight(p, "V", 1, 2), 1, row(p, "c", 1)), r);
  }));
  return cases;
}

}  // namespace seqvae::test

#include "seqvae/graph/graph.hpp"

#include <algorithm>

#include "seqvae/core/error.hpp"

namespace seqvae {

RowKind join(RowKind a, RowKind b) {
  return {std::max(a.base, b.base), a.particles || b.particles};
}

std::string to_string(RowKind kind) {
  const char* base = kind.base == RowKind::Base::shared     ? "shared"
                     : kind.base == RowKind::Base::sequence ? "sequence"
                                                            : "step";
  return kind.particles ? std::string(base) + " x particles" : base;
}

const char* to_string(Op op) {
  switch (op) {
    case Op::input:
      return "input";
    case Op::parameter_row:
      return "parameter_row";
    case Op::constant:
      return "constant";
    case Op::noise_position:
      return "time";
    case Op::absent:
      return "absent";
    case Op::linear:
      return "linear";
    case Op::linear_transposed:
      return "linear_transposed";
    case Op::activation:
      return "activation";
    case Op::activation_backward:
      return "activation_backward";
    case Op::multiply_add:
      return "multiply_add";
    case Op::gated_mix:
      return "gated_mix";
    case Op::gated_mix_backward:
      return "gated_mix_backward";
    case Op::gru_cell:
      return "gru_cell";
    case Op::gru_cell_backward:
      return "gru_cell_backward";
    case Op::lstm_cell:
      return "lstm_cell";
    case Op::lstm_cell_backward:
      return "lstm_cell_backward";
    case Op::select:
      return "select";
    case Op::clamp:
      return "clamp";
    case Op::clamp_backward:
      return "clamp_backward";
    case Op::normalize:
      return "normalize";
    case Op::normalize_backward:
      return "normalize_backward";
    case Op::dropout:
      return "dropout";
    case Op::gaussian_head:
      return "gaussian_head";
    case Op::gaussian_head_backward:
      return "gaussian_head_backward";
    case Op::gaussian_sample:
      return "gaussian_sample";
    case Op::gaussian_sample_backward:
      return "gaussian_sample_backward";
    case Op::gaussian_kl:
      return "gaussian_kl";
    case Op::gaussian_kl_backward:
      return "gaussian_kl_backward";
    case Op::gaussian_log_density:
      return "gaussian_log_density";
    case Op::gaussian_log_density_backward:
      return "gaussian_log_density_backward";
    case Op::likelihood:
      return "likelihood";
    case Op::likelihood_backward:
      return "likelihood_backward";
    case Op::likelihood_sample:
      return "likelihood_sample";
    case Op::likelihood_mean:
      return "likelihood_mean";
    case Op::softmax:
      return "softmax";
    case Op::softmax_backward:
      return "softmax_backward";
    case Op::one_hot_sample:
      return "one_hot_sample";
    case Op::categorical_kl:
      return "categorical_kl";
    case Op::categorical_kl_backward:
      return "categorical_kl_backward";
    case Op::kalman_filter:
      return "kalman_filter";
    case Op::kalman_filter_backward:
      return "kalman_filter_backward";
    case Op::kalman_sample:
      return "kalman_sample";
    case Op::kalman_sample_backward:
      return "kalman_sample_backward";
    case Op::kalman_step:
      return "kalman_step";
    case Op::matrix_product:
      return "matrix_product";
    case Op::diagonal_matrix:
      return "diagonal_matrix";
    case Op::matrix_diagonal:
      return "matrix_diagonal";
    case Op::slice:
      return "slice";
    case Op::concat:
      return "concat";
    case Op::carry:
      return "carry";
    case Op::first:
      return "first";
    case Op::last:
      return "last";
    case Op::at_first:
      return "at_first";
    case Op::at_last:
      return "at_last";
    case Op::expand:
      return "expand";
    case Op::to_padded:
      return "to_padded";
    case Op::to_packed:
      return "to_packed";
    case Op::sum_over_time:
      return "sum_over_time";
    case Op::repeat:
      return "repeat";
    case Op::sum_over_particles:
      return "sum_over_particles";
    case Op::sum_over_rows:
      return "sum_over_rows";
    case Op::log_mean_exp:
      return "log_mean_exp";
    case Op::log_mean_exp_backward:
      return "log_mean_exp_backward";
    case Op::stop_gradient:
      return "stop_gradient";
    case Op::weight_gradient:
      return "weight_gradient";
    case Op::row_gradient:
      return "row_gradient";
  }
  return "?";
}

NodeId Graph::add(Node node) {
  nodes.push_back(std::move(node));
  return static_cast<NodeId>(nodes.size() - 1);
}

NodeId Graph::output(const std::string& name) const {
  for (const Output& output : outputs) {
    if (output.name == name) return output.node;
  }
  throw InvalidArgument("graph: no output is called " + name);
}

NodeId add_input(Graph& g, const std::string& name, RowKind kind, std::int64_t D) {
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    if (g.nodes[i].op == Op::input && g.nodes[i].name == name) return static_cast<NodeId>(i);
  }
  Node node;
  node.op = Op::input, node.kind = kind, node.D = D, node.name = name;
  return g.add(std::move(node));
}

NodeId add_constant(Graph& g, double value, std::int64_t D) {
  Node node;
  node.op = Op::constant, node.D = D, node.alpha = value;
  return g.add(std::move(node));
}

NodeId add_parameter_row(Graph& g, ParameterView view) {
  Node node;
  node.op = Op::parameter_row, node.D = view.cols, node.bias = view;
  return g.add(std::move(node));
}

NodeId broadcast(Graph& g, NodeId x, RowKind kind) {
  const RowKind from = g[x].kind;
  if (from == kind || from.base == RowKind::Base::shared) return x;
  Node node;
  node.D = g[x].D, node.inputs = {x};
  if (from.base != kind.base) {
    node.op = Op::expand, node.kind = {kind.base, from.particles};
    return broadcast(g, g.add(std::move(node)), kind);
  }
  node.op = Op::repeat, node.kind = kind;
  return g.add(std::move(node));
}

NodeId reduce_to(Graph& g, NodeId x, RowKind kind) {
  const RowKind from = g[x].kind;
  if (join(from, kind) == kind) return x;  // as narrow, or narrower: the same for all its rows
  Node node;
  node.D = g[x].D, node.inputs = {x};
  if (kind.base == RowKind::Base::shared) {
    node.op = Op::sum_over_rows, node.kind = kind;
    return g.add(std::move(node));
  }
  if (from.particles && !kind.particles) {
    node.op = Op::sum_over_particles, node.kind = {from.base, false};
    return reduce_to(g, g.add(std::move(node)), kind);
  }
  node.op = Op::sum_over_time, node.kind = {kind.base, from.particles};
  return reduce_to(g, g.add(std::move(node)), kind);
}

NodeId add_rowwise(Graph& g, Node node) {
  for (NodeId input : node.inputs) {
    if (input != kNoNode) node.kind = join(node.kind, g[input].kind);
  }
  for (NodeId& input : node.inputs) {
    if (input != kNoNode) input = broadcast(g, input, node.kind);
  }
  return g.add(std::move(node));
}

NodeId add_linear(Graph& g, NodeId x, ParameterView weight, std::int64_t out, ParameterView bias,
                  NodeId addend) {
  require(g[x].D == weight.cols, "linear", "columns of x", g[x].D,
          fmt::format("the weight's {}", weight.cols));
  if (addend != kNoNode && g[x].kind.base == RowKind::Base::shared && g[addend].kind != g[x].kind) {
    return add_sum(g, add_linear(g, x, weight, out, bias), addend);  // one product for all rows
  }
  Node node;
  node.op = Op::linear, node.D = out, node.weight = weight, node.bias = bias;
  node.inputs = {x, addend};
  return add_rowwise(g, std::move(node));
}

NodeId add_activation(Graph& g, Activation kind, NodeId x) {
  if (kind == Activation::identity) return x;
  Node node;
  node.op = Op::activation, node.D = g[x].D, node.activation = kind, node.inputs = {x};
  return add_rowwise(g, std::move(node));
}

NodeId add_multiply_add(Graph& g, double alpha, NodeId a, NodeId b, double beta, NodeId c) {
  Node node;
  node.op = Op::multiply_add, node.D = g[a].D, node.alpha = alpha, node.beta = beta;
  for (NodeId other : {b, c}) {
    if (other == kNoNode) continue;
    // A column of width 1 stands beside a wider one only as a shared scalar, made wide below.
    require(g[other].D == node.D, "multiply_add", "columns", g[other].D,
            fmt::format("those of the first operand, {}", node.D));
  }
  node.inputs = {a, b, c};
  return add_rowwise(g, std::move(node));
}

NodeId add_sum(Graph& g, NodeId a, NodeId b) { return add_multiply_add(g, 1, a, kNoNode, 1, b); }

NodeId add_matrix_product(Graph& g, NodeId a, NodeId b, MatrixShape shape) {
  require(g[a].D == shape.n * shape.k, "matrix_product", "columns of the first factor", g[a].D,
          fmt::format("{} x {}", shape.n, shape.k));
  require(g[b].D == shape.k * shape.m, "matrix_product", "columns of the second factor", g[b].D,
          fmt::format("{} x {}", shape.k, shape.m));
  Node node;
  node.op = Op::matrix_product, node.D = shape.n * shape.m, node.shape = shape;
  node.inputs = {a, b};
  return add_rowwise(g, std::move(node));
}

NodeId add_slice(Graph& g, NodeId x, std::int64_t begin, std::int64_t D) {
  require(begin >= 0 && D >= 1 && begin + D <= g[x].D, "slice", "end", begin + D,
          fmt::format("at most {} columns", g[x].D));
  if (begin == 0 && D == g[x].D) return x;
  if (g[x].op == Op::slice) return add_slice(g, g[x].inputs[0], g[x].begin + begin, D);
  if (g[x].op == Op::concat) {
    std::int64_t column = 0;
    for (NodeId part : g[x].inputs) {
      if (column <= begin && begin + D <= column + g[part].D) {
        return add_slice(g, part, begin - column, D);
      }
      column += g[part].D;
    }
  }
  Node node;
  node.op = Op::slice, node.kind = g[x].kind, node.D = D, node.begin = begin, node.inputs = {x};
  return g.add(std::move(node));
}

NodeId add_concat(Graph& g, std::vector<NodeId> parts) {
  if (parts.size() == 1) return parts[0];
  Node node;
  node.op = Op::concat;
  for (NodeId part : parts) node.D += g[part].D;
  node.inputs = std::move(parts);
  return add_rowwise(g, std::move(node));
}

NodeId add_carry(Graph& g, const std::string& name, RowKind kind, std::int64_t D, NodeId start,
                 bool backward_in_time) {
  Node node;
  node.op = Op::carry, node.kind = kind, node.D = D, node.name = name;
  node.backward_in_time = backward_in_time;
  if (start != kNoNode) {
    require(g[start].D == D, "carry", "columns of the start of " + name, g[start].D,
            fmt::format("{}", D));
    if (g[start].kind.base != RowKind::Base::shared) {
      start = broadcast(g, start, RowKind::sequence(kind.particles));
    }
  }
  node.inputs = {kNoNode, start};
  return g.add(std::move(node));
}

}  // namespace seqvae

// Reverse mode. Nodes are visited from last to first in the order of one step, the delayed edges
// cut; the adjoint of a carry's `next` begins with a carry of the other direction, whose own next
// is the carry's adjoint, known once the visit is over.
#include <algorithm>

#include "seqvae/core/error.hpp"
#include "seqvae/graph/passes.hpp"
#include "seqvae/graph/schedule.hpp"

namespace seqvae {
namespace {

class Reverse {
 public:
  explicit Reverse(Graph& graph)
      : g_(graph), count_(graph.nodes.size()), adjoint_(count_, kNoNode) {
    order_ = order_of_one_step(g_);
    active_.assign(count_, false);
  }

  void run(NodeId output, NodeId seed, const std::vector<NodeId>& wanted) {
    mark_active(output, wanted);
    add(output, seed);
    open_carries();
    for (auto it = order_.rbegin(); it != order_.rend(); ++it) visit(*it);
    close_carries();
    for (NodeId id : wanted) {
      const NodeId adjoint = at(adjoint_, id);
      if (adjoint != kNoNode) g_.outputs.push_back({"grad:" + g_[id].name, adjoint});
    }
  }

 private:
  template <class T>
  static typename std::vector<T>::reference at(std::vector<T>& v, NodeId id) {
    return v[static_cast<std::size_t>(id)];
  }

  // Active: a parameter (or a wanted node) reaches it and it reaches the output.
  void mark_active(NodeId output, const std::vector<NodeId>& wanted) {
    std::vector<bool> depends(count_, false), reaches(count_, false);
    for (std::size_t i = 0; i < count_; ++i) {
      const Node& node = g_.nodes[i];
      depends[i] = node.op == Op::parameter_row || node.op == Op::linear;
    }
    for (NodeId id : wanted) at(depends, id) = true;
    for (bool changed = true; changed;) {  // cycles: to a fixed point
      changed = false;
      for (std::size_t i = 0; i < count_; ++i) {
        if (depends[i] || g_.nodes[i].op == Op::stop_gradient) continue;
        for (NodeId input : g_.nodes[i].inputs) {
          if (input != kNoNode && at(depends, input)) depends[i] = changed = true;
        }
      }
    }
    std::vector<NodeId> stack = {output};
    at(reaches, output) = true;
    while (!stack.empty()) {
      const NodeId id = stack.back();
      stack.pop_back();
      if (g_[id].op == Op::stop_gradient) continue;
      for (NodeId input : g_[id].inputs) {
        if (input == kNoNode || at(reaches, input)) continue;
        at(reaches, input) = true;
        stack.push_back(input);
      }
    }
    for (std::size_t i = 0; i < count_; ++i) active_[i] = depends[i] && reaches[i];
  }

  /// [y | model] of a linear-Gaussian op, whose inputs begin with y, mask, model.
  void scatter_model(Op op, const Node& node, const std::vector<NodeId>& inputs) {
    std::vector<NodeId> differentiable = {inputs[0]};
    differentiable.insert(differentiable.end(), inputs.begin() + 2,
                          inputs.begin() + 2 + kModelInputs);
    std::vector<std::int64_t> widths;
    std::int64_t D = 0;
    for (NodeId input : differentiable) {
      widths.push_back(input == kNoNode ? 0 : g_[input].D);
      D += widths.back();
    }
    scatter(unary(op, node, inputs, D), differentiable, widths);
  }
  void add(NodeId id, NodeId gradient) {
    if (id == kNoNode || !at(active_, id)) return;
    gradient = reduce_to(g_, gradient, g_[id].kind);
    NodeId& sum = at(adjoint_, id);
    sum = sum == kNoNode ? gradient : add_sum(g_, gradient, sum);
  }

  void open_carries() {
    for (std::size_t i = 0; i < count_; ++i) {
      const NodeId id = static_cast<NodeId>(i);
      if (g_[id].op != Op::carry || !active_[i] || !at(active_, g_[id].inputs[0])) continue;
      const Node carry = g_[id];
      const NodeId back = add_carry(g_, "grad:" + carry.name, carry.kind, carry.D, kNoNode,
                                    !carry.backward_in_time);
      add(carry.inputs[0], back);
      opened_.push_back({id, back});
    }
  }

  void close_carries() {
    for (const auto& [carry, back] : opened_) {
      NodeId gradient = at(adjoint_, carry);
      // Nothing reads the carry's value at any step: its gradient is zero.
      if (gradient == kNoNode) gradient = add_constant(g_, 0, g_[carry].D);
      g_[back].inputs[0] = broadcast(g_, gradient, g_[carry].kind);
    }
  }

  NodeId unary(Op op, const Node& like, std::vector<NodeId> inputs, std::int64_t D) {
    Node node = like;
    node.op = op, node.D = D, node.inputs = std::move(inputs), node.name.clear();
    node.kind = RowKind::shared();
    return add_rowwise(g_, std::move(node));
  }

  // Adds columns of a wide gradient node to the inputs in turn.
  void scatter(NodeId wide, const std::vector<NodeId>& inputs,
               const std::vector<std::int64_t>& widths) {
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i] != kNoNode && at(active_, inputs[i])) {
        add(inputs[i], add_slice(g_, wide, begin, widths[i]));
      }
      begin += widths[i];
    }
  }

  // A gradient may be of a narrower kind than its node (the same for all rows of a sequence). Where
  // an input is narrower than the node, its share is a sum over the node's rows: then all of them
  // are made.
  NodeId widen(NodeId grad, const Node& node) {
    bool narrower_input = false;
    for (NodeId input : node.inputs) {
      narrower_input |= input != kNoNode && at(active_, input) && g_[input].kind != node.kind;
    }
    return narrower_input && node.op != Op::carry ? all_rows(grad, node.kind) : grad;
  }

  NodeId all_rows(NodeId grad, RowKind kind) {
    if (g_[grad].kind == kind) return grad;
    if (g_[grad].kind.base != RowKind::Base::shared) return broadcast(g_, grad, kind);
    Node all;
    all.op = Op::expand, all.kind = kind, all.D = g_[grad].D, all.inputs = {grad};
    return g_.add(std::move(all));
  }

  void sink(Op op, ParameterView weight, ParameterView bias, std::int64_t D,
            std::vector<NodeId> inputs) {
    Node node;
    node.op = op, node.weight = weight, node.bias = bias, node.D = D,
    node.inputs = std::move(inputs);
    for (NodeId input : node.inputs) node.kind = join(node.kind, g_[input].kind);
    for (NodeId& input : node.inputs) input = broadcast(g_, input, node.kind);
    g_.sinks.push_back(g_.add(std::move(node)));
  }

  void visit(NodeId id) {
    if (!at(active_, id)) return;
    gather_slices(id);
    if (at(adjoint_, id) == kNoNode) return;
    const Node node = g_[id];  // a copy: the graph grows below
    const auto& in = node.inputs;
    const NodeId grad = widen(at(adjoint_, id), node);
    switch (node.op) {
      case Op::parameter_row:
        // The sink sums over rows itself.
        sink(Op::row_gradient, {}, node.bias, node.D,
             {g_[grad].op == Op::sum_over_rows ? g_[grad].inputs[0] : grad});
        break;
      case Op::linear: {
        NodeId g = all_rows(grad, node.kind);  // the sinks sum over them
        if (node.activation != Activation::identity) {
          g = unary(Op::activation_backward, node, {id, g}, node.D);
        }
        sink(Op::weight_gradient, node.weight, node.bias, node.D, {g, in[0]});
        if (at(active_, in[0])) {
          Node back;
          back.op = Op::linear_transposed, back.D = node.weight.cols, back.weight = node.weight;
          back.inputs = {g, kNoNode};
          add(in[0], add_rowwise(g_, std::move(back)));
        }
        add(in[1], g);
        break;
      }
      case Op::activation:
        add(in[0], unary(Op::activation_backward, node, {id, grad}, node.D));
        break;
      case Op::multiply_add:
        if (in[1] == kNoNode) {
          add(in[0],
              node.alpha == 1 ? grad : add_multiply_add(g_, node.alpha, grad, kNoNode, 0, kNoNode));
        } else {
          if (at(active_, in[0]))
            add(in[0], add_multiply_add(g_, node.alpha, grad, in[1], 0, kNoNode));
          if (at(active_, in[1]))
            add(in[1], add_multiply_add(g_, node.alpha, grad, in[0], 0, kNoNode));
        }
        if (in[2] != kNoNode) {
          add(in[2],
              node.beta == 1 ? grad : add_multiply_add(g_, node.beta, grad, kNoNode, 0, kNoNode));
        }
        break;
      case Op::gated_mix:
        scatter(unary(Op::gated_mix_backward, node, {in[0], in[1], in[2], grad}, 3 * node.D), in,
                {node.D, node.D, node.D});
        break;
      case Op::gru_cell: {
        const std::int64_t H = node.D / 4;
        const NodeId back = unary(Op::gru_cell_backward, node,
                                  {id, in[1], in[2], add_slice(g_, grad, 0, H)}, 7 * H);
        scatter(back, in, {3 * H, 3 * H, H});
        break;
      }
      case Op::lstm_cell: {
        const std::int64_t H = node.D / 6;
        const NodeId back =
            unary(Op::lstm_cell_backward, node,
                  {id, in[1], add_slice(g_, grad, 0, H), add_slice(g_, grad, H, H)}, 5 * H);
        scatter(back, in, {4 * H, H});
        break;
      }
      case Op::select:
        add(in[1], unary(Op::select, node, {in[0], grad, kNoNode}, node.D));
        add(in[2], unary(Op::select, node, {in[0], kNoNode, grad}, node.D));
        break;
      case Op::clamp:
        add(in[0], unary(Op::clamp_backward, node, {in[0], grad}, node.D));
        break;
      case Op::normalize:
        add(in[0], unary(Op::normalize_backward, node, {in[0], grad}, node.D));
        break;
      case Op::dropout: {  // the same noise over the same rows
        Node back = node;
        back.inputs = {grad}, back.name.clear();
        add(in[0], add_rowwise(g_, std::move(back)));
        break;
      }
      case Op::softmax:
        add(in[0], unary(Op::softmax_backward, node, {id, grad}, node.D));
        break;
      case Op::one_hot_sample:
        add(in[0], grad);
        break;
      case Op::categorical_kl: {
        const std::int64_t D = g_[in[0]].D;
        scatter(unary(Op::categorical_kl_backward, node, {in[0], in[1], grad}, 2 * D), in, {D, D});
        break;
      }
      case Op::gaussian_head:
        add(in[0], unary(Op::gaussian_head_backward, node, {in[0], grad}, node.D));
        break;
      case Op::gaussian_sample:
        add(in[0], grad);
        if (at(active_, in[1])) {
          Node back = node;
          back.op = Op::gaussian_sample_backward, back.inputs = {in[1], grad};
          add(in[1], add_rowwise(g_, std::move(back)));
        }
        break;
      case Op::gaussian_kl: {
        const std::int64_t D = g_[in[0]].D;
        std::vector<NodeId> inputs = in;
        inputs.push_back(grad);
        const NodeId back =
            unary(Op::gaussian_kl_backward, node, inputs, static_cast<std::int64_t>(in.size()) * D);
        scatter(back, in, std::vector<std::int64_t>(in.size(), D));
        break;
      }
      case Op::gaussian_log_density: {
        const std::int64_t D = g_[in[0]].D;
        std::vector<NodeId> inputs = in;
        inputs.push_back(grad);
        const NodeId back = unary(Op::gaussian_log_density_backward, node, inputs, 3 * D);
        scatter(back, {in[0], in[2], in[3]}, {D, D, D});
        break;
      }
      case Op::likelihood:
        add(in[2], unary(Op::likelihood_backward, node, {in[0], in[1], in[2], grad}, g_[in[2]].D));
        break;
      case Op::kalman_filter: {
        std::vector<NodeId> inputs = in;
        inputs.push_back(id);
        inputs.push_back(add_slice(g_, all_rows(grad, node.kind), 0, 1));  // nothing reads the rest
        scatter_model(Op::kalman_filter_backward, node, inputs);
        break;
      }
      case Op::kalman_sample: {  // of z; what is drawn of y given z is an output
        const std::int64_t n = g_[in[2 + kModelStart]].D;
        std::vector<NodeId> inputs = in;
        inputs.push_back(add_slice(g_, all_rows(grad, node.kind), 0, n));
        scatter_model(Op::kalman_sample_backward, node, inputs);
        break;
      }
      case Op::matrix_product: {
        const auto& [n, k, m, ta, tb] = node.shape;
        if (at(active_, in[0])) {
          add(in[0], ta ? add_matrix_product(g_, in[1], grad, {k, m, n, tb, true})
                        : add_matrix_product(g_, grad, in[1], {n, m, k, false, !tb}));
        }
        if (at(active_, in[1])) {
          add(in[1], tb ? add_matrix_product(g_, grad, in[0], {m, n, k, true, ta})
                        : add_matrix_product(g_, in[0], grad, {k, n, m, !ta, false}));
        }
        break;
      }
      case Op::diagonal_matrix:
        add(in[0], unary(Op::matrix_diagonal, node, {grad}, g_[in[0]].D));
        break;
      case Op::slice:
        slices_.push_back({in[0], node.begin, node.D, grad});
        break;
      case Op::concat: {
        std::vector<std::int64_t> widths;
        for (NodeId input : in) widths.push_back(g_[input].D);
        scatter(broadcast(g_, grad, node.kind), in, widths);
        break;
      }
      case Op::carry:
        if (in[1] != kNoNode && at(active_, in[1])) {
          Node edge;
          edge.op = node.backward_in_time ? Op::last : Op::first;
          edge.kind = RowKind::sequence(node.kind.particles), edge.D = node.D;
          edge.inputs = {broadcast(g_, grad, node.kind)};
          add(in[1], g_.add(std::move(edge)));
        }
        break;
      case Op::first:
      case Op::last: {
        Node edge;
        edge.op = node.op == Op::first ? Op::at_first : Op::at_last;
        edge.kind = g_[in[0]].kind, edge.D = node.D, edge.inputs = {broadcast(g_, grad, node.kind)};
        add(in[0], g_.add(std::move(edge)));
        break;
      }
      case Op::expand:
      case Op::repeat:
        add(in[0], broadcast(g_, grad, node.kind));  // add() sums it up to the input's kind
        break;
      case Op::sum_over_time:
      case Op::sum_over_particles:
      case Op::sum_over_rows:
        add(in[0], broadcast(g_, grad, g_[in[0]].kind));
        break;
      case Op::log_mean_exp: {
        Node back;
        back.op = Op::log_mean_exp_backward, back.kind = g_[in[0]].kind, back.D = 1;
        back.inputs = {in[0], grad};
        add(in[0], g_.add(std::move(back)));
        break;
      }
      default:
        break;  // leaves without parameters, draws of discrete data, stop_gradient
    }
  }

  struct Slice {
    NodeId of;
    std::int64_t begin, D;
    NodeId grad;
  };

  // The adjoint of a slice is its gradient among zeros. All slices of a value have been visited
  // before it is, so they are gathered here: [a | b] whose parts are read apart gets one concat of
  // their gradients, not two sums.
  void gather_slices(NodeId of) {
    std::vector<Slice> parts;
    for (const Slice& s : slices_) {
      if (s.of == of) parts.push_back(s);
    }
    if (parts.empty()) return;
    std::sort(parts.begin(), parts.end(),
              [](const Slice& a, const Slice& b) { return a.begin < b.begin; });
    const std::int64_t D = g_[of].D;
    std::vector<NodeId> columns;
    std::int64_t filled = 0;
    for (const Slice& part : parts) {
      if (part.begin < filled) {  // overlaps its forerunner: among zeros of its own
        add(of, among_zeros(part, D));
        continue;
      }
      if (part.begin > filled) columns.push_back(add_constant(g_, 0, part.begin - filled));
      columns.push_back(part.grad);
      filled = part.begin + part.D;
    }
    if (filled < D) columns.push_back(add_constant(g_, 0, D - filled));
    add(of, add_concat(g_, columns));
  }

  NodeId among_zeros(const Slice& part, std::int64_t D) {
    std::vector<NodeId> columns;
    if (part.begin > 0) columns.push_back(add_constant(g_, 0, part.begin));
    columns.push_back(part.grad);
    if (part.begin + part.D < D) columns.push_back(add_constant(g_, 0, D - part.begin - part.D));
    return add_concat(g_, columns);
  }

  Graph& g_;
  std::size_t count_;
  std::vector<NodeId> adjoint_, order_;
  std::vector<bool> active_;
  std::vector<std::pair<NodeId, NodeId>> opened_;
  std::vector<Slice> slices_;
};

}  // namespace

void differentiate(Graph& graph, NodeId output, NodeId seed, const std::vector<NodeId>& wanted) {
  Reverse(graph).run(output, seed, wanted);
}

}  // namespace seqvae

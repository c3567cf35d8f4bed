// The word linear_gaussian: what a linear-Gaussian model says of its observations, with the states
// integrated out, and draws of both.
#include "seqvae/core/error.hpp"
#include "seqvae/graph/step.hpp"

namespace seqvae {
namespace {

std::int64_t columns(const Graph& g, NodeId id) { return g[id].D; }

void require_columns(const Graph& g, NodeId id, std::int64_t D, const char* which) {
  if (id == kNoNode) return;
  require(columns(g, id) == D, "linear_gaussian", std::string("columns of ") + which,
          columns(g, id), fmt::format("{}", D));
}

/// A, b, Q, C, d, R, m0, P0: the order in which the graph's ops take a model.
std::vector<NodeId> model_inputs(Step& s, const LinearGaussian& model, std::int64_t m) {
  const auto optional = [&](const std::optional<Var>& x) { return x ? whole(s, *x) : kNoNode; };
  const std::vector<NodeId> in = {whole(s, model.A),  optional(model.b), whole(s, model.Q),
                                  whole(s, model.C),  optional(model.d), whole(s, model.R),
                                  whole(s, model.m0), whole(s, model.P0)};
  const Graph& g = s.graph();
  const std::int64_t n = columns(g, in[6]);
  require_columns(g, in[0], n * n, "A");
  require_columns(g, in[1], n, "b");
  require_columns(g, in[2], n * n, "Q");
  require_columns(g, in[3], m * n, "C");
  require_columns(g, in[4], m, "d");
  if (columns(g, in[5]) != m) require_columns(g, in[5], m * m, "R");
  require_columns(g, in[7], n * n, "P0");
  return in;
}

NodeId add_model_op(Graph& g, Op op, std::int64_t D, RowKind kind, const std::string& name,
                    std::vector<NodeId> before, const std::vector<NodeId>& model,
                    std::uint32_t site) {
  Node node;
  node.op = op, node.D = D, node.kind = kind, node.name = name, node.site = site;
  node.inputs = std::move(before);
  node.inputs.insert(node.inputs.end(), model.begin(), model.end());
  return add_rowwise(g, std::move(node));
}

}  // namespace

NodeId Step::filter(const LinearGaussian& model, NodeId y, NodeId mask) {
  const std::vector<NodeId> in = model_inputs(*this, model, columns(graph_, y));
  const std::int64_t n = columns(graph_, in[6]);
  return add_model_op(graph_, Op::kalman_filter, 1 + n + n * n, RowKind::step(), "", {y, mask}, in,
                      0);
}

/// [z | y | E y | log Var y] of each step.
NodeId Step::states(const std::string& name, const LinearGaussian& model, NodeId y, NodeId mask,
                    NodeId filter) {
  std::vector<NodeId> in = model_inputs(*this, model, columns(graph_, y));
  const std::int64_t n = columns(graph_, in[6]), m = columns(graph_, y);
  in.push_back(filter);
  const std::uint32_t site = new_site();
  (void)new_site();  // y's
  const NodeId drawn = add_model_op(graph_, Op::kalman_sample, n + 3 * m,
                                    RowKind::step(options_.particles), name, {y, mask}, in, site);
  const NodeId started = add_constant(graph_, 1, 1);
  state_.push_back({name, add_concat(graph_, {started, add_slice(graph_, drawn, 0, n)})});
  return drawn;
}

/// The same of a step that is being generated: z ~ N(A z + b, Q) of the step before, where there is
/// one.
NodeId Step::next_states(const std::string& name, const LinearGaussian& model) {
  const std::int64_t n = width(*this, model.m0), m = width(*this, model.C) / n;
  std::vector<NodeId> in = model_inputs(*this, model, m);
  const RowKind kind = RowKind::step(options_.particles);
  const NodeId start = options_.continued ? add_input(graph_, "start:" + name,
                                                      RowKind::sequence(options_.particles), 1 + n)
                                          : kNoNode;
  const NodeId before = add_carry(graph_, name, kind, 1 + n, start, false);
  const Var started = var(add_slice(graph_, before, 0, 1));
  Var moved = matrix_product(*this, model.A, var(add_slice(graph_, before, 1, n)), {n, n, 1});
  if (model.b) moved = add(*this, moved, *model.b);
  in[kModelStart] = whole(*this, select(*this, started, moved, model.m0));
  in[kModelStart + 1] = whole(*this, select(*this, started, model.Q, model.P0));
  const std::uint32_t site = new_site();
  (void)new_site();
  const NodeId drawn = add_model_op(graph_, Op::kalman_step, n + 3 * m, kind, name, {}, in, site);
  graph_[before].inputs[0] =
      add_concat(graph_, {add_constant(graph_, 1, 1), add_slice(graph_, drawn, 0, n)});
  return drawn;
}

LinearGaussianDraw Step::linear_gaussian(const std::string& name, const LinearGaussian& model,
                                         const Gaussian& posterior) {
  const std::int64_t n = width(*this, model.m0), m = width(*this, posterior.mu);
  const std::uint32_t site = new_site();
  if (generating()) {
    const NodeId drawn = next_states(name, model);
    const NodeId z = add_slice(graph_, drawn, 0, n);
    latents_.push_back({.name = name, .draw = z});
    return {var(add_slice(graph_, drawn, n, m)), var(z)};
  }
  const NodeId y = draw(posterior, RowKind::Base::step, site, name);
  const NodeId mu = whole(*this, posterior.mu), logvar = whole(*this, posterior.logvar);
  const auto log_density = [&](NodeId at) {
    Node node;
    node.op = Op::gaussian_log_density, node.D = 1, node.inputs = {at, kNoNode, mu, logvar};
    return add_rowwise(graph_, std::move(node));
  };
  const NodeId log_q = options_.sampled_kl ? log_density(y)  // else E log q(y) = log q(mu) - m / 2
                                           : add_multiply_add(graph_, 1, log_density(mu), kNoNode,
                                                              -0.5 * static_cast<double>(m),
                                                              add_constant(graph_, 1, 1));
  const NodeId filtered = filter(model, y, kNoNode);
  const NodeId z = add_slice(graph_, states(name, model, y, kNoNode, filtered), 0, n);
  const NodeId kl =
      add_multiply_add(graph_, 1, log_q, kNoNode, -1, add_slice(graph_, filtered, 0, 1));
  latents_.push_back({.name = name, .value = kl, .draw = z});
  return {var(y), var(z)};
}

LinearGaussianDraw Step::linear_gaussian(const std::string& name, const LinearGaussian& model) {
  const std::int64_t n = width(*this, model.m0), m = options_.x_width;
  NodeId drawn = kNoNode, log_likelihood = kNoNode;
  if (generating()) {
    drawn = next_states(name, model);
  } else {
    const NodeId x = add_input(graph_, "x", RowKind::step(), m);
    const NodeId mask =
        options_.missing ? add_input(graph_, "x_mask", RowKind::step(), m) : kNoNode;
    const NodeId filtered = filter(model, x, mask);
    log_likelihood = add_slice(graph_, filtered, 0, 1);
    drawn = states(name, model, x, mask, filtered);
  }
  const auto part = [&](std::int64_t i) { return add_slice(graph_, drawn, n + i * m, m); };
  const Var z = var(add_slice(graph_, drawn, 0, n));
  // The states are integrated out: they are a latent that costs nothing.
  latents_.push_back(
      {.name = name, .value = add_constant(graph_, 0, 1), .draw = z.pieces[0].value});
  return {observe({.name = "x",
                   .value = log_likelihood,
                   .draw = part(0),
                   .mean = part(1),
                   .logvar = part(2)}),
          z};
}

}  // namespace seqvae

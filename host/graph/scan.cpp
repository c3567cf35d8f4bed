#include "seqvae/graph/scan.hpp"

#include "seqvae/core/error.hpp"
#include "seqvae/graph/passes.hpp"

namespace seqvae {
namespace {

/// Traces until it is known which carries have particles: a carry has them where its next has.
Step trace(Graph& graph, const StepFunction& step, const ParameterTable& parameters,
           const TraceOptions& options) {
  std::map<std::string, bool> with_particles;
  for (;;) {
    graph = Graph();
    Step traced(graph, parameters, options, with_particles);
    step(traced);
    traced.finish();
    const std::map<std::string, bool> found = traced.carries_with_particles();
    bool settled = true;
    for (const auto& [name, particles] : found) settled &= with_particles[name] == particles;
    if (settled) return traced;
    with_particles = found;
  }
}

class BoundBuilder {
 public:
  BoundBuilder(Graph& graph, const Step& step, const ScanOptions& options)
      : g_(graph), step_(step), options_(options) {}

  void build() {
    const bool particles = options_.trace.particles;
    const RowKind rows = RowKind::sequence(particles);
    NodeId log_likelihood = kNoNode, kl = kNoNode, penalty = kNoNode;
    for (const Term& term : step_.observations())
      accumulate(log_likelihood, over_time(term.value, rows));
    for (const Term& term : step_.latents()) {
      accumulate(kl, over_time(term.value, rows));
      const NodeId free =
          options_.free_nats > 0 ? at_least(term.value, options_.free_nats) : term.value;
      accumulate(penalty, over_time(free, rows));
    }
    if (log_likelihood == kNoNode) throw InvalidArgument("step: nothing is observed");
    if (kl == kNoNode) kl = penalty = broadcast_rows(add_constant(g_, 0, 1), rows);

    NodeId bound = add_multiply_add(g_, 1, log_likelihood, kNoNode, -1, kl);
    const NodeId beta = add_input(g_, "beta", RowKind::shared(), 1);
    NodeId objective = add_multiply_add(g_, -1, penalty, beta, 1, log_likelihood);
    if (options_.bound == Bound::iwae && particles) {
      bound = log_mean_exp(bound), objective = log_mean_exp(objective);
    } else if (particles) {
      bound = mean_over_particles(bound), objective = mean_over_particles(objective);
    }
    g_.outputs = {
        {"log_likelihood", log_likelihood}, {"kl", kl}, {"bound", bound}, {"objective", objective}};
    if (options_.gradient) {
      // What is one value has one gradient: else each copy of it would pass its own back.
      share_common_subexpressions(g_);
      differentiate(g_, g_.outputs.back().node, add_input(g_, "seed", RowKind::shared(), 1));
    }
  }

 private:
  static void accumulate_into(Graph& g, NodeId& sum, NodeId term) {
    sum = sum == kNoNode ? term : add_sum(g, sum, term);
  }
  void accumulate(NodeId& sum, NodeId term) { accumulate_into(g_, sum, term); }

  NodeId broadcast_rows(NodeId x, RowKind kind) {
    Node node;
    node.op = Op::expand, node.kind = kind, node.D = g_[x].D, node.inputs = {x};
    return g_.add(std::move(node));
  }

  /// Summed over a sequence's counted steps, with or without particles as `rows` has them.
  NodeId over_time(NodeId term, RowKind rows) {
    if (g_[term].kind.base == RowKind::Base::shared) term = broadcast_rows(term, RowKind::step());
    if (g_[term].kind.base == RowKind::Base::step) {
      if (options_.weighted) {
        term =
            add_multiply_add(g_, 1, term, add_input(g_, "weight", RowKind::step(), 1), 0, kNoNode);
      }
      Node node;
      node.op = Op::sum_over_time, node.kind = {RowKind::Base::sequence, g_[term].kind.particles};
      node.D = 1, node.inputs = {term};
      term = g_.add(std::move(node));
    }
    return broadcast(g_, term, rows);
  }

  NodeId at_least(NodeId kl, double nats) {
    const NodeId one = add_constant(g_, 1, 1);
    const NodeId above =
        add_activation(g_, Activation::relu, add_multiply_add(g_, 1, kl, kNoNode, -nats, one));
    return add_multiply_add(g_, 1, above, kNoNode, nats, one);
  }

  NodeId log_mean_exp(NodeId x) {
    Node node;
    node.op = Op::log_mean_exp, node.kind = RowKind::sequence(), node.D = 1, node.inputs = {x};
    return g_.add(std::move(node));
  }

  // The number of particles is a plan's: the division by it is an input.
  NodeId mean_over_particles(NodeId x) {
    Node node;
    node.op = Op::sum_over_particles, node.kind = RowKind::sequence(), node.D = 1,
    node.inputs = {x};
    const NodeId share = add_input(g_, "one_over_particles", RowKind::shared(), 1);
    return add_multiply_add(g_, 1, g_.add(std::move(node)), share, 0, kNoNode);
  }

  Graph& g_;
  const Step& step_;
  const ScanOptions& options_;
};

void add_paths(Graph& graph, const Step& step) {
  const auto output = [&](const std::string& name, NodeId node) {
    if (node != kNoNode) graph.outputs.push_back({name, node});
  };
  for (const Term& term : step.latents()) {
    output("latent:" + term.name, term.draw);
    output("posterior_mean:" + term.name, term.mean);
    output("posterior_logvar:" + term.name, term.logvar);
  }
  for (const Term& term : step.observations()) {
    output("mean:" + term.name, term.mean);
    output("logvar:" + term.name, term.logvar);
    output("draw:" + term.name, term.draw);
    output("log_likelihood:" + term.name, term.value);
  }
}

void add_states(Graph& graph, const Step& step, bool particles) {
  for (const auto& [name, value] : step.state()) {
    NodeId last = value;
    if (graph[value].kind.base == RowKind::Base::step) {
      Node node;
      node.op = Op::last, node.kind = {RowKind::Base::sequence, graph[value].kind.particles};
      node.D = graph[value].D, node.inputs = {value};
      last = graph.add(std::move(node));
    }
    graph.outputs.push_back(
        {"start:" + name, broadcast(graph, last, RowKind::sequence(particles))});
  }
}

}  // namespace

Scan trace_scan(const StepFunction& step, const ParameterTable& parameters,
                const ScanOptions& options) {
  Scan scan;
  scan.options = options;
  const Step traced = trace(scan.graph, step, parameters, options.trace);
  if (options.trace.mode == Mode::infer) {
    BoundBuilder(scan.graph, traced, options).build();
    if (options.states) add_states(scan.graph, traced, options.trace.particles);
  }
  if (options.paths || options.trace.mode == Mode::generate) add_paths(scan.graph, traced);
  drop_dead(scan.graph);
  share_common_subexpressions(scan.graph);
  drop_dead(scan.graph);
  fuse(scan.graph);
  drop_dead(scan.graph);
  scan.schedule = make_schedule(scan.graph, options.hoist);
  return scan;
}

}  // namespace seqvae

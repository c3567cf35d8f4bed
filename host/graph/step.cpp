#include "seqvae/graph/step.hpp"

#include <algorithm>

#include "seqvae/core/error.hpp"

namespace seqvae {
namespace {

NodeId make(Graph& g, Op op, std::int64_t D, std::vector<NodeId> inputs) {
  Node node;
  node.op = op, node.D = D, node.inputs = std::move(inputs);
  return add_rowwise(g, std::move(node));
}

NodeId make_absent(Graph& g, const std::string& name, std::int64_t D) {
  Node node;
  node.op = Op::absent, node.kind = RowKind::step(), node.D = D, node.name = name;
  return g.add(std::move(node));
}

void require_word(bool holds, const std::string& what) {
  if (!holds) throw InvalidArgument("step: " + what);
}

}  // namespace

Emission::Kind parse_emission(const std::string& name) {
  for (const auto kind : {Emission::Kind::bernoulli, Emission::Kind::gaussian,
                          Emission::Kind::categorical, Emission::Kind::poisson}) {
    if (name == to_string(kind)) return kind;
  }
  throw InvalidArgument("emission = " + name +
                        ", must be auto, bernoulli, gaussian, categorical or poisson");
}

const char* to_string(Emission::Kind kind) {
  switch (kind) {
    case Emission::Kind::bernoulli:
      return "bernoulli";
    case Emission::Kind::gaussian:
      return "gaussian";
    case Emission::Kind::categorical:
      return "categorical";
    case Emission::Kind::poisson:
      return "poisson";
  }
  return "?";
}

Step::Step(Graph& graph, const ParameterTable& parameters, const TraceOptions& options,
           const std::map<std::string, bool>& carries_with_particles)
    : graph_(graph),
      parameters_(parameters),
      options_(options),
      with_particles_(carries_with_particles) {}

NodeId Step::draw(const Gaussian& density, RowKind::Base base, std::uint32_t site,
                  const std::string& name) {
  Node node;
  node.op = Op::gaussian_sample, node.site = site, node.name = name;
  node.inputs = {whole(*this, density.mu), whole(*this, density.logvar)};
  node.D = graph_[node.inputs[0]].D;
  node.kind = {base, options_.particles};
  return add_rowwise(graph_, std::move(node));
}

Var Step::draw_latent(const std::string& name, const Gaussian& prior, const Gaussian& posterior,
                      bool global) {
  const std::uint32_t site = new_site();
  const RowKind::Base base = global ? RowKind::Base::sequence : RowKind::Base::step;
  Term term{.name = name, .global = global};
  if (generating()) {
    term.draw = draw(prior, base, site, name);
    latents_.push_back(term);
    return var(term.draw);
  }
  const NodeId z = draw(posterior, base, site, name);
  const NodeId mu_q = whole(*this, posterior.mu), logvar_q = whole(*this, posterior.logvar);
  const NodeId mu_p = whole(*this, prior.mu), logvar_p = whole(*this, prior.logvar);
  if (options_.sampled_kl) {
    const NodeId log_q = make(graph_, Op::gaussian_log_density, 1, {z, kNoNode, mu_q, logvar_q});
    const NodeId log_p = make(graph_, Op::gaussian_log_density, 1, {z, kNoNode, mu_p, logvar_p});
    term.value = add_multiply_add(graph_, 1, log_q, kNoNode, -1, log_p);
  } else {
    Node kl;
    kl.op = Op::gaussian_kl, kl.D = 1, kl.inputs = {mu_q, logvar_q, mu_p, logvar_p};
    kl.kind = {base, false};
    term.value = add_rowwise(graph_, std::move(kl));
  }
  term.draw = z, term.mean = mu_q, term.logvar = logvar_q;
  latents_.push_back(term);
  return var(z);
}

Var Step::latent(const std::string& name, const Gaussian& prior, const Gaussian& posterior) {
  return draw_latent(name, prior, posterior, false);
}

Var Step::global(const std::string& name, const Gaussian& prior, const Gaussian& posterior) {
  Var z;
  if (generating() && options_.continued) {
    (void)new_site();
    const NodeId n = whole(*this, prior.mu);
    z = var(add_input(graph_, "start:global:" + name, RowKind::sequence(options_.particles),
                      graph_[n].D));
    latents_.push_back({.name = name, .draw = z.pieces[0].value, .global = true});
  } else {
    z = draw_latent(name, prior, posterior, true);
  }
  state_.push_back({"global:" + name, z.pieces[0].value});
  return z;
}

Var Step::observed(const std::string& name, const Emission& emission) {
  const std::uint32_t site = new_site();
  Term term{.name = name};
  const RowKind kind = RowKind::step(options_.particles && generating());
  Node sample;
  sample.site = site, sample.name = name, sample.D = options_.x_width, sample.kind = kind;
  if (emission.kind == Emission::Kind::gaussian) {
    term.mean = whole(*this, emission.density.mu);
    term.logvar = whole(*this, emission.density.logvar);
    sample.op = Op::gaussian_sample, sample.inputs = {term.mean, term.logvar};
  } else {
    const NodeId logits = whole(*this, emission.logits);
    const Likelihood likelihood = emission.kind == Emission::Kind::bernoulli ? Likelihood::bernoulli
                                  : emission.kind == Emission::Kind::poisson
                                      ? Likelihood::poisson
                                      : Likelihood::categorical;
    Node mean;
    mean.op = Op::likelihood_mean, mean.likelihood = likelihood, mean.D = options_.x_width;
    mean.inputs = {logits};
    term.mean = add_rowwise(graph_, std::move(mean));
    sample.op = Op::likelihood_sample, sample.likelihood = likelihood, sample.inputs = {logits};
  }
  require(graph_[term.mean].D == options_.x_width, "observed", "columns of the emission",
          graph_[term.mean].D, fmt::format("those of x, {}", options_.x_width));
  term.draw = add_rowwise(graph_, std::move(sample));
  if (!generating()) {
    const NodeId x = add_input(graph_, "x", RowKind::step(), options_.x_width);
    const NodeId mask =
        options_.missing ? add_input(graph_, "x_mask", RowKind::step(), options_.x_width) : kNoNode;
    Node score;
    score.D = 1;
    if (emission.kind == Emission::Kind::gaussian) {
      score.op = Op::gaussian_log_density, score.inputs = {x, mask, term.mean, term.logvar};
    } else {
      score.op = Op::likelihood, score.likelihood = graph_[term.draw].likelihood;
      score.inputs = {x, mask, graph_[term.draw].inputs[0]};
    }
    term.value = add_rowwise(graph_, std::move(score));
  }
  return observe(term);
}

Var Step::observe(const Term& term) {
  observations_.push_back(term);
  if (!generating()) return input("x");
  drawn_x_ = options_.draw_observations ? term.draw : term.mean;
  return var(drawn_x_);
}

Var Step::input(const std::string& name) {
  if (name == "controls") {
    require(options_.controls_width > 0, "input", "controls", 0,
            "given where the model reads them");
    return var(add_input(graph_, name, RowKind::step(), options_.controls_width));
  }
  require(name == "x", "input", "name", name, "x or controls");
  if (generating()) return var(make_absent(graph_, name, options_.x_width));
  Var x = var(add_input(graph_, name, RowKind::step(), options_.x_width));
  if (options_.missing) {
    x.pieces[0].missing = add_input(graph_, "x_missing", RowKind::step(), options_.x_width);
  }
  return x;
}

Var Step::previous(const std::string& name) {
  require(name == "x", "previous", "name", name, "x");
  if (!previous_) previous_ = generating() ? previous_draw() : previous_data();
  return *previous_;
}

Var Step::previous_data() {
  const Var x = input("x");
  const auto shifted = [&](NodeId node, const std::string& label) {
    if (node == kNoNode) return kNoNode;
    const NodeId carry =
        add_carry(graph_, label, RowKind::step(), options_.x_width, kNoNode, false);
    graph_[carry].inputs[0] = node;
    state_.push_back({label, node});
    return carry;
  };
  return {{{shifted(x.pieces[0].value, "previous:x"),
            shifted(x.pieces[0].missing, "previous:x_missing")}}};
}

Var Step::previous_draw() {
  const RowKind kind = RowKind::step(options_.particles);
  const auto carry = [&](const std::string& label) {
    const NodeId start = options_.continued
                             ? add_input(graph_, "start:" + label,
                                         RowKind::sequence(options_.particles), options_.x_width)
                             : kNoNode;
    return add_carry(graph_, label, kind, options_.x_width, start, false);
  };
  Var last = var(carry("previous:x"));
  if (options_.missing && options_.continued) {
    // Only the first generated step can see a gap: the context's last.
    const NodeId gap = carry("previous:x_missing");
    graph_[gap].inputs[0] = add_constant(graph_, 0, options_.x_width);
    last.pieces[0].missing = gap;
  }
  return last;
}

Var Step::open(const std::string& name, std::int64_t D, const std::optional<Var>& start,
               bool backward) {
  if (carries_.contains(name)) throw InvalidArgument("step: two carries are called " + name);
  const auto known = with_particles_.find(name);
  RowKind kind = RowKind::step(known != with_particles_.end() && known->second);
  NodeId from = kNoNode;
  if (generating()) {
    kind.particles = options_.particles;
    if (options_.continued) {
      from = add_input(graph_, "start:" + name, RowKind::sequence(kind.particles), D);
    }
  }
  if (from == kNoNode && start) from = whole(*this, *start);
  if (from != kNoNode && graph_[from].kind.particles) kind.particles = true;
  Carry carry;
  carry.node = add_carry(graph_, name, kind, D, from, backward);
  carry.backward = backward;
  carries_[name] = carry;
  return var(carry.node);
}

void Step::close(const std::string& name, const Var& value, bool backward) {
  const auto found = carries_.find(name);
  if (found == carries_.end() || found->second.backward != backward) {
    throw InvalidArgument("step: next of " + name + ", which is no carry of that direction");
  }
  Carry& carry = found->second;
  if (carry.next != kNoNode) throw InvalidArgument("step: two nexts of the carry " + name);
  const RowKind kind = graph_[carry.node].kind;
  NodeId next = whole(*this, value);
  require(graph_[next].D == graph_[carry.node].D, "step", "columns of the next of " + name,
          graph_[next].D, fmt::format("{}", graph_[carry.node].D));
  carry.next = next;
  // A next with particles for a carry without is traced again (carries_with_particles).
  if (join(graph_[next].kind, kind) == kind) next = broadcast(graph_, next, kind);
  graph_[carry.node].inputs[0] = next;
  if (!backward) state_.push_back({name, next});
}

Var Step::carry(const std::string& name, std::int64_t D, std::optional<Var> start) {
  return open(name, D, start, false);
}
void Step::next(const std::string& name, const Var& value) { close(name, value, false); }

Var Step::carry_back(const std::string& name, std::int64_t D, std::optional<Var> start) {
  if (generating()) return var(make_absent(graph_, name, D));
  return open(name, D, start, true);
}
void Step::next_back(const std::string& name, const Var& value) {
  if (!generating()) close(name, value, true);
}

Var Step::final(const std::string& name) {
  const auto found = carries_.find(name);
  if (found == carries_.end())
    throw InvalidArgument("step: final of " + name + ", which is no carry");
  const Carry& carry = found->second;
  if (carry.next == kNoNode) throw InvalidArgument("step: final of " + name + " before its next");
  Node node;
  node.op = carry.backward ? Op::first : Op::last;
  if (generating()) {
    node.op = Op::absent, node.name = "final of " + name;
  } else {
    node.inputs = {graph_[carry.node].inputs[0]};
  }
  node.kind = RowKind::sequence(graph_[carry.node].kind.particles), node.D = graph_[carry.node].D;
  return var(graph_.add(std::move(node)));
}

Var Step::time() {
  Node node;
  node.op = Op::noise_position, node.kind = RowKind::step(), node.D = 1;
  return var(graph_.add(std::move(node)));
}

Var Step::start() {
  if (options_.continued) return zeros(*this, 1);
  const NodeId first =
      add_carry(graph_, "start", RowKind::step(), 1, add_constant(graph_, 1, 1), false);
  graph_[first].inputs[0] = add_constant(graph_, 0, 1);
  return var(first);
}

std::map<std::string, bool> Step::carries_with_particles() const {
  std::map<std::string, bool> found;
  for (const auto& [name, carry] : carries_) {
    found[name] = graph_[carry.node].kind.particles ||
                  (carry.next != kNoNode && graph_[carry.next].kind.particles);
  }
  return found;
}

void Step::finish() {
  if (generating() && previous_) {
    const NodeId carry = previous_->pieces[0].value;
    require_word(drawn_x_ != kNoNode, "previous(\"x\") without observed(\"x\")");
    graph_[carry].inputs[0] = broadcast(graph_, drawn_x_, graph_[carry].kind);
    state_.push_back({"previous:x", drawn_x_});
  }
  for (const auto& [name, carry] : carries_) {
    if (carry.next == kNoNode) throw InvalidArgument("step: the carry " + name + " has no next");
  }
}

Var var(NodeId node) { return {{{node, kNoNode}}}; }

Var concat(std::initializer_list<Var> parts) {
  Var all;
  for (const Var& part : parts) {
    all.pieces.insert(all.pieces.end(), part.pieces.begin(), part.pieces.end());
  }
  return all;
}

std::int64_t width(Step& s, const Var& x) {
  std::int64_t D = 0;
  for (const Var::Piece& piece : x.pieces) D += s.graph()[piece.value].D;
  return D;
}

NodeId whole(Step& s, const Var& x) {
  std::vector<NodeId> parts;
  for (const Var::Piece& piece : x.pieces) {
    if (piece.missing != kNoNode) {
      throw InvalidArgument(
          "step: a value that may be missing goes into linear, gru or lstm alone");
    }
    parts.push_back(piece.value);
  }
  require(!parts.empty(), "step", "pieces of a value", 0, ">= 1");
  return add_concat(s.graph(), parts);
}

Var value(const Var& x) {
  Var values = x;
  for (Var::Piece& piece : values.pieces) piece.missing = kNoNode;
  return values;
}

Var missing(Step& s, const Var& x) {
  Var gaps;
  for (const Var::Piece& piece : x.pieces) {
    gaps.pieces.push_back({piece.missing != kNoNode
                               ? piece.missing
                               : add_constant(s.graph(), 0, s.graph()[piece.value].D),
                           kNoNode});
  }
  return gaps;
}

Var slice(Step& s, const Var& x, std::int64_t begin, std::int64_t D) {
  return var(add_slice(s.graph(), whole(s, x), begin, D));
}
Var add(Step& s, const Var& a, const Var& b) {
  return var(add_sum(s.graph(), whole(s, a), whole(s, b)));
}
Var multiply(Step& s, const Var& a, const Var& b) {
  return var(add_multiply_add(s.graph(), 1, whole(s, a), whole(s, b), 0, kNoNode));
}
Var scale(Step& s, double factor, const Var& x, double shift) {
  const NodeId node = whole(s, x);
  const NodeId one = shift == 0 ? kNoNode : add_constant(s.graph(), 1, s.graph()[node].D);
  return var(add_multiply_add(s.graph(), factor, node, kNoNode, shift, one));
}
Var activation(Step& s, Activation kind, const Var& x) {
  return var(add_activation(s.graph(), kind, whole(s, x)));
}
Var gated_mix(Step& s, const Var& g, const Var& a, const Var& b) {
  const NodeId gate = whole(s, g);
  return var(make(s.graph(), Op::gated_mix, s.graph()[gate].D, {gate, whole(s, a), whole(s, b)}));
}
Var select(Step& s, const Var& condition, const Var& a, const Var& b) {
  const Graph& g = s.graph();
  const NodeId chooses = whole(s, condition), first = whole(s, a), second = whole(s, b);
  const std::int64_t D = g[first].D;
  require(g[second].D == D, "select", "columns of b", g[second].D,
          fmt::format("those of a, {}", D));
  require(g[chooses].D == D || g[chooses].D == 1, "select", "columns of the condition",
          g[chooses].D, fmt::format("1 or those of a, {}", D));
  return var(make(s.graph(), Op::select, D, {chooses, first, second}));
}
Var clamp(Step& s, const Var& x, double low, double high) {
  require(low <= high, "clamp", "low", low, fmt::format("<= high, {}", high));
  Node node;
  node.op = Op::clamp, node.inputs = {whole(s, x)}, node.alpha = low, node.beta = high;
  node.D = s.graph()[node.inputs[0]].D;
  return var(add_rowwise(s.graph(), std::move(node)));
}
Var normalize(Step& s, Normalization kind, const Var& x, double epsilon) {
  require(epsilon >= 0, "normalize", "epsilon", epsilon, ">= 0");
  Node node;
  node.op = Op::normalize, node.normalization = kind, node.alpha = epsilon;
  node.inputs = {whole(s, x)};
  node.D = s.graph()[node.inputs[0]].D;
  return var(add_rowwise(s.graph(), std::move(node)));
}
Var dropout(Step& s, const Var& x, double rate) {
  require(rate >= 0 && rate < 1, "dropout", "rate", rate, "in [0, 1)");
  const std::uint32_t site = s.new_site();
  if (!s.options().dropout) return x;
  Node node;
  node.op = Op::dropout, node.site = site, node.alpha = rate, node.inputs = {whole(s, x)};
  node.D = s.graph()[node.inputs[0]].D;
  const bool of_sequence = s.graph()[node.inputs[0]].kind.base == RowKind::Base::sequence;
  node.kind = of_sequence ? RowKind::sequence() : RowKind::step();
  return var(add_rowwise(s.graph(), std::move(node)));
}

namespace {
NodeId make_categorical(Step& s, Op op, std::vector<NodeId> inputs, std::int64_t groups) {
  Node node;
  node.op = op, node.inputs = std::move(inputs), node.groups = groups;
  node.D = s.graph()[node.inputs[0]].D;
  for (const NodeId input : node.inputs) {
    require(s.graph()[input].D == node.D, to_string(op), "columns", s.graph()[input].D,
            fmt::format("those of the first operand, {}", node.D));
  }
  require(groups >= 1 && node.D % groups == 0, to_string(op), "groups", groups,
          fmt::format("a divisor of the {} columns", node.D));
  if (op == Op::categorical_kl) node.D = 1;
  if (op == Op::one_hot_sample) {
    node.kind = RowKind::step(s.options().particles), node.site = s.new_site();
  }
  return add_rowwise(s.graph(), std::move(node));
}
}  // namespace

Var softmax(Step& s, const Var& logits, std::int64_t groups) {
  return var(make_categorical(s, Op::softmax, {whole(s, logits)}, groups));
}
Var one_hot_sample(Step& s, const Var& p, std::int64_t groups) {
  return var(make_categorical(s, Op::one_hot_sample, {whole(s, p)}, groups));
}
Var categorical_kl(Step& s, const Var& logits_q, const Var& logits_p, std::int64_t groups) {
  return var(
      make_categorical(s, Op::categorical_kl, {whole(s, logits_q), whole(s, logits_p)}, groups));
}
Var matrix_product(Step& s, const Var& a, const Var& b, MatrixShape shape) {
  return var(add_matrix_product(s.graph(), whole(s, a), whole(s, b), shape));
}
Var diagonal(Step& s, const Var& x) {
  const NodeId node = whole(s, x);
  const std::int64_t n = s.graph()[node].D;
  return var(make(s.graph(), Op::diagonal_matrix, n * n, {node}));
}
Var stop_gradient(Step& s, const Var& x) {
  const NodeId node = whole(s, x);
  return var(make(s.graph(), Op::stop_gradient, s.graph()[node].D, {node}));
}
Var parameter(Step& s, std::int32_t index) {
  return var(add_parameter_row(s.graph(), {index, 0, s.parameters()[index].cols}));
}
Var zeros(Step& s, std::int64_t n) { return var(add_constant(s.graph(), 0, n)); }
Gaussian standard_normal(Step& s, std::int64_t n) { return {zeros(s, n), zeros(s, n)}; }

Var gaussian_head_logvar(Step& s, const Var& raw, ScaleMap map, double shift, double floor) {
  Node node;
  node.op = Op::gaussian_head, node.scale_map = map, node.alpha = shift, node.beta = floor;
  node.inputs = {whole(s, raw)};
  node.D = s.graph()[node.inputs[0]].D;
  return var(add_rowwise(s.graph(), std::move(node)));
}

Gaussian gaussian_head(Step& s, const Var& mu_and_raw, ScaleMap map, double shift, double floor) {
  const std::int64_t n = width(s, mu_and_raw) / 2;
  return {slice(s, mu_and_raw, 0, n),
          gaussian_head_logvar(s, slice(s, mu_and_raw, n, n), map, shift, floor)};
}

}  // namespace seqvae

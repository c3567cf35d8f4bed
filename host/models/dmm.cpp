#include "seqvae/models/dmm.hpp"

#include <nlohmann/json.hpp>

#include "seqvae/core/error.hpp"

namespace seqvae {

io::Json DmmConfig::to_json() const {
  return {{"z", z},
          {"emission", emission},
          {"transition", transition},
          {"rnn", rnn},
          {"encoder", encoder},
          {"posterior", posterior},
          {"augmented", augmented},
          {"residual", residual}};
}

DmmConfig DmmConfig::from_json(const io::JsonView& json) {
  DmmConfig config;
  config.z = json.at("z").integer(1, 1 << 16);
  config.emission = json.at("emission").integer(1, 1 << 16);
  config.transition = json.at("transition").integer(1, 1 << 16);
  config.rnn = json.at("rnn").integer(1, 1 << 16);
  config.encoder = json.at("encoder").choice({"relu", "gru", "lstm"});
  config.posterior =
      json.at("posterior").choice({"ST-R", "ST-L", "ST-LR", "MF-R", "MF-L", "MF-LR"});
  config.augmented = json.at("augmented").boolean();
  config.residual = json.at("residual").boolean();
  return config;
}

Dmm::Dmm(const DmmConfig& config, const DataShape& shape) : Model(shape), config_(config) {
  structured_ = config.posterior.starts_with("ST");
  left_ = config.posterior.find('L') != std::string::npos;
  right_ = config.posterior.find('R') != std::string::npos;

  require(!config.residual || shape.emission == Emission::Kind::gaussian, "dmm", "residual", true,
          "false where the emission is not gaussian");

  ParameterTable& p = parameters_;
  const std::int64_t x = shape.x_width, u = shape.controls_width, z = config.z;
  const std::int64_t missing = shape.missing ? x : 0, past = config.augmented ? x : 0;
  const nn::Encoder::Cell cell = nn::Encoder::parse(config.encoder);

  // Columns that may be missing come first: x_{t-1}, then z.
  const std::int64_t seen = past + z, gaps = config.augmented ? missing : 0;
  emitter_ = nn::EmissionHead(p, "emitter", shape.emission, seen,
                              {config.emission, config.emission}, x, gaps);
  gate_ = nn::Mlp(p, "transition.gate", seen + u, {config.transition, z}, Activation::relu, false,
                  gaps);
  proposal_ = nn::Mlp(p, "transition.proposal", seen + u, {config.transition, z}, Activation::relu,
                      false, gaps);
  scale_ = nn::Linear(p, "transition.scale", z, z);
  linear_ = nn::Linear(p, "transition.linear", z, z).starts_as_identity(p);
  if (structured_) {
    state_ = nn::Linear(p, "combiner.state", z, config.rnn);
    zq0_ = p.add_vector("zq0", z, {});
  }
  out_ = nn::Linear(p, "combiner.out", config.rnn, 2 * z);
  if (!structured_ && left_ && right_)
    out_forward_ = nn::Linear(p, "combiner.out_forward", config.rnn, 2 * z);
  z0_ = p.add_vector("z0", z, {});
  if (right_) {
    rnn_ = nn::Encoder(p, "rnn", cell, x + u, config.rnn, true, missing,
                       p.add_vector("h0", config.rnn, {}));
  }
  if (left_) {
    rnn_forward_ = nn::Encoder(p, "rnn_forward", cell, x + u, config.rnn, false, missing,
                               p.add_vector("h0_forward", config.rnn, {}));
  }
}

Posterior Dmm::posterior() const { return right_ ? Posterior::smooth : Posterior::filter; }

Gaussian Dmm::transition(Step& s, const Var& z) const {
  Var seen = config_.augmented ? concat({s.previous("x"), z}) : z;
  if (shape_.controls_width > 0) seen = concat({seen, s.input("controls")});
  const Var g = activation(s, Activation::sigmoid, gate_(s, seen));
  const Var h = proposal_(s, seen);
  const Var raw = scale_(s, activation(s, Activation::relu, h));
  return {gated_mix(s, g, linear_(s, z), h), gaussian_head_logvar(s, raw, ScaleMap::softplus_std)};
}

Gaussian Dmm::infer(Step& s) const {
  const auto gaussian = [&](const Var& out) {
    return gaussian_head(s, out, ScaleMap::softplus_std);
  };
  Var x = s.input("x");
  if (shape_.controls_width > 0) x = concat({x, s.input("controls")});
  const Var r = right_ ? rnn_(s, x) : Var();
  const Var l = left_ ? rnn_forward_(s, x) : Var();
  if (structured_) {
    const Var z = s.carry("z posterior", config_.z, parameter(s, zq0_));
    Var summed = activation(s, Activation::tanh, state_(s, z));
    if (right_) summed = add(s, summed, r);
    if (left_) summed = add(s, summed, l);
    return gaussian(out_(s, scale(s, 1.0 / (1 + left_ + right_), summed)));
  }
  if (!left_ || !right_) return gaussian(out_(s, right_ ? r : l));
  // Product of Gaussians: precisions add. v / v_l = sigmoid(logvar_r - logvar_l).
  const Gaussian q_r = gaussian(out_(s, r)), q_l = gaussian(out_forward_(s, l));
  const Var excess = add(s, q_l.logvar, scale(s, -1, q_r.logvar));
  const Var share = activation(s, Activation::sigmoid, scale(s, -1, excess));
  const Var narrowing = activation(s, Activation::softplus, excess);
  return {gated_mix(s, share, q_r.mu, q_l.mu), add(s, q_l.logvar, scale(s, -1, narrowing))};
}

Emission Dmm::emission(Step& s, const Var& z) const {
  Emission emission = emitter_(s, config_.augmented ? concat({s.previous("x"), z}) : z);
  if (config_.residual) emission.density.mu = add(s, value(s.previous("x")), emission.density.mu);
  return emission;
}

void Dmm::step(Step& s) const {
  const Gaussian posterior = infer(s);
  const Var z_before = s.carry("z", config_.z, parameter(s, z0_));
  const Var z = s.latent("z", transition(s, z_before), posterior);
  s.observed("x", emission(s, z));
  if (structured_) s.next("z posterior", z);
  s.next("z", z);
}

}  // namespace seqvae

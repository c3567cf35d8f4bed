#include "seqvae/models/vrnn.hpp"

#include <nlohmann/json.hpp>

namespace seqvae {

io::Json VrnnConfig::to_json() const { return {{"hidden", hidden}, {"z", z}}; }

VrnnConfig VrnnConfig::from_json(const io::JsonView& json) {
  VrnnConfig config;
  config.hidden = json.at("hidden").integer(1, 1 << 16);
  config.z = json.at("z").integer(1, 1 << 16);
  return config;
}

Vrnn::Vrnn(const VrnnConfig& config, const DataShape& shape) : Model(shape), config_(config) {
  ParameterTable& p = parameters_;
  const std::int64_t x = shape.x_width, u = shape.controls_width, h = config.hidden, z = config.z;
  phi_x_ = nn::Mlp(p, "phi_x", x, {h, h}, Activation::relu, true, shape.missing ? x : 0);
  phi_z_ = nn::Mlp(p, "phi_z", z, {h}, Activation::relu, true);
  encoder_ = nn::Linear(p, "encoder", h + h + u, h);
  encoder_out_ = nn::Linear(p, "encoder_out", h, 2 * z);
  prior_ = nn::Mlp(p, "prior", h + u, {h, 2 * z}, Activation::relu);
  decoder_ = nn::EmissionHead(p, "decoder", shape.emission, h + h + u, {h}, x);
  gru_ = nn::GruCell(p, "gru", h + h + u, h);
}

void Vrnn::step(Step& s) const {
  const auto with_controls = [&](Var v) {
    return shape_.controls_width > 0 ? concat({v, s.input("controls")}) : v;
  };
  const auto gaussian = [&](const Var& out) {
    return gaussian_head(s, out, ScaleMap::softplus_std);
  };

  const Var h = s.carry("h", config_.hidden);
  const Gaussian prior = gaussian(prior_(s, with_controls(h)));
  const Var x_features = phi_x_(s, s.input("x"));
  const Var encoded =
      activation(s, Activation::relu, encoder_(s, with_controls(concat({x_features, h}))));
  const Var z = s.latent("z", prior, gaussian(encoder_out_(s, encoded)));
  const Var z_features = phi_z_(s, z);
  const Var x = s.observed("x", decoder_(s, with_controls(concat({z_features, h}))));
  s.next("h", gru_(s, with_controls(concat({phi_x_(s, x), z_features})), h));
}

}  // namespace seqvae

#include "seqvae/models/rvae.hpp"

#include <nlohmann/json.hpp>

namespace seqvae {

io::Json RvaeConfig::to_json() const {
  return {{"z", z}, {"encoder", encoder}, {"decoder", decoder}, {"emission", emission}};
}

RvaeConfig RvaeConfig::from_json(const io::JsonView& json) {
  RvaeConfig config;
  config.z = json.at("z").integer(1, 1 << 16);
  config.encoder = json.at("encoder").integer(1, 1 << 16);
  config.decoder = json.at("decoder").integer(1, 1 << 16);
  config.emission = json.at("emission").integer(1, 1 << 16);
  return config;
}

Rvae::Rvae(const RvaeConfig& config, const DataShape& shape) : Model(shape), config_(config) {
  ParameterTable& p = parameters_;
  const std::int64_t x = shape.x_width, u = shape.controls_width, missing = shape.missing ? x : 0;
  encoder_ =
      nn::Encoder(p, "encoder", nn::Encoder::Cell::gru, x + u, config.encoder, false, missing);
  posterior_ = nn::Linear(p, "posterior", config.encoder, 2 * config.z);
  start_ = nn::Linear(p, "start", config.z, config.decoder);
  decoder_ = nn::GruCell(p, "decoder", x + config.z + u, config.decoder, missing);
  emission_ = nn::EmissionHead(p, "emission", shape.emission, config.decoder, {config.emission}, x);
}

void Rvae::step(Step& s) const {
  const auto with_controls = [&](Var v) {
    return shape_.controls_width > 0 ? concat({v, s.input("controls")}) : v;
  };
  encoder_(s, with_controls(s.input("x")));
  const Gaussian posterior =
      gaussian_head(s, posterior_(s, s.final(encoder_.carry())), ScaleMap::exp);
  const Var z = s.global("z", standard_normal(s, config_.z), posterior);
  const Var h = s.carry("h", config_.decoder, activation(s, Activation::tanh, start_(s, z)));
  const Var now = decoder_(s, with_controls(concat({s.previous("x"), z})), h);
  s.next("h", now);
  s.observed("x", emission_(s, now));
}

}  // namespace seqvae

/// \file  The variational RNN of Chung, Kastner, Dinh, Goel, Courville and Bengio
/// (arXiv:1506.02216).
///
///     prior     p(z_t | h_{t-1})              = N(prior(h))
///     posterior q(z_t | x_t, h_{t-1})         = N(encoder_out(relu(encoder([phi_x(x_t), h]))))
///     emission  p(x_t | z_t, h_{t-1})         = emission(decoder([phi_z(z_t), h]))
///     state     h_t = GRU([phi_x(x_t), phi_z(z_t)], h_{t-1}),  h_0 = 0
///
/// The posterior is a filter: q(z_t) knows x_1..x_t.
#pragma once
#include "seqvae/io/json.hpp"
#include "seqvae/models/model.hpp"
#include "seqvae/nn/layers.hpp"

namespace seqvae {

struct VrnnConfig {
  std::int64_t hidden = 64;  ///< width of h, of phi_x, phi_z and of the nets' hidden layers
  std::int64_t z = 16;       ///< latent dimensions
  io::Json to_json() const;
  static VrnnConfig from_json(const io::JsonView& json);  ///< \throws InputError
};

class Vrnn : public Model {
 public:
  Vrnn(const VrnnConfig& config, const DataShape& shape);
  void step(Step& s) const override;
  Posterior posterior() const override { return Posterior::filter; }

 private:
  VrnnConfig config_;
  nn::Mlp phi_x_, phi_z_, prior_;
  nn::Linear encoder_, encoder_out_;
  nn::EmissionHead decoder_;
  nn::GruCell gru_;
};

}  // namespace seqvae

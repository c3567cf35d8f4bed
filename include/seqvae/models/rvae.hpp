/// \file  The recurrent VAE of Fabius and van Amersfoort (arXiv:1412.6581), with GRUs.
///
///     posterior q(z | x_{1:T}) = N(posterior(a_T)),   a_t = GRU(x_t, a_{t-1}),  a_0 = 0
///     prior     p(z) = N(0, I): one latent a sequence
///     decoder   h_0 = tanh(start(z)),  h_t = GRU([x_{t-1}, z], h_{t-1}),  x_0 = 0
///     emission  p(x_t | h_t) = emission(h_t)
///
/// z enters every step, not h_0 alone, so that a strong decoder does not forget it.
#pragma once
#include "seqvae/io/json.hpp"
#include "seqvae/models/model.hpp"
#include "seqvae/nn/layers.hpp"

namespace seqvae {

struct RvaeConfig {
  std::int64_t z = 16;
  std::int64_t encoder = 64;   ///< the encoder's state
  std::int64_t decoder = 64;   ///< the decoder's state
  std::int64_t emission = 64;  ///< hidden layer of the emission
  io::Json to_json() const;
  static RvaeConfig from_json(const io::JsonView& json);  ///< \throws InputError
};

class Rvae : public Model {
 public:
  Rvae(const RvaeConfig& config, const DataShape& shape);
  void step(Step& s) const override;
  Posterior posterior() const override { return Posterior::smooth; }

 private:
  RvaeConfig config_;
  nn::Encoder encoder_;
  nn::Linear posterior_, start_;
  nn::GruCell decoder_;
  nn::EmissionHead emission_;
};

}  // namespace seqvae

/// \file  The deep Markov model of Krishnan, Shalit and Sontag (arXiv:1609.09869).
///
///     transition p(z_t | z_{t-1}):  g = sigmoid(gate(z)),  h = proposal(z)
///                mu = (1 - g) (linear z) + g h,  std = softplus(scale(relu(h)));  z_0 learned
///     emission   p(x_t | z_t) = emitter(z_t)
///     posterior  ST-R    q(z_t | z_{t-1}, x_{t:T}):  out( 1/2 [ tanh(state(z)) + r_t ] )
///                ST-L    the same with l_t;  ST-LR:  out( 1/3 [ tanh(state(z)) + l_t + r_t ] )
///                MF-R, MF-L  out(r_t), out(l_t);  MF-LR  the product of both Gaussians
///
/// r_t runs backward in time over x, l_t forward. Widths and names are those of Pyro's version;
/// scales are standard deviations. ST-L and MF-L are filters, all else smoothers. `augmented`: the
/// transition and the emission also read x_{t-1} (DMM-Aug). `residual`:
/// a Gaussian emission's mean is x_{t-1} plus the emitter's (last value seen: x_{t-1} = 0 in a
/// gap), so that a series may leave the range that the model was trained in.
#pragma once
#include "seqvae/io/json.hpp"
#include "seqvae/models/model.hpp"
#include "seqvae/nn/layers.hpp"

namespace seqvae {

struct DmmConfig {
  std::int64_t z = 32;
  std::int64_t emission = 64;    ///< both hidden layers of the emitter
  std::int64_t transition = 64;  ///< hidden layer of gate and proposal
  std::int64_t rnn = 128;        ///< the encoder's state
  std::string encoder = "gru";   ///< relu, gru or lstm
  std::string posterior = "ST-R";
  bool augmented = false;
  bool residual = false;
  io::Json to_json() const;
  static DmmConfig from_json(const io::JsonView& json);  ///< \throws InputError
};

class Dmm : public Model {
 public:
  Dmm(const DmmConfig& config, const DataShape& shape);
  void step(Step& s) const override;
  Posterior posterior() const override;

 private:
  Gaussian transition(Step& s, const Var& z) const;
  Gaussian infer(Step& s) const;
  Emission emission(Step& s, const Var& z) const;

  DmmConfig config_;
  bool left_ = false, right_ = false, structured_ = false;
  nn::Mlp gate_, proposal_;
  nn::Linear scale_, linear_, state_, out_, out_forward_;
  nn::Encoder rnn_, rnn_forward_;
  nn::EmissionHead emitter_;
  std::int32_t z0_ = -1, zq0_ = -1;
};

}  // namespace seqvae

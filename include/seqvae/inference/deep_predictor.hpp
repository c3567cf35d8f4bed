/// \file  A deep model with its parameters as a Predictor.
#pragma once
#include "seqvae/core/machine.hpp"
#include "seqvae/inference/predictor.hpp"
#include "seqvae/models/model.hpp"

namespace seqvae {

/// `values`: the model's flat parameters. The machine must outlive the predictor. Draws are made at
/// step 0, 1, ... of the noise, a step each round of particles.
template <class Real>
std::unique_ptr<Predictor> make_deep_predictor(std::unique_ptr<Model> model,
                                               const std::vector<Real>& values, Machine& machine);

}  // namespace seqvae

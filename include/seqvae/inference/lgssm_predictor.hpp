/// \file  The exact model as a Predictor: moments instead of draws wherever they exist.
#pragma once
#include "seqvae/core/machine.hpp"
#include "seqvae/inference/predictor.hpp"
#include "seqvae/models/lgssm.hpp"

namespace seqvae {

/// The machine must outlive the predictor. Its methods throw as those of
/// Lgssm do.
std::unique_ptr<Predictor> make_lgssm_predictor(LgssmMatrices matrices, Machine& machine);

}  // namespace seqvae

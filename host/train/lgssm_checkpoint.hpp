// The exact model's checkpoint: theta, and the matrices that follow from it for other readers.
#pragma once
#include <filesystem>

#include "seqvae/models/lgssm.hpp"

namespace seqvae {

void write_lgssm_checkpoint(const std::filesystem::path& file, const Lgssm& model,
                            const io::Json& state);
/// Sets the model's theta and returns the state. \throws InputError where theta does not fit.
io::Json read_lgssm_checkpoint(const std::filesystem::path& file, Lgssm& model);

}  // namespace seqvae

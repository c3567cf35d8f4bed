// The exact model's checkpoint: its parameters, and the matrices that they give for other readers.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>

#include "seqvae/io/json.hpp"
#include "seqvae/models/lgssm_form.hpp"

namespace seqvae {

struct LgssmCheckpoint {
  std::vector<double> parameters;  ///< as form.names() has them
  io::Json state;
};

void write_lgssm_checkpoint(const std::filesystem::path& file, const LgssmForm& form,
                            const LgssmCheckpoint& checkpoint);
/// \throws InputError where the parameters do not fit the form.
LgssmCheckpoint read_lgssm_checkpoint(const std::filesystem::path& file, const LgssmForm& form);

}  // namespace seqvae

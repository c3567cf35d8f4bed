// A checkpoint: one safetensors file, written aside, fsync'd and renamed, so that it is whole or
// the one before it. Parameters have PyTorch's names; what training needs besides stands under
// "optimizer." and, as JSON, in the metadata.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "seqvae/graph/parameters.hpp"
#include "seqvae/io/json.hpp"

namespace seqvae {

template <class Real>
struct Checkpoint {
  std::vector<Real> parameters, m,
      v;  ///< flat; m and v empty where training does not go on from it
  io::Json state;
};

/// \throws Error where the disk does not take the file.
template <class Real>
void write_checkpoint(const std::filesystem::path& file, const ParameterTable& table,
                      const Checkpoint<Real>& checkpoint);

/// Numbers are converted where the file has another precision; a shape may have extra ones.
/// \throws InputError naming a tensor that is missing, does not fit, or is not finite.
template <class Real>
Checkpoint<Real> read_checkpoint(const std::filesystem::path& file, const ParameterTable& table);

}  // namespace seqvae

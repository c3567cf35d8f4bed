// The lines of a run's metrics.jsonl.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "seqvae/io/json.hpp"

namespace seqvae::app {

/// \throws InputError naming the file and the place.
std::vector<io::Json> read_metrics(const std::filesystem::path& file);

}  // namespace seqvae::app

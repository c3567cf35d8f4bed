#include "host/app/controls.hpp"

#include <fmt/format.h>

#include "seqvae/core/error.hpp"
#include "seqvae/data/dataset.hpp"

namespace seqvae::app {

std::vector<double> read_controls(const std::string& file, std::int64_t U, std::int64_t count,
                                  std::int64_t steps) {
  if (U == 0) {
    if (!file.empty()) throw InputError("--controls", file, "the model takes none");
    return {};
  }
  if (file.empty()) throw InputError("--controls", "", "is needed: the model takes controls");
  const data::SequenceSet set = data::load_controls(file, U);
  if (set.count() != count) {
    throw InputError(file, "lengths",
                     fmt::format("has {} sequences, must have {}", set.count(), count));
  }
  for (std::size_t i = 0; i < set.lengths.size(); ++i) {
    if (set.lengths[i] != steps) {
      throw InputError(file, fmt::format("sequence {}", i),
                       fmt::format("has {} steps, must have {}", set.lengths[i], steps));
    }
  }
  return set.values;
}

}  // namespace seqvae::app

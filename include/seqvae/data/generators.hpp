/// \file  Data sets made on the spot, the same for the same seed.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "seqvae/data/dataset.hpp"

namespace seqvae::data {

struct GeneratorOptions {
  std::string name = {};  ///< one of generator_names()
  std::uint64_t seed = 0;
  std::int64_t train = 500, valid = 100, test = 100;  ///< sequences; 0: the part is left out
  std::int64_t steps = 100;                           ///< of each sequence; >= 1
  std::int64_t size = 16;                             ///< ball: frames of size x size pixels; >= 4
};

/// tracking, pendulum, lorenz, ball; docs/data.md has their equations.
std::vector<std::string> generator_names();

/// \throws InvalidArgument.
Dataset make(const GeneratorOptions& options);

}  // namespace seqvae::data

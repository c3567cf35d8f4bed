// Controls of steps that are not in the data.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace seqvae::app {

/// [count * steps][U] of a controls file; nothing where U = 0.
/// \throws InputError where the file is missing, superfluous or not of that size.
std::vector<double> read_controls(const std::string& file, std::int64_t U, std::int64_t count,
                                  std::int64_t steps);

}  // namespace seqvae::app

#include "host/app/metrics.hpp"

#include <sstream>

namespace seqvae::app {

std::vector<io::Json> read_metrics(const std::filesystem::path& file) {
  std::vector<io::Json> lines;
  std::istringstream text(io::read_file(file));
  for (std::string line; std::getline(text, line);) {
    lines.push_back(io::parse_json(line, file.string()));
  }
  return lines;
}

}  // namespace seqvae::app

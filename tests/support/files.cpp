#include "tests/support/files.hpp"

#include <cstdlib>
#include <stdexcept>

namespace seqvae::test {

std::filesystem::path reference(const std::string& name) {
  return std::filesystem::path(SEQVAE_REFERENCE_DIR) / name;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "seqvae_XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed: " + pattern);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace seqvae::test

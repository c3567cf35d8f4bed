// Where the tests find stored reference values, and a folder that vanishes with its owner.
#pragma once
#include <filesystem>
#include <string>

namespace seqvae::test {

/// Path of a file below tests/reference.
std::filesystem::path reference(const std::string& name);

/// A fresh folder below the system's temporary folder, removed with all it holds.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace seqvae::test

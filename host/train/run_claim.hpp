// One process trains in a run folder at a time, and begins without what a killed one left there.
#pragma once
#include <filesystem>

namespace seqvae {

class RunClaim {
 public:
  /// Locks the folder until this object, or the process, is no more; then removes the asides
  /// (see io::Replacement) of the run's files.
  /// \throws InputError where the folder cannot be read or another process holds it.
  explicit RunClaim(const std::filesystem::path& run);
  ~RunClaim();
  RunClaim(const RunClaim&) = delete;
  RunClaim& operator=(const RunClaim&) = delete;

 private:
  int folder_ = -1;
};

}  // namespace seqvae

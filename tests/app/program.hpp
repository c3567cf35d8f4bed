// The built program as a user starts it: a process of its own.
#pragma once
#include <sys/types.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <vector>

#include "seqvae/io/json.hpp"

namespace seqvae::test {

struct Outcome {
  int status = -1;  ///< of exit; 128 + signal where a signal ended it
  std::string out, err;
  io::Json json() const { return io::parse_json(out, "stdout"); }
};

/// Runs `seqvae arguments...` in `folder` to its end.
Outcome run(const std::vector<std::string>& arguments, const std::filesystem::path& folder = ".");

/// The same, sending `signal` as soon as `file` is there.
Outcome run_and_signal(const std::vector<std::string>& arguments, int signal,
                       const std::filesystem::path& file);

/// Names in a folder, sorted, hidden ones too.
std::vector<std::string> files_in(const std::filesystem::path& folder);

}  // namespace seqvae::test

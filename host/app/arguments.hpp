// The flags that commands share, and how the text of a flag becomes a value.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "host/app/command.hpp"
#include "seqvae/core/device.hpp"
#include "seqvae/data/dataset.hpp"

namespace seqvae::app {

/// Flags of every command.
struct CommonArguments {
  bool json = false, quiet = false;
};
void add_common(Command command, CommonArguments& common);

/// Where and how a model runs.
struct RunArguments {
  std::optional<std::int64_t> seed;  ///< 0 where none is given
  std::string device = "auto", precision;
  std::int64_t threads = 0;
  std::string plot;
  std::uint64_t seed_of_draws() const { return static_cast<std::uint64_t>(seed.value_or(0)); }
};
void add_run_arguments(Command command, RunArguments& run, bool plots);
/// \throws InvalidArgument where this program cannot run so.
void check(const RunArguments& run);
/// Where that model runs in that precision. auto: on CUDA where there is a device and it can, but
/// for lgssm, of which the CPU takes a step sooner than a device can.
/// \throws InvalidArgument where the device that was asked for does not run it
Device device_of(const RunArguments& run, const std::string& model, bool float32);

/// How a data file is read. What is not given is as the run was trained, or the default.
struct LoadArguments {
  std::vector<std::string> columns, split_at;
  std::string time;
  std::optional<std::int64_t> window, stride;
  bool standardize = false;
};
void add_load_arguments(Command command, LoadArguments& load);
/// `options` with what was given on the command line.
data::LoadOptions over(data::LoadOptions options, const LoadArguments& load);

/// Refuses an output place before any work: another ending, a folder that cannot be written to.
void check_output(const std::string& flag, const std::filesystem::path& path,
                  const std::vector<std::string>& endings);

}  // namespace seqvae::app

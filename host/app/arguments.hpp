// The flags that commands share, and how the text of a flag becomes a value.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "seqvae/core/device.hpp"
#include "seqvae/data/dataset.hpp"

namespace seqvae::app {

/// \name Flags with a value. A value that is none: InputError "--flag: is 'text', must be rule".
/// \{
CLI::Option* add_integer(CLI::App& command, const std::string& flag,
                         std::optional<std::int64_t>& value, std::int64_t least,
                         const std::string& description);
CLI::Option* add_integer(CLI::App& command, const std::string& flag, std::int64_t& value,
                         std::int64_t least, const std::string& description);
CLI::Option* add_text(CLI::App& command, const std::string& flag, std::string& value,
                      const std::string& type, const std::string& description);
/// "a,b,c"
CLI::Option* add_list(CLI::App& command, const std::string& flag, std::vector<std::string>& value,
                      const std::string& type, const std::string& description);
/// "90", "45s", "30m", "1h30m": seconds.
CLI::Option* add_duration(CLI::App& command, const std::string& flag,
                          std::optional<double>& seconds, const std::string& description);
/// \}

/// Flags of every command.
struct CommonArguments {
  bool json = false, quiet = false;
};
void add_common(CLI::App& command, CommonArguments& common);

/// Where and how a model runs.
struct RunArguments {
  std::int64_t seed = 0;
  bool seed_given = false;
  std::string device = "auto", precision;
  std::int64_t threads = 0;
  std::string plot;
};
void add_run_arguments(CLI::App& command, RunArguments& run, bool plots);
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
void add_load_arguments(CLI::App& command, LoadArguments& load);
/// `options` with what was given on the command line.
data::LoadOptions over(data::LoadOptions options, const LoadArguments& load);

/// Help of a command ends in an example and the exit statuses.
void add_example(CLI::App& command, const std::string& example);

/// Refuses an output place before any work: another ending, a folder that cannot be written to.
void check_output(const std::string& flag, const std::filesystem::path& path,
                  const std::vector<std::string>& endings);

}  // namespace seqvae::app

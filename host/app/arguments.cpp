#include "host/app/arguments.hpp"

#include <fmt/format.h>

#include <charconv>

#include "seqvae/core/error.hpp"
#include "seqvae/io/file.hpp"

namespace seqvae::app {
namespace {

std::int64_t parse_integer(const std::string& flag, const std::string& text, std::int64_t least) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < least) {
    throw InputError(flag, "", fmt::format("is '{}', must be an integer >= {}", text, least));
  }
  return value;
}

double parse_duration(const std::string& flag, const std::string& text) {
  double seconds = 0;
  const char *at = text.data(), *end = at + text.size();
  bool good = at != end;
  while (good && at != end) {
    double value = 0;
    const auto [stop, error] = std::from_chars(at, end, value, std::chars_format::fixed);
    good = error == std::errc() && value >= 0;
    if (!good) break;
    at = stop;
    double unit = 1;
    if (at != end) {
      unit = *at == 'h' ? 3600 : *at == 'm' ? 60 : *at == 's' ? 1 : 0;
      good = unit > 0;
      ++at;
    }
    seconds += value * unit;
  }
  if (!good || !(seconds > 0)) {
    throw InputError(flag, "",
                     fmt::format("is '{}', must be a time such as 45s, 30m or 1h30m", text));
  }
  return seconds;
}

std::vector<std::string> split(const std::string& flag, const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t first = 0; first <= text.size();) {
    const std::size_t comma = std::min(text.find(',', first), text.size());
    if (comma == first) {
      throw InputError(flag, "", fmt::format("is '{}', must be names between commas", text));
    }
    parts.push_back(text.substr(first, comma - first));
    first = comma + 1;
  }
  return parts;
}

}  // namespace

CLI::Option* add_integer(CLI::App& command, const std::string& flag,
                         std::optional<std::int64_t>& value, std::int64_t least,
                         const std::string& description) {
  return command
      .add_option_function<std::string>(
          flag,
          [&value, flag, least](const std::string& text) {
            value = parse_integer(flag, text, least);
          },
          description)
      ->type_name("N");
}

CLI::Option* add_integer(CLI::App& command, const std::string& flag, std::int64_t& value,
                         std::int64_t least, const std::string& description) {
  return command
      .add_option_function<std::string>(
          flag,
          [&value, flag, least](const std::string& text) {
            value = parse_integer(flag, text, least);
          },
          description)
      ->type_name("N");
}

CLI::Option* add_text(CLI::App& command, const std::string& flag, std::string& value,
                      const std::string& type, const std::string& description) {
  return command.add_option(flag, value, description)->type_name(type);
}

CLI::Option* add_list(CLI::App& command, const std::string& flag, std::vector<std::string>& value,
                      const std::string& type, const std::string& description) {
  return command
      .add_option_function<std::string>(
          flag, [&value, flag](const std::string& text) { value = split(flag, text); }, description)
      ->type_name(type);
}

CLI::Option* add_duration(CLI::App& command, const std::string& flag,
                          std::optional<double>& seconds, const std::string& description) {
  return command
      .add_option_function<std::string>(
          flag, [&seconds, flag](const std::string& text) { seconds = parse_duration(flag, text); },
          description)
      ->type_name("TIME");
}

void add_common(CLI::App& command, CommonArguments& common) {
  command.add_flag("--json", common.json, "one JSON object on stdout, and nothing else there");
  command.add_flag("--quiet", common.quiet, "no progress, no summary of what was written");
}

void add_run_arguments(CLI::App& command, RunArguments& run, bool plots) {
  command
      .add_option_function<std::string>(
          "--seed",
          [&run](const std::string& text) {
            run.seed = parse_integer("--seed", text, 0);
            run.seed_given = true;
          },
          "of all that is drawn (0)")
      ->type_name("N");
  add_text(command, "--device", run.device, "auto|cpu|cuda[:N]", "where the model runs (auto)");
  add_text(command, "--precision", run.precision, "float32|float64",
           "of the arithmetic and of what is written (as the run has it; lgssm: float64)");
  add_integer(command, "--threads", run.threads, 1, "of the CPU (all that there are)");
  if (plots)
    add_text(command, "--plot", run.plot, "FILE", "a picture, .png or .svg (needs gnuplot)");
}

void check(const RunArguments& run) {
  Device::parse(run.device);
  if (run.precision == "tf32" || run.precision == "bfloat16") {
    throw InvalidArgument(
        fmt::format("precision = {}, must be float32 or float64: it is one of CUDA's matrix units",
                    run.precision));
  }
  if (!run.precision.empty() && run.precision != "float32" && run.precision != "float64") {
    throw InvalidArgument(fmt::format("precision = {}, must be float32 or float64", run.precision));
  }
}

Device device_of(const RunArguments& run, const std::string& model, bool float32) {
  const Device device = Device::parse(run.device);
  if (device.is_cpu()) return device;
  const bool chosen = run.device != "auto";
  if (model == "lgssm") return chosen ? device : Device::cpu();
  if (float32) return device;
  if (!chosen) return Device::cpu();
  throw InvalidArgument(
      fmt::format("device = {}, must be cpu: kernels are for float32", run.device));
}

void add_load_arguments(CLI::App& command, LoadArguments& load) {
  add_list(command, "--columns", load.columns, "A,B,...", "of a CSV: which columns are data (all)");
  add_text(command, "--time", load.time, "COLUMN",
           "of a CSV: the time (the first column, where it holds dates)");
  add_integer(command, "--window", load.window, 0, "cut into sequences of N rows; 0: whole");
  add_integer(command, "--stride", load.stride, 1, "a window begins every N rows (the window)");
  command.add_flag("--standardize", load.standardize,
                   "scale columns to mean 0 and deviation 1 of the training part");
  add_list(command, "--split-at", load.split_at, "A[,B[,C]]",
           "dates, rows or fractions: train | test, or train | valid | test, unused from C on");
}

data::LoadOptions over(data::LoadOptions options, const LoadArguments& load) {
  if (!load.columns.empty()) options.columns = load.columns;
  if (!load.time.empty()) options.time = load.time;
  if (load.window) {
    options.window = *load.window;
    options.stride = 0;
  }
  if (load.stride) options.stride = *load.stride;
  if (load.standardize) options.standardize = true;
  if (!load.split_at.empty()) options.split_at = load.split_at;
  return options;
}

void add_example(CLI::App& command, const std::string& example) {
  command.footer("Example: " + example +
                 "\n\nExit status: 0 done; 1 the work failed; 2 bad input or usage; 130 or 143 "
                 "after SIGINT or "
                 "SIGTERM.");
}

void check_output(const std::string& flag, const std::filesystem::path& path,
                  const std::vector<std::string>& endings) {
  if (std::find(endings.begin(), endings.end(), path.extension().string()) == endings.end()) {
    throw InputError(flag, path.string(),
                     fmt::format("must end in {}", fmt::join(endings, " or ")));
  }
  const io::Replacement probe(path);
}

}  // namespace seqvae::app

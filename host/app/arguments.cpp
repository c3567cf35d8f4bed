#include "host/app/arguments.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "seqvae/core/error.hpp"
#include "seqvae/io/file.hpp"

namespace seqvae::app {
void add_common(Command command, CommonArguments& common) {
  command.flag("--json", common.json, "one JSON object on stdout, and nothing else there");
  command.flag("--quiet", common.quiet, "no progress, no summary of what was written");
}

void add_run_arguments(Command command, RunArguments& run, bool plots) {
  command.integer("--seed", run.seed, 0, "of all that is drawn (0)");
  command.text("--device", run.device, "auto|cpu|cuda[:N]", "where the model runs (auto)");
  command.text("--precision", run.precision, "float32|float64",
               "of the arithmetic and of what is written (as the run has it; lgssm: float64)");
  command.integer("--threads", run.threads, 1, "of the CPU (all that there are)");
  if (plots) command.text("--plot", run.plot, "FILE", "a picture, .png or .svg (needs gnuplot)");
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

void add_load_arguments(Command command, LoadArguments& load) {
  command.list("--columns", load.columns, "A,B,...", "of a CSV: which columns are data (all)");
  command.text("--time", load.time, "COLUMN",
               "of a CSV: the time (the first column, where it holds dates)");
  command.integer("--window", load.window, 0, "cut into sequences of N rows; 0: whole");
  command.integer("--stride", load.stride, 1, "a window begins every N rows (the window)");
  command.flag("--standardize", load.standardize,
               "scale columns to mean 0 and deviation 1 of the training part");
  command.list("--split-at", load.split_at, "A[,B[,C]]",
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

void check_output(const std::string& flag, const std::filesystem::path& path,
                  const std::vector<std::string>& endings) {
  if (std::find(endings.begin(), endings.end(), path.extension().string()) == endings.end()) {
    throw InputError(flag, path.string(),
                     fmt::format("must end in {}", fmt::join(endings, " or ")));
  }
  const io::Replacement probe(path);
}

}  // namespace seqvae::app

// seqvae impute: what stood where values are missing.
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "host/app/commands.hpp"
#include "host/app/figures.hpp"
#include "host/app/gnuplot.hpp"
#include "host/app/model.hpp"
#include "host/app/output.hpp"
#include "host/app/progress.hpp"
#include "seqvae/io/npy.hpp"

namespace seqvae::app {
namespace {

struct ImputeCommand {
  CommonArguments common;
  RunArguments run;
  ModelArguments model;
  DataArguments data;
  std::string out;
  std::int64_t samples = 100;
};

/// The first sequence that has a gap, else the first.
std::size_t sequence_with_gap(const data::SequenceSet& set) {
  const std::vector<std::int64_t> starts = set.starts();
  for (std::size_t i = 0; i < set.lengths.size(); ++i) {
    for (std::int64_t j = starts[i] * set.D; j < starts[i + 1] * set.D; ++j) {
      if (std::isnan(set.values[static_cast<std::size_t>(j)])) return i;
    }
  }
  return 0;
}

void plot(const std::string& picture, const Imputation& filled, const data::SequenceSet& set,
          const std::vector<double>& observed, const std::vector<std::string>& columns) {
  const std::size_t i = sequence_with_gap(set);
  const std::int64_t first = set.starts()[i] * set.D, last = set.starts()[i + 1] * set.D;
  const auto part = [&](const std::vector<double>& values) {
    return std::vector<double>(values.begin() + first, values.begin() + last);
  };
  plot_imputation(picture, part(filled.mean), part(filled.std), part(observed), columns);
}

void run(const ImputeCommand& a) {
  check_output("--out", a.out, {".npz"});
  if (!a.run.plot.empty()) Gnuplot::check(a.run.plot);
  const OpenModel model = open_model(a.model, a.run);
  const OpenData data = open_data(model, a.data, a.common);
  const data::SequenceSet& set = data.set();
  Imputation filled;
  {
    ProgressBar bar("impute", !a.common.quiet && !a.common.json);
    filled = model.predictor->impute(set, a.samples, a.run.seed_of_draws(), watched(bar));
  }
  model.unscale(filled.mean);
  model.unscale(filled.samples);
  model.unscale_deviations(filled.std);
  std::vector<double> observed = set.values;
  model.unscale(observed);

  const std::int64_t R = set.steps(), D = set.D;
  const std::vector<double> counted = counted_rows(set, set.values, D);
  std::vector<std::uint8_t> mask(counted.size());
  for (std::size_t i = 0; i < counted.size(); ++i) mask[i] = std::isnan(counted[i]) ? 0 : 1;
  io::NamedArrays arrays;
  arrays["mean"] = model.array({R, D}, counted_rows(set, filled.mean, D));
  arrays["std"] = model.array({R, D}, counted_rows(set, filled.std, D));
  arrays["samples"] = model.array({filled.S, R, D}, counted_rows(set, filled.samples, D));
  arrays["mask"] = io::Array::booleans({R, D}, mask);
  arrays["ess"] = model.array({set.count()}, filled.ess);
  if (!a.run.plot.empty()) plot(a.run.plot, filled, set, observed, data.dataset.columns);
  io::write_npz(a.out, arrays);
  if (a.common.json || !a.common.quiet) {
    double least = filled.samples.empty() ? 0 : filled.ess.front();
    for (double ess : filled.ess) least = std::min(least, ess);
    print_report({{"model", model.name},
                  {"samples", filled.S},
                  {"sequences", set.count()},
                  {"steps", R},
                  {"missing", R * D - set.observed()},
                  {"least_ess", least},
                  {"out", a.out}},
                 a.common.json);
  }
}

}  // namespace

void add_impute(Command program) {
  const Command command = program.add("impute", "what stood where values are missing");
  auto arguments = std::make_shared<ImputeCommand>();
  add_model_arguments(command, arguments->model);
  add_data_arguments(command, arguments->data);
  command.text("--out", arguments->out, "FILE.npz", "mean, std, samples, mask, ess").required();
  command.integer("--samples", arguments->samples, 1, "draws a sequence (100)");
  add_run_arguments(command, arguments->run, true);
  add_common(command, arguments->common);
  command.example("seqvae impute runs/etth --data gaps.csv --out filled.npz --plot filled.png");
  command.runs([arguments] { run(*arguments); });
}

}  // namespace seqvae::app

// seqvae forecast: draws of what comes next.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "host/app/commands.hpp"
#include "host/app/controls.hpp"
#include "host/app/figures.hpp"
#include "host/app/gnuplot.hpp"
#include "host/app/model.hpp"
#include "host/app/output.hpp"
#include "host/app/progress.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/io/npy.hpp"

namespace seqvae::app {
namespace {

const std::vector<double> kLevels = {0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975};

struct ForecastCommand {
  CommonArguments common;
  RunArguments run;
  ModelArguments model;
  DataArguments data;
  std::string out, controls;
  std::optional<std::int64_t> context;
  std::int64_t horizon = 0, samples = 100;
};

/// First row of each sequence that is forecast, counted from the sequence's start: after its
/// first `context` rows that count, or after its end.
std::vector<std::int64_t> origins_of(const data::SequenceSet& set, const std::string& file,
                                     std::optional<std::int64_t> context) {
  std::vector<std::int64_t> origins;
  for (std::size_t i = 0; i < set.lengths.size(); ++i) {
    const std::int64_t rows = set.lengths[i] - set.begin[i];
    if (context && *context > rows) {
      throw InputError(file, fmt::format("sequence {}", i),
                       fmt::format("has {} steps, fewer than --context {}", rows, *context));
    }
    origins.push_back(context ? set.begin[i] + *context : set.lengths[i]);
  }
  return origins;
}

data::SequenceSet contexts_of(const data::SequenceSet& set,
                              const std::vector<std::int64_t>& origins) {
  data::SequenceSet contexts;
  contexts.D = set.D, contexts.U = set.U;
  const std::vector<std::int64_t> starts = set.starts();
  for (std::size_t i = 0; i < origins.size(); ++i) {
    contexts.append(set, starts[i], starts[i] + origins[i], starts[i], set.ids[i]);
  }
  return contexts;
}

/// Rows of the set from each origin on, [N][H][width]; NaN beyond a sequence's end.
std::vector<double> rows_after(const data::SequenceSet& set, const std::vector<double>& values,
                               std::int64_t width, const std::vector<std::int64_t>& origins,
                               std::int64_t horizon) {
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> rows(origins.size() * static_cast<std::size_t>(horizon * width), nan);
  const std::vector<std::int64_t> starts = set.starts();
  for (std::size_t i = 0; i < origins.size(); ++i) {
    const std::int64_t first = starts[i] + origins[i];
    const std::int64_t last = std::min(starts[i + 1], first + horizon);
    std::copy(values.begin() + first * width, values.begin() + last * width,
              rows.begin() + static_cast<std::int64_t>(i) * horizon * width);
  }
  return rows;
}

/// Of the steps to come: the file of --controls, else the data's own where it has them all.
std::vector<double> controls_of(const ForecastCommand& a, const OpenModel& model,
                                const data::SequenceSet& set,
                                const std::vector<std::int64_t>& origins) {
  if (model.U > 0 && a.controls.empty()) {
    std::vector<double> rows = rows_after(set, set.controls, model.U, origins, a.horizon);
    if (std::none_of(rows.begin(), rows.end(), [](double u) { return std::isnan(u); })) return rows;
  }
  return read_controls(a.controls, model.U, set.count(), a.horizon);
}

/// A forecast from nothing: draws of the prior.
Forecast draw_from_prior(const ForecastCommand& a, const OpenModel& model, std::int64_t N,
                         const std::vector<double>& controls) {
  Forecast f;
  f.N = N, f.H = a.horizon, f.D = model.D, f.S = a.samples;
  std::vector<double> repeated;
  for (std::int64_t s = 0; s < f.S; ++s) {
    repeated.insert(repeated.end(), controls.begin(), controls.end());
  }
  f.samples = model.predictor->generate(f.H, f.S * N, repeated, a.run.seed_of_draws());
  const auto block = static_cast<std::size_t>(N * f.H * f.D);
  f.mean.assign(block, 0), f.std.assign(block, 0);
  const auto S = static_cast<double>(f.S);
  for (std::size_t i = 0; i < f.samples.size(); ++i) f.mean[i % block] += f.samples[i] / S;
  for (std::size_t i = 0; i < f.samples.size(); ++i) {
    const double difference = f.samples[i] - f.mean[i % block];
    f.std[i % block] += difference * difference / S;
  }
  for (double& value : f.std) value = std::sqrt(value);
  return f;
}

Forecast make_forecast(const ForecastCommand& a, const OpenModel& model,
                       const data::SequenceSet& set, const std::vector<std::int64_t>& origins) {
  const std::vector<double> controls = controls_of(a, model, set, origins);
  if (std::all_of(origins.begin(), origins.end(), [](auto at) { return at == 0; })) {
    return draw_from_prior(a, model, set.count(), controls);
  }
  ProgressBar bar("forecast", !a.common.quiet && !a.common.json);
  return model.predictor->forecast(contexts_of(set, origins), a.horizon, controls, a.samples,
                                   a.run.seed_of_draws(), watched(bar));
}

void run(const ForecastCommand& a) {
  check_output("--out", a.out, {".npz"});
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  require(a.horizon <= most, "forecast", "--horizon", a.horizon, fmt::format("<= {}", most));
  if (!a.run.plot.empty()) Gnuplot::check(a.run.plot);
  const OpenModel model = open_model(a.model, a.run);
  const OpenData data = open_data(model, a.data, a.common);
  const data::SequenceSet& set = data.set();
  const std::vector<std::int64_t> origins = origins_of(set, data.dataset.file, a.context);
  Forecast f = make_forecast(a, model, set, origins);
  std::vector<double> quantiles = f.quantiles(kLevels);
  for (std::vector<double>* rows : {&f.mean, &f.samples, &quantiles}) model.unscale(*rows);
  model.unscale_deviations(f.std);

  io::NamedArrays arrays;
  const auto L = static_cast<std::int64_t>(kLevels.size());
  arrays["mean"] = model.array({f.N, f.H, f.D}, f.mean);
  arrays["std"] = model.array({f.N, f.H, f.D}, f.std);
  arrays["quantiles"] = model.array({L, f.N, f.H, f.D}, quantiles);
  arrays["levels"] = io::Array::of({L}, kLevels);
  arrays["samples"] = model.array({f.S, f.N, f.H, f.D}, f.samples);
  if (!a.run.plot.empty()) {
    data::SequenceSet shown = set;
    model.unscale(shown.values);
    const std::vector<double> truth = rows_after(shown, shown.values, f.D, origins, f.H);
    plot_forecast(a.run.plot, {&shown, &origins, &quantiles, &f.mean, &truth, f.H,
                               data.dataset.columns, model.is_roll()});
  }
  io::write_npz(a.out, arrays);
  if (a.common.json || !a.common.quiet) {
    print_report({{"model", model.name},
                  {"sequences", f.N},
                  {"horizon", f.H},
                  {"samples", f.S},
                  {"out", a.out}},
                 a.common.json);
  }
}

}  // namespace

void add_forecast(Command program) {
  const Command command = program.add("forecast", "what comes next, with its uncertainty");
  auto arguments = std::make_shared<ForecastCommand>();
  add_model_arguments(command, arguments->model);
  add_data_arguments(command, arguments->data);
  command.integer("--context", arguments->context, 0,
                  "begin after the first N steps of each sequence (after its end)");
  command.integer("--horizon", arguments->horizon, 1, "steps to forecast").required();
  command.text("--controls", arguments->controls, "FILE",
               "controls of those steps (the data's own, where they go on)");
  command.integer("--samples", arguments->samples, 1, "draws a sequence (100)");
  command.text("--out", arguments->out, "FILE.npz", "mean, std, quantiles, levels, samples")
      .required();
  add_run_arguments(command, arguments->run, true);
  add_common(command, arguments->common);
  command.example(
      "seqvae forecast runs/etth --data ETTh1.csv --context 336 --horizon 96 --out next.npz "
      "--plot next.png");
  command.runs([arguments] { run(*arguments); });
}

}  // namespace seqvae::app

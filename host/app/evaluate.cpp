// seqvae evaluate: a bound on the log-likelihood, and how good forecasts are.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "host/app/commands.hpp"
#include "host/app/model.hpp"
#include "host/app/output.hpp"
#include "host/app/progress.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/inference/scores.hpp"
#include "seqvae/models/lgssm_fit.hpp"
#include "seqvae/train/run_folder.hpp"

namespace seqvae::app {
namespace {

struct EvaluateCommand {
  CommonArguments common;
  RunArguments run;
  ModelArguments model;
  DataArguments data;
  std::string bound;
  std::optional<std::int64_t> samples, season;
  bool forecast = false, parameters = false;
  ForecastOptions options;
};

std::string bound_of(const std::string& asked, const Predictor& predictor) {
  const std::vector<std::string> has = predictor.bounds();
  if (asked.empty()) return has.front();
  for (const char* known : {"elbo", "iwae", "exact"}) {
    if (asked != known) continue;
    if (std::find(has.begin(), has.end(), asked) != has.end()) return asked;
    throw InvalidArgument(
        fmt::format("bound = {}, must be {} for this model", asked, fmt::join(has, " or ")));
  }
  throw InvalidArgument(fmt::format("bound = {}, must be elbo, iwae or exact", asked));
}

io::Json json_of(const ForecastScores& scores) {
  return {{"mse", scores.mse},
          {"mae", scores.mae},
          {"crps", scores.crps},
          {"coverage",
           {{"50", scores.coverage_50}, {"80", scores.coverage_80}, {"95", scores.coverage_95}}}};
}

io::Json json_of(const LgssmDiagnostics& d) {
  return {{"count", d.count},         {"nis", d.nis},
          {"nis_p", d.nis_p},         {"lags", d.lags},
          {"ljung_box", d.ljung_box}, {"ljung_box_p", d.ljung_box_p}};
}

using Score = std::function<ForecastScores(const std::function<void(std::span<double>)>&)>;

/// The scores in the file's units and, where the model sees scaled values, in those too.
ForecastScores add_scores(io::Json& report, const OpenModel& model, const Score& score) {
  std::function<void(std::span<double>)> unscale;
  if (model.scaler) unscale = [&](std::span<double> rows) { model.scaler->unscale(rows); };
  const ForecastScores scores = score(unscale);
  report.update(json_of(scores));
  if (model.scaler) report["scaled"] = json_of(score({}));
  return scores;
}

void add_forecast_scores(io::Json& report, const EvaluateCommand& a, const OpenModel& model,
                         const data::SequenceSet& set) {
  io::Json scores = io::Json::object();
  const ForecastScores of_model = add_scores(scores, model, [&](const auto& unscale) {
    ProgressBar bar("forecast", !a.common.quiet && !a.common.json);
    return score_forecasts(*model.predictor, set, a.options, unscale, watched(bar));
  });
  report["horizon"] = of_model.horizon;
  report["windows"] = of_model.windows;
  report["too_short"] = of_model.too_short;
  report.update(scores);
  if (!a.season) return;
  io::Json naive = io::Json::object();
  add_scores(naive, model, [&](const auto& unscale) {
    return score_seasonal_naive(set, a.options, *a.season, unscale);
  });
  report["seasonal_naive"] = naive;
}

/// Each parameter of the exact model, in the units that it sees, with its standard error by what
/// these data say of it.
void add_parameters(io::Json& report, const EvaluateCommand& a, const OpenModel& model,
                    const data::SequenceSet& set) {
  const FittedLgssm fitted = RunFolder::open(a.model.run).lgssm("best");
  const std::vector<std::string> names = fitted.form->names();
  const std::vector<double> errors =
      lgssm_standard_errors(*fitted.form, set, fitted.parameters, model.machine.get());
  io::Json parameters = io::Json::object();
  for (std::size_t i = 0; i < names.size(); ++i) {
    parameters[names[i]] = {{"value", fitted.parameters[i]}, {"standard_error", errors[i]}};
  }
  report["parameters"] = parameters;
}

void run(EvaluateCommand a) {
  if (a.forecast && a.data.load.stride) {  // of the origins, not of windows
    a.options.stride = *a.data.load.stride;
    a.data.load.stride.reset();
  }
  const OpenModel model = open_model(a.model, a.run);
  if (a.parameters && (model.name != "lgssm" || a.model.run.empty())) {
    throw InputError("--parameters", "", "needs a run of lgssm, whose parameters are estimates");
  }
  const std::string bound = bound_of(a.bound, *model.predictor);
  const OpenData data = open_data(model, a.data, a.common);
  const data::SequenceSet& set = data.set();
  const auto seed = a.run.seed_of_draws();
  Evaluation e;
  {
    ProgressBar bar("evaluate", !a.common.quiet && !a.common.json);
    const std::int64_t samples = a.samples.value_or(bound == "iwae" ? 100 : 1);
    e = model.predictor->evaluate(set, bound, samples, seed, watched(bar));
  }
  if (model.scaler) e.log_likelihood += model.scaler->log_jacobian(set);
  io::Json report = {{"model", model.name},
                     {"bound", e.bound},
                     {"samples", e.samples},
                     {"log_likelihood", e.log_likelihood},
                     {"standard_error", e.standard_error},
                     {"nats_per_step", e.nats_per_step()},
                     {"steps", e.steps},
                     {"sequences", e.sequences},
                     {"observed", e.observed}};
  if (e.residuals) report["residuals"] = json_of(*e.residuals);
  if (a.parameters) add_parameters(report, a, model, set);
  if (a.forecast) {
    a.options.seed = seed;
    a.options.samples = a.samples.value_or(100);
    add_forecast_scores(report, a, model, set);
  }
  print_report(report, a.common.json);
}

}  // namespace

void add_evaluate(Command program) {
  const Command command =
      program.add("evaluate", "a bound on the log-likelihood; scores of forecasts");
  auto arguments = std::make_shared<EvaluateCommand>();
  add_model_arguments(command, arguments->model);
  add_data_arguments(command, arguments->data);
  command.text("--bound", arguments->bound, "elbo|iwae|exact", "which (the model's first)");
  command.integer("--samples", arguments->samples, 1,
                  "draws a sequence (elbo 1, iwae 100, forecasts 100)");
  command.flag("--parameters", arguments->parameters,
               "also each parameter of a run's lgssm, with its standard error");
  const Flag forecast =
      command.flag("--forecast", arguments->forecast,
                   "also forecast from rolling origins, one every --stride N steps (1)");
  ForecastOptions& options = arguments->options;
  command.integer("--context", options.context, 1, "steps seen before an origin (all)")
      .needs(forecast);
  command.integer("--horizon", options.horizon, 1, "steps forecast (1)").needs(forecast);
  command
      .integer("--season", arguments->season, 1,
               "beside it the seasonal naive forecast of period N")
      .needs(forecast);
  add_run_arguments(command, arguments->run, false);
  add_common(command, arguments->common);
  command.example("seqvae evaluate runs/dmm --data jsb.npz --bound iwae --samples 500 --json");
  command.runs([arguments] { run(*arguments); });
}

}  // namespace seqvae::app

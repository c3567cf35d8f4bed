// seqvae train: a run folder from a model's name and data.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "host/app/commands.hpp"
#include "host/app/errors.hpp"
#include "host/app/figures.hpp"
#include "host/app/gnuplot.hpp"
#include "host/app/metrics.hpp"
#include "host/app/model.hpp"
#include "host/app/output.hpp"
#include "host/app/progress.hpp"
#include "host/app/settings.hpp"
#include "host/app/signals.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/models/lgssm_form.hpp"
#include "seqvae/models/scan_data.hpp"
#include "seqvae/train/run_folder.hpp"
#include "seqvae/train/trainer.hpp"

namespace seqvae::app {
namespace {

struct TrainCommand {
  CommonArguments common;
  RunArguments run;
  LoadArguments load;
  std::string model, data, out, config;
  std::vector<std::string> set;
  std::optional<std::int64_t> epochs, max_steps;
  std::optional<double> time_limit;
  bool resume = false;
};

std::string model_of(const std::vector<Setting>& given) {
  std::string model;
  for (const Setting& setting : given) {
    if (setting.key == "model") model = setting.value.get<std::string>();
  }
  if (model.empty()) throw InputError("train", "", "--model is required");
  return model;
}

/// All that was given, weakest first: the file, --set, flags.
std::vector<Setting> given_settings(const TrainCommand& a) {
  std::vector<Setting> given;
  if (!a.config.empty()) given = read_settings(a.config);
  for (const std::string& text : a.set) given.push_back(parse_setting(text));
  const auto flag = [&](const char* name, const char* key, io::Json value) {
    given.push_back({name, key, std::move(value)});
  };
  if (!a.model.empty()) flag("--model", "model", a.model);
  if (a.epochs) {
    flag("--epochs", "train.epochs", *a.epochs);
    flag("--epochs", "train.max_steps", 0);
  }
  if (a.max_steps) {
    const bool exact = (a.resume ? RunFolder::open(a.out).model() : model_of(given)) == "lgssm";
    flag("--max-steps", exact ? "train.iterations" : "train.max_steps", *a.max_steps);
  }
  if (a.run.seed) flag("--seed", "train.seed", *a.run.seed);
  if (!a.run.precision.empty()) flag("--precision", "precision", a.run.precision);
  if (!a.load.columns.empty()) flag("--columns", "data.columns", a.load.columns);
  if (!a.load.time.empty()) flag("--time", "data.time", a.load.time);
  if (a.load.window) flag("--window", "data.window", *a.load.window);
  if (a.load.stride) flag("--stride", "data.stride", *a.load.stride);
  if (a.load.standardize) flag("--standardize", "data.standardize", true);
  if (!a.load.split_at.empty()) flag("--split-at", "data.split_at", a.load.split_at);
  return given;
}

/// The settings with what the data decide: their shape, the emission, the scaler.
io::Json resolve(io::Json settings, const data::Dataset& dataset) {
  io::Json& data = settings["data"];
  const data::SequenceSet& set = dataset.training_part();
  if (data["emission"] == "auto") {
    data["emission"] = settings["model"] == "lgssm" ? "gaussian" : data::choose_emission(set);
  }
  if (data["standardize"] == true && data["emission"] != "gaussian") {
    throw InvalidArgument(fmt::format("standardize = true, must be false with emission {}",
                                      data["emission"].get<std::string>()));
  }
  data["x_width"] = set.D;
  data["controls_width"] = set.U;
  data["missing"] = set.has_missing() || settings["train"].value("hide", 0.0) > 0;
  if (settings["model"] == "lgssm" && data["emission"] != "gaussian") {
    throw InvalidArgument(fmt::format("emission = {}, must be gaussian with lgssm",
                                      data["emission"].get<std::string>()));
  }
  settings["scaler"] = dataset.scaler ? dataset.scaler->to_json() : io::Json();
  settings["version"] = SEQVAE_VERSION;
  return settings;
}

/// Columns of a CSV by name, so that later commands read the same ones.
void name_columns(io::Json& settings, const std::string& file, const data::Dataset& dataset) {
  if (std::filesystem::path(file).extension() == ".csv") {
    settings["data"]["columns"] = dataset.columns;
  }
}

struct Job {
  RunFolder run;
  data::Dataset dataset;
};

Job begin(const TrainCommand& a, const std::vector<Setting>& given) {
  io::Json settings = default_settings(model_of(given));
  apply_settings(settings, given);
  data::Dataset dataset =
      data::load(a.data, load_options_of(io::JsonView(settings["data"], "train", "data")));
  dataset.require_observed_columns(dataset.has("all") ? "all" : "train");
  name_columns(settings, a.data, dataset);
  settings = resolve(std::move(settings), dataset);
  const auto emission = parse_emission(settings["data"]["emission"].get<std::string>());
  require_support(dataset.training_part(), emission);
  if (dataset.has("valid")) require_support(dataset.part("valid"), emission);
  return {RunFolder::create(a.out, std::move(settings)), std::move(dataset)};
}

Job resume(const TrainCommand& a, const std::vector<Setting>& given) {
  RunFolder run = RunFolder::open(a.out);
  require_same(run.config, (run.path / "config.json").string(), given);
  data::Dataset dataset = data::load(a.data, run.load_options());
  const DataShape shape = run.data_shape();
  const data::SequenceSet& set = dataset.training_part();
  if (set.D != shape.x_width || set.U != shape.controls_width) {
    throw InputError(a.data, "",
                     fmt::format("has {} columns and {} controls, the run to resume {} and {}",
                                 set.D, set.U, shape.x_width, shape.controls_width));
  }
  return {std::move(run), std::move(dataset)};
}

const char* to_string(Stop stop) {
  switch (stop) {
    case Stop::finished:
      return "finished";
    case Stop::early:
      return "early";
    case Stop::time_limit:
      return "time_limit";
    case Stop::interrupted:
      return "interrupted";
  }
  return "";
}

/// What is told while training runs.
struct Watch {
  explicit Watch(bool shown) : bar("train", shown) {}
  ProgressBar bar;
  std::int64_t step = 0;
  std::string valid;

  TrainCallbacks callbacks() {
    TrainCallbacks calls;
    calls.on_metrics = [this](const Metrics& metrics) {
      if (metrics.split == "valid") valid = fmt::format("  valid {:.4g}", metrics.nats_per_step);
    };
    calls.on_step = [this](std::int64_t at, std::int64_t all, double objective,
                           std::int64_t sequences) {
      step = at;
      if (!bar.is_due()) return bar.update(at, all);
      const double speed = static_cast<double>(sequences) / bar.seconds();
      bar.update(at, all,
                 fmt::format("{:.4g} nats/step{}  {:.3g} sequences/s", objective, valid, speed));
    };
    calls.should_stop = [] { return signal_received() != 0; };
    return calls;
  }
};

/// The whole run, what came before a resumption included: its last means of training and its best
/// validation.
io::Json report_of(const RunFolder& run, std::int64_t parameters, Stop stop, const Watch& watch) {
  const std::vector<io::Json> lines = read_metrics(run.path / "metrics.jsonl");
  const io::Json *train = nullptr, *best = nullptr;
  for (const io::Json& line : lines) {
    if (line.at("split") == "train") {
      train = &line;
    } else if (line.at("nats_per_step").is_number() &&
               (best == nullptr || line.at("nats_per_step") < best->at("nats_per_step"))) {
      best = &line;
    }
  }
  const auto bound_of = [](const io::Json& line) {
    return io::Json{{"nats_per_step", line.at("nats_per_step")},
                    {"reconstruction", line.at("reconstruction")},
                    {"kl", line.at("kl")},
                    {"step", line.at("step")}};
  };
  const std::int64_t written = lines.empty() ? 0 : lines.back().at("step").get<std::int64_t>();
  io::Json report = {{"model", run.model()},
                     {"run", run.path.string()},
                     {"parameters", parameters},
                     {"stop", to_string(stop)},
                     {"step", std::max(watch.step, written)}};
  if (train != nullptr) {
    report["epoch"] = train->at("epoch");
    report["skipped"] = train->at("skipped");
    report["train"] = bound_of(*train);
  }
  if (best != nullptr) report["valid"] = bound_of(*best);
  report["seconds"] = watch.bar.seconds();
  return report;
}

/// A run whose input is refused before its first checkpoint leaves no folder in the way of the
/// next.
void forget(const RunFolder& run) {
  if (std::filesystem::exists(run.path / "last.safetensors")) return;
  std::error_code ignored;
  for (const char* name : {"best.safetensors", "metrics.jsonl", "config.json", ""})
    std::filesystem::remove(run.path / name,
                            ignored);  // "": the folder, where nothing else is in it
}

void run(const TrainCommand& a) {
  check(a.run);
  const std::vector<Setting> given = given_settings(a);
  if (!a.run.plot.empty()) Gnuplot::check(a.run.plot);
  const Job job = a.resume ? resume(a, given) : begin(a, given);
  const io::JsonView config(job.run.config, (job.run.path / "config.json").string());
  TrainOptions options;
  options.run = job.run.path;
  options.resume = a.resume;
  options.float64 = job.run.config.at("precision") == "float64";
  options.threads = static_cast<int>(a.run.threads);
  options.time_limit_seconds = a.time_limit;

  Watch watch(!a.common.quiet && !a.common.json);
  std::int64_t parameters = 0;
  Stop stop = Stop::finished;
  try {
    options.device = device_of(a.run, job.run.model(), !options.float64);
    if (job.run.model() == "lgssm") {
      const io::JsonView configuration = config.at("configuration");
      const data::SequenceSet& set = job.dataset.training_part();
      parameters =
          static_cast<std::int64_t>(make_lgssm_form(configuration, set.D, set.U)->names().size());
      stop =
          train_lgssm(configuration, job.dataset, LgssmTrainConfig::from_json(config.at("train")),
                      options, watch.callbacks());
    } else {
      const std::unique_ptr<Model> model = job.run.make_model();
      parameters = model->parameters().count();
      stop = train(*model, job.dataset, TrainConfig::from_json(config.at("train")), options,
                   watch.callbacks());
    }
  } catch (const InputError&) {
    if (!a.resume) forget(job.run);
    throw;
  } catch (const InvalidArgument&) {
    if (!a.resume) forget(job.run);
    throw;
  }
  watch.bar.clear();
  if (!a.run.plot.empty()) plot_training(a.run.plot, job.run.path / "metrics.jsonl");
  if (a.common.json || !a.common.quiet) {
    print_report(report_of(job.run, parameters, stop, watch), a.common.json);
  }
  if (stop == Stop::interrupted) {
    flush_output();
    stop_if_asked();
  }
}

}  // namespace

void add_train(Command program) {
  const Command command = program.add("train", "a model from data, into a run folder");
  auto arguments = std::make_shared<TrainCommand>();
  command.text("--model", arguments->model, "NAME", "which model: seqvae info --models");
  command.text("--data", arguments->data, "FILE", "the data: .npz, .npy or .csv").required();
  command.text("--out", arguments->out, "RUN", "the folder of the run").required();
  command.text("--config", arguments->config, "FILE.json",
               "settings: model, configuration, data, train, precision");
  command.settings("--set", arguments->set,
                   "one setting, such as train.learning_rate=3e-4; repeatedly");
  const Flag epochs = command.integer("--epochs", arguments->epochs, 0, "(100)");
  command.integer("--max-steps", arguments->max_steps, 1, "optimiser steps, in place of epochs")
      .excludes(epochs);
  command.duration("--time-limit", arguments->time_limit,
                   "checkpoint and end after 45s, 30m or 1h30m");
  command.flag("--resume", arguments->resume, "go on with the run from its last checkpoint");
  add_load_arguments(command, arguments->load);
  add_run_arguments(command, arguments->run, true);
  add_common(command, arguments->common);
  command.example(
      "seqvae train --model dmm --data jsb.npz --out runs/dmm --set configuration.z=100 "
      "--epochs 500 --plot loss.png");
  command.runs([arguments] { run(*arguments); });
}

}  // namespace seqvae::app

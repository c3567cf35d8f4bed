// Maximum likelihood of the linear-Gaussian model, by its exact gradient or by EM.
#include <chrono>
#include <optional>

#include "host/train/lgssm_checkpoint.hpp"
#include "host/train/metrics_file.hpp"
#include "host/train/run_claim.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/models/lgssm_fit.hpp"
#include "seqvae/train/trainer.hpp"

namespace seqvae {
namespace {

io::Json to_json(const LbfgsState& s) {
  return {{"x", s.x},
          {"gradient", s.gradient},
          {"value", s.value},
          {"iteration", s.iteration},
          {"steps", s.steps},
          {"changes", s.changes},
          {"stalled", s.stalled}};
}

std::vector<double> numbers_of(const io::JsonView& json, std::size_t count) {
  const std::vector<double> numbers = json.numbers();
  if (numbers.size() != count)
    json.fail(fmt::format("has {} numbers, must have {}", numbers.size(), count));
  return numbers;
}

std::vector<std::vector<double>> rows_of(const io::JsonView& json, std::size_t count) {
  std::vector<std::vector<double>> rows;
  for (const io::JsonView& row : json.elements()) rows.push_back(numbers_of(row, count));
  return rows;
}

/// Of so many parameters.
LbfgsState state_of(const io::JsonView& json, std::size_t count) {
  LbfgsState s;
  s.x = numbers_of(json.at("x"), count), s.gradient = numbers_of(json.at("gradient"), count);
  s.value = json.at("value").number(), s.iteration = json.at("iteration").integer(0);
  s.steps = rows_of(json.at("steps"), count), s.changes = rows_of(json.at("changes"), count);
  if (s.steps.size() != s.changes.size()) json.fail("has not as many changes as steps");
  s.stalled = json.at("stalled").integer(0);
  return s;
}

}  // namespace

Stop train_lgssm(const io::JsonView& configuration, const data::Dataset& dataset,
                 const LgssmTrainConfig& config, const TrainOptions& options,
                 const TrainCallbacks& callbacks) {
  const auto started = std::chrono::steady_clock::now();
  const RunClaim claim(options.run);
  const data::SequenceSet& set = dataset.training_part();
  const std::unique_ptr<LgssmForm> form = make_lgssm_form(configuration, set.D, set.U);
  const double steps = static_cast<double>(set.steps());
  Machine machine(options.device, options.threads);
  MetricsFile metrics(options.run / "metrics.jsonl");
  const std::filesystem::path last = options.run / "last.safetensors";
  const bool em = config.method == "em";
  LbfgsState state;   // em: x, iteration and value alone
  double before = 0;  // seconds of the runs before
  const bool resumed = options.resume && std::filesystem::exists(last);
  if (resumed) {
    const LgssmCheckpoint checkpoint = read_lgssm_checkpoint(last, *form);
    const io::JsonView saved(checkpoint.state, last.string(), "state");
    if (em) {
      state.x = checkpoint.parameters, state.iteration = saved.at("iteration").integer(0);
      state.value = saved.at("value").number();
    } else {
      state = state_of(saved, checkpoint.parameters.size());
    }
    before = metrics.cut_to(state.iteration);
  } else {
    metrics.cut_to(0);
  }
  const auto seconds = [&] {
    return before +
           std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  };
  const auto save = [&](const LbfgsState& at) {
    metrics.sync();
    write_lgssm_checkpoint(options.run / "best.safetensors", *form,
                           {at.x, {{"step", at.iteration}}});
    write_lgssm_checkpoint(
        last, *form,
        {at.x, em ? io::Json{{"iteration", at.iteration}, {"value", at.value}} : to_json(at)});
  };
  Stop stop = Stop::finished;
  const auto after_iteration = [&](const LbfgsState& at, double log_likelihood,
                                   std::optional<double> gradient_norm) {
    Metrics m;
    m.step = m.epoch = at.iteration, m.split = "train";
    m.objective = m.nats_per_step = m.reconstruction = -log_likelihood / steps;
    m.gradient_norm = gradient_norm.value_or(0), m.seconds = seconds();
    metrics.append(m.to_json());
    if (callbacks.on_metrics) callbacks.on_metrics(m);
    if (callbacks.on_step) {
      callbacks.on_step(at.iteration, config.iterations, m.objective, at.iteration * set.count());
    }
    if (at.iteration % config.checkpoint_every == 0) save(at);
    if (callbacks.should_stop && callbacks.should_stop()) stop = Stop::interrupted;
    if (options.time_limit_seconds && seconds() - before > *options.time_limit_seconds) {
      stop = Stop::time_limit;
    }
    return stop == Stop::finished;
  };
  if (em) {
    LgssmEmOptions fit;
    fit.max_iterations = config.iterations, fit.machine = &machine;
    fit.on_iteration = [&](const LbfgsState& at, double log_likelihood) {
      return after_iteration(at, log_likelihood, {});
    };
    save(fit_lgssm_em(*form, set, fit, resumed ? &state : nullptr).state);
  } else {
    LgssmFitOptions fit;
    fit.max_iterations = config.iterations, fit.machine = &machine;
    fit.on_iteration = after_iteration;
    save(fit_lgssm(*form, set, fit, resumed ? &state : nullptr).state);
  }
  return stop;
}

io::Json LgssmTrainConfig::to_json() const {
  return {{"method", method}, {"iterations", iterations}, {"checkpoint_every", checkpoint_every}};
}

LgssmTrainConfig LgssmTrainConfig::from_json(const io::JsonView& json) {
  json.allow_only({"method", "iterations", "checkpoint_every"});
  LgssmTrainConfig config;
  if (const auto given = json.get("method")) config.method = given->choice({"gradient", "em"});
  if (const auto given = json.get("iterations")) config.iterations = given->integer(1);
  if (const auto given = json.get("checkpoint_every")) config.checkpoint_every = given->integer(1);
  return config;
}

}  // namespace seqvae

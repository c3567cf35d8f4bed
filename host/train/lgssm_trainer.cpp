// Maximum likelihood of the linear-Gaussian model, by its exact gradient.
#include <chrono>
#include <cmath>

#include "host/train/lgssm_checkpoint.hpp"
#include "host/train/metrics_file.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/io/safetensors.hpp"
#include "seqvae/train/lbfgs.hpp"
#include "seqvae/train/trainer.hpp"

namespace seqvae {

void write_lgssm_checkpoint(const std::filesystem::path& file, const Lgssm& model,
                            const io::Json& state) {
  const LgssmMatrices& k = model.matrices();
  io::Safetensors contents;
  const auto put = [&](const char* name, const std::vector<double>& values,
                       std::vector<std::int64_t> shape) {
    contents.tensors[name] = io::Array::of<double>(std::move(shape), values);
  };
  put("theta", model.theta(), {static_cast<std::int64_t>(model.theta().size())});
  put("A", k.A, {k.n, k.n}), put("C", k.C, {k.m, k.n}), put("Q", k.Q, {k.n, k.n}),
      put("R", k.R, {k.m, k.m});
  put("m0", k.m0, {k.n}), put("P0", k.P0, {k.n, k.n}), put("offset", k.offset, {k.m});
  if (k.U > 0) put("B", k.B, {k.n, k.U}), put("D", k.D, {k.m, k.U});
  contents.metadata["state"] = state.dump();
  io::write_safetensors(file, contents);
}

io::Json read_lgssm_checkpoint(const std::filesystem::path& file, Lgssm& model) {
  const io::Safetensors contents = io::read_safetensors(file);
  const auto theta = contents.tensors.find("theta");
  if (theta == contents.tensors.end()) throw InputError(file.string(), "theta", "is not there");
  const std::vector<double> values = theta->second.to_double();
  if (values.size() != model.theta().size()) {
    throw InputError(file.string(), "theta",
                     fmt::format("has {} parameters, the configuration has {}", values.size(),
                                 model.theta().size()));
  }
  model.set_theta(values);
  const auto state = contents.metadata.find("state");
  return state == contents.metadata.end() ? io::Json::object()
                                          : io::parse_json(state->second, file.string());
}

Stop train_lgssm(const io::JsonView& configuration, const data::Dataset& dataset,
                 const LgssmTrainConfig& config, const TrainOptions& options,
                 const TrainCallbacks& callbacks) {
  const auto started = std::chrono::steady_clock::now();
  const data::SequenceSet& set = dataset.training_part();
  Lgssm model = Lgssm::of(configuration, set);
  const double steps = static_cast<double>(set.steps());
  MetricsFile metrics(options.run / "metrics.jsonl");
  Lbfgs search(model.theta());
  std::int64_t iteration = 0;
  double before = 0;
  bool converged = false;
  const std::filesystem::path last = options.run / "last.safetensors";
  if (options.resume && std::filesystem::exists(last)) {
    const io::Json state = read_lgssm_checkpoint(last, model);
    const io::JsonView json(state, last.string(), "state");
    search = Lbfgs::from_json(json.at("search"));
    iteration = json.at("iteration").integer(0);
    converged = json.at("converged").boolean();
    before = metrics.cut_to(iteration);
  } else {
    metrics.cut_to(0);
  }
  const auto seconds = [&] {
    return before +
           std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  };
  // Minimised: -log-likelihood a step. A theta whose likelihood does not exist is stepped back
  // from.
  const auto objective = [&](const std::vector<double>& theta, std::vector<double>& gradient) {
    model.set_theta(theta);
    double value = 0;
    try {
      value = -model.log_likelihood(set, &gradient) / steps;
    } catch (const InvalidArgument&) {
      throw;
    } catch (const Error&) {
      if (iteration == 0) throw;
      return std::numeric_limits<double>::infinity();
    }
    for (double& g : gradient) g = -g / steps;
    return value;
  };
  const auto save = [&] {
    metrics.sync();
    model.set_theta(search.x());
    const io::Json state = {
        {"iteration", iteration}, {"converged", converged}, {"search", search.to_json()}};
    write_lgssm_checkpoint(options.run / "best.safetensors", model, {{"step", iteration}});
    write_lgssm_checkpoint(last, model, state);
  };
  while (iteration < config.iterations && !converged) {
    converged = !search.iterate(objective);
    if (!std::isfinite(search.value()))
      throw Error("lgssm: the likelihood is not finite at the start");
    ++iteration;
    Metrics m;
    m.step = iteration, m.epoch = iteration, m.split = "train";
    m.objective = m.nats_per_step = m.reconstruction = search.value();
    m.gradient_norm = search.gradient_norm(), m.seconds = seconds();
    metrics.append(m.to_json());
    if (callbacks.on_metrics) callbacks.on_metrics(m);
    if (callbacks.on_step)
      callbacks.on_step(iteration, config.iterations, m.objective, iteration * set.count());
    save();
    if (callbacks.should_stop && callbacks.should_stop()) return Stop::interrupted;
    if (options.time_limit_seconds && seconds() - before > *options.time_limit_seconds)
      return Stop::time_limit;
  }
  save();
  return Stop::finished;
}

io::Json LgssmTrainConfig::to_json() const { return {{"iterations", iterations}}; }

LgssmTrainConfig LgssmTrainConfig::from_json(const io::JsonView& json) {
  json.allow_only({"iterations"});
  LgssmTrainConfig config;
  if (const auto given = json.get("iterations")) config.iterations = given->integer(1);
  return config;
}

}  // namespace seqvae

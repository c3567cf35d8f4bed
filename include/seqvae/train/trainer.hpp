/// \file  Training a deep model: schedules, steps, checkpoints, early stopping.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>

#include "seqvae/core/device.hpp"
#include "seqvae/data/dataset.hpp"
#include "seqvae/io/json.hpp"
#include "seqvae/models/model.hpp"

namespace seqvae {

/// Settings of training; every key of config.json's "train". Schedules depend on the step alone.
struct TrainConfig {
  std::int64_t batch_size = 20;
  std::int64_t epochs = 100;
  std::int64_t max_steps = 0;  ///< 0: as epochs say
  std::int64_t samples = 1;    ///< particles of the bound
  std::string bound = "elbo";  ///< elbo or iwae
  double learning_rate = 1e-3;
  std::string schedule = "constant";  ///< constant, cosine (to zero at the last step), exponential
  double learning_rate_decay = 1;     ///< exponential: factor a step
  std::int64_t warmup_steps = 0;      ///< linear from zero
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0, l2 = 0;
  double clip_norm = 10, clip_value = 0;  ///< 0: none
  std::string annealing = "linear";       ///< of beta: none, linear, cyclical
  double annealing_start = 0.01;          ///< beta at step 1
  std::int64_t annealing_steps = 0;       ///< to reach 1; cyclical: a cycle's length; 0: none
  double free_nats = 0;                   ///< a step
  double hide = 0;                        ///< share of observed values hidden from the networks
  std::int64_t accumulate = 1;            ///< batches a step
  std::int64_t validate_every = 0;        ///< steps; 0: each epoch
  std::int64_t validation_samples = 1;
  std::int64_t patience = 0;          ///< validations without a better bound; 0: never stops early
  std::int64_t checkpoint_every = 0;  ///< steps; 0: at each validation
  std::int64_t skips_in_a_row = 20;   ///< non-finite steps that end training
  std::uint64_t seed = 0;

  io::Json to_json() const;
  static TrainConfig from_json(
      const io::JsonView& json);  ///< over the defaults; \throws InputError
};

/// One line of metrics.jsonl.
struct Metrics {
  std::int64_t step = 0, epoch = 0;
  std::string split;  ///< train (means since the line before) or valid
  double objective = 0, nats_per_step = 0, reconstruction = 0, kl = 0;  ///< nats a step
  double beta = 1, learning_rate = 0, gradient_norm = 0;
  std::int64_t skipped = 0;  ///< steps skipped so far
  double seconds = 0;        ///< since training began, earlier runs included
  io::Json to_json() const;
};

/// Why train returned.
enum class Stop { finished, early, time_limit, interrupted };

struct TrainCallbacks {
  std::function<void(const Metrics&)> on_metrics;  ///< each line as it is written
  /// After each step: step, steps in all, last objective (nats a step), sequences done since start.
  std::function<void(std::int64_t, std::int64_t, double, std::int64_t)> on_step;
  std::function<bool()> should_stop;  ///< asked after each step: checkpoint and return
};

struct TrainOptions {
  std::filesystem::path run;      ///< a folder that holds config.json already
  bool resume = false;            ///< go on from the checkpoint `last`
  bool float64 = false;           ///< compute and store in float64
  Device device = Device::cpu();  ///< CUDA: not in float64
  int threads = 0;                ///< of the CPU; 0: as many as this process may use
  std::optional<double> time_limit_seconds;
};

/// Trains in the run's folder: writes metrics.jsonl and the checkpoints last and best. With resume
/// it ends in the same bytes as a run that was never interrupted (metrics: but for seconds). Valid
/// is the part "valid" where there is one, else there is none and best is last.
/// \throws Error where too many steps in a row are not finite, or the disk does not take a file;
/// the last checkpoint stays whole.
Stop train(const Model& model, const data::Dataset& dataset, const TrainConfig& config,
           const TrainOptions& options, const TrainCallbacks& callbacks);

/// Settings of lgssm's maximum likelihood.
struct LgssmTrainConfig {
  std::string method = "gradient";     ///< L-BFGS on the exact gradient, or em
  std::int64_t iterations = 200;       ///< at most
  std::int64_t checkpoint_every = 10;  ///< iterations
  io::Json to_json() const;
  static LgssmTrainConfig from_json(const io::JsonView& json);  ///< \throws InputError
};

/// Fits the form that the configuration asks for (models/lgssm_form.hpp) to the training part by
/// maximum likelihood; files as train's, one line of metrics an iteration, and resuming as exact.
Stop train_lgssm(const io::JsonView& configuration, const data::Dataset& dataset,
                 const LgssmTrainConfig& config, const TrainOptions& options,
                 const TrainCallbacks& callbacks);

}  // namespace seqvae

#include "seqvae/train/trainer.hpp"

#include <chrono>
#include <cmath>
#include <limits>

#include "host/train/checkpoint.hpp"
#include "host/train/metrics_file.hpp"
#include "host/train/run_claim.hpp"
#include "host/train/schedule.hpp"
#include "host/train/train_step.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/data/batching.hpp"
#include "seqvae/models/scan_data.hpp"

namespace seqvae {
namespace {

template <class Real>
class Training {
 public:
  Training(const Model& model, const data::Dataset& dataset, const TrainConfig& config,
           const TrainOptions& options, const TrainCallbacks& callbacks)
      : model_(model),
        config_(config),
        options_(options),
        callbacks_(callbacks),
        machine_(options.device, options.threads),
        train_data_(dataset.training_part(), model.shape()),
        batches_(dataset.training_part().lengths, config.batch_size, config.seed),
        train_step_(model, config, train_data_.scan_options(), machine_),
        metrics_(options.run / "metrics.jsonl") {
    if (dataset.has("valid")) {
      valid_data_.emplace(dataset.part("valid"), model.shape());
      ScanOptions valid = valid_data_->scan_options();
      valid.trace.particles = config.validation_samples > 1;
      validator_.emplace(make_executor<Real>(model.scan(valid), model.parameters(), machine_,
                                             config.validation_samples));
      valid_batches_ = data::batches_by_length(dataset.part("valid").lengths, 64);
    }
    const std::int64_t per_epoch = batches_.per_epoch();
    steps_ = config.max_steps > 0
                 ? config.max_steps
                 : (config.epochs * per_epoch + config.accumulate - 1) / config.accumulate;
  }

  Stop run() {
    options_.resume ? restore() : begin();
    train_step_.load(state_);
    started_ = std::chrono::steady_clock::now();
    while (step_ < steps_ && !stopped_early()) {
      one_step();
      if (callbacks_.on_step) {
        callbacks_.on_step(step_, steps_, -last_objective_, sequences_);
      }
      if (is_validation_step()) validate();
      if (is_checkpoint_step()) write_last();
      if (callbacks_.should_stop && callbacks_.should_stop()) return stop_now(Stop::interrupted);
      if (options_.time_limit_seconds && seconds_here() > *options_.time_limit_seconds)
        return stop_now(Stop::time_limit);
    }
    write_last();
    return stopped_early() ? Stop::early : Stop::finished;
  }

 private:
  // --- steps ----------------------------------------------------------------------------------

  void begin() {
    state_.parameters.resize(static_cast<std::size_t>(model_.parameters().size()));
    model_.parameters().initialise(config_.seed, state_.parameters.data());
    state_.m.assign(state_.parameters.size(), Real{0});
    state_.v.assign(state_.parameters.size(), Real{0});
    metrics_.cut_to(0);
  }

  void one_step() {
    train_step_.begin(step_ + 1, rows_of_step());
    for (std::int64_t i = 0; i < config_.accumulate; ++i) {
      train_step_.add(next_batch());
      sequences_ += static_cast<std::int64_t>(batch_.lengths.size());
    }
    ++step_;
    record(train_step_.totals(),
           train_step_.update(learning_rate_at(config_, step_, steps_), updates_ + 1));
  }

  /// Rows that count of the step's batches, known before the first of them runs.
  std::int64_t rows_of_step() {
    std::int64_t rows = 0, epoch = epoch_, position = position_;
    for (std::int64_t i = 0; i < config_.accumulate; ++i) {
      rows += train_data_.steps(batches_.at(epoch, position));
      if (++position == batches_.per_epoch()) position = 0, ++epoch;
    }
    return rows;
  }

  ScanBatch<Real>& next_batch() {
    const std::span<const std::int32_t> members = batches_.at(epoch_, position_);
    if (config_.hide > 0) {
      train_data_.hide(members, config_.hide, config_.seed, static_cast<std::uint64_t>(step_ + 1));
    }
    train_data_.bind(members, train_step_.scan_options(), batch_);
    if (++position_ == batches_.per_epoch()) position_ = 0, ++epoch_;
    return batch_;
  }

  void record(const Totals& totals, double norm) {
    last_objective_ = totals.objective / static_cast<double>(totals.rows);
    if (!std::isfinite(norm)) {
      ++skipped_;
      if (++skipped_in_a_row_ >= config_.skips_in_a_row) {
        throw Error(fmt::format(
            "training diverged: the objective or its gradient was not finite in {} steps in a "
            "row, up to step {}; the last checkpoint is kept",
            skipped_in_a_row_, step_));
      }
      return;
    }
    skipped_in_a_row_ = 0;
    ++updates_;
    gradient_norm_ += norm;
    ++steps_in_window_;
    window_ += totals;
  }

  // --- validation -----------------------------------------------------------------------------

  bool is_validation_step() const {
    if (step_ == steps_) return true;
    return config_.validate_every > 0 ? step_ % config_.validate_every == 0 : position_ == 0;
  }
  bool is_checkpoint_step() const {
    return config_.checkpoint_every > 0 ? step_ % config_.checkpoint_every == 0
                                        : is_validation_step();
  }
  bool stopped_early() const { return config_.patience > 0 && without_better_ >= config_.patience; }

  void validate() {
    if (window_.rows > 0) emit(metrics_of("train", window_));
    window_ = Totals();
    gradient_norm_ = 0, steps_in_window_ = 0;
    if (!validator_) {
      write_best();
      return;
    }
    Totals totals;
    validator_->set_parameters(train_step_.parameters());
    Real one = 1, share = static_cast<Real>(1.0 / static_cast<double>(config_.validation_samples));
    for (const std::vector<std::int32_t>& members : valid_batches_) {
      ScanBatch<Real> batch;
      batch.bindings = {{"beta", &one}, {"one_over_particles", &share}};
      valid_data_->bind(members, validator_->scan().options, batch);
      batch.seed = config_.seed;  // step 0: the same noise at each validation
      validator_->run(batch);
      totals.rows += valid_data_->steps(members);
      totals.add(*validator_, static_cast<std::int64_t>(members.size()));
    }
    const Metrics metrics = metrics_of("valid", totals);
    emit(metrics);
    if (metrics.nats_per_step < best_) {
      best_ = metrics.nats_per_step, without_better_ = 0;
      write_best();
    } else {
      ++without_better_;
    }
  }

  Metrics metrics_of(const std::string& split, const Totals& totals) const {
    const double rows = static_cast<double>(totals.rows);
    Metrics m;
    m.step = step_, m.epoch = epoch_, m.split = split;
    m.objective = -totals.objective / rows, m.nats_per_step = -totals.bound / rows;
    m.reconstruction = -totals.reconstruction / rows, m.kl = totals.kl / rows;
    m.beta = beta_at(config_, step_), m.learning_rate = learning_rate_at(config_, step_, steps_);
    m.gradient_norm =
        steps_in_window_ > 0 ? gradient_norm_ / static_cast<double>(steps_in_window_) : 0;
    m.skipped = skipped_;
    m.seconds = seconds_before_ + seconds_here();
    return m;
  }

  void emit(const Metrics& metrics) {
    metrics_.append(metrics.to_json());
    if (callbacks_.on_metrics) callbacks_.on_metrics(metrics);
  }

  // --- checkpoints ----------------------------------------------------------------------------

  io::Json state_json() const {
    return {{"step", step_},
            {"updates", updates_},
            {"epoch", epoch_},
            {"position", position_},
            {"skipped", skipped_},
            {"skipped_in_a_row", skipped_in_a_row_},
            {"best", std::isfinite(best_) ? io::Json(best_) : io::Json(nullptr)},
            {"without_better", without_better_},
            {"window", window_.to_json()},
            {"gradient_norm", gradient_norm_},
            {"steps_in_window", steps_in_window_},
            {"metrics_lines", metrics_.lines()}};
  }

  void write_last() {
    metrics_.sync();
    train_step_.store(state_);
    state_.state = state_json();
    write_checkpoint(options_.run / "last.safetensors", model_.parameters(), state_);
  }

  void write_best() {
    train_step_.store(state_);
    Checkpoint<Real> best;
    best.parameters = state_.parameters;
    best.state = {{"step", step_}, {"epoch", epoch_}};
    write_checkpoint(options_.run / "best.safetensors", model_.parameters(), best);
  }

  void restore() {
    const std::filesystem::path file = options_.run / "last.safetensors";
    if (!std::filesystem::exists(file)) {  // stopped before its first checkpoint: from the start
      begin();
      return;
    }
    state_ = read_checkpoint<Real>(file, model_.parameters());
    if (state_.m.empty() || state_.v.empty())
      throw InputError(file.string(), "optimizer.m", "is not there");
    const io::JsonView json(state_.state, file.string(), "state");
    step_ = json.at("step").integer(0), updates_ = json.at("updates").integer(0);
    epoch_ = json.at("epoch").integer(0), position_ = json.at("position").integer(0);
    skipped_ = json.at("skipped").integer(0);
    skipped_in_a_row_ = json.at("skipped_in_a_row").integer(0);
    const io::JsonView best = json.at("best");
    if (!best.value().is_null()) best_ = best.number();
    without_better_ = json.at("without_better").integer(0);
    window_ = Totals::from_json(json.at("window"));
    gradient_norm_ = json.at("gradient_norm").number();
    steps_in_window_ = json.at("steps_in_window").integer(0);
    seconds_before_ = metrics_.cut_to(json.at("metrics_lines").integer(0));
  }

  Stop stop_now(Stop why) {
    write_last();
    return why;
  }

  double seconds_here() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  }

  const Model& model_;
  const TrainConfig& config_;
  const TrainOptions& options_;
  const TrainCallbacks& callbacks_;
  Machine machine_;
  ScanData<Real> train_data_;
  data::Batches batches_;
  TrainStep<Real> train_step_;
  std::optional<ScanData<Real>> valid_data_;
  std::optional<Executor<Real>> validator_;
  std::vector<std::vector<std::int32_t>> valid_batches_;
  MetricsFile metrics_;

  Checkpoint<Real> state_;
  ScanBatch<Real> batch_;

  std::int64_t steps_ = 0;  // in all
  std::int64_t step_ = 0, updates_ = 0, epoch_ = 0, position_ = 0;
  std::int64_t skipped_ = 0, skipped_in_a_row_ = 0, without_better_ = 0, sequences_ = 0;
  std::int64_t steps_in_window_ = 0;
  double best_ = std::numeric_limits<double>::infinity(), gradient_norm_ = 0, last_objective_ = 0;
  Totals window_;  // since the last line of metrics
  double seconds_before_ = 0;
  std::chrono::steady_clock::time_point started_;
};

}  // namespace

Stop train(const Model& model, const data::Dataset& dataset, const TrainConfig& config,
           const TrainOptions& options, const TrainCallbacks& callbacks) {
  const RunClaim claim(options.run);
  if (options.float64) return Training<double>(model, dataset, config, options, callbacks).run();
  return Training<float>(model, dataset, config, options, callbacks).run();
}

}  // namespace seqvae

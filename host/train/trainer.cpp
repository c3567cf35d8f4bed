#include "seqvae/train/trainer.hpp"

#include <chrono>
#include <cmath>
#include <fstream>
#include <numeric>

#include "host/train/checkpoint.hpp"
#include "host/train/metrics_file.hpp"
#include "host/train/run_claim.hpp"
#include "host/train/schedule.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/data/batching.hpp"
#include "seqvae/kernels/optimizer.hpp"
#include "seqvae/models/scan_data.hpp"

namespace seqvae {
namespace {

/// Sums over the sequences of some batches; nats.
struct Totals {
  double objective = 0, bound = 0, reconstruction = 0, kl = 0;
  std::int64_t rows = 0;

  io::Json to_json() const { return {objective, bound, reconstruction, kl, rows}; }
  static Totals from_json(const io::JsonView& json) {
    const std::vector<double> n = json.numbers();
    if (n.size() != 5) json.fail(fmt::format("has {} numbers, must have 5", n.size()));
    return {n[0], n[1], n[2], n[3], json.elements()[4].integer(0)};
  }
};

template <class Real>
double sum(const std::vector<Real>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

ScanOptions scan_options(const TrainConfig& config, bool weighted) {
  ScanOptions options;
  options.bound = config.bound == "iwae" ? Bound::iwae : Bound::elbo;
  options.trace.particles = config.samples > 1;
  options.trace.sampled_kl = options.bound == Bound::iwae;
  options.gradient = true;
  options.weighted = weighted;
  options.free_nats = config.free_nats;
  return options;
}

template <class Real>
class Training {
 public:
  Training(const Model& model, const data::Dataset& dataset, const TrainConfig& config,
           const TrainOptions& options, const TrainCallbacks& callbacks)
      : model_(model),
        config_(config),
        options_(options),
        callbacks_(callbacks),
        pool_(options.threads),
        train_data_(dataset.training_part(), model.shape()),
        batches_(dataset.training_part().lengths, config.batch_size, config.seed),
        executor_(model.scan(scan_options(config, train_data_.weighted())), model.parameters(),
                  pool_, config.samples),
        metrics_(options.run / "metrics.jsonl") {
    if (dataset.has("valid")) {
      valid_data_.emplace(dataset.part("valid"), model.shape());
      ScanOptions valid;
      valid.trace.particles = config.validation_samples > 1;
      valid.weighted = valid_data_->weighted();
      validator_.emplace(model.scan(valid), model.parameters(), pool_, config.validation_samples);
      valid_batches_ = data::batches_by_length(dataset.part("valid").lengths, 64);
    }
    const std::int64_t per_epoch = batches_.per_epoch();
    steps_ = config.max_steps > 0
                 ? config.max_steps
                 : (config.epochs * per_epoch + config.accumulate - 1) / config.accumulate;
  }

  Stop run() {
    options_.resume ? restore() : begin();
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
    const double beta = beta_at(config_, step_ + 1);
    beta_ = static_cast<Real>(beta);
    gradients_.resize(state_.parameters.size());
    executor_.set_parameters(state_.parameters.data());
    const std::int64_t rows = rows_of_step();
    seed_ = static_cast<Real>(-1.0 / static_cast<double>(rows));
    one_over_particles_ = static_cast<Real>(1.0 / static_cast<double>(config_.samples));

    Totals totals;
    totals.rows = rows;
    for (std::int64_t i = 0; i < config_.accumulate; ++i) {
      run_batch(i == 0 ? gradients_ : more_gradients_, totals);
      if (i == 0) continue;
      for (std::size_t p = 0; p < gradients_.size(); ++p) gradients_[p] += more_gradients_[p];
    }
    last_objective_ = totals.objective / static_cast<double>(rows);
    update(std::isfinite(totals.objective), totals);
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

  void run_batch(std::vector<Real>& gradients, Totals& totals) {
    gradients.resize(state_.parameters.size());
    const std::span<const std::int32_t> members = batches_.at(epoch_, position_);
    if (config_.hide > 0) {
      train_data_.hide(members, config_.hide, config_.seed, static_cast<std::uint64_t>(step_ + 1));
    }
    bind_scalars(batch_);
    train_data_.bind(members, batch_);
    batch_.seed = config_.seed;
    batch_.step = static_cast<std::uint64_t>(step_ + 1);
    executor_.run(batch_, gradients.data());
    collect(executor_, static_cast<std::int64_t>(members.size()), totals);
    sequences_ += static_cast<std::int64_t>(members.size());
    if (++position_ == batches_.per_epoch()) position_ = 0, ++epoch_;
  }

  void bind_scalars(ScanBatch<Real>& batch) {
    if (!batch.bindings.empty()) return;
    batch.bindings = {
        {"beta", &beta_}, {"seed", &seed_}, {"one_over_particles", &one_over_particles_}};
  }

  /// Sums of a run's outputs, means over particles.
  void collect(const Executor<Real>& executor, std::int64_t sequences, Totals& totals) {
    const auto total = [&](const char* name) {
      rows_.resize(static_cast<std::size_t>(executor.output_rows(name)));
      executor.copy_output(name, rows_);
      return sum(rows_) * static_cast<double>(sequences) / static_cast<double>(rows_.size());
    };
    totals.objective += total("objective"), totals.bound += total("bound");
    totals.reconstruction += total("log_likelihood"), totals.kl += total("kl");
  }

  void update(bool finite, const Totals& totals) {
    AdamWArgs<Real> args;
    args.count = static_cast<std::int64_t>(gradients_.size());
    args.parameters = state_.parameters.data(), args.gradients = gradients_.data();
    args.m = state_.m.data(), args.v = state_.v.data();
    args.update = updates_ + 1;
    args.learning_rate = learning_rate_at(config_, step_ + 1, steps_);
    args.beta1 = config_.beta1, args.beta2 = config_.beta2, args.epsilon = config_.epsilon;
    args.weight_decay = config_.weight_decay, args.l2 = config_.l2;
    args.clip_norm = config_.clip_norm, args.clip_value = config_.clip_value;
    double norm = std::numeric_limits<double>::quiet_NaN();
    args.norm = &norm;
    if (finite) cpu::adamw(args);
    ++step_;
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
    window_.objective += totals.objective, window_.bound += totals.bound;
    window_.reconstruction += totals.reconstruction, window_.kl += totals.kl;
    window_.rows += totals.rows;
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
    validator_->set_parameters(state_.parameters.data());
    Real one = 1, share = static_cast<Real>(1.0 / static_cast<double>(config_.validation_samples));
    for (const std::vector<std::int32_t>& members : valid_batches_) {
      ScanBatch<Real> batch;
      batch.bindings = {{"beta", &one}, {"one_over_particles", &share}};
      valid_data_->bind(members, batch);
      batch.seed = config_.seed;  // step 0: the same noise at each validation
      validator_->run(batch);
      totals.rows += valid_data_->steps(members);
      collect(*validator_, static_cast<std::int64_t>(members.size()), totals);
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
    state_.state = state_json();
    write_checkpoint(options_.run / "last.safetensors", model_.parameters(), state_);
  }

  void write_best() {
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
  ThreadPool pool_;
  ScanData<Real> train_data_;
  data::Batches batches_;
  Executor<Real> executor_;
  std::optional<ScanData<Real>> valid_data_;
  std::optional<Executor<Real>> validator_;
  std::vector<std::vector<std::int32_t>> valid_batches_;
  MetricsFile metrics_;

  Checkpoint<Real> state_;
  std::vector<Real> gradients_, more_gradients_, rows_;
  ScanBatch<Real> batch_;
  Real beta_ = 1, seed_ = 0, one_over_particles_ = 1;

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

// One step of training: the gradients of its batches added up, then AdamW.
#pragma once
#include <cstdint>
#include <vector>

#include "host/train/checkpoint.hpp"
#include "seqvae/core/machine.hpp"
#include "seqvae/graph/executor.hpp"
#include "seqvae/kernels/optimizer.hpp"
#include "seqvae/train/trainer.hpp"

namespace seqvae {

/// Sums over the sequences of some batches, means over particles; nats.
struct Totals {
  double objective = 0, bound = 0, reconstruction = 0, kl = 0;
  std::int64_t rows = 0;  ///< that count

  /// All but rows: what the executor's last run gave, of a batch of so many sequences.
  template <class Real>
  void add(const Executor<Real>& executor, std::int64_t sequences);
  Totals& operator+=(const Totals& other);

  io::Json to_json() const;
  static Totals from_json(const io::JsonView& json);  ///< \throws InputError
};

template <class Real>
class TrainStep {
 public:
  /// Of batches whose scan is traced as `data` says: missing, weighted. It works on the
  /// machine's device, with its own copy of parameters and moments there. Config and machine must
  /// outlive it.
  TrainStep(const Model& model, const TrainConfig& config, const ScanOptions& data,
            Machine& machine);

  /// Parameters and moments to start from, and as they are now.
  void load(const Checkpoint<Real>& state);
  void store(Checkpoint<Real>& state) const;
  const Real* parameters() const { return parameters_.data(); }  ///< on the device

  /// Step `step`, from 1, of batches that have `rows` rows that count.
  void begin(std::int64_t step, std::int64_t rows);
  /// Adds a batch, which names its sequences and data; scalars and what keys noise are set here.
  void add(ScanBatch<Real>& batch);
  /// AdamW; `number` counts the updates, this one included. Returns the gradient's norm before
  /// clipping. Where that or the objective is not finite, so is what it returns, and parameters
  /// and moments stay as they are.
  double update(double learning_rate, std::int64_t number);

  const ScanOptions& scan_options() const { return executor_.scan().options; }
  const Totals& totals() const { return totals_; }  ///< of the batches added so far

 private:
  const TrainConfig& config_;
  const Queue& queue_;
  Executor<Real> executor_;
  std::int64_t step_ = 0, batches_ = 0;
  Real beta_ = 1, seed_ = 0, one_over_particles_ = 1;
  Buffer<Real> parameters_, m_, v_, gradients_, more_gradients_;
  Buffer<AdamWStep> step_words_;
  Buffer<double> norm_;
  Buffer<std::byte> workspace_;
  Totals totals_;
};

}  // namespace seqvae

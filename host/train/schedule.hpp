// What depends on the step alone: learning rate and the KL's weight.
#pragma once
#include <algorithm>
#include <cmath>
#include <numbers>

#include "seqvae/train/trainer.hpp"

namespace seqvae {

/// Learning rate of update `step` (from 1) of `steps`.
inline double learning_rate_at(const TrainConfig& c, std::int64_t step, std::int64_t steps) {
  const double n = static_cast<double>(step);
  double rate = c.learning_rate;
  if (c.schedule == "cosine" && steps > 0) {
    rate *= 0.5 *
            (1 + std::cos(std::numbers::pi * std::min(1.0, (n - 1) / static_cast<double>(steps))));
  } else if (c.schedule == "exponential") {
    rate *= std::pow(c.learning_rate_decay, n - 1);
  }
  if (step < c.warmup_steps) rate *= n / static_cast<double>(c.warmup_steps);
  return rate;
}

/// Weight of the KL at update `step`: from annealing_start to 1 over annealing_steps; cyclical:
/// over the first half of each cycle of annealing_steps (Fu et al., arXiv:1903.10145).
inline double beta_at(const TrainConfig& c, std::int64_t step) {
  if (c.annealing == "none" || c.annealing_steps <= 0) return 1;
  const double length = static_cast<double>(c.annealing_steps);
  double share = static_cast<double>(step - 1) / length;
  if (c.annealing == "cyclical") share = std::min(1.0, 2 * (share - std::floor(share)));
  return c.annealing_start + (1 - c.annealing_start) * std::min(1.0, share);
}

}  // namespace seqvae

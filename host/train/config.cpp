#include <nlohmann/json.hpp>

#include "seqvae/core/error.hpp"
#include "seqvae/train/trainer.hpp"

namespace seqvae {

io::Json TrainConfig::to_json() const {
  return {{"batch_size", batch_size},
          {"epochs", epochs},
          {"max_steps", max_steps},
          {"samples", samples},
          {"bound", bound},
          {"learning_rate", learning_rate},
          {"schedule", schedule},
          {"learning_rate_decay", learning_rate_decay},
          {"warmup_steps", warmup_steps},
          {"beta1", beta1},
          {"beta2", beta2},
          {"epsilon", epsilon},
          {"weight_decay", weight_decay},
          {"l2", l2},
          {"clip_norm", clip_norm},
          {"clip_value", clip_value},
          {"annealing", annealing},
          {"annealing_start", annealing_start},
          {"annealing_steps", annealing_steps},
          {"free_nats", free_nats},
          {"hide", hide},
          {"accumulate", accumulate},
          {"validate_every", validate_every},
          {"validation_samples", validation_samples},
          {"patience", patience},
          {"checkpoint_every", checkpoint_every},
          {"skips_in_a_row", skips_in_a_row},
          {"seed", seed}};
}

TrainConfig TrainConfig::from_json(const io::JsonView& json) {
  TrainConfig c;
  std::vector<std::string> keys;
  const io::Json defaults = c.to_json();
  for (const auto& [key, value] : defaults.items()) keys.push_back(key);
  json.allow_only(keys);
  const auto integer = [&](const char* key, std::int64_t& value, std::int64_t least) {
    if (const auto given = json.get(key)) value = given->integer(least);
  };
  const auto number = [&](const char* key, double& value, double least, double most = 1e300) {
    if (const auto given = json.get(key)) value = given->number(least, most);
  };
  integer("batch_size", c.batch_size, 1);
  integer("epochs", c.epochs, 0);
  integer("max_steps", c.max_steps, 0);
  integer("samples", c.samples, 1);
  if (const auto given = json.get("bound")) c.bound = given->choice({"elbo", "iwae"});
  number("learning_rate", c.learning_rate, 0);
  if (const auto given = json.get("schedule")) {
    c.schedule = given->choice({"constant", "cosine", "exponential"});
  }
  number("learning_rate_decay", c.learning_rate_decay, 0, 1);
  integer("warmup_steps", c.warmup_steps, 0);
  number("beta1", c.beta1, 0, 1);
  number("beta2", c.beta2, 0, 1);
  number("epsilon", c.epsilon, 0);
  number("weight_decay", c.weight_decay, 0);
  number("l2", c.l2, 0);
  number("clip_norm", c.clip_norm, 0);
  number("clip_value", c.clip_value, 0);
  if (const auto given = json.get("annealing"))
    c.annealing = given->choice({"none", "linear", "cyclical"});
  number("annealing_start", c.annealing_start, 0, 1);
  integer("annealing_steps", c.annealing_steps, 0);
  number("free_nats", c.free_nats, 0);
  number("hide", c.hide, 0, 0.95);
  integer("accumulate", c.accumulate, 1);
  integer("validate_every", c.validate_every, 0);
  integer("validation_samples", c.validation_samples, 1);
  integer("patience", c.patience, 0);
  integer("checkpoint_every", c.checkpoint_every, 0);
  integer("skips_in_a_row", c.skips_in_a_row, 1);
  if (const auto given = json.get("seed")) c.seed = static_cast<std::uint64_t>(given->integer(0));
  return c;
}

io::Json Metrics::to_json() const {
  return {{"step", step},
          {"epoch", epoch},
          {"split", split},
          {"objective", objective},
          {"nats_per_step", nats_per_step},
          {"reconstruction", reconstruction},
          {"kl", kl},
          {"beta", beta},
          {"learning_rate", learning_rate},
          {"gradient_norm", gradient_norm},
          {"skipped", skipped},
          {"seconds", seconds}};
}

}  // namespace seqvae

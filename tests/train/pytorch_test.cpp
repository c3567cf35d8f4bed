// Whole steps of training against PyTorch in float64: objective, gradient norm and parameters of
// three updates by clip_grad_norm_ and torch.optim.AdamW at the same noise, 1e-10.
#include <gmock/gmock.h>

#include "host/train/schedule.hpp"
#include "host/train/train_step.hpp"
#include "tests/models/oracle.hpp"

namespace seqvae::test {
namespace {

/// The stored settings, and the KL's weight at every step.
TrainConfig train_config_of(const json& c) {
  const json& o = c["optimizer"];
  TrainConfig config;
  config.learning_rate = o["learning_rate"].get<double>();
  config.beta1 = o["beta1"].get<double>(), config.beta2 = o["beta2"].get<double>();
  config.epsilon = o["epsilon"].get<double>();
  config.weight_decay = o["weight_decay"].get<double>();
  config.clip_norm = o["clip_norm"].get<double>();
  config.annealing_start = c["beta"].get<double>();
  config.annealing_steps = std::int64_t{1} << 60;  // beta stays where it starts
  return config;
}

void expect_close(double actual, double expected, double scale, const std::string& what) {
  EXPECT_LE(std::abs(actual - expected), 1e-10 * std::max(scale, 1.0))
      << what << ": " << actual << " against " << expected;
}

/// The entry of each parameter that is furthest off.
void expect_parameters(const ParameterTable& table, const std::vector<double>& actual,
                       const std::vector<double>& expected, const std::string& update) {
  for (const Parameter& p : table.all()) {
    const auto error = [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(p.offset + i);
      const double off = std::abs(actual[at] - expected[at]);
      return std::isnan(off) ? std::numeric_limits<double>::infinity() : off;
    };
    std::int64_t worst = 0;
    for (std::int64_t i = 1; i < p.count(); ++i) worst = error(i) > error(worst) ? i : worst;
    const auto at = static_cast<std::size_t>(p.offset + worst);
    expect_close(actual[at], expected[at], 1,
                 update + ", " + p.name + "[" + std::to_string(worst) + "]");
  }
}

/// `accumulate`: the batch so many times over, which is the same objective.
void expect_updates(const json& c, int threads, std::int64_t accumulate) {
  Machine machine(Device::cpu(), threads);
  OracleRun<double> run(c);
  TrainConfig config = train_config_of(c);
  config.accumulate = accumulate;
  TrainStep<double> step(*run.model, config, {}, machine);
  EXPECT_TRUE(step.scan_options().trace.dropout);
  Checkpoint<double> state{run.values, {}, {}, {}};
  state.m.assign(run.values.size(), 0), state.v.assign(run.values.size(), 0);
  step.load(state);
  std::int64_t rows = 0;
  for (const std::int32_t length : run.lengths) rows += accumulate * length;

  const json& expected = c["optimizer"];
  const std::vector<double> objectives = flat(expected["objective"]),
                            norms = flat(expected["gradient_norm"]);
  for (std::size_t i = 0; i < objectives.size(); ++i) {
    const std::int64_t n = static_cast<std::int64_t>(i) + 1;
    const std::string update = "update " + std::to_string(n);
    step.begin(n, rows);
    for (std::int64_t k = 0; k < accumulate; ++k) step.add(run.batch);
    const double norm = step.update(learning_rate_at(config, n, 3), n);
    step.store(state);
    expect_close(-step.totals().objective / static_cast<double>(rows), objectives[i], objectives[i],
                 update + ", objective");
    expect_close(norm, norms[i], norms[i], update + ", gradient norm");
    const auto after = expected["parameters_after"].find(std::to_string(n));
    if (after == expected["parameters_after"].end()) continue;
    expect_parameters(run.model->parameters(), state.parameters,
                      parameters_of<double>(*run.model, *after), update);
  }
}

std::vector<std::string> files() { return {"dmm", "vrnn", "rvae"}; }

class PyTorchTraining : public testing::TestWithParam<std::string> {};

TEST_P(PyTorchTraining, HasTheSameParametersAfterThreeUpdates) {
  int compared = 0;
  for (const json& c : cases_of(GetParam() + ".json")) {
    if (!c.contains("optimizer")) continue;
    SCOPED_TRACE(c["name"].get<std::string>());
    ++compared;
    expect_updates(c, 1, 1);
    expect_updates(c, 3, 1);
    expect_updates(c, 1, 3);
  }
  EXPECT_EQ(compared, 2);
}

INSTANTIATE_TEST_SUITE_P(Stored, PyTorchTraining, testing::ValuesIn(files()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace seqvae::test

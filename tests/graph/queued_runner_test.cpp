// A scan in the order of a queue, on the CPU's: what it says of a batch is what the threads say of
// it.
#include <gmock/gmock.h>

#include "seqvae/core/error.hpp"
#include "tests/graph/gradient_cases.hpp"
#include "tests/graph/models.hpp"

namespace seqvae::test {
namespace {

using testing::Each;
using testing::IsNan;
using testing::Not;

/// One scan on threads, and the same in the order of a queue.
class Twins {
 public:
  Twins(const std::function<Scan()>& scan, const ParameterTable& table, std::int64_t particles)
      : values_(parameter_values<double>(table)),
        threads_(scan(), table, machine_.pool, particles),
        queue_(scan(), table, machine_.queue, particles) {
    threads_.set_parameters(values_.data()), queue_.set_parameters(values_.data());
  }

  void expect_same(const ScanBatch<double>& batch) {
    std::vector<double> expected(values_.size(), std::nan("")), found = expected;
    const bool gradient = !threads_.scan().graph.sinks.empty();
    threads_.run(batch, gradient ? expected.data() : nullptr);
    queue_.run(batch, gradient ? found.data() : nullptr);
    for (const Output& output : threads_.scan().graph.outputs) {
      expect_near(queue_.output(output.name), threads_.output(output.name), output.name);
    }
    if (gradient) expect_near(found, expected, "gradients");
  }

  Executor<double>& queue() { return queue_; }
  std::size_t parameters() const { return values_.size(); }

 private:
  static void expect_near(const std::vector<double>& found, const std::vector<double>& expected,
                          const std::string& what) {
    ASSERT_EQ(found.size(), expected.size()) << what;
    double largest = 0;
    for (double x : expected) largest = std::max(largest, std::abs(x));
    for (std::size_t i = 0; i < found.size(); ++i) {
      ASSERT_LE(std::abs(found[i] - expected[i]), 1e-12 * (1 + largest)) << what << "[" << i << "]";
    }
  }

  Machine machine_{Device::cpu(), 2};
  std::vector<double> values_;
  Executor<double> threads_, queue_;
};

const std::vector<std::vector<std::int32_t>> kQueuedShapes = {
    {5, 3, 3, 1}, {1}, {0, 4, 0}, {40, 33, 2}, {3, 3, 3, 2}, {2, 5, 0, 4}, {}, {1, 2, 3, 4}};

class QueuedSmallScan : public testing::TestWithParam<SmallScan> {};

TEST_P(QueuedSmallScan, SaysWhatTheThreadsSay) {
  for (const bool gradient : {false, true}) {
    SCOPED_TRACE(gradient);
    ParameterTable table;
    const Scan scan = GetParam().build(table, gradient, true);
    if (gradient && !scan.options.weighted) continue;  // built by hand
    Twins twins([&] { return scan; }, table, GetParam().particles);
    for (int round = 0; round < 3; ++round) {  // the second is recorded, the third replayed
      for (const auto& shape : kQueuedShapes) {
        const SmallBatch<double> batch(shape, GetParam().particles, GetParam().data);
        twins.expect_same(batch.batch);
        if (HasFatalFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, QueuedSmallScan, testing::ValuesIn(gradient_cases()),
                         [](const auto& info) { return info.param.name; });

class QueuedLinearGaussian : public testing::TestWithParam<SmallScan> {};

TEST_P(QueuedLinearGaussian, DrawsWhatTheThreadsDraw) {
  ParameterTable table;
  const Scan scan = GetParam().build(table, false);
  Twins twins([&] { return scan; }, table, GetParam().particles);
  for (int round = 0; round < 3; ++round) {
    for (const auto& shape : kQueuedShapes) {
      const SmallBatch<double> batch(shape, GetParam().particles);
      twins.expect_same(batch.batch);
      if (HasFatalFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, QueuedLinearGaussian, testing::ValuesIn(linear_gaussian_draws()),
                         [](const auto& info) { return info.param.name; });

class QueuedModel : public testing::TestWithParam<NamedConfiguration> {
 protected:
  static std::unique_ptr<Model> model() {
    return make_model(GetParam().model, GetParam().configuration,
                      {.x_width = kX, .controls_width = kControls, .missing = true});
  }
};

TEST_P(QueuedModel, SaysWhatTheThreadsSay) {
  const auto made = model();
  for (int variant = 0; variant < 16; ++variant) {
    SCOPED_TRACE(variant);
    const std::int64_t particles = variant / 2 % 2 == 1 ? 3 : 1;
    ScanOptions options;
    options.gradient = variant % 2 == 1, options.weighted = true;
    options.trace.particles = particles > 1, options.trace.missing = true;
    options.hoist = variant / 4 % 2 == 0;
    options.bound = variant / 8 % 2 == 1 ? Bound::iwae : Bound::elbo;
    options.trace.sampled_kl = options.bound == Bound::iwae;
    options.paths = options.states = !options.gradient;
    options.free_nats = options.gradient && options.bound == Bound::elbo ? 0.3 : 0;
    Twins twins([&] { return made->scan(options); }, made->parameters(), particles);
    for (int round = 0; round < 2; ++round) {
      for (const auto& shape : kQueuedShapes) {
        const SmallBatch<double> batch(shape, particles);
        twins.expect_same(batch.batch);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(QueuedModel, GeneratesWhatTheThreadsGenerate) {
  const auto made = model();
  ScanOptions options;
  options.trace.mode = Mode::generate, options.trace.draw_observations = true;
  Twins twins([&] { return made->scan(options); }, made->parameters(), 1);
  for (const auto& shape : kQueuedShapes) {
    const SmallBatch<double> batch(shape);
    twins.expect_same(batch.batch);
  }
}

TEST_P(QueuedModel, ForgetsABatchOfNaN) {
  const auto made = model();
  ScanOptions options;
  options.gradient = options.weighted = true;
  Twins twins([&] { return made->scan(options); }, made->parameters(), 1);
  const SmallBatch<double> sound({5, 3, 3, 1});
  SmallBatch<double> spoiled({6, 6, 6, 6});
  std::fill(spoiled.x.begin(), spoiled.x.end(), std::nan(""));
  std::fill(spoiled.controls.begin(), spoiled.controls.end(), std::nan(""));
  for (int round = 0; round < 2; ++round) {
    std::vector<double> gradients(twins.parameters());
    twins.queue().run(spoiled.batch, gradients.data());
    EXPECT_THAT(twins.queue().output("bound"), Each(IsNan()));
    twins.expect_same(sound.batch);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, QueuedModel, testing::ValuesIn(small_models()),
                         [](const auto& info) {
                           std::string name = info.param.label;
                           std::erase_if(name, [](char c) { return !std::isalnum(c); });
                           return name;
                         });

TEST(QueuedRunner, ReplaysARecordingWithOtherLengthsOfItsCapacity) {
  const auto model = make_model("dmm", io::Json::object(), {.x_width = kX});
  ScanOptions options;
  options.gradient = options.weighted = true;
  Twins twins([&] { return model->scan(options); }, model->parameters(), 1);
  for (const std::vector<std::int32_t>& lengths : std::vector<std::vector<std::int32_t>>{
           {5, 3, 3, 1}, {1, 2, 3, 6}, {0, 0, 7, 1}, {4, 4, 4, 4}}) {
    const SmallBatch<double> batch(lengths);
    twins.expect_same(batch.batch);
    EXPECT_EQ(twins.queue().plan_count(), 1) << "one capacity for all of them";
  }
}

TEST(QueuedRunner, TakesAGradientOfWeightedScansAlone) {
  const auto model = make_model("dmm", io::Json::object(), {.x_width = kX});
  ScanOptions options;
  options.gradient = true;
  const Queue queue(Device::cpu());
  EXPECT_THAT([&] { Executor<double>(model->scan(options), model->parameters(), queue); },
              testing::ThrowsMessage<InvalidArgument>(
                  "Executor: weighted = false, must be true where a gradient is taken in the order "
                  "of a queue"));
}

}  // namespace
}  // namespace seqvae::test

// Scans on a CUDA device against the CPU's threads: bounds, gradients and paths.
#include <gmock/gmock.h>

#include <algorithm>
#include <limits>
#include <map>

#include "host/graph/scan_runner.hpp"
#include "seqvae/core/error.hpp"
#include "tests/graph/gradient_cases.hpp"
#include "tests/graph/models.hpp"
#include "tests/support/errors.hpp"
#if defined(SEQVAE_EMULATED)
#include "tests/emulation/emulation.hpp"
#endif

namespace seqvae::test {
namespace {

/// Values of a run by name: outputs, and "gradients".
template <class Real>
using Said = std::map<std::string, std::vector<Real>>;

/// One scan on a device; loops of a queue in the form that is asked for.
template <class Real>
class Runner {
 public:
  Runner(const Scan& scan, const ParameterTable& table, Device device, std::int64_t particles,
         LoopForm form = LoopForm::chains)
      : machine_(device, 1),
        values_(machine_.queue),
        gradients_(machine_.queue, static_cast<std::size_t>(table.size())),
        runner_(device.is_cpu()
                    ? make_sharded_runner<Real>(scan, table, machine_.pool, particles)
                    : make_queued_runner<Real>(scan, table, machine_.queue, particles, form)) {
    values_.upload(parameter_values<Real>(table));
    runner_->set_parameters(values_.data());
  }

  Said<Real> operator()(const ScanBatch<Real>& batch) {
    Said<Real> said;
    const Graph& graph = runner_->scan().graph;
    runner_->run(batch, graph.sinks.empty() ? nullptr : gradients_.data());
    for (const Output& output : graph.outputs) {
      const Node& node = graph[output.node];
      std::vector<Real>& values = said[output.name];
      values.resize(static_cast<std::size_t>(runner_->rows_of(node) * node.D));
      runner_->copy_output(output.node, values.data());
    }
    if (!graph.sinks.empty()) gradients_.download(said["gradients"]);
    return said;
  }
  std::int64_t chain_count() const { return runner_->chain_count(); }

 private:
  Machine machine_;
  Buffer<Real> values_, gradients_;
  std::unique_ptr<ScanRunner<Real>> runner_;
};

/// At most twice as far from double as the CPU's float, or 16 roundings of the largest value: sums
/// run in another order, and weights exp(log w) multiply what log w was rounded by.
void expect_no_worse(const Said<float>& found, const Said<float>& plain,
                     const Said<double>& exact) {
  ASSERT_EQ(found.size(), exact.size());
  for (const auto& [name, values] : exact) {
    const std::vector<float>& mine = found.at(name);
    ASSERT_EQ(mine.size(), values.size()) << name;
    Errors errors;
    for (std::size_t i = 0; i < values.size(); ++i) {
      errors.add(mine[i], plain.at(name)[i], values[i]);
    }
    const double rounding = static_cast<double>(std::numeric_limits<float>::epsilon());
    EXPECT_LE(errors.actual, 2 * errors.plain + 16 * rounding * errors.largest)
        << name << ", plain float errs by " << errors.plain;
  }
}

/// Ragged batches, one with a sequence of no step; the last of four replays what the third was
/// recorded from, at the capacity of the first.
using Shapes = std::vector<std::vector<std::int32_t>>;
const Shapes kShapes = {{5, 3, 3, 1}, {20, 17, 2, 9}, {0, 4, 7, 1}, {2, 2, 2, 9}};
const Shapes kTwoShapes = {{5, 3, 3, 1}, {0, 4, 7, 1}};

void expect_parity(const Scan& scan, const ParameterTable& table, std::int64_t particles,
                   const Shapes& shapes, Emission::Kind data = Emission::Kind::gaussian,
                   LoopForm form = LoopForm::chains) {
  Runner<float> device(scan, table, Device::cuda(0), particles, form);
  Runner<float> plain(scan, table, Device::cpu(), particles);
  Runner<double> exact(scan, table, Device::cpu(), particles);
  for (const auto& shape : shapes) {
    SCOPED_TRACE(testing::PrintToString(shape));
    const SmallBatch<float> batch(shape, particles, data);
    const SmallBatch<double> same(shape, particles, data);
    expect_no_worse(device(batch.batch), plain(batch.batch), exact(same.batch));
  }
  if (form == LoopForm::steps) {
    EXPECT_EQ(device.chain_count(), 0);
  }
}

class CudaSmallScan : public testing::TestWithParam<SmallScan> {};

TEST_P(CudaSmallScan, HasItsParity) {
  ParameterTable table;
  const Scan scan = GetParam().build(table, true, true);
  if (scan.options.weighted) {
    expect_parity(scan, table, GetParam().particles, kTwoShapes, GetParam().data);
  } else {  // built by hand
    ParameterTable other;
    expect_parity(GetParam().build(other, false), other, GetParam().particles, kTwoShapes,
                  GetParam().data);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, CudaSmallScan, testing::ValuesIn(gradient_cases()),
                         [](const auto& info) { return info.param.name; });

class CudaLinearGaussian : public testing::TestWithParam<SmallScan> {};

TEST_P(CudaLinearGaussian, DrawsWhatTheCpuDraws) {
  ParameterTable table;
  const Scan scan = GetParam().build(table, false);
  expect_parity(scan, table, GetParam().particles, kShapes);
}

INSTANTIATE_TEST_SUITE_P(Every, CudaLinearGaussian, testing::ValuesIn(linear_gaussian_draws()),
                         [](const auto& info) { return info.param.name; });

class CudaModel : public testing::TestWithParam<NamedConfiguration> {
 protected:
  static std::unique_ptr<Model> model() {
    return make_model(GetParam().model, GetParam().configuration,
                      {.x_width = kX, .controls_width = kControls, .missing = true});
  }
  static ScanOptions options(std::int64_t particles) {
    ScanOptions made;
    made.gradient = made.weighted = true;
    made.trace.missing = true, made.trace.particles = particles > 1;
    made.bound = particles > 1 ? Bound::iwae : Bound::elbo;
    made.trace.sampled_kl = particles > 1;
    return made;
  }
};

TEST_P(CudaModel, HasItsParity) {
  const auto made = model();
  expect_parity(made->scan(options(1)), made->parameters(), 1, kShapes);
  expect_parity(made->scan(options(3)), made->parameters(), 3, kTwoShapes);
}

TEST_P(CudaModel, RunsEveryLoopAsAChain) {
  const Scan scan = model()->scan(options(1));
  const auto made = model();
  Runner<float> device(scan, made->parameters(), Device::cuda(0), 1);
  device(SmallBatch<float>({2, 1}).batch);
  const auto& regions = scan.schedule.regions;
  EXPECT_EQ(device.chain_count(), std::count_if(regions.begin(), regions.end(),
                                                [](const Region& region) { return region.loop; }));
}

TEST_P(CudaModel, HasItsParityStepByStep) {
  const auto made = model();
  expect_parity(made->scan(options(1)), made->parameters(), 1, kShapes, Emission::Kind::gaussian,
                LoopForm::steps);
  expect_parity(made->scan(options(3)), made->parameters(), 3, kShapes, Emission::Kind::gaussian,
                LoopForm::steps);
}

TEST_P(CudaModel, ShowsThePathsOfTheCpu) {
  const auto made = model();
  ScanOptions paths;
  paths.paths = paths.states = true;
  paths.trace.missing = true;
  expect_parity(made->scan(paths), made->parameters(), 1, kTwoShapes);
}

TEST_P(CudaModel, GeneratesWhatTheCpuGenerates) {
  const auto made = model();
  ScanOptions drawn;
  drawn.trace.mode = Mode::generate, drawn.trace.draw_observations = true;
  expect_parity(made->scan(drawn), made->parameters(), 1, kTwoShapes);
}

TEST_P(CudaModel, ReadsNoiseThatIsGiven) {
  const auto made = model();
  Runner<float> device(made->scan(options(1)), made->parameters(), Device::cuda(0), 1);
  Runner<float> plain(made->scan(options(1)), made->parameters(), Device::cpu(), 1);
  Runner<double> exact(made->scan(options(1)), made->parameters(), Device::cpu(), 1);
  SmallBatch<float> batch({6, 0, 2, 5});
  SmallBatch<double> same({6, 0, 2, 5});
  std::vector<double> wide;
  std::vector<float> noise;
  for (std::int64_t i = 0; i < 13 * 3 * 2; ++i) {
    noise.push_back(static_cast<float>(wave(i, 0.8)));
    wide.push_back(static_cast<double>(noise.back()));
  }
  batch.batch.noise = {{"z", noise.data()}}, same.batch.noise = {{"z", wide.data()}};
  const Said<float> drawn = device(SmallBatch<float>({6, 0, 2, 5}).batch);
  const Said<float> given = device(batch.batch);
  EXPECT_NE(drawn.at("bound"), given.at("bound"));
  expect_no_worse(given, plain(batch.batch), exact(same.batch));
  EXPECT_EQ(device(SmallBatch<float>({6, 0, 2, 5}).batch), drawn) << "and then draws again";
}

#if defined(SEQVAE_EMULATED)
TEST_P(CudaModel, SaysTheSameBitsUnderEverySchedule) {
  const auto made = model();
  const SmallBatch<float> batch({6, 3, 0, 5});
  Said<float> first;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    emulation::set_schedule(seed);
    Runner<float> device(made->scan(options(1)), made->parameters(), Device::cuda(0), 1);
    const Said<float> said = device(batch.batch);
    EXPECT_EQ(device(batch.batch), said) << "replayed";
    if (seed == 1) first = said;
    EXPECT_EQ(said, first) << "seed " << seed;
  }
}

// Whatever T: each loop is one launch, forward and backward, products outside of them that do not
// wait for each other are one, and all weight gradients are two at most.
TEST(CudaExecutor, LaunchesAsOftenForALongBatchAsForAShortOne) {
  struct Model {
    NamedConfiguration named;
    std::size_t most;  // launches, but for the optimiser's two
  };
  const std::vector<Model> models = {
      {{"dmm", "dmm", {{"z", 3}, {"emission", 4}, {"transition", 5}, {"rnn", 6}}}, 45},
      {{"vrnn", "vrnn", {{"hidden", 6}, {"z", 3}}}, 38}};
  for (const Model& c : models) {
    SCOPED_TRACE(c.named.label);
    const auto model = make_model(c.named.model, c.named.configuration, {.x_width = kX});
    ScanOptions options;
    options.gradient = options.weighted = true;
    Runner<float> device(model->scan(options), model->parameters(), Device::cuda(0), 1);
    const auto launches = [&](std::vector<std::int32_t> lengths) {
      const SmallBatch<float> batch(std::move(lengths));
      emulation::take_traffic();
      device(batch.batch);
      return emulation::take_traffic().size();
    };
    const std::size_t few = launches({3, 2});
    EXPECT_EQ(launches({40, 2}), few);
    EXPECT_LE(few, c.most);
    EXPECT_LE(launches({40, 40}), c.most);  // beyond 64 rows
  }
}
#endif

INSTANTIATE_TEST_SUITE_P(Models, CudaModel, testing::ValuesIn(small_models()),
                         [](const auto& info) {
                           std::string name = info.param.label;
                           std::erase_if(name, [](char c) { return !std::isalnum(c); });
                           return name;
                         });

TEST(CudaExecutor, IsForFloat) {
  const auto model = make_model("vrnn", {{"hidden", 4}, {"z", 2}}, {.x_width = kX});
  Runner<double> device(model->scan({}), model->parameters(), Device::cuda(0), 1);
  const SmallBatch<double> batch;
  EXPECT_THAT([&] { device(batch.batch); },
              testing::ThrowsMessage<InvalidArgument>(
                  testing::HasSubstr("precision = float64, must be float32 on a CUDA device")));
}

}  // namespace
}  // namespace seqvae::test

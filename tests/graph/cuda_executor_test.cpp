// Scans on a CUDA device against the CPU's threads: bounds, gradients and paths.
#include <gmock/gmock.h>

#include <limits>
#include <map>

#include "seqvae/core/error.hpp"
#include "tests/graph/gradient_cases.hpp"
#include "tests/graph/models.hpp"
#if defined(SEQVAE_EMULATED)
#include "tests/emulation/emulation.hpp"
#endif

namespace seqvae::test {
namespace {

/// Values of a run by name: outputs, and "gradients".
template <class Real>
using Said = std::map<std::string, std::vector<Real>>;

/// One scan on a machine.
template <class Real>
class Runner {
 public:
  Runner(const Scan& scan, const ParameterTable& table, Device device, std::int64_t particles)
      : machine_(device, 1),
        values_(machine_.queue),
        gradients_(machine_.queue, static_cast<std::size_t>(table.size())),
        executor_(make_executor<Real>(scan, table, machine_, particles)) {
    values_.upload(parameter_values<Real>(table));
    executor_.set_parameters(values_.data());
  }

  Said<Real> operator()(const ScanBatch<Real>& batch) {
    Said<Real> said;
    const bool gradient = !executor_.scan().graph.sinks.empty();
    executor_.run(batch, gradient ? gradients_.data() : nullptr);
    for (const Output& output : executor_.scan().graph.outputs) {
      said[output.name] = executor_.output(output.name);
    }
    if (gradient) gradients_.download(said["gradients"]);
    return said;
  }

 private:
  Machine machine_;
  Buffer<Real> values_, gradients_;
  Executor<Real> executor_;
};

/// At most twice as far from double as the CPU's float, or 16 roundings of the largest value: sums
/// run in another order, and weights exp(log w) multiply what log w was rounded by.
void expect_no_worse(const Said<float>& found, const Said<float>& plain,
                     const Said<double>& exact) {
  ASSERT_EQ(found.size(), exact.size());
  for (const auto& [name, values] : exact) {
    const std::vector<float>& mine = found.at(name);
    ASSERT_EQ(mine.size(), values.size()) << name;
    double error = 0, plain_error = 0, largest = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double off = std::abs(static_cast<double>(mine[i]) - values[i]);
      if (!(off <= error)) error = off;  // NaN stays
      plain_error =
          std::max(plain_error, std::abs(static_cast<double>(plain.at(name)[i]) - values[i]));
      largest = std::max(largest, std::abs(values[i]));
    }
    const double rounding = static_cast<double>(std::numeric_limits<float>::epsilon());
    EXPECT_LE(error, 2 * plain_error + 16 * rounding * largest)
        << name << ", plain float errs by " << plain_error;
  }
}

/// Of two capacities, ragged, with a sequence of no step; the last two replay a recording.
const std::vector<std::vector<std::int32_t>> kShapes = {
    {5, 3, 3, 1}, {20, 17, 2, 9}, {0, 4, 7, 1}, {18, 18, 1, 20}, {6, 5, 4, 3}};

void expect_parity(const Scan& scan, const ParameterTable& table, std::int64_t particles,
                   Emission::Kind data = Emission::Kind::gaussian) {
  Runner<float> device(scan, table, Device::cuda(0), particles);
  Runner<float> plain(scan, table, Device::cpu(), particles);
  Runner<double> exact(scan, table, Device::cpu(), particles);
  for (const auto& shape : kShapes) {
    SCOPED_TRACE(testing::PrintToString(shape));
    const SmallBatch<float> batch(shape, particles, data);
    const SmallBatch<double> same(shape, particles, data);
    expect_no_worse(device(batch.batch), plain(batch.batch), exact(same.batch));
  }
}

class CudaSmallScan : public testing::TestWithParam<SmallScan> {};

TEST_P(CudaSmallScan, HasItsParity) {
  ParameterTable table;
  const Scan scan = GetParam().build(table, true, true);
  if (GetParam().name.starts_with("linear_gaussian")) {
    EXPECT_THROW(Runner<float>(scan, table, Device::cuda(0), 1), InvalidArgument);
  } else if (scan.options.weighted) {
    expect_parity(scan, table, GetParam().particles, GetParam().data);
  } else {  // built by hand
    ParameterTable other;
    expect_parity(GetParam().build(other, false), other, GetParam().particles, GetParam().data);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, CudaSmallScan, testing::ValuesIn(gradient_cases()),
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
  for (const std::int64_t particles : {1, 3}) {
    expect_parity(made->scan(options(particles)), made->parameters(), particles);
  }
}

TEST_P(CudaModel, ShowsThePathsOfTheCpu) {
  const auto made = model();
  ScanOptions paths;
  paths.paths = paths.states = true;
  paths.trace.missing = true;
  expect_parity(made->scan(paths), made->parameters(), 1);
}

TEST_P(CudaModel, GeneratesWhatTheCpuGenerates) {
  const auto made = model();
  ScanOptions drawn;
  drawn.trace.mode = Mode::generate, drawn.trace.draw_observations = true;
  expect_parity(made->scan(drawn), made->parameters(), 1);
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
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    emulation::set_schedule(seed);
    Runner<float> device(made->scan(options(1)), made->parameters(), Device::cuda(0), 1);
    const Said<float> said = device(batch.batch);
    EXPECT_EQ(device(batch.batch), said) << "replayed";
    if (seed == 1) first = said;
    EXPECT_EQ(said, first) << "seed " << seed;
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

// Reverse mode of every op, through small steps over a ragged batch in float64, against central
// differences of fourth order with the same noise: 1e-6 of the parameter's largest gradient.
#include <gmock/gmock.h>

#include "tests/graph/gradient_cases.hpp"
#include "tests/graph/small_scan.hpp"

namespace seqvae::test {
namespace {

class GradientOfSmallScan : public testing::TestWithParam<SmallScan> {};

/// Sum over the sequences of objective times seed, as the gradients are of.
class Objective {
 public:
  Objective(const SmallScan& small, ThreadPool& pool)
      : batch_({5, 3, 3, 1}, small.particles, small.data),
        executor_(small.build(table_, true), table_, pool, small.particles),
        gradients_(static_cast<std::size_t>(table_.size()), std::nan("")) {}

  const ParameterTable& table() const { return table_; }
  const std::vector<double>& gradients() const { return gradients_; }

  double operator()(const std::vector<double>& values) {
    executor_.set_parameters(values.data());
    executor_.run(batch_.batch, gradients_.data());
    double sum = 0;
    for (double objective : executor_.output("objective")) sum += objective * batch_.seed[0];
    return sum;
  }

 private:
  ParameterTable table_;
  SmallBatch<double> batch_;
  Executor<double> executor_;
  std::vector<double> gradients_;
};

TEST_P(GradientOfSmallScan, IsThatOfCentralDifferences) {
  ThreadPool pool(1);
  Objective objective(GetParam(), pool);
  std::vector<double> values = parameter_values<double>(objective.table());
  ASSERT_TRUE(std::isfinite(objective(values)));
  const std::vector<double> gradients = objective.gradients();
  constexpr double h = 2e-5;  // small beside the distance of any kink
  for (const Parameter& p : objective.table().all()) {
    std::vector<double> differences;
    double scale = 1e-3;
    for (std::int64_t i = 0; i < p.count(); ++i) {
      double& value = values[static_cast<std::size_t>(p.offset + i)];
      const double middle = value;
      const auto at = [&](double offset) {
        value = middle + offset;
        const double result = objective(values);
        value = middle;
        return result;
      };
      differences.push_back((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h));
      scale = std::max(scale, std::abs(differences.back()));
    }
    for (std::int64_t i = 0; i < p.count(); ++i) {
      const double gradient = gradients[static_cast<std::size_t>(p.offset + i)];
      const double difference = differences[static_cast<std::size_t>(i)];
      EXPECT_LE(std::abs(gradient - difference), 1e-6 * scale)
          << p.name << "[" << i << "]: " << gradient << " against " << difference;
    }
  }
}

/// A case whose parameters have no gradient at all would pass whatever reverse mode does.
TEST_P(GradientOfSmallScan, IsNotZeroForAnyParameter) {
  ThreadPool pool(1);
  Objective objective(GetParam(), pool);
  objective(parameter_values<double>(objective.table()));
  for (const Parameter& p : objective.table().all()) {
    double largest = 0;
    for (std::int64_t i = 0; i < p.count(); ++i) {
      largest = std::max(largest,
                         std::abs(objective.gradients()[static_cast<std::size_t>(p.offset + i)]));
    }
    EXPECT_GT(largest, 1e-6) << p.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Every, GradientOfSmallScan, testing::ValuesIn(gradient_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(StopGradient, LetsNothingThrough) {
  const SmallScan small = small_step("stopped", [](ParameterTable& p) {
    const nn::Linear stopped(p, "stopped", kX, kX), passed(p, "passed", kX, kX);
    return [=](Step& s) {
      const Var x = s.input("controls");
      const Var y = multiply(s, stop_gradient(s, stopped(s, concat({x, s.time()}))),
                             passed(s, concat({x, s.time()})));
      s.observed("x", {.kind = Emission::Kind::gaussian, .density = {y, zeros(s, kX)}});
    };
  });
  ThreadPool pool(1);
  Objective objective(small, pool);
  objective(parameter_values<double>(objective.table()));
  for (const Parameter& p : objective.table().all()) {
    const std::vector<double> gradient(objective.gradients().begin() + p.offset,
                                       objective.gradients().begin() + p.offset + p.count());
    if (p.name.starts_with("stopped")) {
      EXPECT_THAT(gradient, testing::Each(0.0)) << p.name;
    } else {
      EXPECT_THAT(gradient, testing::Not(testing::Contains(0.0))) << p.name;
    }
  }
}

/// A step through categorical latents in a carry: `draw` makes what is read of their probabilities.
SmallScan through_categories(const char* name, std::function<Var(Step&, const Var&)> draw,
                             std::int64_t particles) {
  return small_step(
      name,
      [draw](ParameterTable& p) {
        const nn::Linear f(p, "f", kControls + 6, 6), g(p, "g", 6, kX);
        return [=](Step& s) {
          const Var before = s.carry("z", 6);
          const Var z = draw(s, softmax(s, f(s, concat({s.input("controls"), before})), 2));
          s.next("z", z);
          score(s, g(s, z));
        };
      },
      {}, particles);
}

/// The draws differ from point to point, so differences say nothing. The same step with the draw
/// as p + stop_gradient(draw - p), whose ops are held to differences, has the gradient meant.
TEST(StraightThrough, HandsTheGradientOfADrawToItsProbabilities) {
  ThreadPool pool(1);
  for (const std::int64_t particles : {1, 3}) {
    Objective straight(
        through_categories(
            "straight", [](Step& s, const Var& p) { return one_hot_sample(s, p, 2); }, particles),
        pool);
    Objective written(through_categories(
                          "written",
                          [](Step& s, const Var& p) {
                            const Var draw = one_hot_sample(s, stop_gradient(s, p), 2);
                            return add(s, p, stop_gradient(s, add(s, draw, scale(s, -1, p))));
                          },
                          particles),
                      pool);
    const std::vector<double> values = parameter_values<double>(straight.table());
    EXPECT_NEAR(straight(values), written(values), 1e-12 * std::abs(written(values)));
    double largest = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double expected = written.gradients()[i];
      EXPECT_LE(std::abs(straight.gradients()[i] - expected),
                1e-12 * std::max(1.0, std::abs(expected)));
      largest = std::max(largest, std::abs(expected));
    }
    EXPECT_GT(largest, 0.01);
  }
}

/// Whether dropout acts is the trace's; the places that draw are numbered alike.
TEST(Dropout, ActsInTrainingAlone) {
  const auto scan = [](bool training) {
    ScanOptions options;
    options.trace.dropout = training;
    ParameterTable table;
    return small_step(
               "dropped",
               [](ParameterTable& p) {
                 const nn::Linear f(p, "f", kControls, 4);
                 return [=](Step& s) {
                   const Var mu = dropout(s, f(s, s.input("controls")), 0.5);
                   const Gaussian q{slice(s, mu, 0, kX), zeros(s, kX)};
                   score(s, s.latent("z", standard_normal(s, kX), q));
                 };
               },
               options)
        .build(table, true);
  };
  const auto sites = [](const Scan& scan, Op op) {
    std::vector<std::uint32_t> found;
    for (const Node& node : scan.graph.nodes) {
      if (node.op == op) found.push_back(node.site);
    }
    return found;
  };
  EXPECT_THAT(sites(scan(true), Op::dropout), testing::ElementsAre(0, 0));  // and its gradient
  EXPECT_THAT(sites(scan(false), Op::dropout), testing::IsEmpty());
  for (const bool training : {true, false}) {
    EXPECT_THAT(sites(scan(training), Op::gaussian_sample), testing::ElementsAre(1));
  }
}

}  // namespace
}  // namespace seqvae::test

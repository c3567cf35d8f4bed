// Whole models against PyTorch in float64 with the same parameters and noise: bounds and every
// gradient, 1e-10; hoisted and not; on one thread and on several.
#include <gmock/gmock.h>

#include "tests/models/oracle.hpp"

namespace seqvae::test {
namespace {

struct OracleCase {
  std::string label;
  json content;
};
std::ostream& operator<<(std::ostream& out, const OracleCase& c) { return out << c.label; }

std::vector<OracleCase> all_cases() {
  std::vector<OracleCase> cases;
  for (const std::string file : {"dmm", "dmm_variants", "vrnn", "rvae"}) {
    for (const json& c : cases_of(file + ".json")) {
      cases.push_back({file + " " + c["name"].get<std::string>(), c});
    }
  }
  return cases;
}

class PyTorchOracle : public testing::TestWithParam<OracleCase> {
 protected:
  static void expect_close(double actual, double expected, double scale, const std::string& what) {
    const double bound = 1e-10 * std::max(scale, 1.0);
    ASSERT_LE(std::abs(actual - expected), bound)
        << what << ": " << actual << " against " << expected;
  }

  static void compare(const json& c, bool hoist, int threads) {
    ThreadPool pool(threads);
    OracleRun<double> run(c, hoist);
    const Executor<double> executor = run.run(pool);
    const std::vector<double> bound = executor.output("bound");
    const std::vector<double> expected = flat(c.contains("bound") ? c["bound"] : c["elbo"]);
    ASSERT_EQ(bound.size(), expected.size());
    for (std::size_t b = 0; b < bound.size(); ++b)
      expect_close(bound[b], expected[b], std::abs(expected[b]), "bound");
    if (!c.contains("bound")) {
      const std::vector<double> kl = executor.output("kl"), want = flat(c["kl"]);
      for (std::size_t b = 0; b < kl.size(); ++b) expect_close(kl[b], want[b], want[b], "kl");
    }
    for (const Parameter& p : run.model->parameters().all()) {
      const std::vector<double> gradient = flat(c["gradients"][p.name]);
      double scale = 0;
      for (double g : gradient) scale = std::max(scale, std::abs(g));
      for (std::int64_t i = 0; i < p.count(); ++i) {
        expect_close(run.gradients[static_cast<std::size_t>(p.offset + i)],
                     gradient[static_cast<std::size_t>(i)], scale,
                     p.name + "[" + std::to_string(i) + "]");
      }
    }
  }
};

TEST_P(PyTorchOracle, AgreesOnBoundsAndGradients) { compare(GetParam().content, true, 1); }
TEST_P(PyTorchOracle, AgreesWithoutHoisting) { compare(GetParam().content, false, 1); }
TEST_P(PyTorchOracle, AgreesOnThreeThreads) { compare(GetParam().content, true, 3); }

INSTANTIATE_TEST_SUITE_P(Stored, PyTorchOracle, testing::ValuesIn(all_cases()),
                         [](const auto& info) {
                           std::string name = info.param.label;
                           for (char& c : name) {
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           }
                           return name;
                         });

}  // namespace
}  // namespace seqvae::test

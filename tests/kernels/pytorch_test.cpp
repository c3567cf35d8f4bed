// The contracts in double against PyTorch's float64: values and gradients, 1e-10 relative; the
// float twins against the same values to float's precision.
#include <gmock/gmock.h>

#include <cmath>
#include <deque>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "seqvae/kernels/activation.hpp"
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/categorical.hpp"
#include "seqvae/kernels/gaussian.hpp"
#include "seqvae/kernels/likelihood.hpp"
#include "seqvae/kernels/normalization.hpp"
#include "seqvae/kernels/optimizer.hpp"
#include "seqvae/kernels/recurrent_cell.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {
namespace {

using Json = nlohmann::json;

const Json& stored() {
  static const Json json = Json::parse(std::ifstream(reference("row_contracts.json")));
  return json;
}

constexpr std::int64_t kStoredRows = 3, kStoredD = 5;

template <class Real>
constexpr double kTolerance = std::is_same_v<Real, double> ? 1e-10 : 5e-6;

/// One case: its inputs, the weights of its outputs in the loss, and what is to be compared.
template <class Real>
class Case {
 public:
  explicit Case(const Json& json) : json_(json) {}

  Rows<const Real> input(const char* name) { return keep(json_["inputs"][name]); }
  Rows<const Real> weight(const char* name) { return keep(json_["weights"][name]); }
  Rows<Real> output(const char* name) { return fresh(json_["outputs"][name]); }
  Rows<Real> gradient(const char* name) { return fresh(json_["gradients"][name]); }

  void expect_equal() const {
    for (const auto& [expected, actual] : compared_) {
      for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_LE(std::abs(actual[i] - expected[i]),
                  kTolerance<Real> * std::max(1.0, std::abs(expected[i])));
      }
    }
  }

 private:
  Rows<const Real> keep(const Json& values) {
    kept_.push_back(std::make_unique<std::vector<Real>>());
    for (const double v : values) kept_.back()->push_back(static_cast<Real>(v));
    return {kept_.back()->data(), static_cast<std::int64_t>(values.size()) / kStoredRows};
  }
  Rows<Real> fresh(const Json& values) {
    compared_.emplace_back(values.get<std::vector<double>>(),
                           std::vector<Real>(values.size(), std::nan("")));
    return {compared_.back().second.data(), static_cast<std::int64_t>(values.size()) / kStoredRows};
  }
  Json json_;
  std::vector<std::unique_ptr<std::vector<Real>>> kept_;
  std::deque<std::pair<std::vector<double>, std::vector<Real>>> compared_;
};

template <class Real>
class PyTorch : public testing::Test {};
using Types = testing::Types<double, float>;
TYPED_TEST_SUITE(PyTorch, Types);

TYPED_TEST(PyTorch, Activations) {
  using Real = TypeParam;
  const std::pair<const char*, Activation> kinds[] = {{"relu", Activation::relu},
                                                      {"tanh", Activation::tanh},
                                                      {"sigmoid", Activation::sigmoid},
                                                      {"softplus", Activation::softplus},
                                                      {"exp", Activation::exp},
                                                      {"elu", Activation::elu},
                                                      {"leaky_relu", Activation::leaky_relu}};
  for (const auto& [name, kind] : kinds) {
    SCOPED_TRACE(name);
    Case<Real> c(stored()["activations"][name]);
    const auto y = c.output("y");
    cpu::activation<Real>({kind, kStoredRows, kStoredD, c.input("x"), y});
    cpu::activation_backward<Real>(
        {kind, kStoredRows, kStoredD, y, c.weight("y"), c.gradient("x")});
    c.expect_equal();
  }
}

TYPED_TEST(PyTorch, GaussianHeads) {
  using Real = TypeParam;
  struct {
    const char* name;
    ScaleMap map;
    double shift, floor;
  } const heads[] = {{"exp", ScaleMap::exp, 0, 0},
                     {"softplus_var", ScaleMap::softplus_var, 0, 0},
                     {"softplus_std", ScaleMap::softplus_std, 0.5, 0.1}};
  for (const auto& h : heads) {
    SCOPED_TRACE(h.name);
    Case<Real> c(stored()["heads"][h.name]);
    const Real shift = static_cast<Real>(h.shift), floor = static_cast<Real>(h.floor);
    const auto raw = c.input("raw");
    cpu::gaussian_head<Real>({h.map, shift, floor, kStoredRows, kStoredD, raw, c.output("logvar")});
    cpu::gaussian_head_backward<Real>(
        {h.map, shift, floor, kStoredRows, kStoredD, raw, c.weight("logvar"), c.gradient("raw")});
    c.expect_equal();
  }
}

TYPED_TEST(PyTorch, GaussianKl) {
  using Real = TypeParam;
  Case<Real> c(stored()["gaussians"]["kl"]);
  const auto mu_q = c.input("mu_q"), logvar_q = c.input("logvar_q");
  const auto mu_p = c.input("mu_p"), logvar_p = c.input("logvar_p");
  cpu::gaussian_kl<Real>(
      {kStoredRows, kStoredD, mu_q, logvar_q, mu_p, logvar_p, {}, c.output("kl_sum")});
  cpu::gaussian_kl_backward<Real>({kStoredRows,
                                   kStoredD,
                                   mu_q,
                                   logvar_q,
                                   mu_p,
                                   logvar_p,
                                   {},
                                   c.weight("kl_sum"),
                                   c.gradient("mu_q"),
                                   c.gradient("logvar_q"),
                                   c.gradient("mu_p"),
                                   c.gradient("logvar_p")});
  c.expect_equal();
}

TYPED_TEST(PyTorch, GaussianSampleWithKl) {
  using Real = TypeParam;
  Case<Real> c(stored()["gaussians"]["sample_kl"]);
  const auto mu_q = c.input("mu_q"), logvar_q = c.input("logvar_q");
  const auto mu_p = c.input("mu_p"), logvar_p = c.input("logvar_p");
  NoiseArgs<Real> noise;
  noise.layout.T = 1, noise.layout.B = kStoredRows, noise.eps = c.input("eps");
  cpu::gaussian_sample_kl<Real>(
      {kStoredD, noise, mu_q, logvar_q, mu_p, logvar_p, c.output("z"), c.output("kl_sum")});
  cpu::gaussian_sample_kl_backward<Real>(
      {kStoredD, noise, mu_q, logvar_q, mu_p, logvar_p, c.weight("z"), c.weight("kl_sum"),
       c.gradient("mu_q"), c.gradient("logvar_q"), c.gradient("mu_p"), c.gradient("logvar_p")});
  c.expect_equal();
}

TYPED_TEST(PyTorch, GaussianLogDensity) {
  using Real = TypeParam;
  Case<Real> c(stored()["gaussians"]["log_density"]);
  const auto x = c.input("x"), mask = c.input("mask"), mu = c.input("mu");
  const auto logvar = c.input("logvar");
  cpu::gaussian_log_density<Real>(
      {kStoredRows, kStoredD, x, mask, mu, logvar, c.output("log_density")});
  cpu::gaussian_log_density_backward<Real>({kStoredRows, kStoredD, x, mask, mu, logvar,
                                            c.weight("log_density"), c.gradient("x"),
                                            c.gradient("mu"), c.gradient("logvar")});
  c.expect_equal();
}

TYPED_TEST(PyTorch, Likelihoods) {
  using Real = TypeParam;
  const std::pair<const char*, Likelihood> kinds[] = {{"bernoulli", Likelihood::bernoulli},
                                                      {"categorical", Likelihood::categorical},
                                                      {"poisson", Likelihood::poisson}};
  for (const auto& [name, kind] : kinds) {
    SCOPED_TRACE(name);
    const Json& json = stored()["likelihoods"][name];
    Case<Real> c(json);
    const auto x = c.input("x"), logits = c.input("logits");
    const auto mask = json["inputs"].contains("mask") ? c.input("mask") : Rows<const Real>{};
    cpu::likelihood<Real>(
        {kind, kStoredRows, kStoredD, x, mask, logits, c.output("log_likelihood")});
    cpu::likelihood_backward<Real>({kind, kStoredRows, kStoredD, x, mask, logits,
                                    c.weight("log_likelihood"), c.gradient("logits")});
    c.expect_equal();
  }
}

TYPED_TEST(PyTorch, Normalizations) {
  using Real = TypeParam;
  for (const auto& [name, kind] :
       {std::pair{"layer", Normalization::layer}, std::pair{"rms", Normalization::rms}}) {
    SCOPED_TRACE(name);
    Case<Real> c(stored()["normalizations"][name]);
    const auto x = c.input("x");
    cpu::normalize<Real>({kind, Real(1e-3), kStoredRows, kStoredD, x, c.output("y")});
    cpu::normalize_backward<Real>(
        {kind, Real(1e-3), kStoredRows, kStoredD, x, c.weight("y"), c.gradient("x")});
    c.expect_equal();
  }
}

TYPED_TEST(PyTorch, Categories) {
  using Real = TypeParam;
  constexpr std::int64_t groups = 2;
  Case<Real> softmax(stored()["categories"]["softmax"]);
  const Rows<Real> p = softmax.output("p");
  cpu::softmax<Real>({kStoredRows, groups, kStoredD, softmax.input("logits"), p});
  cpu::softmax_backward<Real>(
      {kStoredRows, groups, kStoredD, p, softmax.weight("p"), softmax.gradient("logits")});
  softmax.expect_equal();

  // The gradient of a straight-through draw is that of its probabilities.
  Case<Real> straight(stored()["categories"]["straight_through"]);
  std::vector<Real> memory(kStoredRows * groups * kStoredD);
  const Rows<Real> p_z(memory.data(), groups * kStoredD);
  cpu::softmax<Real>({kStoredRows, groups, kStoredD, straight.input("logits"), p_z});
  cpu::softmax_backward<Real>(
      {kStoredRows, groups, kStoredD, p_z, straight.weight("y"), straight.gradient("logits")});
  straight.expect_equal();

  Case<Real> kl(stored()["categories"]["kl"]);
  const auto q = kl.input("logits_q"), prior = kl.input("logits_p");
  cpu::categorical_kl<Real>({kStoredRows, groups, kStoredD, q, prior, kl.output("kl_sum")});
  cpu::categorical_kl_backward<Real>({kStoredRows, groups, kStoredD, q, prior, kl.weight("kl_sum"),
                                      kl.gradient("logits_q"), kl.gradient("logits_p")});
  kl.expect_equal();
}

TYPED_TEST(PyTorch, Clamp) {
  using Real = TypeParam;
  Case<Real> c(stored()["bounds"]);
  const auto x = c.input("x");
  cpu::clamp<Real>({Real(-0.7), Real(1.2), kStoredRows, kStoredD, x, c.output("y")});
  cpu::clamp_backward<Real>(
      {Real(-0.7), Real(1.2), kStoredRows, kStoredD, x, c.weight("y"), c.gradient("x")});
  c.expect_equal();
}

TYPED_TEST(PyTorch, GruCell) {
  using Real = TypeParam;
  Case<Real> c(stored()["cells"]["gru"]);
  const auto a = c.input("a"), q = c.input("q"), h = c.input("h");
  std::vector<Real> kept(kStoredRows * 3 * kStoredD);
  const Rows<Real> gates{kept.data(), 3 * kStoredD};
  cpu::gru_cell<Real>({kStoredRows, kStoredD, a, q, h, c.output("h_next"), gates});
  cpu::gru_cell_backward<Real>({kStoredRows, kStoredD, gates, q, h, c.weight("h_next"),
                                c.gradient("a"), c.gradient("q"), c.gradient("h")});
  c.expect_equal();

  const Json& module = stored()["gru_module"];
  Case<Real> whole(Json{{"inputs", module}, {"outputs", module}});
  cpu::gru_cell<Real>({kStoredRows,
                       kStoredD,
                       whole.input("a"),
                       whole.input("q"),
                       whole.input("h"),
                       whole.output("h_next"),
                       {}});
  whole.expect_equal();
}

TYPED_TEST(PyTorch, LstmCell) {
  using Real = TypeParam;
  Case<Real> c(stored()["cells"]["lstm"]);
  const auto a = c.input("a"), c_old = c.input("c");
  std::vector<Real> kept(kStoredRows * 4 * kStoredD);
  const Rows<Real> gates{kept.data(), 4 * kStoredD};
  const auto c_next = c.output("c_next");
  cpu::lstm_cell<Real>({kStoredRows, kStoredD, a, c_old, c.output("h_next"), c_next, gates});
  cpu::lstm_cell_backward<Real>({kStoredRows, kStoredD, gates, c_old, c_next, c.weight("h_next"),
                                 c.weight("c_next"), c.gradient("a"), c.gradient("c")});
  c.expect_equal();
}

TYPED_TEST(PyTorch, Optimisers) {
  using Real = TypeParam;
  for (const Json& run : stored()["optimisers"]) {
    SCOPED_TRACE(run["options"].dump());
    std::vector<Real> p, g(19), m(19), v(19);
    for (const double value : run["start"]) p.push_back(static_cast<Real>(value));
    double norm = 0;
    AdamWArgs<Real> args;
    args.count = 19, args.parameters = p.data(), args.gradients = g.data();
    args.m = m.data(), args.v = v.data(), args.norm = &norm;
    AdamWStep step{1, 3e-2};
    args.step = &step, args.beta1 = 0.8, args.beta2 = 0.95, args.epsilon = 1e-6;
    const double decay = run["options"]["weight_decay"];
    (run["options"]["decoupled"] ? args.weight_decay : args.l2) = decay;
    args.clip_norm = run["options"].value("clip_norm", 0.0);
    args.clip_value = run["options"].value("clip_value", 0.0);
    for (std::size_t n = 0; n < run["gradients"].size(); ++n) {
      for (std::size_t i = 0; i < 19; ++i) g[i] = static_cast<Real>(run["gradients"][n][i]);
      step.update = static_cast<std::int64_t>(n) + 1;
      cpu::adamw(args);
      EXPECT_NEAR(norm, run["norms"][n].get<double>(), kTolerance<Real>);
      for (std::size_t i = 0; i < 19; ++i) {
        EXPECT_NEAR(p[i], run["parameters"][n][i].get<double>(), kTolerance<Real>);
      }
    }
  }
}

}  // namespace
}  // namespace seqvae::test

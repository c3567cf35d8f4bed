// A model of one's own: a state-space model with a filter as its posterior, written as a step,
// trained by a loop of one's own, used through the same interface as the models of the library.
//
//     prior      p(z_t | z_{t-1})      = N(transition(z_{t-1}))
//     posterior  q(z_t | z_{t-1}, x_t) = N(update([x_t, z_{t-1}]))
//     emission   p(x_t | z_t)          = N(emission(z_t))
//
// Build it against an installed seqvae with cmake (CMakeLists.txt beside it), or without:
//     g++ -std=c++20 -O2 main.cpp $(pkg-config --cflags --libs seqvae) -o own_model
#include <seqvae/core/threads.hpp>
#include <seqvae/data/generators.hpp>
#include <seqvae/graph/executor.hpp>
#include <seqvae/inference/deep_predictor.hpp>
#include <seqvae/kernels/gaussian.hpp>
#include <seqvae/kernels/optimizer.hpp>
#include <seqvae/models/scan_data.hpp>
#include <seqvae/nn/layers.hpp>

#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>
#include <vector>

using namespace seqvae;

class Filter : public Model {
 public:
  static constexpr std::int64_t kZ = 4, kHidden = 32;

  explicit Filter(const DataShape& shape) : Model(shape) {
    ParameterTable& p = parameters_;
    const std::int64_t x = shape.x_width;
    transition_ = nn::Mlp(p, "transition", kZ, {kHidden, 2 * kZ}, Activation::tanh);
    update_ = nn::Mlp(p, "update", x + kZ, {kHidden, 2 * kZ}, Activation::tanh);
    emission_ = nn::EmissionHead(p, "emission", shape.emission, kZ, {kHidden}, x);
  }

  void step(Step& s) const override {
    const Var before = s.carry("z", kZ);
    const Gaussian prior = gaussian_head(s, transition_(s, before), ScaleMap::softplus_std);
    const Gaussian posterior =
        gaussian_head(s, update_(s, concat({s.input("x"), before})), ScaleMap::softplus_std);
    const Var z = s.latent("z", prior, posterior);
    s.observed("x", emission_(s, z));
    s.next("z", z);
  }

  Posterior posterior() const override { return Posterior::filter; }

 private:
  nn::Mlp transition_, update_;
  nn::EmissionHead emission_;
};

/// Maximises the ELBO of all sequences at once; gives the nats a step before and after.
std::pair<double, double> fit(const Model& model, const data::SequenceSet& set,
                              std::vector<float>& values, int updates) {
  ThreadPool pool;
  ScanData<float> rows(set, model.shape());
  ScanOptions options = rows.scan_options();
  options.gradient = true;
  Executor<float> executor(model.scan(options), model.parameters(), pool);

  std::vector<std::int32_t> members(static_cast<std::size_t>(set.count()));
  std::iota(members.begin(), members.end(), 0);
  ScanBatch<float> batch;
  rows.bind(members, options, batch);
  const float beta = 1, seed = -1.0f / static_cast<float>(set.rows());
  batch.bindings.push_back({"beta", &beta});
  batch.bindings.push_back({"seed", &seed});

  std::vector<float> gradients(values.size()), m(values.size()), v(values.size());
  std::pair<double, double> nats;
  for (int update = 1; update <= updates; ++update) {
    batch.step = static_cast<std::uint64_t>(update);  // fresh noise
    executor.set_parameters(values.data());
    executor.run(batch, gradients.data());
    const std::vector<float> bound = executor.output("bound");
    nats.second =
        -std::accumulate(bound.begin(), bound.end(), 0.0) / static_cast<double>(set.rows());
    if (update == 1) nats.first = nats.second;

    AdamWArgs<float> adamw;
    adamw.count = static_cast<std::int64_t>(values.size());
    adamw.parameters = values.data(), adamw.gradients = gradients.data();
    adamw.m = m.data(), adamw.v = v.data();
    const AdamWStep step{update, 5e-3};
    adamw.step = &step, adamw.clip_norm = 10;
    double norm = 0;
    adamw.norm = &norm;
    cpu::adamw(adamw);
  }
  return nats;
}

/// One contract alone, on memory of one's own: KL(N(1, 4) || N(0, 1)) of two dimensions, in nats.
double divergence() {
  const std::vector<double> mu(2, 1.0), logvar(2, std::log(4.0));
  double kl = 0;
  GaussianKlArgs<double> args;
  args.rows = 1, args.D = 2;
  args.mu_q = {mu.data(), 2}, args.logvar_q = {logvar.data(), 2};
  args.kl_sum = {&kl, 1};
  cpu::gaussian_kl(args);
  return kl;
}

int main() {
  data::GeneratorOptions options;
  options.name = "pendulum", options.seed = 1, options.steps = 40;
  options.train = 48, options.valid = 8, options.test = 8;
  const data::Dataset dataset = data::make(options);

  DataShape shape;
  shape.x_width = dataset.D();
  auto model = std::make_unique<Filter>(shape);
  std::vector<float> values(static_cast<std::size_t>(model->parameters().size()));
  model->parameters().initialise(7, values.data());
  const auto [before, after] = fit(*model, dataset.training_part(), values, 200);
  std::printf("nats a step: %.3f, after training %.3f\n", before, after);

  Machine machine(Device::best());
  const auto predictor = make_deep_predictor<float>(std::move(model), values, machine);
  const Forecast forecast = predictor->forecast(dataset.default_part(), 5, {}, 50, 1, {});
  std::printf("forecast of the first test sequence:");
  for (std::int64_t h = 0; h < forecast.H; ++h) {
    const auto first = static_cast<std::size_t>(h * forecast.D);
    std::printf(" %.2f +- %.2f", forecast.mean[first], forecast.std[first]);
  }

  const double exact = 2 * 0.5 * (4 + 1 - 1 - std::log(4.0));
  std::printf("\ndivergence: %.6f nats, by hand %.6f\n", divergence(), exact);
  const bool learned = after < before - 0.1 && std::isfinite(forecast.mean[0]);
  return learned && std::abs(divergence() - exact) < 1e-12 ? 0 : 1;
}

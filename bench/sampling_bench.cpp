// Sample + KL to N(0, 1) + Bernoulli log-likelihood of 1e7 elements, forward then backward, the
// draw included; the sample is the logit, so there is no matrix product. The floor is memory:
// forward reads mu, logvar, x and writes z, backward reads the four and writes two gradients: 40
// bytes an element, 52 with the lines that a store fetches. Same work in PyTorch:
// bench/peers/sampling.py.
#include <benchmark/benchmark.h>

#include <numeric>
#include <thread>
#include <vector>

#include "seqvae/kernels/activation.hpp"
#include "seqvae/kernels/gaussian.hpp"
#include "seqvae/kernels/likelihood.hpp"

namespace seqvae::bench {
namespace {

constexpr std::int64_t kD = 100, kSequences = 1000, kSteps = 100, kChunk = 125;
constexpr std::int64_t kElements = kD * kSequences * kSteps;

struct Stage {
  std::vector<float> mu = normals(0), logvar = normals(1), x = bits(), z = zeros(kElements);
  std::vector<float> grad_mu = zeros(kElements), grad_logvar = zeros(kElements);
  std::vector<float> kl = zeros(kElements / kD), log_likelihood = zeros(kElements / kD);
  std::vector<std::uint32_t> sequence_id = ids();
  std::uint64_t step = 0;

  static std::vector<float> zeros(std::int64_t count) {
    return std::vector<float>(static_cast<std::size_t>(count));
  }
  static std::vector<float> normals(std::uint32_t stream) {
    std::vector<float> values = zeros(kElements);
    for (std::uint32_t i = 0; i < kElements; ++i) {
      values[i] = normal(philox({{i / 4, stream, 0, 0}}, 1), static_cast<int>(i % 4));
    }
    return values;
  }
  static std::vector<float> bits() {
    std::vector<float> values = zeros(kElements);
    for (std::uint32_t i = 0; i < kElements; ++i) {
      values[i] = uniform(philox({{i / 4, 2, 0, 0}}, 1).w[i % 4]) < 0.3f;
    }
    return values;
  }
  static std::vector<std::uint32_t> ids() {
    std::vector<std::uint32_t> values(kSequences);
    std::iota(values.begin(), values.end(), 0u);
    return values;
  }

  Rows<float> rows(std::vector<float>& matrix, std::int64_t row, std::int64_t D = kD) {
    return {matrix.data() + row * D, D};
  }
  NoiseArgs<float> noise(std::int64_t row) {
    NoiseArgs<float> args;
    args.layout.T = 1, args.layout.B = kChunk, args.layout.t0 = row / kSequences;
    args.key = {42, 1}, args.step = &step;
    args.sequence_id = sequence_id.data() + row % kSequences;
    return args;
  }

  void forward(std::int64_t row) {
    cpu::gaussian_sample_kl<float>(
        {kD, noise(row), rows(mu, row), rows(logvar, row), {}, {}, rows(z, row), rows(kl, row, 1)});
    cpu::likelihood<float>({Likelihood::bernoulli,
                            kChunk,
                            kD,
                            rows(x, row),
                            {},
                            rows(z, row),
                            rows(log_likelihood, row, 1)});
  }
  void backward(std::int64_t row, std::vector<float>& grad_z) {
    float minus_one = -1, one = 1;
    cpu::likelihood_backward<float>({Likelihood::bernoulli,
                                     kChunk,
                                     kD,
                                     rows(x, row),
                                     {},
                                     rows(z, row),
                                     Rows<float>{&minus_one, 0},
                                     rows(grad_z, 0)});
    cpu::gaussian_sample_kl_backward<float>({kD,
                                             noise(row),
                                             rows(mu, row),
                                             rows(logvar, row),
                                             {},
                                             {},
                                             rows(grad_z, 0),
                                             Rows<float>{&one, 0},
                                             rows(grad_mu, row),
                                             rows(grad_logvar, row),
                                             {},
                                             {}});
  }
  /// Rows from share * their number / threads on, chunk by chunk.
  template <class Work>
  static void in_shares(std::int64_t threads, Work&& work) {
    constexpr std::int64_t chunks = kElements / kD / kChunk;
    std::vector<std::jthread> team;
    for (std::int64_t share = 0; share < threads; ++share) {
      team.emplace_back([=] {
        for (std::int64_t c = share * chunks / threads; c < (share + 1) * chunks / threads; ++c) {
          work(c * kChunk);
        }
      });
    }
  }
  double run(std::int64_t threads) {
    ++step;
    in_shares(threads, [this](std::int64_t row) { forward(row); });
    double loss = 0;
    for (std::size_t r = 0; r < kl.size(); ++r)
      loss += static_cast<double>(kl[r] - log_likelihood[r]);
    in_shares(threads, [this](std::int64_t row) {
      thread_local std::vector<float> grad_z = zeros(kChunk * kD);
      backward(row, grad_z);
    });
    return loss;
  }
};

void sampling(benchmark::State& state) {
  static Stage stage;
  for (auto _ : state) benchmark::DoNotOptimize(stage.run(state.range(0)));
  state.SetBytesProcessed(state.iterations() * 40 * kElements);
  state.SetItemsProcessed(state.iterations() * kElements);
}
BENCHMARK(sampling)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime()->Unit(
    benchmark::kMillisecond);

/// One row of calls as a step of a recurrence makes them: 10 sequences, 600 units.
void small_call(benchmark::State& state) {
  std::vector<float> x(6000, 0.5f), y(6000);
  const auto kind = static_cast<Activation>(state.range(0));
  for (auto _ : state) {
    cpu::activation<float>({kind, 10, 600, Rows<float>{x.data(), 600}, Rows<float>{y.data(), 600}});
    benchmark::DoNotOptimize(y.data());
  }
  state.SetItemsProcessed(state.iterations() * 6000);
}
BENCHMARK(small_call)->ArgName("activation")->DenseRange(0, 7);

void small_draw(benchmark::State& state) {
  const std::int64_t D = state.range(0);
  std::vector<float> mu(static_cast<std::size_t>(10 * D)), logvar = mu, z = mu;
  std::vector<std::uint32_t> ids(10);
  std::uint64_t step = 1;
  GaussianSampleArgs<float> args{
      D, {}, Rows<float>{mu.data(), D}, Rows<float>{logvar.data(), D}, Rows<float>{z.data(), D}};
  args.noise.layout.T = 1, args.noise.layout.B = 10;
  args.noise.sequence_id = ids.data(), args.noise.step = &step;
  for (auto _ : state) {
    ++step;
    cpu::gaussian_sample(args);
    benchmark::DoNotOptimize(z.data());
  }
  state.SetItemsProcessed(state.iterations() * 10 * D);
}
BENCHMARK(small_draw)->ArgName("D")->Arg(2)->Arg(16)->Arg(100);

}  // namespace
}  // namespace seqvae::bench

BENCHMARK_MAIN();

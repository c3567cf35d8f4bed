// Row-wise calls of the size that a step of a recurrence makes them: 10 sequences. What a call
// costs beside its elements shows here.
#include <benchmark/benchmark.h>

#include <vector>

#include "seqvae/kernels/activation.hpp"
#include "seqvae/kernels/gaussian.hpp"

namespace seqvae::bench {
namespace {

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

// AdamW over one flat buffer. The floor is memory: 32 bytes an element (the gradient read twice, p,
// m and v read and written).
#include <benchmark/benchmark.h>

#include <vector>

#include "seqvae/kernels/optimizer.hpp"

namespace seqvae::bench {
namespace {
void adamw(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  std::vector<float> p(count, 0.5f), g(count, 1e-3f), m(count), v(count);
  double norm = 0;
  AdamWStep step;
  AdamWArgs<float> args;
  args.count = state.range(0), args.parameters = p.data(), args.gradients = g.data();
  args.m = m.data(), args.v = v.data(), args.norm = &norm, args.step = &step;
  args.weight_decay = 0.01, args.clip_norm = 1;
  for (auto _ : state) {
    cpu::adamw(args);
    ++step.update;
  }
  state.SetBytesProcessed(state.iterations() * 32 * state.range(0));
}
BENCHMARK(adamw)->ArgName("count")->Arg(10'000)->Arg(1'000'000)->Arg(20'000'000);
}  // namespace
}  // namespace seqvae::bench

BENCHMARK_MAIN();

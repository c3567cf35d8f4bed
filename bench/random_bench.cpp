// Normals on one core; the floor is arithmetic: 10 Philox rounds and one Box-Muller pair a pair.
#include <benchmark/benchmark.h>

#include "seqvae/core/random.hpp"

namespace seqvae::bench {
namespace {
void scalar_normals(benchmark::State& state) {
  std::uint32_t i = 0;
  for (auto _ : state) {
    const Words random = philox({{i++, 0, 0, 0}}, 1);
    float first, second;
    normal_pair(random.w[0], random.w[1], first, second);
    benchmark::DoNotOptimize(first + second);
  }
  state.SetItemsProcessed(2 * state.iterations());
}
BENCHMARK(scalar_normals);
}  // namespace
}  // namespace seqvae::bench

BENCHMARK_MAIN();

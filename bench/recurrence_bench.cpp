// GRU and LSTM over sequences, forward and backward: gradients of x, the start values and all
// weights. The floor is arithmetic, 6 T B G H (D + H) flops. The same in PyTorch, in turn with this
// program: bench/peers/gru.py.
#include <benchmark/benchmark.h>

#include <cmath>

#include "seqvae/core/threads.hpp"
#include "tests/kernels/recurrence_problem.hpp"

namespace seqvae::bench {
namespace {

template <bool kLstm>
void forward_backward(benchmark::State& state) {
  const std::int64_t T = state.range(0), B = state.range(1), D = state.range(2), H = state.range(3);
  ThreadPool pool(static_cast<int>(state.range(4)));
  test::RecurrenceProblem<float, kLstm> problem({T, B, D, H});
  problem.threads = &pool;
  auto forward = problem.args();
  const test::Scratch reserve(problem.reserve_bytes(forward));
  forward.reserve = reserve.get(), forward.reserve_bytes = reserve.bytes();
  const test::Scratch workspace(problem.workspace_bytes(forward));
  forward.workspace = workspace.get(), forward.workspace_bytes = workspace.bytes();
  auto backward = problem.backward_args();
  backward.reserve = reserve.get(), backward.reserve_bytes = reserve.bytes();
  const test::Scratch backward_workspace(problem.workspace_bytes(backward));
  backward.workspace = backward_workspace.get();
  backward.workspace_bytes = backward_workspace.bytes();
  backward.grad_h_final = {};
  if constexpr (kLstm) backward.grad_c_final = {};
  for (auto _ : state) {
    problem.call(forward);
    problem.call(backward);
  }
  const double flops = 6.0 * static_cast<double>(T * B * problem.G * (D + H));
  state.counters["flops"] = benchmark::Counter(flops * static_cast<double>(state.iterations()),
                                               benchmark::Counter::kIsRate);
}
void gru_forward_backward(benchmark::State& state) { forward_backward<false>(state); }
void lstm_forward_backward(benchmark::State& state) { forward_backward<true>(state); }

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"T", "B", "D", "H", "threads"})->UseRealTime()->Unit(benchmark::kMillisecond);
  for (const std::int64_t threads : {1, 2}) {
    bench->Args({129, 20, 88, 600, threads});
    bench->Args({256, 64, 64, 512, threads});
    bench->Args({1024, 16, 32, 128, threads});
    bench->Args({64, 256, 32, 64, threads});
  }
}
BENCHMARK(gru_forward_backward)->Apply(shapes);
BENCHMARK(lstm_forward_backward)->Apply(shapes);

}  // namespace
}  // namespace seqvae::bench

BENCHMARK_MAIN();

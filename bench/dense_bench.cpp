// Products of rows on one core, beside oneDNN with its weights prepacked for that very shape and
// its sgemm. The floor is arithmetic: one multiply-add of the widest vectors a cycle or two.
#include <benchmark/benchmark.h>
#include <dlfcn.h>

#include <dnnl.hpp>
#include <random>
#include <unordered_map>
#include <vector>

#include "seqvae/kernels/dense.hpp"

namespace seqvae::bench {
namespace {

std::vector<float> normals(std::int64_t count) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(engine);
  return values;
}

// Debian's oneDNN runs on OpenMP; the team is this thread alone.
void keep_onednn_on_this_thread() {
  if (void* set = dlsym(RTLD_DEFAULT, "omp_set_num_threads"))
    reinterpret_cast<void (*)(int)>(set)(1);
}

void count_flops(benchmark::State& state) {
  const double flops = 2.0 * static_cast<double>(state.range(0) * state.range(1) * state.range(2));
  state.counters["flops"] = benchmark::Counter(flops * static_cast<double>(state.iterations()),
                                               benchmark::Counter::kIsRate);
}

void dense(benchmark::State& state) {
  const std::int64_t M = state.range(0), N = state.range(1), K = state.range(2);
  const auto W = normals(N * K), x = normals(M * K), bias = normals(N);
  std::vector<float> y(static_cast<std::size_t>(M * N));
  cpu::PackedWeights<float> weights(N, K);
  weights.pack(W.data(), K, false);
  DenseArgs<float> args;
  args.M = M, args.weights = &weights, args.x = {x.data(), K}, args.bias = bias.data();
  args.y = {y.data(), N};
  for (auto _ : state) cpu::dense(args);
  count_flops(state);
}

void dense_onednn(benchmark::State& state) {
  keep_onednn_on_this_thread();
  using dnnl::memory;
  const std::int64_t M = state.range(0), N = state.range(1), K = state.range(2);
  auto W = normals(N * K), x = normals(M * K), bias = normals(N);
  std::vector<float> y(static_cast<std::size_t>(M * N));
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto matrix = [](std::int64_t rows, std::int64_t columns, memory::format_tag tag) {
    return memory::desc({rows, columns}, memory::data_type::f32, tag);
  };
  using tag = memory::format_tag;
  const dnnl::matmul::primitive_desc description(
      dnnl::matmul::desc(matrix(M, K, tag::ab), matrix(K, N, tag::any), matrix(1, N, tag::ab),
                         matrix(M, N, tag::ab)),
      engine);
  memory given(matrix(K, N, tag::ba), engine, W.data()), packed(description.weights_desc(), engine);
  dnnl::reorder(given, packed).execute(stream, given, packed);
  const dnnl::matmul primitive(description);
  const std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, memory(description.src_desc(), engine, x.data())},
      {DNNL_ARG_WEIGHTS, packed},
      {DNNL_ARG_BIAS, memory(description.bias_desc(), engine, bias.data())},
      {DNNL_ARG_DST, memory(description.dst_desc(), engine, y.data())}};
  for (auto _ : state) primitive.execute(stream, arguments);
  count_flops(state);
}

void weight_gradient(benchmark::State& state) {
  const std::int64_t M = state.range(0), N = state.range(1), K = state.range(2);
  const auto grad_y = normals(M * N), x = normals(M * K);
  std::vector<float> grad_W(static_cast<std::size_t>(N * K));
  for (auto _ : state) {
    cpu::dense_weight_gradient<float>(
        {M, N, K, {grad_y.data(), N}, {x.data(), K}, false, {grad_W.data(), K}, nullptr});
  }
  count_flops(state);
}

void weight_gradient_onednn(benchmark::State& state) {
  keep_onednn_on_this_thread();
  const std::int64_t M = state.range(0), N = state.range(1), K = state.range(2);
  const auto grad_y = normals(M * N), x = normals(M * K);
  std::vector<float> grad_W(static_cast<std::size_t>(N * K));
  for (auto _ : state) {
    dnnl_sgemm('T', 'N', N, K, M, 1.0f, grad_y.data(), N, x.data(), K, 0.0f, grad_W.data(), K);
  }
  count_flops(state);
}

void in_loop_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"M", "N", "K"});
  const std::int64_t matrices[][2] = {{600, 600}, {200, 600},  {600, 100}, {768, 256},
                                      {256, 512}, {1800, 600}, {64, 256}};
  for (const auto& [N, K] : matrices) {
    for (const std::int64_t M : {1, 4, 8, 10, 20}) bench->Args({M, N, K});
  }
}
void hoisted_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"M", "N", "K"});
  const std::int64_t shapes[][3] = {
      {2580, 1800, 88}, {2580, 600, 600}, {2580, 88, 600}, {16384, 192, 32}, {16384, 1536, 512}};
  for (const auto& [M, N, K] : shapes) bench->Args({M, N, K});
}
BENCHMARK(dense)->Apply(in_loop_shapes)->Apply(hoisted_shapes);
BENCHMARK(dense_onednn)->Apply(in_loop_shapes)->Apply(hoisted_shapes);
BENCHMARK(weight_gradient)->Apply(hoisted_shapes);
BENCHMARK(weight_gradient_onednn)->Apply(hoisted_shapes);

}  // namespace
}  // namespace seqvae::bench

BENCHMARK_MAIN();

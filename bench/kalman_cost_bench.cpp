// Kalman filter, smoother and gradient of one sequence on one thread, in float64: over sizes, over
// lengths, and in chunks beside one step after the other. `scripts/bench kalman_cost` writes them
// to bench/results/kalman_cost.json.
//
// `varying`: A is an array of every step (the same numbers), so that no covariance is kept once it
// has settled and every step costs what it must. Smoother and gradient are timed with the filter
// before them, as they are called. `chunk` T: one step after the other.
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "bench/kalman_call.hpp"

namespace seqvae::bench {
namespace {

using Values = std::vector<double>;

/// A stable system, drawn observations, and room for what the contracts give.
class System {
 public:
  System(std::int64_t n, std::int64_t m, std::int64_t T, bool varying)
      : n_(n), m_(m), Q_(diagonal(n, 0.1)), R_(diagonal(m, 0.5)), P0_(diagonal(n, 1)) {
    std::mt19937 engine(7);
    std::normal_distribution<double> normal;
    const Values A = transition(n);
    for (std::int64_t t = 0; t < (varying ? T : 1); ++t) A_.insert(A_.end(), A.begin(), A.end());
    C_.resize(count(m * n)), y_.resize(count(T * m));
    for (double& c : C_) c = normal(engine) / std::sqrt(double(n));
    for (double& y : y_) y = normal(engine);
    KalmanModel<double>& model = filter_.model;
    model.n = n, model.m = m, model.A = {A_.data(), varying ? n * n : 0};
    model.Q = {Q_.data()}, model.C = {C_.data()}, model.R = {R_.data()}, model.P0 = {P0_.data()};
    filter_.data.layout.T = T, filter_.data.layout.B = 1, filter_.data.y = {y_.data(), m};
    filter_.mean = make(T, n), filter_.covariance = make(T, n * n);
    filter_.log_likelihood = make(T, 1), filter_.status = &status_;
  }

  void filter(std::int64_t chunk) {
    filter_.chunk = chunk;
    call(filter_, workspace_, cpu::kalman_filter<double>);
  }
  void smoother(std::int64_t chunk) {
    auto args = after_filter<KalmanSmootherArgs<double>>(chunk);
    for (const std::int64_t entries : {n_, n_ * n_, n_ * n_}) {
      if (smoothed_.size() < 3) smoothed_.push_back(make(steps(), entries));
    }
    args.mean = smoothed_[0], args.covariance = smoothed_[1], args.lag_one = smoothed_[2];
    call(args, workspace_, cpu::kalman_smoother<double>);
  }
  void gradient(std::int64_t chunk) {
    auto args = after_filter<KalmanBackwardArgs<double>>(chunk);
    if (gradients_.empty()) {
      for (const std::int64_t entries : {n_ * n_, n_ * n_, m_ * n_, m_ * m_}) {
        gradients_.push_back(make(1, entries));
      }
    }
    args.grad.A = {gradients_[0].data}, args.grad.Q = {gradients_[1].data};
    args.grad.C = {gradients_[2].data}, args.grad.R = {gradients_[3].data};
    call(args, workspace_, cpu::kalman_backward<double>);
  }
  bool failed() const { return status_ != 0; }

 private:
  template <class Args>
  Args after_filter(std::int64_t chunk) {
    filter(chunk);
    Args args;
    args.model = filter_.model, args.data = filter_.data, args.chunk = chunk;
    args.filtered.mean = filter_.mean, args.filtered.covariance = filter_.covariance;
    return args;
  }
  static std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }
  static Values diagonal(std::int64_t n, double value) {
    Values M(count(n * n));
    for (std::int64_t i = 0; i < n; ++i) M[count(i * (n + 1))] = value;
    return M;
  }
  /// Eigenvalues 0.85 - 0.1 / n, and 0.1 more once.
  static Values transition(std::int64_t n) {
    Values A = diagonal(n, 0.85);
    for (std::int64_t i = 0; i < n * n; ++i) A[count(i)] += i % (n + 1) == 0 ? 0 : 0.1 / double(n);
    return A;
  }
  std::int64_t steps() const { return filter_.data.layout.T; }
  Rows<double> make(std::int64_t rows, std::int64_t width) {
    arrays_.emplace_back(count(rows * width));
    return {arrays_.back().data(), width};
  }

  std::int64_t n_, m_;
  Values A_, Q_, C_, R_, P0_, y_, workspace_;
  std::vector<Values> arrays_;
  std::vector<Rows<double>> smoothed_, gradients_;
  std::int32_t status_ = 0;
  KalmanFilterArgs<double> filter_;
};

using Task = void (System::*)(std::int64_t chunk);

void run(benchmark::State& state, const char* name, Task task) {
  const std::int64_t n = state.range(0), m = state.range(1), T = state.range(2);
  System system(n, m, T, state.range(3) != 0);
  (system.*task)(state.range(4));  // touches its memory
  for (auto _ : state) {
    (system.*task)(state.range(4));
    benchmark::ClobberMemory();
  }
  if (system.failed()) state.SkipWithError("a covariance is not positive definite");
  state.counters["us_a_step"] =
      benchmark::Counter(double(T) * 1e-6, benchmark::Counter::kIsIterationInvariantRate |
                                               benchmark::Counter::kInvert);
  state.counters["flop_a_second"] =
      benchmark::Counter(double(T) * kalman_step_flop(name, double(n), double(m)),
                         benchmark::Counter::kIsIterationInvariantRate);
}

void cases(benchmark::internal::Benchmark* all) {
  all->ArgNames({"n", "m", "T", "varying", "chunk"})->Unit(benchmark::kMillisecond);
  for (const std::int64_t varying : {0, 1}) {
    for (const auto& [n, m] : {std::pair{2, 1}, {4, 2}, {8, 4}, {16, 8}, {32, 16}}) {
      all->Args({n, m, 1000, varying, 1000});
      all->Args({n, m, 1000, varying, 100});
    }
    for (const std::int64_t T : {10'000, 100'000, 1'000'000}) all->Args({4, 2, T, varying, T});
  }
}
BENCHMARK_CAPTURE(run, filter, "filter", &System::filter)->Apply(cases);
BENCHMARK_CAPTURE(run, smoother, "smoother", &System::smoother)->Apply(cases);
BENCHMARK_CAPTURE(run, gradient, "gradient", &System::gradient)->Apply(cases);

}  // namespace
}  // namespace seqvae::bench

BENCHMARK_MAIN();

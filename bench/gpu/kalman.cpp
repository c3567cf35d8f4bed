// Times the Kalman contracts on a GPU.
//
//     bench_gpu_kalman [--size n,m,T,B]... [--seconds S]
//
// Writes one JSON object: microseconds a call (the median of seven turns of graph replays), a
// step's share of it, and the bytes that must move. A, Q, C, R shared by the sequences, constant in
// time; all of mean, covariance and log-likelihood asked for.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "bench/gpu/timing.hpp"
#include "seqvae/io/json.hpp"
#include "seqvae/kernels/kalman.hpp"
#include "tests/support/device_array.hpp"

namespace seqvae::bench {
namespace {

using test::DeviceArray;

struct Size {
  std::string name;
  std::int64_t n, m, T, B;
};

/// A stable system: A is 0.95 on its diagonal and 0.1 / n beside it, observed through a random C.
template <class Real>
class System {
 public:
  explicit System(const Size& s) : s_(s) {
    std::mt19937 engine(7);
    std::normal_distribution<Real> normal;
    const auto diagonal = [&](std::int64_t k, Real on, Real beside) {
      std::vector<Real> values(count(k * k), beside);
      for (std::int64_t i = 0; i < k; ++i) values[count(i * (k + 1))] = on;
      return bring(values);
    };
    const auto random = [&](std::int64_t entries) {
      std::vector<Real> values(count(entries));
      for (Real& x : values) x = normal(engine);
      return bring(values);
    };
    model_.n = s.n, model_.m = s.m, model_.diagonal_R = true;
    model_.A = diagonal(s.n, Real(0.95), Real(0.1) / static_cast<Real>(s.n));
    model_.Q = diagonal(s.n, Real(0.1), 0), model_.P0 = diagonal(s.n, 1, 0);
    model_.C = random(s.m * s.n);
    model_.R = bring(std::vector<Real>(count(s.m), Real(0.2)));
    data_.layout.T = s.T, data_.layout.B = s.B;
    data_.y = {random(s.T * s.B * s.m), s.m};
    const std::int64_t rows = s.T * s.B;
    filter_.model = smoother_.model = backward_.model = model_;
    filter_.data = smoother_.data = backward_.data = data_;
    filter_.mean = {make(rows * s.n), s.n};
    filter_.covariance = {make(rows * s.n * s.n), s.n * s.n};
    filter_.log_likelihood = {make(rows), 1};
    status_ = std::make_unique<DeviceArray<std::int32_t>>(count(s.B));
    filter_.status = status_->data();
    smoother_.filtered.mean = backward_.filtered.mean = filter_.mean;
    smoother_.filtered.covariance = backward_.filtered.covariance = filter_.covariance;
    smoother_.mean = {make(rows * s.n), s.n};
    smoother_.covariance = {make(rows * s.n * s.n), s.n * s.n};
    backward_.grad.A = make(s.n * s.n), backward_.grad.Q = make(s.n * s.n);
    backward_.grad.C = make(s.m * s.n), backward_.grad.R = make(s.m);
    backward_.grad.m0 = make(s.n), backward_.grad.P0 = make(s.n * s.n);
    backward_.grad.y = {make(rows * s.m), s.m};
  }

  void time(double turn, KalmanForm form, std::int64_t chunk, io::Json& cases) {
    constexpr const char* forms[] = {"covariance", "joseph", "square_root"};
    filter_.form = form;
    filter_.chunk = smoother_.chunk = backward_.chunk = chunk;
    lend_workspace(filter_), lend_workspace(smoother_), lend_workspace(backward_);
    const std::string variant =
        fmt::format("{} {}{}", sizeof(Real) == 4 ? "float32" : "float64",
                    forms[static_cast<int>(form)], chunk == 0 ? "" : ", one step after the other");
    const double rows = static_cast<double>(s_.T * s_.B);
    const double moments = rows * static_cast<double>(s_.n + s_.n * s_.n) * sizeof(Real);
    add(cases, "kalman_filter", variant, moments,
        seconds_a_call(turn, [&](Stream stream) { cuda::kalman_filter(filter_, stream); }));
    if (form != kDefaultKalmanForm<Real>) return;
    add(cases, "kalman_smoother", variant, 2 * moments,
        seconds_a_call(turn, [&](Stream stream) { cuda::kalman_smoother(smoother_, stream); }));
    add(cases, "kalman_backward", variant, moments,
        seconds_a_call(turn, [&](Stream stream) { cuda::kalman_backward(backward_, stream); }));
    if (chunk == 0) time_draws(turn, variant, moments, cases);
  }

 private:
  /// One draw of each sequence, its gradient, and that of smoothed moments.
  void time_draws(double turn, const std::string& variant, double moments, io::Json& cases) {
    const std::int64_t rows = s_.T * s_.B;
    std::vector<std::uint32_t> ids(count(s_.B));
    std::iota(ids.begin(), ids.end(), 0u);
    const DeviceArray<std::uint32_t> numbers(ids);
    KalmanSampleArgs<Real> draw;
    draw.model = model_, draw.data = data_, draw.filtered = smoother_.filtered, draw.S = 1;
    draw.noise.sequence_id = numbers.data(), draw.status = status_->data();
    draw.z = {make(rows * s_.n), s_.n};
    KalmanSampleBackwardArgs<Real> reverse;
    reverse.model = model_, reverse.data = data_, reverse.noise = draw.noise, reverse.S = 1;
    reverse.grad_z = draw.z, reverse.grad = backward_.grad;
    KalmanBackwardArgs<Real> smoothed = backward_;
    smoothed.grad_smoothed_mean = filter_.mean;
    smoothed.grad_smoothed_covariance = filter_.covariance;
    lend_workspace(draw), lend_workspace(reverse), lend_workspace(smoothed);
    add(cases, "kalman_sample", variant, moments,
        seconds_a_call(turn, [&](Stream stream) { cuda::kalman_sample(draw, stream); }));
    add(cases, "kalman_sample_backward", variant, moments, seconds_a_call(turn, [&](Stream stream) {
          cuda::kalman_sample_backward(reverse, stream);
        }));
    add(cases, "kalman_backward", variant + ", of smoothed moments too", 2 * moments,
        seconds_a_call(turn, [&](Stream stream) { cuda::kalman_backward(smoothed, stream); }));
  }
  static std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }
  Real* bring(const std::vector<Real>& values) {
    arrays_.push_back(std::make_unique<DeviceArray<Real>>(values));
    return arrays_.back()->data();
  }
  Real* make(std::int64_t entries) {
    arrays_.push_back(std::make_unique<DeviceArray<Real>>(count(entries)));
    return arrays_.back()->data();
  }
  template <class Args>
  void lend_workspace(Args& args) {
    args.workspace_bytes = cuda::kalman_workspace_bytes(args);
    args.workspace = make(static_cast<std::int64_t>(args.workspace_bytes / sizeof(Real)) + 2);
  }
  void add(io::Json& cases, const char* name, const std::string& variant, double bytes,
           double seconds) const {
    cases.push_back({{"name", name},
                     {"shape", s_.name},
                     {"variant", variant},
                     {"us", seconds * 1e6},
                     {"us_a_step", seconds * 1e6 / static_cast<double>(s_.T)},
                     {"gb_per_s", bytes / seconds / 1e9}});
    std::cerr << fmt::format("{:22} {:16} {:58} {:10.1f} us {:8.3f} us a step\n", name, s_.name,
                             variant, seconds * 1e6, seconds * 1e6 / static_cast<double>(s_.T));
  }

  Size s_;
  std::vector<std::unique_ptr<DeviceArray<Real>>> arrays_;
  std::unique_ptr<DeviceArray<std::int32_t>> status_;
  KalmanModel<Real> model_;
  KalmanData<Real> data_;
  KalmanFilterArgs<Real> filter_;
  KalmanSmootherArgs<Real> smoother_;
  KalmanBackwardArgs<Real> backward_;
};

void time_size(const Size& size, double turn, io::Json& cases) {
  System<float> single(size);
  single.time(turn, KalmanForm::square_root, 0, cases);
  single.time(turn, KalmanForm::square_root, size.T, cases);
  single.time(turn, KalmanForm::joseph, size.T, cases);
  System<double>(size).time(turn, KalmanForm::joseph, 0, cases);
}

}  // namespace
}  // namespace seqvae::bench

int main(int argc, char** argv) {
  using namespace seqvae::bench;
  std::vector<Size> sizes;
  double turn = 0.01;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    Size s{argv[i + 1], 0, 0, 0, 0};
    if (option == "--size" &&
        std::sscanf(argv[i + 1], "%ld,%ld,%ld,%ld", &s.n, &s.m, &s.T, &s.B) == 4) {
      sizes.push_back(s);
    } else if (option == "--seconds" && std::atof(argv[i + 1]) > 0) {
      turn = std::atof(argv[i + 1]);
    } else {
      argc = 0;
    }
  }
  if (argc % 2 == 0) {
    std::cerr << "usage: " << argv[0] << " [--size n,m,T,B]... [--seconds S]\n";
    return 2;
  }
  if (sizes.empty()) {
    for (const std::int64_t n : {2, 4, 8, 16, 32}) {
      for (const std::int64_t B : {1, 64}) sizes.push_back({"", n, n / 2, 1000, B});
    }
  }
  for (Size& s : sizes) s.name = fmt::format("{},{},{},{}", s.n, s.m, s.T, s.B);
  seqvae::io::Json cases = seqvae::io::Json::array();
  try {
    for (const Size& size : sizes) time_size(size, turn, cases);
  } catch (const std::exception& error) {
    std::cerr << "bench_gpu_kalman: " << error.what() << "\n";
    return 1;
  }
  std::cout << seqvae::io::Json{{"cases", cases}}.dump(1) << std::endl;
  return 0;
}

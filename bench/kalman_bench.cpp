// Filter, smoother and gradient of time-invariant linear-Gaussian models, by the protocol of
// bench/peers/README.md; driven by bench/compare.py in turn with bench/peers/kalman.py, which
// writes the case file.
//
// As an application would call the contracts. Sequences that share their model go in one call, with
// the pool, their covariances written once; their rows stand time by time, [T][B]. Models of
// their own: a call each, dealt to the threads of a pool, each with its own workspace, and a
// sequence's rows lie together.
//
// The models are constant, so that their covariances settle: most of the FLOP counted are not done.
#include <algorithm>
#include <cmath>
#include <map>

#include "bench/kalman_call.hpp"
#include "bench/serve.hpp"
#include "seqvae/core/threads.hpp"
#include "seqvae/io/safetensors.hpp"
#include "seqvae/kernels/kalman.hpp"

namespace seqvae::bench {
namespace {

using Values = std::vector<double>;

class KalmanWork : public Work {
 public:
  KalmanWork(const std::string& file, std::string task, int threads)
      : pool_(threads), task_(std::move(task)) {
    require(task_ == "filter" || task_ == "smoother" || task_ == "gradient", "bench_kalman", "task",
            task_, "filter, smoother or gradient");
    const io::NamedArrays given = io::read_safetensors(file).tensors;
    const auto& y = given.at("y").shape;
    T_ = y.at(0), B_ = y.at(1), m_ = y.at(2), n_ = given.at("A").shape.at(1);
    models_ = given.at("A").shape.at(0);
    require(models_ == 1 || models_ == B_, "bench_kalman", "A", models_, "1 or one a sequence");
    for (const char* name : {"A", "Q", "C", "R", "m0", "P0"}) {
      const auto from = given.at(name).as<double>();
      model_[name].assign(from.begin(), from.end());
    }
    together_ = models_ == 1 && B_ > 1;
    y_.resize(std::size_t(T_ * B_ * m_));
    const auto from = given.at("y").as<double>();
    for (std::int64_t i = 0; i < T_ * B_; ++i) {
      std::copy_n(from.begin() + i * m_, m_, rows(y_, i % B_, m_)[i / B_]);
    }
    const auto rows = std::size_t(T_ * B_), n = std::size_t(n_);
    mean_.resize(rows * n), log_likelihood_.resize(rows);
    covariance_.resize((together_ ? std::size_t(T_) : rows) * n * n);
    if (task_ == "smoother") {
      smoothed_mean_.resize(rows * n);
      smoothed_covariance_.resize(covariance_.size()), lag_one_.resize(covariance_.size());
    }
    status_.resize(std::size_t(B_));
    const auto count = std::size_t(pool_.count());
    workspace_.resize(count);
    gradients_.resize(std::size_t(models_));
    for (Gradient& g : gradients_) {
      g.A.resize(n * n), g.Q.resize(n * n);
      g.C.resize(std::size_t(m_) * n), g.R.resize(std::size_t(m_ * m_));
    }
  }

  io::Json about() const override {
    const double flop = kalman_step_flop(task_, double(n_), double(m_));
    return {{"program", "seqvae"},
            {"variant", task_},
            {"task", task_},
            {"n", n_},
            {"m", m_},
            {"T", T_},
            {"B", B_},
            {"parameters", models_ == 1 ? "shared" : "own"},
            {"dtype", "float64"},
            {"threads", pool_.count()},
            {"flop", std::int64_t(flop * double(T_) * double(B_))}};
  }

  io::Json loss() override {
    step();
    const auto square = [](const Values& values) {
      double sum = 0;
      for (const double v : values) sum += v * v;
      return sum;
    };
    if (task_ == "gradient") {
      double sum = 0;
      for (const Gradient& g : gradients_) {
        sum += square(g.A) + square(g.Q) + square(g.C) + square(g.R);
      }
      return {{"loss", total_}, {"gradient_norm", std::sqrt(sum)}};
    }
    const bool smoothed = task_ == "smoother";
    const double times = together_ ? double(B_) : 1;  // covariances are written once
    return {
        {"loss", total_},
        {"moments_norm", std::sqrt(square(smoothed ? smoothed_mean_ : mean_) +
                                   times * square(smoothed ? smoothed_covariance_ : covariance_))}};
  }

  io::Json run() override {
    const double seconds = seconds_of([this] { step(); });
    if (!std::isfinite(total_)) return {{"error", "a covariance is not positive definite"}};
    return {{"seconds", seconds}};
  }

 private:
  struct Gradient {
    Values A, Q, C, R;
  };

  /// Of sequence b, where all have rows of their own.
  Rows<double> rows(Values& all, std::int64_t b, std::int64_t width) const {
    if (together_) return {all.data() + b * width, B_ * width};
    return {all.data() + b * T_ * width, width};
  }
  Rows<double> covariances(Values& all, std::int64_t b) const {
    if (together_) return {all.data(), n_ * n_};
    return rows(all, b, n_ * n_);
  }
  KalmanModel<double> model(std::int64_t b) {
    const auto array = [&](const char* name) {
      const Values& all = model_.at(name);
      const auto size = std::int64_t(all.size()) / models_;
      return StepArray<const double>{all.data() + (models_ == 1 ? 0 : b * size)};
    };
    KalmanModel<double> model;
    model.n = n_, model.m = m_;
    model.A = array("A"), model.Q = array("Q"), model.C = array("C"), model.R = array("R");
    model.m0 = array("m0"), model.P0 = array("P0");
    return model;
  }
  KalmanData<double> data(std::int64_t b) {
    KalmanData<double> data;
    data.layout.T = T_, data.layout.B = 1;
    data.y = rows(y_, b, m_);
    return data;
  }

  void filter(std::int64_t b, Values& workspace) {
    KalmanFilterArgs<double> args;
    args.model = model(b), args.data = data(b);
    args.mean = rows(mean_, b, n_), args.covariance = covariances(covariance_, b);
    args.log_likelihood = rows(log_likelihood_, b, 1);
    args.status = &status_[std::size_t(b)];
    if (together_) {
      args.data.layout.B = B_, args.shared_covariance = true, args.pool = &pool_;
      args.data.y = {y_.data(), m_}, args.mean = {mean_.data(), n_};
      args.log_likelihood = {log_likelihood_.data(), 1};
    }
    call(args, workspace, cpu::kalman_filter<double>);
  }
  template <class Args>
  Args after_filter(std::int64_t b) {
    Args args;
    args.model = model(b), args.data = data(b);
    args.filtered.mean = rows(mean_, b, n_);
    args.filtered.covariance = covariances(covariance_, b);
    args.filtered.shared_covariance = together_;
    return args;
  }
  void smooth(std::int64_t b, Values& workspace) {
    auto args = after_filter<KalmanSmootherArgs<double>>(b);
    args.mean = rows(smoothed_mean_, b, n_);
    args.covariance = covariances(smoothed_covariance_, b);
    args.lag_one = covariances(lag_one_, b);
    if (together_) {
      args.data.layout.B = B_, args.shared_covariance = true, args.pool = &pool_;
      args.data.y = {y_.data(), m_}, args.filtered.mean = {mean_.data(), n_};
      args.mean = {smoothed_mean_.data(), n_};
    }
    call(args, workspace, cpu::kalman_smoother<double>);
  }
  void differentiate(std::int64_t b, Gradient& to, Values& workspace) {
    auto args = after_filter<KalmanBackwardArgs<double>>(b);
    args.grad.A = {to.A.data()}, args.grad.Q = {to.Q.data()};
    args.grad.C = {to.C.data()}, args.grad.R = {to.R.data()};
    if (together_) {
      args.data.layout.B = B_, args.pool = &pool_;
      args.data.y = {y_.data(), m_}, args.filtered.mean = {mean_.data(), n_};
    }
    call(args, workspace, cpu::kalman_backward<double>);
  }

  /// The whole task, of sequence b or of all together.
  void work(std::int64_t b, Values& workspace) {
    filter(b, workspace);
    if (status_[std::size_t(b)] != 0) return;  // its log-likelihoods are NaN
    if (task_ == "smoother") smooth(b, workspace);
    if (task_ == "gradient") differentiate(b, gradients_[std::size_t(b)], workspace);
  }

  void step() {
    if (together_) {
      work(0, workspace_[0]);
    } else {
      const int calls = static_cast<int>(B_), threads = pool_.count();
      pool_.run(std::min(calls, threads), [&](int thread) {
        for (int b = thread; b < calls; b += threads) work(b, workspace_[std::size_t(thread)]);
      });
    }
    total_ = 0;
    for (const double l : log_likelihood_) total_ += l;
  }

  ThreadPool pool_;
  std::string task_;
  std::int64_t T_ = 0, B_ = 0, n_ = 0, m_ = 0, models_ = 1;
  bool together_ = false;                // one model of many sequences
  std::map<std::string, Values> model_;  // [models][...]
  Values y_, mean_, covariance_, log_likelihood_, smoothed_mean_, smoothed_covariance_, lag_one_;
  std::vector<std::int32_t> status_;
  std::vector<Values> workspace_;    // a thread
  std::vector<Gradient> gradients_;  // of each model
  double total_ = 0;
};

}  // namespace
}  // namespace seqvae::bench

int main(int argc, char** argv) {
  std::string task = "filter";
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::string(argv[i]) == "--task") task = argv[i + 1];
  }
  return seqvae::bench::serve(argc, argv, [&](const std::string& file, int threads) {
    return std::make_unique<seqvae::bench::KalmanWork>(file, task, threads);
  });
}

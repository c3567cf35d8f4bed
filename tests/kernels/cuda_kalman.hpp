// The Kalman contracts as calls on the CPU and on CUDA, and their results side by side.
#pragma once
#include <gmock/gmock.h>

#include "tests/kernels/cuda_schedules.hpp"
#include "tests/support/device_array.hpp"
#include "tests/support/errors.hpp"
#include "tests/support/kalman_problem.hpp"

namespace seqvae::test::kalman {

/// What a call gives, by name, in double.
using Results = std::vector<std::pair<const char*, std::vector<double>>>;

/// Arrays that a call reads, in memory of its device: the host's own, or copied to a CUDA device.
template <class Real>
class Memory {
 public:
  explicit Memory(bool on_device) : on_device_(on_device) {}
  template <class To, class From>
  To* bring(const std::vector<From>& values) {
    return keep(std::vector<To>(values.begin(), values.end()));
  }
  /// An array to be written, NaN or unwritten before.
  Real* make(std::size_t count) {
    std::vector<Real> nothing(count, std::numeric_limits<Real>::quiet_NaN());
#if defined(SEQVAE_EMULATED)
    if (on_device_) {
      device_.push_back(std::make_shared<DeviceArray<Real>>(count));
      return std::static_pointer_cast<DeviceArray<Real>>(device_.back())->data();
    }
#endif
    return keep(nothing);
  }
  template <class T>
  T* keep(std::vector<T> values) {
    if (on_device_) {
      auto array = std::make_shared<DeviceArray<T>>(values);
      device_.push_back(array);
      return array->data();
    }
    auto array = std::make_shared<std::vector<T>>(std::move(values));
    device_.push_back(array);
    return array->data();
  }
  template <class T>
  std::vector<T> read(const T* data, std::size_t count) const {
    if (!on_device_) return {data, data + count};
    std::vector<T> values(count);
    cuda::copy(values.data(), data, count * sizeof(T), Stream());
    cuda::synchronize(Stream());
    return values;
  }
  bool on_device() const { return on_device_; }

 private:
  bool on_device_;
  std::vector<std::shared_ptr<void>> device_;
};

template <class Real>
StepArray<const Real> view(Memory<Real>& memory, const Array& array) {
  return {memory.template bring<Real>(array.values), array.step, array.sequence};
}

template <class Real>
KalmanModel<Real> model_of(const KalmanProblem& p, Memory<Real>& memory) {
  KalmanModel<Real> model;
  model.n = p.shape.n, model.m = p.shape.m, model.U = p.shape.U;
  model.A = view(memory, p.A), model.state_offset = view(memory, p.b), model.Q = view(memory, p.Q);
  model.C = view(memory, p.C), model.observation_offset = view(memory, p.d);
  model.R = view(memory, p.R);
  if (p.shape.U > 0) model.B = view(memory, p.B), model.D = view(memory, p.D);
  model.diagonal_R = !p.shape.full_R;
  model.m0 = view(memory, p.m0), model.P0 = view(memory, p.P0);
  return model;
}
template <class Real>
KalmanData<Real> data_of(const KalmanProblem& p, Memory<Real>& memory) {
  KalmanData<Real> data;
  data.layout = p.layout();
  if (p.shape.packed) {
    data.layout.offsets = memory.keep(p.offsets);
  } else {
    data.layout.lengths = p.shape.ragged ? memory.keep(p.lengths) : nullptr;
  }
  data.y = {memory.template bring<Real>(p.y), p.shape.m};
  if (p.shape.masked) data.mask = {memory.template bring<Real>(p.mask), p.shape.m};
  data.u = {memory.template bring<Real>(p.u), p.shape.U};
  return data;
}

/// Directly, or from a graph captured on a stream of its own: replayed once without a row and then
/// with the problem's.
enum class How { cpu, cuda, captured };

#define SEQVAE_CALLS(name, Args)                        \
  template <class Real>                                 \
  void on_cpu(const Args<Real>& args) {                 \
    cpu::name(args);                                    \
  }                                                     \
  template <class Real>                                 \
  void on_cuda(const Args<Real>& args, Stream stream) { \
    cuda::name(args, stream);                           \
  }
SEQVAE_CALLS(kalman_filter, KalmanFilterArgs)
SEQVAE_CALLS(kalman_smoother, KalmanSmootherArgs)
SEQVAE_CALLS(kalman_backward, KalmanBackwardArgs)
SEQVAE_CALLS(kalman_forecast, KalmanForecastArgs)
SEQVAE_CALLS(kalman_simulate, KalmanSimulateArgs)
SEQVAE_CALLS(kalman_sample, KalmanSampleArgs)
SEQVAE_CALLS(kalman_sample_backward, KalmanSampleBackwardArgs)
#undef SEQVAE_CALLS

/// A problem in the memory of the device that calls run on, and the calls' results by name.
template <class Real>
class Calls {
 public:
  Calls(const KalmanProblem& p, How how)
      : p_(p), how_(how), memory_(how != How::cpu), model_(model_of(p, memory_)) {
    data_ = data_of(p, memory_);
  }

  void filter(KalmanForm form, bool shared = false, std::int64_t chunk = 1 << 20) {
    KalmanFilterArgs<Real> args;
    args.model = model_, args.data = data_, args.form = form, args.shared_covariance = shared;
    args.chunk = shared ? 0 : chunk;
    const std::size_t covariances = shared ? size(p_.shape.T) : rows_;
    args.mean = mean_ = out("mean", rows_, n_);
    args.covariance = covariance_ = out("covariance", covariances, n_ * n_);
    args.predicted_mean = out("predicted mean", rows_, n_);
    args.predicted_covariance = out("predicted covariance", covariances, n_ * n_);
    args.log_likelihood = out("log-likelihood", rows_, 1);
    args.innovation = out("innovation", rows_, m_);
    args.status = status();
    shared_ = shared;
    call(args);
  }
  void smooth(bool shared = false, std::int64_t chunk = 1 << 20) {
    KalmanSmootherArgs<Real> args;
    args.chunk = shared ? 0 : reverse_chunk(chunk);
    args.model = model_, args.data = data_, args.filtered = filtered();
    args.shared_covariance = shared;
    const std::size_t covariances = shared ? size(p_.shape.T) : rows_;
    args.mean = out("smoothed mean", rows_, n_);
    args.covariance = out("smoothed covariance", covariances, n_ * n_);
    args.lag_one = out("lag one", covariances, n_ * n_);
    call(args);
  }
  /// Of all gradients the one of this name is asked for.
  void only(std::string gradient) { only_ = std::move(gradient); }
  /// `shared`: gradients of arrays that sequences share, or one for each; `by_step`: as for time.
  void differentiate(bool moments, bool shared, bool by_step, bool accumulate = false,
                     std::int64_t chunk = 1 << 20) {
    KalmanBackwardArgs<Real> args;
    args.chunk = reverse_chunk(chunk);
    args.model = model_, args.data = data_, args.filtered = filtered();
    args.accumulate = accumulate;
    if (moments) {
      args.grad_log_likelihood = {memory_.template bring<Real>(weights(rows_)), 1};
      args.grad_mean = {memory_.template bring<Real>(weights(rows_ * n_)), p_.shape.n};
      args.grad_covariance = of_covariances();
    }
    set_gradient(args, shared, by_step);
    call(args);
  }
  /// Of smoothed means, smoothed covariances or both, and of nothing else.
  void differentiate_smoothed(bool means, bool covariances, bool shared, bool by_step,
                              std::int64_t chunk = 1 << 20) {
    KalmanBackwardArgs<Real> args;
    args.chunk = reverse_chunk(chunk);
    args.model = model_, args.data = data_, args.filtered = filtered();
    args.grad_log_likelihood = {memory_.template bring<Real>(std::vector<double>(1)), 0};
    if (means) {
      args.grad_smoothed_mean = {memory_.template bring<Real>(weights(rows_ * n_)), p_.shape.n};
    }
    if (covariances) args.grad_smoothed_covariance = of_covariances();
    set_gradient(args, shared, by_step);
    call(args);
  }
  /// The gradient of S draws.
  void differentiate_draws(std::int64_t S, bool shared, bool by_step, bool accumulate = false) {
    KalmanSampleBackwardArgs<Real> args;
    args.model = model_, args.data = data_, args.noise = noise(), args.S = S;
    args.accumulate = accumulate;
    args.grad_z = {memory_.template bring<Real>(weights(size(S) * rows_ * n_)), p_.shape.n};
    set_gradient(args, shared, by_step);
    call(args);
  }
  void forecast() {
    KalmanForecastArgs<Real> args;
    args.model = model_, args.layout = data_.layout, args.u = data_.u;
    args.mean = model_mean(), args.covariance = model_covariance();
    args.state_mean = out("state mean", rows_, n_);
    args.state_covariance = out("state covariance", rows_, n_ * n_);
    args.observation_mean = out("observation mean", rows_, m_);
    args.observation_covariance = out("observation covariance", rows_, m_ * m_);
    call(args);
  }
  void simulate(std::int64_t S) {
    KalmanSimulateArgs<Real> args;
    args.model = model_, args.layout = data_.layout, args.u = data_.u;
    args.noise = noise(), args.S = S;
    args.z = out("simulated z", size(S) * rows_, n_);
    args.y = out("simulated y", size(S) * rows_, m_);
    args.y_mean = out("mean of y given z", size(S) * rows_, m_);
    args.y_logvar = out("log-variance of y given z", size(S) * rows_, m_);
    args.status = status();
    call(args);
    simulated_z_ = args.z;
  }
  /// y given the states that were simulated: the same.
  void simulate_given(std::int64_t S) {
    KalmanSimulateArgs<Real> args;
    args.model = model_, args.layout = data_.layout, args.u = data_.u;
    args.noise = noise(), args.S = S, args.given_z = simulated_z_;
    args.y = out("y given z", size(S) * rows_, m_);
    args.y_mean = out("its mean", size(S) * rows_, m_);
    args.status = status();
    call(args);
  }
  void sample(std::int64_t S) {
    KalmanSampleArgs<Real> args;
    args.model = model_, args.data = data_, args.filtered = filtered();
    args.noise = noise(), args.S = S;
    args.z = out("sampled z", size(S) * rows_, n_);
    args.status = status();
    call(args);
  }

  Results results() const {
    Results all;
    for (const auto& [name, data, count] : outputs_) {
      const std::vector<Real> values = memory_.read(data, count);
      all.push_back({name, {values.begin(), values.end()}});
    }
    for (const std::int32_t* status : statuses_) {
      const auto values = memory_.read(status, size(p_.shape.B));
      all.push_back({"status", {values.begin(), values.end()}});
    }
    return all;
  }

 private:
  static std::size_t size(std::int64_t i) { return static_cast<std::size_t>(i); }

  /// An array to be written, or of `start`, to be added to.
  Rows<Real> out(const char* name, std::size_t count, std::size_t width, double start = kPoison) {
    Real* data = std::isnan(start) ? memory_.make(count * width)
                                   : memory_.keep(std::vector<Real>(count * width, Real(start)));
    outputs_.push_back({name, data, count * width});
    return {data, static_cast<std::int64_t>(width)};
  }
  std::int32_t* status() {
    statuses_.push_back(memory_.keep(std::vector<std::int32_t>(size(p_.shape.B), -1)));
    return statuses_.back();
  }
  std::vector<double> weights(std::size_t count) {
    std::vector<double> values(count);
    for (double& x : values) x = std::normal_distribution<>()(random_);
    return values;
  }
  /// Symmetric weights of each row's covariance.
  Rows<const Real> of_covariances() {
    std::vector<double> values = weights(rows_ * n_ * n_);
    for (std::size_t r = 0; r < rows_; ++r) {
      for (std::size_t i = 0; i < n_; ++i) {
        for (std::size_t j = 0; j < i; ++j) {
          values[(r * n_ + i) * n_ + j] = values[(r * n_ + j) * n_ + i];
        }
      }
    }
    return {memory_.template bring<Real>(values), p_.shape.n * p_.shape.n};
  }
  /// Where gradients go, of arrays as in differentiate().
  template <class Args>
  void set_gradient(Args& args, bool shared, bool by_step) {
    const double start = args.accumulate ? 0.5 : kPoison;
    const auto wanted = [&](const char* name) { return only_.empty() || only_ == name; };
    const auto gradient = [&](const char* name, std::size_t entries, bool step) {
      if (!wanted(name)) return StepArray<Real>();
      const bool both = step && !shared;
      const std::size_t count =
          both ? rows_ : (step ? size(p_.shape.T) : 1) * (shared ? 1 : size(p_.shape.B));
      StepArray<Real> array(out(name, count, entries, start).data);
      array.sequence = shared ? 0 : static_cast<std::int64_t>(entries);
      if (step) array.step = static_cast<std::int64_t>(entries) * (shared ? 1 : p_.shape.B);
      return array;
    };
    const std::size_t U = size(p_.shape.U);
    args.grad.A = gradient("grad A", n_ * n_, by_step);
    args.grad.Q = gradient("grad Q", n_ * n_, by_step);
    args.grad.state_offset = gradient("grad b", n_, by_step);
    args.grad.C = gradient("grad C", m_ * n_, by_step);
    args.grad.R = gradient("grad R", p_.shape.full_R ? m_ * m_ : m_, by_step);
    args.grad.observation_offset = gradient("grad d", m_, by_step);
    args.grad.m0 = gradient("grad m0", n_, false),
    args.grad.P0 = gradient("grad P0", n_ * n_, false);
    if (U > 0) {
      args.grad.B = gradient("grad B", n_ * U, by_step);
      args.grad.D = gradient("grad D", m_ * U, by_step);
    }
    if (wanted("grad y")) args.grad.y = out("grad y", rows_, m_, start);
  }
  /// Chunks backward are held against one step after the other.
  std::int64_t reverse_chunk(std::int64_t chunk) const {
    return how_ == How::cpu ? p_.shape.T : chunk;
  }
  KalmanFiltered<Real> filtered() const {
    KalmanFiltered<Real> filtered;
    filtered.mean = mean_, filtered.covariance = covariance_, filtered.shared_covariance = shared_;
    return filtered;
  }
  KalmanNoise noise() {
    KalmanNoise noise;
    noise.key = {77, 5}, noise.sequence_id = memory_.keep(p_.ids);
    noise.step = memory_.keep(std::vector<std::uint64_t>{9});
    return noise;
  }
  Rows<const Real> model_mean() const { return {model_.m0.data, p_.shape.n}; }
  Rows<const Real> model_covariance() const { return {model_.P0.data, 0}; }

  void write_lengths(const std::vector<std::int32_t>& lengths,
                     const std::vector<std::int32_t>& offsets, Stream stream) const {
    const auto write = [&](const std::int32_t* to, const auto& from, std::int64_t count) {
      if (to == nullptr) return;
      cuda::copy(const_cast<std::int32_t*>(to), from.data(), size(count) * sizeof(from[0]), stream);
    };
    write(data_.layout.lengths, lengths, p_.shape.B);
    write(data_.layout.offsets, offsets, p_.shape.T + 1);
  }

  template <class Args>
  void call(Args& args) {
    const std::size_t bytes =
        how_ == How::cpu ? kalman_workspace_bytes(args) : cuda::kalman_workspace_bytes(args);
    args.workspace = memory_.make(bytes / sizeof(Real) + 2), args.workspace_bytes = bytes;
    if (how_ == How::cpu) return on_cpu(args);
    if (how_ == How::cuda) {
      on_cuda(args, Stream());
      return cuda::synchronize(Stream());
    }
    const Stream stream = cuda::create_stream();
    {
      const std::vector<std::int32_t> none(size(p_.shape.T + p_.shape.B) + 1);
      write_lengths(none, none, stream);
      cuda::Graph graph(stream, [&](Stream s) { on_cuda(args, s); });
      graph.replay();
      write_lengths(p_.lengths, p_.offsets, stream);
      graph.replay();
      cuda::synchronize(stream);
    }
    cuda::destroy_stream(stream);
  }

  struct Output {
    const char* name;
    Real* data;
    std::size_t count;
  };
  const KalmanProblem& p_;
  How how_;
  Memory<Real> memory_;
  KalmanModel<Real> model_;
  KalmanData<Real> data_;
  const std::size_t rows_ = size(p_.rows()), n_ = size(p_.shape.n), m_ = size(p_.shape.m);
  std::vector<Output> outputs_;
  std::vector<std::int32_t*> statuses_;
  Rows<Real> mean_, covariance_, simulated_z_;
  bool shared_ = false;
  std::string only_;
  std::mt19937 random_{3};
};

template <class Real, class Work>
Results results_of(const KalmanProblem& p, How how, Work work) {
  Calls<Real> calls(p, how);
  work(calls);
  return calls.results();
}

/// Errs by at most `of_plain` times what the CPU's same precision does, and `least` of the largest.
inline void expect_close(const Results& actual, const Results& plain, const Results& oracle,
                         double of_plain, double least) {
  ASSERT_EQ(actual.size(), oracle.size());
  for (std::size_t i = 0; i < oracle.size(); ++i) {
    const auto& [name, expected] = oracle[i];
    Errors errors;
    for (std::size_t j = 0; j < expected.size(); ++j) {
      if (std::isnan(expected[j])) {
        EXPECT_TRUE(std::isnan(actual[i].second[j])) << name << " " << j;
        continue;
      }
      errors.add(actual[i].second[j], plain[i].second[j], expected[j]);
    }
    EXPECT_LE(errors.actual, of_plain * errors.plain + errors.largest * least)
        << name << ", whose largest is " << errors.largest << "; plain errs by " << errors.plain;
  }
}

inline void expect_same(const Results& actual, const Results& expected, const std::string& what) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    expect_near(actual[i].second, expected[i].second, 0, what + expected[i].first);
  }
}

/// double against the CPU's, float held against it by the CPU's float; then schedules and graphs.
template <class Work>
void expect_parity(const KalmanProblem& p, Work work, bool all_schedules) {
  const Results oracle = results_of<double>(p, How::cpu, work);
  {
    SCOPED_TRACE("double");
    expect_close(results_of<double>(p, How::cuda, work), oracle, oracle, 0, 1e-11);
  }
  const Results actual = results_of<float>(p, How::cuda, work);
  {
    SCOPED_TRACE("float");
    expect_close(actual, results_of<float>(p, How::cpu, work), oracle, 2,
                 8 * std::numeric_limits<float>::epsilon());
  }
  expect_same(results_of<float>(p, How::captured, work), actual, "replayed: ");
  if (!all_schedules) return;
  for_each_schedule(
      [&] { expect_same(results_of<float>(p, How::cuda, work), actual, "another schedule: "); });
}

}  // namespace seqvae::test::kalman

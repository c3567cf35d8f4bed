// A set's sequences as the Kalman contracts take them: one at a time, its rows in place.
#pragma once
#include <memory>
#include <string>

#include "seqvae/core/error.hpp"
#include "seqvae/models/lgssm.hpp"

namespace seqvae::lgssm {

/// A set with the mask that its NaNs make.
class Sequences {
 public:
  Sequences(const data::SequenceSet& set, const LgssmMatrices& matrices, const char* where)
      : set_(set), starts_(set.starts()), mask_(set.values.size()) {
    require(set.D == matrices.m, where, "columns of the data", set.D,
            std::to_string(matrices.m) + ", as the model observes");
    require(set.U == matrices.U, where, "controls of the data", set.U,
            std::to_string(matrices.U) + ", as the model has");
    for (std::size_t i = 0; i < mask_.size(); ++i) mask_[i] = std::isnan(set.values[i]) ? 0 : 1;
  }
  std::int64_t count() const { return set_.count(); }
  std::int64_t longest() const {
    std::int64_t most = 0;
    for (std::int32_t length : set_.lengths) most = std::max<std::int64_t>(most, length);
    return most;
  }
  std::int64_t first_row(std::int64_t i) const { return starts_[static_cast<std::size_t>(i)]; }
  std::int64_t length(std::int64_t i) const { return set_.lengths[static_cast<std::size_t>(i)]; }
  std::int64_t begin(std::int64_t i) const { return set_.begin[static_cast<std::size_t>(i)]; }
  const std::uint32_t* id(std::int64_t i) const { return &set_.ids[static_cast<std::size_t>(i)]; }
  bool observed(std::int64_t row, std::int64_t j) const {
    return mask_[static_cast<std::size_t>(row * set_.D + j)] != 0;
  }
  KalmanData<double> data(std::int64_t i) const {
    KalmanData<double> data;
    data.layout.T = length(i);
    data.layout.B = 1;
    data.y = {set_.values.data() + first_row(i) * set_.D, set_.D};
    data.mask = {mask_.data() + first_row(i) * set_.D, set_.D};
    data.u = {set_.controls.data() + first_row(i) * set_.U, set_.U};
    return data;
  }

 private:
  const data::SequenceSet& set_;
  std::vector<std::int64_t> starts_;
  std::vector<double> mask_;
};

/// A workspace that grows to what a contract asks for.
class Workspace {
 public:
  template <class Args>
  void lend(Args& args) {
    const std::size_t bytes = kalman_workspace_bytes(args);
    if (bytes > bytes_) {
      memory_ = std::make_unique<std::byte[]>(bytes);  // new[] aligns to 16
      bytes_ = bytes;
    }
    args.workspace = memory_.get();
    args.workspace_bytes = bytes_;
  }

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::size_t bytes_ = 0;
};

/// The filter on one sequence, its moments kept for the reverse passes.
struct FilterRun {
  std::vector<double> mean, covariance;
  std::vector<double> given_mean, given_covariance, factor, delta, spread;  // while diffuse
  std::int32_t status = 0, merge_step = 0, diffuse_steps = 0;
  Workspace workspace;

  /// `log_likelihood`: [length], or null; `innovation`: [length][m], or null.
  void run(const LgssmMatrices& matrices, const KalmanData<double>& data, double* log_likelihood,
           double* innovation = nullptr) {
    const auto rows = static_cast<std::size_t>(data.layout.T);
    const auto n = static_cast<std::size_t>(matrices.n);
    if (mean.size() < rows * n) {
      mean.resize(rows * n);
      covariance.resize(rows * n * n);
      if (!matrices.diffuse.empty()) {
        given_mean.resize(rows * n);
        for (auto* v : {&given_covariance, &factor}) v->resize(rows * n * n);
        delta.resize(n);
        spread.resize(n * n);
      }
    }
    KalmanFilterArgs<double> args;
    args.model = matrices.view();
    args.data = data;
    args.mean = {mean.data(), matrices.n};
    args.covariance = {covariance.data(), matrices.n * matrices.n};
    args.diffuse = diffuse<double>(*this, matrices);
    args.log_likelihood = {log_likelihood, 1};
    args.innovation = {innovation, matrices.m};
    args.status = &status;
    args.merge_step = &merge_step;
    args.diffuse_steps = &diffuse_steps;
    workspace.lend(args);
    cpu::kalman_filter(args);
  }
  KalmanFiltered<double> view(const LgssmMatrices& matrices) const {
    const std::int64_t n = matrices.n;
    return {{mean.data(), n},
            {covariance.data(), n * n},
            diffuse<const double>(*this, matrices),
            &merge_step};
  }
  template <class Value, class Self>
  static KalmanDiffuse<Value> diffuse(Self& self, const LgssmMatrices& matrices) {
    if (matrices.diffuse.empty()) return {};
    const std::int64_t n = matrices.n, nn = n * n;
    return {{self.given_mean.data(), n},
            {self.given_covariance.data(), nn},
            {self.factor.data(), nn},
            {self.delta.data(), n},
            {self.spread.data(), nn}};
  }
  /// \throws InvalidArgument where sequence i left states diffuse, Error where its covariance
  /// broke.
  void require_sound(std::int64_t i, std::int64_t length) const {
    if (status != 0) {
      throw Error(fmt::format("sequence {}: step {}: the covariance is not positive definite", i,
                              status - 1));
    }
    if (diffuse_steps == length) {
      throw InvalidArgument(fmt::format(
          "sequence {}: its {} steps do not determine the model's diffuse states", i, length));
    }
  }
};

/// Calls work(run, i) for each sequence, dealt to the pool's threads, each with a run of its own.
template <class Run, class Work>
void for_each_sequence(std::int64_t count, ThreadPool* pool,
                       const std::function<void(std::int64_t, std::int64_t)>& progress,
                       Work&& work) {
  const auto shares =
      static_cast<int>(std::min<std::int64_t>(count, pool != nullptr ? pool->count() : 1));
  if (shares == 0) return;
  run_shares(pool, shares, [&](int share) {
    Run run;
    for (std::int64_t i = share; i < count; i += shares) {
      work(run, i);
      if (share == 0 && progress) progress(std::min(i + shares, count), count);
    }
  });
}

}  // namespace seqvae::lgssm

// A set's sequences through the Kalman contracts: on the CPU one or a few at a time, dealt to the
// machine's threads, on a device all at once.
#pragma once
#include <algorithm>
#include <functional>
#include <memory>
#include <string>

#include "host/models/lgssm_packing.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/core/machine.hpp"
#include "seqvae/kernels/run.hpp"
#include "seqvae/models/lgssm.hpp"

namespace seqvae::lgssm {

/// A set with the mask that its NaNs make.
class Observations {
 public:
  Observations(const data::SequenceSet& set, const LgssmMatrices& matrices, const char* where)
      : set_(set), starts_(set.starts()), mask_(set.values.size()) {
    require(set.D == matrices.m, where, "columns of the data", set.D,
            std::to_string(matrices.m) + ", as the model observes");
    require(set.U == matrices.U, where, "controls of the data", set.U,
            std::to_string(matrices.U) + ", as the model has");
    for (std::size_t i = 0; i < mask_.size(); ++i) mask_[i] = std::isnan(set.values[i]) ? 0 : 1;
    complete_ = std::find(mask_.begin(), mask_.end(), 0.0) == mask_.end();
    // Without gaps all have the same covariances, but for diffuse states.
    if (!complete_ || !matrices.diffuse.empty() || set.lengths.empty()) return;
    const std::int64_t longest = *std::max_element(set.lengths.begin(), set.lengths.end());
    const std::int64_t numbers = std::max<std::int64_t>(longest, 1) * matrices.n * matrices.n;
    together_ = std::clamp<std::int64_t>(kCovariances / numbers, 1, 32);
  }
  const data::SequenceSet& set() const { return set_; }
  const std::vector<double>& mask() const { return mask_; }
  bool complete() const { return complete_; }  ///< nothing is missing
  /// As many as a CPU best takes at once.
  std::int64_t together() const { return together_; }
  std::int64_t count() const { return set_.count(); }
  std::int64_t begin(std::int64_t i) const { return set_.begin[static_cast<std::size_t>(i)]; }
  Member member(std::int64_t i) const {
    const auto place = static_cast<std::size_t>(i);
    return {i, starts_[place], set_.lengths[place], 0, set_.ids[place]};
  }
  /// 1 for each row of the set that counts, 0 for those before its sequence's begin: [R].
  std::vector<double> counted() const {
    std::vector<double> counted(static_cast<std::size_t>(set_.rows()), 1);
    for (std::size_t i = 0; i < set_.begin.size(); ++i) {
      std::fill_n(counted.begin() + starts_[i], set_.begin[i], 0.0);
    }
    return counted;
  }
  bool observed(std::int64_t row, std::int64_t j) const {
    return mask_[static_cast<std::size_t>(row * set_.D + j)] != 0;
  }

 private:
  static constexpr std::int64_t kCovariances = 1 << 23;  // numbers in those of a batch

  const data::SequenceSet& set_;
  std::vector<std::int64_t> starts_;
  std::vector<double> mask_;
  bool complete_ = true;
  std::int64_t together_ = 1;
};

/// All matrices of a model, or gradients of theirs, in an order that they share.
std::vector<std::vector<double>*> arrays(LgssmMatrices& x);

/// They, one after the other in a device's memory.
class MatrixBlock {
 public:
  MatrixBlock(const Queue& queue, const LgssmMatrices& x);
  KalmanModel<double> model() const;
  /// Of the model's shapes, null where it has no such array.
  KalmanGradient<double> gradient() const;
  void add_to(LgssmMatrices& sums) const;

 private:
  StepArray<double> array(std::size_t k) const;
  KalmanModel<double> shape_;
  std::vector<std::int64_t> starts_;  ///< of each array, then of their end
  Buffer<double> values_;
};

/// Runs contracts in memory of its own, which only grows.
class ContractRun {
 public:
  explicit ContractRun(const Queue& queue) : queue_(&queue), workspace_(queue), status_(queue) {}
  const Queue& queue() const { return *queue_; }

  template <class Args>
  void run(Args& args) {
    args.workspace_bytes = kalman_workspace_bytes(args, *queue_);
    args.workspace = room(workspace_, static_cast<std::int64_t>(args.workspace_bytes));
    seqvae::run(args, *queue_);
  }
  /// One that says of each of `count` sequences whether its matrices were sound. \throws Error with
  /// `message` where they were not
  template <class Args>
  void run_sound(Args& args, std::int64_t count, const char* message) {
    args.status = room(status_, count);
    run(args);
    for (const std::int32_t status : values(status_, count)) {
      if (status != 0) throw Error(message);
    }
  }
  /// The first of a buffer's.
  template <class T>
  std::vector<T> values(const Buffer<T>& buffer, std::int64_t count) const {
    std::vector<T> values(static_cast<std::size_t>(count));
    queue_->copy(values.data(), buffer.data(), values.size() * sizeof(T));
    queue_->synchronize();
    return values;
  }

 private:
  const Queue* queue_;
  Buffer<std::byte> workspace_;
  Buffer<std::int32_t> status_;
};

/// The filter on some sequences of a set, its moments kept for the reverse passes.
class FilterRun : public ContractRun {
 public:
  FilterRun(const Queue& queue, const LgssmMatrices& matrices, const Observations& observations);

  /// Filters these sequences, each to its member's length.
  void filter(std::vector<Member> members, bool innovations = false);
  /// Whether all their covariances are positive definite.
  bool is_sound() const;
  /// \throws InvalidArgument where a sequence left states diffuse, Error where its covariance
  /// broke.
  void require_sound() const;

  // Per row, as the packing has them.
  Packing packing;
  Buffer<double> log_likelihood, innovation, mean, covariance;
  Buffer<double> smoothed_mean, smoothed_covariance, lag_one;

  /// After filter().
  void smooth(bool with_lag_one = false);

  KalmanModel<double> model() const { return block_.model(); }
  KalmanData<double> data() const;
  KalmanFiltered<double> filtered() const;

 private:
  bool diffuse() const { return !matrices_.diffuse.empty(); }

  const LgssmMatrices& matrices_;
  const Observations& observations_;
  MatrixBlock block_;
  Buffer<double> y_, mask_, u_;
  Buffer<double> given_mean_, given_covariance_, factor_, delta_, spread_;  // while diffuse
  Buffer<std::int32_t> status_, merge_step_, diffuse_steps_;
};

/// The machine's queue; without a machine the CPU's.
const Queue& queue_of(const Machine* machine);

/// Calls work(run, members) for each batch of `count` members, on the CPU of `together`, every
/// share with a run of its own, made by make(). Returns the runs in the order of the shares.
template <class Make, class Work>
auto for_each_batch(Machine* machine, std::int64_t count, std::int64_t together,
                    const std::function<Member(std::int64_t)>& member,
                    const std::function<void(std::int64_t, std::int64_t)>& progress, Make&& make,
                    Work&& work) {
  const bool at_once = !queue_of(machine).device().is_cpu();
  const std::int64_t threads = machine != nullptr && !at_once ? machine->pool.count() : 1;
  const std::int64_t batch = at_once ? std::max<std::int64_t>(count, 1) : together;
  const std::int64_t batches = (count + batch - 1) / batch;
  std::vector<decltype(make())> runs(static_cast<std::size_t>(std::min(batches, threads)));
  const auto shares = static_cast<std::int64_t>(runs.size());
  run_shares(machine != nullptr ? &machine->pool : nullptr, static_cast<int>(shares),
             [&](int share) {
               auto& run = runs[static_cast<std::size_t>(share)];
               run = make();
               for (std::int64_t i = share; i < batches; i += shares) {
                 std::vector<Member> members;
                 for (std::int64_t k = i * batch; k < std::min(count, (i + 1) * batch); ++k) {
                   members.push_back(member(k));
                 }
                 work(*run, std::move(members));
                 if (share == 0 && progress) {
                   progress(std::min(count, (i + shares) * batch), count);
                 }
               }
             });
  return runs;
}

/// The same of a set's sequences, with runs of type Run.
template <class Run, class Work>
auto for_each_batch(Machine* machine, const LgssmMatrices& matrices,
                    const Observations& observations,
                    const std::function<void(std::int64_t, std::int64_t)>& progress, Work&& work) {
  return for_each_batch(
      machine, observations.count(), observations.together(),
      [&](std::int64_t i) { return observations.member(i); }, progress,
      [&] { return std::make_unique<Run>(queue_of(machine), matrices, observations); }, work);
}

}  // namespace seqvae::lgssm

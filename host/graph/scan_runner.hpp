// What stands behind an Executor: one way of running a scan.
#pragma once
#include <numeric>
#include <string>
#include <vector>

#include "host/graph/instructions.hpp"
#include "host/graph/sequences.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/graph/executor.hpp"

namespace seqvae {

template <class Real>
class ScanRunner {
 public:
  ScanRunner(Scan scan, const ParameterTable& parameters, std::int64_t particles)
      : scan_(std::move(scan)), parameters_(parameters), K_(particles) {
    require(K_ >= 1, "Executor", "particles", K_, ">= 1");
  }
  virtual ~ScanRunner() = default;

  virtual void set_parameters(const Real* values) = 0;
  void run(const ScanBatch<Real>& batch, Real* gradients) {
    if (values_ == nullptr) throw InvalidArgument("Executor: run before set_parameters");
    if (!scan_.graph.sinks.empty()) require_pointer(gradients, "Executor", "gradients");
    check(batch);
    lengths_.assign(batch.lengths.begin(), batch.lengths.end());
    run_checked(batch, gradients);
  }
  /// Of the last run, in the batch's order, to the host.
  virtual void copy_output(NodeId id, Real* out) const = 0;
  virtual std::size_t arena_bytes() const = 0;
  virtual std::int64_t plan_count() const = 0;
  virtual std::int64_t chain_count() const { return 0; }  ///< loops of the last run that are chains

  const Scan& scan() const { return scan_; }
  std::int64_t particles() const { return K_; }
  std::int64_t particles(const Node& node) const { return node.kind.particles ? K_ : 1; }
  std::int64_t rows_of(const Node& node) const {
    if (node.kind.base == RowKind::Base::shared) return 1;
    if (node.kind.base == RowKind::Base::sequence)
      return static_cast<std::int64_t>(lengths_.size()) * particles(node);
    return std::accumulate(lengths_.begin(), lengths_.end(), std::int64_t{0}) * particles(node);
  }

 protected:
  virtual void run_checked(const ScanBatch<Real>& batch, Real* gradients) = 0;

  Scan scan_;
  const ParameterTable& parameters_;
  std::int64_t K_;
  const Real* values_ = nullptr;
  std::vector<std::int32_t> lengths_;  // of the last batch
};

/// Sequences dealt to the threads of the CPU.
template <class Real>
std::unique_ptr<ScanRunner<Real>> make_sharded_runner(Scan scan, const ParameterTable& parameters,
                                                      ThreadPool& pool, std::int64_t particles);

/// How a queue's device runs loops: one chain of contracts each where that is possible, or step by
/// step.
enum class LoopForm { chains, steps };

/// The whole batch in the order of a queue, at sizes that do not hang on its lengths.
template <class Real>
std::unique_ptr<ScanRunner<Real>> make_queued_runner(Scan scan, const ParameterTable& parameters,
                                                     const Queue& queue, std::int64_t particles,
                                                     LoopForm form);

}  // namespace seqvae

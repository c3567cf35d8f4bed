/// \file  Runs a scan: on the threads of the CPU, or in the order of a device's queue.
///
/// Threads: the sequences of a batch are sorted by length, longest first, and dealt in turn to
/// shards, one a thread. A shard packs its rows (kernels/rows.hpp), runs every region of the
/// schedule over them, and needs no other shard: there is no barrier inside a step. Gradients of
/// the shards are added in a fixed order. All values of a shard stand in one arena, planned by
/// liveness for a capacity of rows and sequences; a batch that fits allocates nothing.
///
/// A queue: the batch is one such share, at sizes of its capacity; from the second batch of a
/// capacity on, its work is a recording (core/queue.hpp) that is replayed. Parameters and gradients
/// lie on the queue's device; a batch and outputs are the host's.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "seqvae/core/machine.hpp"
#include "seqvae/graph/scan.hpp"

namespace seqvae {

/// Data bound to an input of the scan. Step inputs stand sequence after sequence: row t of
/// sequence b at data + (first_row[b] + t) * D. Sequence inputs: [B][D], with particles [B * K][D].
/// Shared inputs: [D].
template <class Real>
struct Binding {
  std::string name;
  const Real* data = nullptr;
};

/// One batch. Pointers are read during run() only.
template <class Real>
struct ScanBatch {
  std::span<const std::int32_t> lengths;       ///< [B], any order; 0 allowed
  std::span<const std::int64_t> first_row;     ///< [B]  of each sequence in the step inputs
  std::span<const std::uint32_t> sequence_id;  ///< [B]  keys the noise
  std::span<const std::int32_t> origin;        ///< [B]  time of the first step; empty: zeros
  std::vector<Binding<Real>> bindings;
  /// Noise given in place of draws, by latent's name: rows [R][K] as first_row counts them.
  std::vector<Binding<Real>> noise;
  std::uint64_t seed = 0;
  std::uint64_t step = 0;  ///< keys the noise: training counts from 1, all else draws at 0
};

template <class Real>
class ScanRunner;

template <class Real>
class Executor {
 public:
  /// Pool or queue, and the table, must outlive the executor.
  /// \throws InvalidArgument where the graph cannot run there. In the order of a queue a gradient
  /// is taken of weighted scans alone.
  Executor(Scan scan, const ParameterTable& parameters, ThreadPool& pool,
           std::int64_t particles = 1);
  Executor(Scan scan, const ParameterTable& parameters, const Queue& queue,
           std::int64_t particles = 1);
  ~Executor();
  Executor(Executor&&) noexcept;

  /// Packs the weights for products. To be called when values have changed, before run(); they must
  /// stay until the next call.
  void set_parameters(const Real* values);

  /// Runs the scan; gradients [parameters.size()] are overwritten where the scan has any.
  /// \throws InvalidArgument naming an input that is not bound or does not fit.
  void run(const ScanBatch<Real>& batch, Real* gradients = nullptr);

  bool has_output(const std::string& name) const;
  std::int64_t width(const std::string& output) const;
  /// Rows of an output of the last run: a sequence output in the batch's order, times particles;
  /// a step output sequence after sequence in the batch's order, [sum of lengths][K or 1][D].
  std::vector<Real> output(const std::string& name) const;
  /// The same into memory of the caller, of just that size.
  void copy_output(const std::string& name, std::span<Real> out) const;
  std::int64_t output_rows(const std::string& name) const;

  const Scan& scan() const;
  std::int64_t particles() const;
  std::size_t arena_bytes() const;  ///< of all shards, as last planned
  std::int64_t plan_count() const;  ///< capacities planned so far

 private:
  std::unique_ptr<ScanRunner<Real>> runner_;
};

/// How the queue's device would run each loop of a scan, a line each: as one kernel for all steps,
/// or step by step and why. For a reader.
std::string describe_loops(const Scan& scan, const ParameterTable& parameters, const Queue& queue,
                           std::int64_t particles = 1);

/// On the machine's device.
template <class Real>
Executor<Real> make_executor(Scan scan, const ParameterTable& parameters, Machine& machine,
                             std::int64_t particles = 1) {
  if (!machine.queue.device().is_cpu())
    return {std::move(scan), parameters, machine.queue, particles};
  return {std::move(scan), parameters, machine.pool, particles};
}

}  // namespace seqvae

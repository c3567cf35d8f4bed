/// \file  A set of sequences as the inputs of a model's scans.
#pragma once
#include <span>
#include <vector>

#include "seqvae/data/sequence_set.hpp"
#include "seqvae/graph/executor.hpp"
#include "seqvae/models/model.hpp"

namespace seqvae {

/// \throws InvalidArgument where a value is one that the emission gives no probability.
void require_support(const data::SequenceSet& set, Emission::Kind emission);

/// The set's values as pairs (m x, 1 - m) in Real, made once. Batches name their sequences.
template <class Real>
class ScanData {
 public:
  /// \throws InvalidArgument where the set does not have the shape's columns, or not its support.
  ScanData(const data::SequenceSet& set, const DataShape& shape);

  /// What a scan of the set must be traced with: pairs where values are missing or may be hidden,
  /// weights where some rows do not count.
  ScanOptions scan_options() const {
    ScanOptions options;
    options.trace.missing = missing_, options.weighted = weighted_;
    return options;
  }
  std::int64_t count() const { return static_cast<std::int64_t>(lengths_.size()); }
  std::int32_t length(std::int64_t sequence) const {
    return lengths_[static_cast<std::size_t>(sequence)];
  }
  /// Rows that count, of these sequences.
  std::int64_t steps(std::span<const std::int32_t> members) const;

  /// Hides each value of these sequences with this probability, keyed by (seed, step, sequence,
  /// time, component): until the next call, as if it were missing.
  void hide(std::span<const std::int32_t> members, double probability, std::uint64_t seed,
            std::uint64_t step);

  /// Points `batch` at these sequences: lengths, rows, ids, and the inputs that hold data. The
  /// batch's other bindings are the caller's. Valid until the next call. `scan`: the options of the
  /// scan that is to read it. \throws InvalidArgument where it would take gaps for values, or count
  /// rows that do not.
  void bind(std::span<const std::int32_t> members, const ScanOptions& scan, ScanBatch<Real>& batch);

 private:
  std::int64_t D_ = 0, U_ = 0;
  bool weighted_ = false, missing_ = false;
  std::vector<std::int32_t> lengths_, begin_;
  std::vector<std::int64_t> first_row_;
  std::vector<std::uint32_t> ids_;
  std::vector<Real> x_, mask_, missing_x_, controls_, weight_;
  std::vector<Real> whole_x_, whole_mask_;  // before hiding
  std::vector<std::int32_t> batch_lengths_, hidden_;
  std::vector<std::int64_t> batch_first_row_;
  std::vector<std::uint32_t> batch_ids_;
};

}  // namespace seqvae

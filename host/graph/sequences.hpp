// The sequences of a batch, or of a share of it, in the order in which their rows are packed.
#pragma once
#include <cstdint>
#include <vector>

#include "host/graph/lowering.hpp"
#include "seqvae/graph/executor.hpp"

namespace seqvae {

/// \throws InvalidArgument where a batch's arrays do not fit each other
template <class Real>
void check(const ScanBatch<Real>& batch);

/// Places in the batch, longest first, ties in the batch's order.
void sort_by_length(std::span<const std::int32_t> lengths, std::vector<std::int32_t>& order);

/// \throws InvalidArgument naming an input that is not bound
template <class Real>
const Real* bound(const ScanBatch<Real>& batch, const std::string& name);

/// Members are places in the batch, longest first. Memory only grows.
struct Sequences {
  std::vector<std::int32_t> members;
  std::int64_t T = 0;
  std::vector<std::int32_t> lengths, origins;  ///< [B]
  std::vector<std::uint32_t> sequence_id;      ///< [B]
  std::vector<std::int64_t> first_row;         ///< [B]  in the batch's step inputs
  std::vector<std::int32_t> offsets;           ///< [T + 1]

  std::int64_t B() const { return static_cast<std::int64_t>(members.size()); }
  std::int64_t rows() const { return offsets.back(); }
  std::int64_t active(std::int64_t t) const {
    return offsets[static_cast<std::size_t>(t) + 1] - offsets[static_cast<std::size_t>(t)];
  }

  /// Reads the batch's lengths and what goes with them. \throws InvalidArgument
  template <class Real>
  void lay_out(const ScanBatch<Real>& batch);

  /// Rows that stand sequence after sequence, of D columns, to those of (t, b) at
  /// first(t) + b; those of a value a sequence to row b.
  template <class Real, class First>
  void bring_steps(const Real* from, std::int64_t D, First first, Real* to) const {
    for (std::int64_t t = 0; t < T; ++t) {
      Real* out = to + first(t) * D;
      for (std::int64_t b = 0; b < active(t); ++b) {
        std::copy_n(from + (first_row[static_cast<std::size_t>(b)] + t) * D, D, out + b * D);
      }
    }
  }
  template <class Real>
  void bring_sequences(const Real* from, std::int64_t D, Real* to) const {
    for (std::int64_t b = 0; b < B(); ++b) {
      std::copy_n(from + members[static_cast<std::size_t>(b)] * D, D, to + b * D);
    }
  }
};

}  // namespace seqvae

/// \file  Which sequences make a batch, and their rows in packed order.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "seqvae/core/random.hpp"
#include "seqvae/data/sequence_set.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae::data {

/// Sequences of a batch as the kernels take them: packed (kernels/rows.hpp), longest first, ties
/// in the set's order. Vectors keep their memory from batch to batch.
template <class Real>
struct Batch {
  std::int64_t T = 0, B = 0, D = 0, U = 0;
  std::vector<std::int32_t> offsets;   ///< [T + 1]
  std::vector<std::int32_t> members;   ///< [B]  index in the set
  std::vector<std::int32_t> lengths;   ///< [B]  never ascending
  std::vector<std::int32_t> begin;     ///< [B]  first step that counts
  std::vector<std::uint32_t> ids;      ///< [B]
  std::vector<Real> x;                 ///< [R][D]  0 where missing
  std::vector<Real> mask;              ///< [R][D]  1 observed, 0 missing
  std::vector<Real> counted;           ///< [R]  1 where t >= begin, else 0
  std::vector<Real> controls;          ///< [R][U]
  std::vector<Real> times;             ///< [R], or empty
  std::vector<std::int64_t> set_rows;  ///< [R]  row of the set: the way back to the file's order
  bool complete = true;                ///< the mask is all ones

  std::int64_t rows() const { return offsets.empty() ? 0 : offsets.back(); }
  RowLayout layout() const { return {T, B, 1, nullptr, offsets.data(), 0, nullptr}; }
};

/// Fills `batch` with these members of the set, in whatever order they are given.
/// \throws InvalidArgument where an index is out of range.
template <class Real>
void pack(const SequenceSet& set, std::span<const std::int32_t> members, Batch<Real>& batch);

/// Hides each observed value with this probability, as if it were missing: component d of step t
/// where uniform(word) < probability, the word keyed as every draw is (site, step, sequence id).
template <class Real>
void hide(Batch<Real>& batch, double probability, NoiseKey noise, std::uint64_t step);

/// The batches of training. In epoch e the sequences are shuffled by Philox keyed with seed and e,
/// taken in pools of 16 batches, each pool sorted by length and cut, and all batches shuffled: so
/// lengths within a batch are alike. A pure function of (seed, epoch, position): resume is exact.
class Batches {
 public:
  Batches(std::vector<std::int32_t> lengths, std::int64_t batch_size, std::uint64_t seed);
  std::int64_t per_epoch() const;
  /// Members of batch `position` of `epoch` (both from 0). Valid until the next call.
  std::span<const std::int32_t> at(std::int64_t epoch, std::int64_t position);

 private:
  void shuffle(std::int64_t epoch);
  std::vector<std::int32_t> lengths_, order_;  // order_: the epoch's sequences, batch by batch
  std::vector<std::int64_t> first_;            // [per_epoch + 1] in order_
  std::int64_t batch_size_, epoch_ = -1;
  std::uint64_t seed_;
};

/// The batches of evaluation: all sequences, longest first, ties in the set's order, cut by size.
std::vector<std::vector<std::int32_t>> batches_by_length(std::span<const std::int32_t> lengths,
                                                         std::int64_t batch_size);

}  // namespace seqvae::data

/// \file  Which sequences make a batch.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace seqvae::data {

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

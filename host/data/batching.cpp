#include "seqvae/data/batching.hpp"

#include <algorithm>
#include <numeric>

#include "seqvae/core/error.hpp"
#include "seqvae/core/random.hpp"

namespace seqvae::data {
namespace {

constexpr std::int64_t kPool = 16;  // batches whose sequences are sorted by length together

/// A permutation of 0 .. count - 1 by the order of Philox words of counter (i, stream, 0, what).
template <class Index>
std::vector<Index> permutation(std::int64_t count, std::uint64_t seed, std::int64_t epoch,
                               std::uint32_t what) {
  std::vector<std::pair<std::uint64_t, Index>> keyed;
  keyed.reserve(static_cast<std::size_t>(count));
  const auto e = static_cast<std::uint64_t>(epoch);
  for (std::int64_t i = 0; i < count; ++i) {
    const Words word = philox({{static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(e),
                                static_cast<std::uint32_t>(e >> 32), what}},
                              seed);
    keyed.emplace_back(std::uint64_t{word.w[0]} << 32 | word.w[1], static_cast<Index>(i));
  }
  std::sort(keyed.begin(), keyed.end());
  std::vector<Index> order;
  order.reserve(keyed.size());
  for (const auto& [key, index] : keyed) order.push_back(index);
  return order;
}

/// Longest first, ties by place in the set.
struct LongerFirst {
  std::span<const std::int32_t> lengths;
  bool operator()(std::int32_t a, std::int32_t b) const {
    const std::int32_t first = lengths[static_cast<std::size_t>(a)];
    const std::int32_t second = lengths[static_cast<std::size_t>(b)];
    return first != second ? first > second : a < b;
  }
};

}  // namespace

Batches::Batches(std::vector<std::int32_t> lengths, std::int64_t batch_size, std::uint64_t seed)
    : lengths_(std::move(lengths)), batch_size_(batch_size), seed_(seed) {
  require(batch_size >= 1, "Batches", "batch_size", batch_size, ">= 1");
  require(!lengths_.empty(), "Batches", "lengths", lengths_.size(), "at least one sequence");
}

std::int64_t Batches::per_epoch() const {
  const auto count = static_cast<std::int64_t>(lengths_.size());
  return count / batch_size_ + (count % batch_size_ != 0 ? 1 : 0);
}

std::span<const std::int32_t> Batches::at(std::int64_t epoch, std::int64_t position) {
  require(epoch >= 0, "Batches::at", "epoch", epoch, ">= 0");
  require(position >= 0 && position < per_epoch(), "Batches::at", "position", position,
          "below per_epoch()");
  if (epoch != epoch_) shuffle(epoch);
  const auto p = static_cast<std::size_t>(position);
  return std::span(order_).subspan(static_cast<std::size_t>(first_[p]),
                                   static_cast<std::size_t>(first_[p + 1] - first_[p]));
}

void Batches::shuffle(std::int64_t epoch) {
  const auto count = static_cast<std::int64_t>(lengths_.size());
  std::vector<std::int32_t> sequences = permutation<std::int32_t>(count, seed_, epoch, 0);
  const std::int64_t pool = batch_size_ > count / kPool ? count : kPool * batch_size_;
  for (std::int64_t start = 0; start < count; start += pool) {
    std::sort(sequences.begin() + start, sequences.begin() + std::min(start + pool, count),
              LongerFirst{lengths_});
  }
  order_.clear();
  first_.assign(1, 0);
  for (const std::int64_t batch : permutation<std::int64_t>(per_epoch(), seed_, epoch, 1)) {
    const std::int64_t start = batch * batch_size_;
    order_.insert(order_.end(), sequences.begin() + start,
                  sequences.begin() + std::min(start + batch_size_, count));
    first_.push_back(static_cast<std::int64_t>(order_.size()));
  }
  epoch_ = epoch;
}

std::vector<std::vector<std::int32_t>> batches_by_length(std::span<const std::int32_t> lengths,
                                                         std::int64_t batch_size) {
  require(batch_size >= 1, "batches_by_length", "batch_size", batch_size, ">= 1");
  std::vector<std::int32_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), LongerFirst{lengths});
  std::vector<std::vector<std::int32_t>> batches;
  const auto count = static_cast<std::int64_t>(order.size());
  for (std::int64_t start = 0; start < count; start += std::min(batch_size, count - start)) {
    batches.emplace_back(order.begin() + start,
                         order.begin() + start + std::min(batch_size, count - start));
  }
  return batches;
}

}  // namespace seqvae::data

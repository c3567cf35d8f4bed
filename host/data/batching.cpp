#include "seqvae/data/batching.hpp"

#include <algorithm>
#include <numeric>

#include "seqvae/core/error.hpp"

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

template <class Real>
void pack(const SequenceSet& set, std::span<const std::int32_t> members, Batch<Real>& batch) {
  for (const std::int32_t member : members) {
    require(member >= 0 && member < set.count(), "pack", "member", member,
            "an index of the sequence set");
  }
  const std::vector<std::int64_t> starts = set.starts();
  batch.B = static_cast<std::int64_t>(members.size());
  batch.D = set.D;
  batch.U = set.U;
  batch.members.assign(members.begin(), members.end());
  std::sort(batch.members.begin(), batch.members.end(), LongerFirst{set.lengths});
  batch.lengths.clear(), batch.begin.clear(), batch.ids.clear();
  for (const std::int32_t member : batch.members) {
    const auto i = static_cast<std::size_t>(member);
    batch.lengths.push_back(set.lengths[i]);
    batch.begin.push_back(set.begin[i]);
    batch.ids.push_back(set.ids[i]);
  }
  batch.T = batch.B == 0 ? 0 : batch.lengths.front();

  batch.offsets.assign(1, 0);
  batch.set_rows.clear(), batch.counted.clear(), batch.times.clear();
  std::size_t active = batch.members.size();
  for (std::int64_t t = 0; t < batch.T; ++t) {
    while (batch.lengths[active - 1] <= t) --active;
    for (std::size_t b = 0; b < active; ++b) {
      batch.set_rows.push_back(starts[static_cast<std::size_t>(batch.members[b])] + t);
      batch.counted.push_back(t >= batch.begin[b] ? Real(1) : Real(0));
    }
    require(static_cast<std::int64_t>(batch.set_rows.size()) <=
                std::numeric_limits<std::int32_t>::max(),
            "pack", "rows", batch.set_rows.size(), "<= 2^31 - 1");
    batch.offsets.push_back(static_cast<std::int32_t>(batch.set_rows.size()));
  }

  const auto R = batch.set_rows.size(), D = static_cast<std::size_t>(set.D),
             U = static_cast<std::size_t>(set.U);
  batch.x.resize(R * D), batch.mask.resize(R * D), batch.controls.resize(R * U);
  batch.complete = true;
  for (std::size_t r = 0; r < R; ++r) {
    const auto row = static_cast<std::size_t>(batch.set_rows[r]);
    for (std::size_t d = 0; d < D; ++d) {
      const double value = set.values[row * D + d];
      const bool missing = std::isnan(value);
      batch.x[r * D + d] = missing ? Real(0) : static_cast<Real>(value);
      batch.mask[r * D + d] = missing ? Real(0) : Real(1);
      if (missing) batch.complete = false;
    }
    for (std::size_t u = 0; u < U; ++u) {
      batch.controls[r * U + u] = static_cast<Real>(set.controls[row * U + u]);
    }
    if (!set.times.empty()) batch.times.push_back(static_cast<Real>(set.times[row]));
  }
}

template <class Real>
void hide(Batch<Real>& batch, double probability, NoiseKey noise, std::uint64_t step) {
  require(probability >= 0 && probability <= 1, "hide", "probability", probability, "in [0, 1]");
  if (probability == 0) return;
  for (std::int64_t t = 0; t < batch.T; ++t) {
    const std::int64_t first = batch.offsets[static_cast<std::size_t>(t)];
    const std::int64_t last = batch.offsets[static_cast<std::size_t>(t + 1)];
    for (std::int64_t r = first; r < last; ++r) {
      const std::uint32_t id = batch.ids[static_cast<std::size_t>(r - first)];
      Words words{};
      for (std::int64_t d = 0; d < batch.D; ++d) {
        if (d % 4 == 0) {
          words = philox(noise_counter(noise.site, step, id, 0, t, batch.D, d / 4), noise.seed);
        }
        if (!(uniform(words.w[d % 4]) < probability)) continue;
        const auto i = static_cast<std::size_t>(r * batch.D + d);
        batch.x[i] = Real(0);
        batch.mask[i] = Real(0);
        batch.complete = false;
      }
    }
  }
}

template void pack(const SequenceSet&, std::span<const std::int32_t>, Batch<float>&);
template void pack(const SequenceSet&, std::span<const std::int32_t>, Batch<double>&);
template void hide(Batch<float>&, double, NoiseKey, std::uint64_t);
template void hide(Batch<double>&, double, NoiseKey, std::uint64_t);

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

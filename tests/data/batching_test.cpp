// The order of an epoch, and what is evaluated together.
#include "seqvae/data/batching.hpp"

#include <gmock/gmock.h>

#include <numeric>
#include <set>

#include "seqvae/core/error.hpp"

namespace seqvae::test {
namespace {

using data::Batches;
using testing::ElementsAre;

std::vector<std::int32_t> some_lengths(int count) {
  std::vector<std::int32_t> lengths;
  for (int i = 0; i < count; ++i) lengths.push_back(1 + (i * 37) % 101);
  return lengths;
}

TEST(Batches, VisitEachSequenceOnceAnEpoch) {
  for (const std::int64_t size : {1, 7, 20, 1000}) {
    Batches batches(some_lengths(403), size, 1);
    std::multiset<std::int32_t> seen;
    std::size_t short_batches = 0;
    for (std::int64_t p = 0; p < batches.per_epoch(); ++p) {
      const auto batch = batches.at(0, p);
      short_batches += batch.size() < static_cast<std::size_t>(size) ? 1 : 0;
      seen.insert(batch.begin(), batch.end());
    }
    EXPECT_EQ(batches.per_epoch(), (403 + size - 1) / size);
    EXPECT_EQ(seen.size(), 403u);
    EXPECT_EQ(std::set<std::int32_t>(seen.begin(), seen.end()).size(), 403u);
    EXPECT_LE(short_batches, 1u);
  }
}

TEST(Batches, AreAFunctionOfSeedEpochAndPosition) {
  const auto copy = [](std::span<const std::int32_t> s) { return std::vector(s.begin(), s.end()); };
  Batches first(some_lengths(100), 8, 5), second(some_lengths(100), 8, 5),
      other(some_lengths(100), 8, 6);
  for (std::int64_t p = 0; p < 13; ++p) first.at(0, p), first.at(1, p);
  EXPECT_EQ(copy(first.at(7, 3)), copy(second.at(7, 3)));
  EXPECT_EQ(copy(first.at(0, 0)), copy(second.at(0, 0)));
  EXPECT_NE(copy(first.at(7, 3)), copy(first.at(8, 3)));
  EXPECT_NE(copy(first.at(7, 3)), copy(other.at(7, 3)));
}

TEST(Batches, HoldLengthsThatAreAlike) {
  const std::vector<std::int32_t> lengths = some_lengths(2000);
  Batches batches(lengths, 20, 1);
  std::int64_t padded = 0;
  for (std::int64_t p = 0; p < batches.per_epoch(); ++p) {
    std::int32_t most = 0;
    for (const auto i : batches.at(0, p)) most = std::max(most, lengths[std::size_t(i)]);
    padded += 20 * most;
  }
  const std::int64_t rows = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  // Without buckets the longest of 20 lengths spread over 1 .. 101 is about 96: 1.9 times.
  EXPECT_LT(static_cast<double>(padded), 1.1 * static_cast<double>(rows));
}

TEST(BatchesByLength, CoverAllLongestFirst) {
  const std::vector<std::int32_t> lengths = {1, 3, 2, 3, 2};
  EXPECT_THAT(data::batches_by_length(lengths, 2),
              ElementsAre(ElementsAre(1, 3), ElementsAre(2, 4), ElementsAre(0)));
  EXPECT_THAT(
      [&] { data::batches_by_length(lengths, 0); },
      testing::ThrowsMessage<InvalidArgument>("batches_by_length: batch_size = 0, must be >= 1"));
}

TEST(Batches, RefuseWhatMakesNoBatch) {
  EXPECT_THAT([] { Batches({1}, 0, 1); },
              testing::ThrowsMessage<InvalidArgument>("Batches: batch_size = 0, must be >= 1"));
  EXPECT_THAT([] { Batches({}, 1, 1); },
              testing::ThrowsMessage<InvalidArgument>(
                  "Batches: lengths = 0, must be at least one sequence"));
  EXPECT_THAT([] { Batches({1}, 1, 1).at(0, 1); },
              testing::ThrowsMessage<InvalidArgument>(
                  "Batches::at: position = 1, must be below per_epoch()"));
}

}  // namespace
}  // namespace seqvae::test

// Packed batches, hidden values, and the order of an epoch.
#include "seqvae/data/batching.hpp"

#include <gmock/gmock.h>

#include <numeric>
#include <set>

#include "seqvae/core/error.hpp"

namespace seqvae::test {
namespace {

using data::Batch;
using data::Batches;
using data::SequenceSet;
using testing::ElementsAre;

/// Lengths 1, 3, 2, 3; the value of step t of sequence i is 10 i + t, its control -that.
SequenceSet four_sequences() {
  SequenceSet set;
  set.D = 1, set.U = 1;
  set.lengths = {1, 3, 2, 3};
  set.begin = {0, 0, 1, 0};
  set.ids = {5, 6, 7, 8};
  for (int i = 0; i < 4; ++i) {
    for (int t = 0; t < set.lengths[std::size_t(i)]; ++t) {
      set.values.push_back(10 * i + t);
      set.controls.push_back(-10 * i - t);
      set.times.push_back(t + 0.5);
    }
  }
  return set;
}

TEST(Pack, SortsLongestFirstWithTiesInFileOrder) {
  SequenceSet set = four_sequences();
  set.values[5] = NAN;  // sequence 2, step 1
  Batch<double> batch;
  const std::vector<std::int32_t> members = {3, 2, 0, 1};
  data::pack(set, members, batch);
  EXPECT_EQ(batch.T, 3);
  EXPECT_EQ(batch.B, 4);
  EXPECT_THAT(batch.members, ElementsAre(1, 3, 2, 0));
  EXPECT_THAT(batch.lengths, ElementsAre(3, 3, 2, 1));
  EXPECT_THAT(batch.ids, ElementsAre(6, 8, 7, 5));
  EXPECT_THAT(batch.begin, ElementsAre(0, 0, 1, 0));
  EXPECT_THAT(batch.offsets, ElementsAre(0, 4, 7, 9));
  EXPECT_THAT(batch.x, ElementsAre(10, 30, 20, 0, 11, 31, 0, 12, 32));
  EXPECT_THAT(batch.mask, ElementsAre(1, 1, 1, 1, 1, 1, 0, 1, 1));
  EXPECT_THAT(batch.counted, ElementsAre(1, 1, 0, 1, 1, 1, 1, 1, 1));
  EXPECT_THAT(batch.controls, ElementsAre(-10, -30, -20, 0, -11, -31, -21, -12, -32));
  EXPECT_THAT(batch.times, ElementsAre(0.5, 0.5, 0.5, 0.5, 1.5, 1.5, 1.5, 2.5, 2.5));
  EXPECT_THAT(batch.set_rows, ElementsAre(1, 6, 4, 0, 2, 7, 5, 3, 8));
  EXPECT_FALSE(batch.complete);
  EXPECT_EQ(batch.layout().rows(), 9);
  const std::vector<std::int32_t> one = {0};
  data::pack(set, one, batch);  // the same vectors again
  EXPECT_THAT(batch.x, ElementsAre(0));
  EXPECT_THAT(batch.offsets, ElementsAre(0, 1));
  EXPECT_TRUE(batch.complete);
  data::pack(set, {}, batch);
  EXPECT_EQ(batch.rows(), 0);
}

TEST(Pack, RefusesAnIndexOutOfRange) {
  Batch<float> batch;
  const std::vector<std::int32_t> members = {4};
  EXPECT_THAT([&] { data::pack(four_sequences(), members, batch); },
              testing::ThrowsMessage<InvalidArgument>(
                  "pack: member = 4, must be an index of the sequence set"));
}

SequenceSet wide(std::int32_t N, std::int32_t T, std::int64_t D) {
  SequenceSet set;
  set.D = D;
  for (std::int32_t i = 0; i < N; ++i) {
    set.lengths.push_back(T), set.begin.push_back(0);
    set.ids.push_back(static_cast<std::uint32_t>(i));
  }
  set.values.assign(static_cast<std::size_t>(N * T * D), 1.0);
  return set;
}

TEST(Hide, HidesAboutThatShareAndNothingElse) {
  const SequenceSet set = wide(50, 20, 7);
  std::vector<std::int32_t> members(50);
  std::iota(members.begin(), members.end(), 0);
  Batch<float> batch;
  data::pack(set, members, batch);
  data::hide(batch, 0.3, {1, 2}, 3);
  const double seen = std::accumulate(batch.mask.begin(), batch.mask.end(), 0.0);
  const double share = 1 - seen / 7000;
  EXPECT_NEAR(share, 0.3, 4 * std::sqrt(0.3 * 0.7 / 7000));  // four standard errors
  EXPECT_EQ(batch.x, batch.mask);
  EXPECT_FALSE(batch.complete);
  data::pack(set, members, batch);
  data::hide(batch, 0, {1, 2}, 3);
  EXPECT_TRUE(batch.complete);
  data::hide(batch, 1, {1, 2}, 3);
  EXPECT_THAT(batch.x, testing::Each(0));
  EXPECT_THAT(
      [&] {
        data::hide(batch, NAN, {1, 2}, 3);
      },
      testing::ThrowsMessage<InvalidArgument>("hide: probability = nan, must be in [0, 1]"));
}

TEST(Hide, FollowsTheSequenceNotItsPlaceInTheBatch) {
  const SequenceSet set = wide(8, 5, 6);
  Batch<double> alone, among;
  const std::vector<std::int32_t> one = {3}, all = {7, 6, 5, 4, 3, 2, 1, 0};
  data::pack(set, one, alone);
  data::pack(set, all, among);
  data::hide(alone, 0.5, {9, 1}, 4);
  data::hide(among, 0.5, {9, 1}, 4);
  for (std::size_t t = 0; t < 5; ++t) {
    for (std::size_t d = 0; d < 6; ++d) {
      EXPECT_EQ(alone.x[t * 6 + d], among.x[(t * 8 + 3) * 6 + d]);
    }
  }
  Batch<double> later;
  data::pack(set, one, later);
  data::hide(later, 0.5, {9, 1}, 5);
  EXPECT_NE(later.mask, alone.mask);
}

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

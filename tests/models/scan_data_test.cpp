// A data set as the inputs of scans: pairs of values and gaps, rows that count, hidden values.
#include "seqvae/models/scan_data.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "seqvae/core/error.hpp"

namespace seqvae::test {
namespace {

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
    }
  }
  return set;
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

DataShape shape_of(const SequenceSet& set, bool missing) {
  DataShape shape;
  shape.x_width = set.D, shape.controls_width = set.U, shape.missing = missing;
  return shape;
}

template <class Real>
std::vector<Real> rows_of(const ScanBatch<Real>& batch, const std::string& name,
                          std::size_t count) {
  for (const Binding<Real>& binding : batch.bindings) {
    if (binding.name == name) return {binding.data, binding.data + count};
  }
  return {};
}

TEST(ScanData, GivesPairsOfValuesAndGapsAndTheRowsThatCount) {
  SequenceSet set = four_sequences();
  set.values[5] = NAN;  // sequence 2, step 1
  ScanData<double> data(set, shape_of(set, true));
  ScanBatch<double> batch;
  const std::vector<std::int32_t> members = {3, 2, 0};
  data.bind(members, data.scan_options(), batch);
  EXPECT_THAT(batch.lengths, ElementsAre(3, 2, 1));
  EXPECT_THAT(batch.first_row, ElementsAre(6, 4, 0));
  EXPECT_THAT(batch.sequence_id, ElementsAre(8, 7, 5));
  EXPECT_THAT(rows_of(batch, "x", 9), ElementsAre(0, 10, 11, 12, 20, 0, 30, 31, 32));
  EXPECT_THAT(rows_of(batch, "x_mask", 9), ElementsAre(1, 1, 1, 1, 1, 0, 1, 1, 1));
  EXPECT_THAT(rows_of(batch, "x_missing", 9), ElementsAre(0, 0, 0, 0, 0, 1, 0, 0, 0));
  EXPECT_THAT(rows_of(batch, "controls", 9),
              ElementsAre(0, -10, -11, -12, -20, -21, -30, -31, -32));
  EXPECT_THAT(rows_of(batch, "weight", 9), ElementsAre(1, 1, 1, 1, 0, 1, 1, 1, 1));
  EXPECT_TRUE(data.scan_options().weighted);
  EXPECT_EQ(data.steps(members), 5);
}

TEST(ScanData, RefusesDataThatTheModelWasNotMadeFor) {
  SequenceSet set = wide(2, 3, 2);
  DataShape shape = shape_of(set, false);
  shape.x_width = 3;
  EXPECT_THAT([&] { ScanData<float>(set, shape); },
              testing::ThrowsMessage<InvalidArgument>("data: columns = 2, must be the model's 3"));
}

TEST(ScanData, RefusesValuesThatTheEmissionGivesNoProbability) {
  SequenceSet set = wide(1, 2, 2);
  DataShape shape = shape_of(set, false);
  const auto refuses = [&](Emission::Kind emission, double value, const std::string& rule) {
    set.values[3] = value, shape.emission = emission;
    EXPECT_THAT([&] { ScanData<float>(set, shape); },
                testing::ThrowsMessage<InvalidArgument>(
                    fmt::format("data: values = {}, must be {}", value, rule)));
  };
  refuses(Emission::Kind::bernoulli, 1.5, "in 0..1 with emission bernoulli");
  refuses(Emission::Kind::categorical, 0.5, "0 or 1 with emission categorical");
  refuses(Emission::Kind::poisson, -1, "0, 1, 2, ... with emission poisson");
  refuses(Emission::Kind::poisson, 2.5, "0, 1, 2, ... with emission poisson");
  set.values[3] = NAN;
  ScanData<float> with_a_gap(set, shape);
  EXPECT_TRUE(with_a_gap.scan_options().trace.missing);
}

TEST(ScanData, RefusesAScanThatWouldTakeGapsForValuesOrCountThePast) {
  SequenceSet set = four_sequences();
  set.values[5] = NAN;
  ScanData<double> data(set, shape_of(set, false));
  ScanBatch<double> batch;
  const std::vector<std::int32_t> members = {2};
  ScanOptions scan = data.scan_options();
  scan.trace.missing = false;
  EXPECT_THAT([&] { data.bind(members, scan, batch); },
              testing::ThrowsMessage<InvalidArgument>(
                  "data: missing values = some, must be none, or the scan traced with them"));
  scan = data.scan_options(), scan.weighted = false;
  EXPECT_THAT([&] { data.bind(members, scan, batch); },
              testing::ThrowsMessage<InvalidArgument>(
                  "data: rows that do not count = some, must be none, or the scan weighted"));
}

TEST(ScanData, HidesAboutThatShareUntilTheNextCall) {
  const SequenceSet set = wide(50, 20, 7);
  ScanData<float> data(set, shape_of(set, true));
  std::vector<std::int32_t> members(50);
  std::iota(members.begin(), members.end(), 0);
  ScanBatch<float> batch;
  data.hide(members, 0.3, 1, 3);
  data.bind(members, data.scan_options(), batch);
  const std::vector<float> mask = rows_of(batch, "x_mask", 7000);
  const double share = 1 - std::accumulate(mask.begin(), mask.end(), 0.0) / 7000;
  EXPECT_NEAR(share, 0.3, 4 * std::sqrt(0.3 * 0.7 / 7000));  // four standard errors
  EXPECT_EQ(rows_of(batch, "x", 7000), mask);                // all values are 1
  std::vector<float> gaps = rows_of(batch, "x_missing", 7000);
  for (float& gap : gaps) gap = 1 - gap;
  EXPECT_EQ(gaps, mask);
  data.hide({}, 0.3, 1, 4);
  data.bind(members, data.scan_options(), batch);
  EXPECT_THAT(rows_of(batch, "x", 7000), testing::Each(1));
  EXPECT_THAT(rows_of(batch, "x_missing", 7000), testing::Each(0));
}

TEST(ScanData, HidesBySequenceAndStepNotByPlaceInTheBatch) {
  const SequenceSet set = wide(8, 5, 6);
  const auto hidden = [&](std::vector<std::int32_t> members, std::uint64_t step) {
    ScanData<double> data(set, shape_of(set, true));
    ScanBatch<double> batch;
    data.hide(members, 0.5, 9, step);
    data.bind(members, data.scan_options(), batch);
    const std::vector<double> mask = rows_of(batch, "x_mask", 8 * 30);
    return std::vector<double>(mask.begin() + 3 * 30, mask.begin() + 4 * 30);
  };
  const std::vector<double> alone = hidden({3}, 4);
  EXPECT_EQ(hidden({7, 6, 5, 4, 3, 2, 1, 0}, 4), alone);
  EXPECT_NE(hidden({3}, 5), alone);
}

}  // namespace
}  // namespace seqvae::test

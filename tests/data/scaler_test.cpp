// Scaling there and back, its log-Jacobian, and its JSON.
#include "seqvae/data/scaler.hpp"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "seqvae/core/error.hpp"

namespace seqvae::test {
namespace {

using data::Scaler;
using data::SequenceSet;
using testing::DoubleNear;
using testing::ElementsAre;

SequenceSet two_columns() {
  SequenceSet set;
  set.D = 2;
  set.lengths = {3, 2};
  set.begin = {1, 0};
  set.ids = {0, 1};
  // The first row is a past: it does not count.
  set.values = {1e6, 1e6, 1, 0.1, 3, 0.1, 5, NAN, 7, 0.1};
  return set;
}

TEST(Scaler, FitsTheRowsThatCount) {
  const Scaler scaler = Scaler::fit(two_columns(), {"a", "b"}, "f");
  EXPECT_THAT(scaler.mean, ElementsAre(4, 0.1));
  EXPECT_THAT(scaler.deviation, ElementsAre(std::sqrt(5.0), 1));
}

TEST(Scaler, IsExactOnALargeOffset) {
  SequenceSet set;
  set.D = 1;
  set.lengths = {4};
  set.begin = {0};
  set.values = {1e9 + 1, 1e9 - 1, 1e9 + 1, 1e9 - 1};
  const Scaler scaler = Scaler::fit(set, {"a"}, "f");
  EXPECT_EQ(scaler.mean[0], 1e9);
  EXPECT_EQ(scaler.deviation[0], 1);
}

TEST(Scaler, ScalesAndUnscales) {
  const Scaler scaler{{"a", "b"}, {4, 1}, {2, 0.5}};
  std::vector<double> rows = {6, 2, NAN, 0};
  scaler.scale(rows);
  EXPECT_THAT(rows, ElementsAre(1, 2, testing::IsNan(), -2));
  scaler.unscale(rows);
  EXPECT_THAT(rows, ElementsAre(6, 2, testing::IsNan(), 0));
}

TEST(Scaler, CountsOneJacobianForEachObservedValue) {
  const Scaler scaler{{"a", "b"}, {0, 0}, {2, 0.25}};
  // Counted: 4 values of a, 3 of b.
  EXPECT_THAT(scaler.log_jacobian(two_columns()),
              DoubleNear(-4 * std::log(2) + 3 * std::log(4), 1e-14));
}

TEST(Scaler, RoundTripsThroughJson) {
  const Scaler scaler{{"a", "b"}, {1.0 / 3, -1e-300}, {0.1, 1e300}};
  const io::Json json = io::parse_json(scaler.to_json().dump(), "s.json");
  const Scaler again = Scaler::from_json({json, "s.json"});
  EXPECT_EQ(again.columns, scaler.columns);
  EXPECT_EQ(again.mean, scaler.mean);
  EXPECT_EQ(again.deviation, scaler.deviation);
}

TEST(Scaler, RefusesJsonThatDoesNotFit) {
  const auto refuses = [](const char* text, const std::string& message) {
    const io::Json json = io::parse_json(text, "s.json");
    EXPECT_THAT(
        [&] {
          Scaler::from_json({json, "s.json", "scaler"});
        },
        testing::ThrowsMessage<InputError>("s.json: scaler." + message));
  };
  refuses(R"({"columns": ["a"], "mean": [0], "deviation": [0]})", "deviation[0]: must be > 0");
  refuses(R"({"columns": ["a"], "mean": [0, 1], "deviation": [1]})",
          "mean: has 2 numbers, must have one for each of 1 columns");
  refuses(R"({"columns": ["a"], "mean": [0], "std": [1]})", "std: is no key here");
}

TEST(Scaler, RefusesAColumnWithoutValuesOrBeyondDouble) {
  SequenceSet set = two_columns();
  for (std::size_t i = 1; i < set.values.size(); i += 2) set.values[i] = NAN;
  EXPECT_THAT(
      [&] {
        Scaler::fit(set, {"a", "b"}, "f");
      },
      testing::ThrowsMessage<InputError>("f: column 'b': has no observed value"));
  set.values[1] = 0, set.values[3] = 1e308, set.values[5] = -1e308;
  EXPECT_THAT(
      [&] {
        Scaler::fit(set, {"a", "b"}, "f");
      },
      testing::ThrowsMessage<InputError>("f: column 'b': its standard deviation is beyond double"));
}

}  // namespace
}  // namespace seqvae::test

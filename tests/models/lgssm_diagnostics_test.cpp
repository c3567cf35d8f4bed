// Innovations and their tests against statsmodels 0.15.0 and scipy 1.17.1, and on data that do and
// do not follow the model.
#include "seqvae/models/lgssm_diagnostics.hpp"

#include <gmock/gmock.h>

#include "seqvae/core/error.hpp"
#include "tests/models/lgssm_problem.hpp"

namespace seqvae::test {
namespace {

const char* const kNileModel =
    R"({"A": [[1]], "C": [[1]], "Q": [[1469.1]], "R": [[15099]], "diffuse": true})";

TEST(Diagnostics, AreStatsmodelsOfTheNile) {
  const data::SequenceSet set = read_series("kalman/nile.csv");
  const Lgssm model(matrices_of(kNileModel));
  const std::vector<double> e = model.innovations(set);
  ASSERT_EQ(e.size(), 100u);
  EXPECT_TRUE(std::isnan(e[0]));  // the diffuse level takes it
  EXPECT_NEAR(e[1], 0.22477905682290023, 1e-10);
  EXPECT_NEAR(e[2], -1.1374861635607108, 1e-10);
  EXPECT_NEAR(e[3], 0.9177495509445011, 1e-10);
  EXPECT_NEAR(e[50], -0.5648418633106765, 1e-10);
  EXPECT_NEAR(e[99], -0.5548556522078613, 1e-10);
  const LgssmDiagnostics d = diagnose(e, set);
  EXPECT_EQ(d.count, 99);
  EXPECT_NEAR(d.nis, 98.99809140941514 / 99, 1e-12);
  EXPECT_NEAR(d.nis_p, 0.9623018669876806, 1e-10);
  EXPECT_EQ(d.lags, 10);
  EXPECT_THAT(d.ljung_box, testing::ElementsAre(testing::DoubleNear(13.195318038612937, 1e-10)));
  EXPECT_THAT(d.ljung_box_p, testing::ElementsAre(testing::DoubleNear(0.21295550406811595, 1e-10)));
}

/// Draws from a model of two columns with a full R and gaps.
data::SequenceSet drawn(const Lgssm& model, std::int64_t length, std::int64_t count) {
  data::SequenceSet set;
  set.D = model.matrices().m;
  set.values = model.generate(length, count, {}, 4);
  for (std::int64_t i = 0; i < count; ++i) {
    set.lengths.push_back(static_cast<std::int32_t>(length)), set.begin.push_back(0);
    set.ids.push_back(static_cast<std::uint32_t>(i));
  }
  for (std::size_t i = 0; i < set.values.size(); i += 7) set.values[i] = std::nan("");
  return set;
}

TEST(Diagnostics, TellAModelThatHoldsFromOneThatDoesNot) {
  const char* text = R"({"A": [[0.9, 0.1], [0, 0.7]], "C": [[1, 0.3], [0, 1]],
      "Q": [[0.4, 0.1], [0.1, 0.3]], "R": [[0.5, 0.2], [0.2, 0.6]],
      "m0": [0, 0], "P0": [[1, 0], [0, 1]]})";
  LgssmMatrices matrices = matrices_of(text);
  const Lgssm model(matrices);
  const data::SequenceSet set = drawn(model, 400, 3);
  const LgssmDiagnostics holds = diagnose(model.innovations(set), set);
  EXPECT_EQ(holds.count, set.observed());
  EXPECT_NEAR(holds.nis, 1, 4 * std::sqrt(2.0 / double(holds.count)));
  EXPECT_GT(holds.nis_p, 1e-3);
  EXPECT_THAT(holds.ljung_box_p, testing::Each(testing::Gt(1e-3)));
  matrices.A = {0.2, 0, 0, 0.2};  // forgets too soon
  const Lgssm wrong(matrices);
  const LgssmDiagnostics fails = diagnose(wrong.innovations(set), set);
  EXPECT_THAT(fails.ljung_box_p, testing::Contains(testing::Lt(1e-6)));
  EXPECT_LT(fails.nis_p, 1e-6);
}

TEST(Diagnostics, RefusesByName) {
  data::SequenceSet set = read_series("kalman/nile.csv");
  const std::vector<double> none(100, std::nan(""));
  EXPECT_THAT([&] { diagnose(none, set); },
              testing::ThrowsMessage<InvalidArgument>(
                  "diagnose: innovations that count = 0, must be >= 1"));
  EXPECT_THAT([&] { diagnose(none, set, 0); },
              testing::ThrowsMessage<InvalidArgument>("diagnose: lags = 0, must be >= 1"));
}

}  // namespace
}  // namespace seqvae::test

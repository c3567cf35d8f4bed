// The cost of a batch shape that is new, at the sizes of the DMM of polyphonic music.
#include "tests/graph/new_shapes.hpp"

#include <gmock/gmock.h>

#include "tests/graph/models.hpp"
#include "tests/graph/small_scan.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(NDEBUG)
#define SEQVAE_HAS_ITS_SPEED 0
#else
#define SEQVAE_HAS_ITS_SPEED 1
#endif

namespace seqvae::test {
namespace {

TEST(NewShape, CostsMillisecondsOnceItsRowCountsWereSeenAndATenthOfASecondBefore) {
  if (!SEQVAE_HAS_ITS_SPEED) GTEST_SKIP() << "this build is slow";
  ThreadPool pool(2);
  const auto model = make_model(
      "dmm",
      {{"z", 100}, {"emission", 100}, {"transition", 200}, {"rnn", 600}, {"encoder", "relu"}},
      {.x_width = 88, .emission = Emission::Kind::bernoulli});
  const std::vector<float> values = parameter_values<float>(model->parameters());
  std::vector<float> gradients(values.size());
  ScanOptions options;
  options.gradient = true;
  const SmallBatch<float> longest({129}, 1, Emission::Kind::bernoulli, 88);
  const auto make = [&] {
    return Executor<float>(model->scan(options), model->parameters(), pool);
  };
  const auto step = [&](Executor<float>& executor, const std::vector<std::int32_t>& lengths) {
    const std::vector<std::int64_t> first_row(lengths.size(), 0);  // all read the same rows
    const std::vector<std::uint32_t> ids(lengths.size(), 0);
    ScanBatch<float> batch = longest.batch;
    batch.lengths = lengths, batch.first_row = first_row, batch.sequence_id = ids;
    executor.set_parameters(values.data());
    executor.run(batch, gradients.data());
  };
  const ShapeCosts costs = shape_costs(2, 6, make, step);
  ASSERT_GE(costs.seen.size(), 3u);
  const auto median = [](std::vector<double> seconds) {
    std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
    return seconds[seconds.size() / 2];
  };
  EXPECT_LT(median(costs.unseen), 0.1);
  EXPECT_LT(median(costs.seen), 0.01);
}

}  // namespace
}  // namespace seqvae::test

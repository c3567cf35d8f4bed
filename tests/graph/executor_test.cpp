// One executor over many batches: nothing of a batch is left for the next, and a sequence's bound
// is its own affair, whatever stands beside it and on how many threads.
#include <gmock/gmock.h>

#include <numeric>

#include "seqvae/core/error.hpp"
#include "tests/graph/gradient_cases.hpp"
#include "tests/graph/models.hpp"

namespace seqvae::test {
namespace {

/// What a run says, to the bit.
template <class Real>
struct Result {
  std::vector<Real> bound, gradients;
  bool operator==(const Result&) const = default;
};

template <class Real>
class Runner {
 public:
  Runner(const NamedConfiguration& c, int threads)
      : pool_(threads),
        model_(make_model(c.model, c.configuration, {.x_width = kX, .controls_width = kControls})),
        values_(parameter_values<Real>(model_->parameters())),
        executor_(model_->scan(options()), model_->parameters(), pool_) {
    executor_.set_parameters(values_.data());
  }

  Result<Real> operator()(const ScanBatch<Real>& batch) {
    Result<Real> result;
    result.gradients.assign(values_.size(), Real(std::nan("")));
    executor_.run(batch, result.gradients.data());
    result.bound = executor_.output("bound");
    return result;
  }

 private:
  static ScanOptions options() {
    ScanOptions made;
    made.gradient = true;
    return made;
  }
  ThreadPool pool_;
  std::unique_ptr<Model> model_;
  std::vector<Real> values_;
  Executor<Real> executor_;
};

const std::vector<std::vector<std::int32_t>> kShapes = {
    {5, 3, 3, 1}, {40, 33, 2}, {1}, {0, 4, 0}, {17, 17, 17, 17, 17, 16, 9, 3}, {2, 1, 1}};

TEST(Executor, RunsBatchesOfAnyShapeInTurnAsIfEachWereItsFirst) {
  for (const NamedConfiguration& c : small_models()) {
    SCOPED_TRACE(c.label);
    Runner<double> kept(c, 2);
    for (int round = 0; round < 2; ++round) {
      for (const auto& shape : kShapes) {
        const SmallBatch<double> batch(shape);
        Runner<double> fresh(c, 2);
        EXPECT_TRUE(kept(batch.batch) == fresh(batch.batch)) << shape.size() << " sequences";
      }
    }
  }
}

TEST(Executor, ForgetsABatchOfNaN) {
  for (const NamedConfiguration& c : small_models()) {
    SCOPED_TRACE(c.label);
    Runner<double> poisoned(c, 1), fresh(c, 1);
    SmallBatch<double> spoiled({40, 33, 20, 7});
    std::fill(spoiled.x.begin(), spoiled.x.end(), std::nan(""));
    std::fill(spoiled.controls.begin(), spoiled.controls.end(), std::nan(""));
    const Result<double> nothing = poisoned(spoiled.batch);
    EXPECT_THAT(nothing.bound, testing::Each(testing::IsNan()));
    for (const auto& shape : kShapes) {
      const SmallBatch<double> batch(shape);
      const Result<double> result = poisoned(batch.batch);
      EXPECT_TRUE(result == fresh(batch.batch)) << shape.size() << " sequences";
      EXPECT_THAT(result.gradients, testing::Each(testing::Not(testing::IsNan())));
    }
  }
}

TEST(Executor, NamesWhatIsNotBoundOrDoesNotFit) {
  Runner<double> runner(small_models()[0], 1);
  SmallBatch<double> batch;
  batch.batch.bindings.pop_back(), batch.batch.bindings.erase(batch.batch.bindings.begin());
  EXPECT_THAT([&] { runner(batch.batch); },
              testing::ThrowsMessage<InvalidArgument>("Executor: the input x is not bound"));
  SmallBatch<double> other;
  other.batch.noise = {{"y", other.x.data()}};
  EXPECT_THAT([&] { runner(other.batch); },
              testing::ThrowsMessage<InvalidArgument>("Executor: no latent is called y"));
  SmallBatch<double> short_batch;
  short_batch.batch.sequence_id = short_batch.batch.sequence_id.first(2);
  EXPECT_THAT(
      [&] { runner(short_batch.batch); },
      testing::ThrowsMessage<InvalidArgument>("Executor: sequence_id = 2, must be one a sequence"));
}

class BoundOfASequence : public testing::TestWithParam<NamedConfiguration> {
 protected:
  // Lengths that leave blocks of every size, and ties.
  static std::vector<std::int32_t> lengths() {
    std::vector<std::int32_t> all;
    for (std::int32_t i = 0; i < 37; ++i) all.push_back(1 + (i * 13) % 19);
    return all;
  }

  /// Bounds of the batch's sequences at these places, in this order.
  template <class Real>
  static std::vector<Real> bounds(Runner<Real>& runner, const SmallBatch<Real>& of,
                                  const std::vector<std::size_t>& places) {
    std::vector<std::int32_t> some_lengths;
    std::vector<std::int64_t> first_row;
    std::vector<std::uint32_t> ids;
    for (std::size_t place : places) {
      some_lengths.push_back(of.lengths[place]);
      first_row.push_back(of.first_row[place]), ids.push_back(of.ids[place]);
    }
    ScanBatch<Real> batch = of.batch;
    batch.lengths = some_lengths, batch.first_row = first_row, batch.sequence_id = ids;
    return runner(batch).bound;
  }

  template <class Real>
  static void expect_same_bits() {
    const SmallBatch<Real> batch(lengths());
    Runner<Real> one(GetParam(), 1);
    std::vector<std::size_t> all(batch.lengths.size());
    std::iota(all.begin(), all.end(), 0u);
    const std::vector<Real> expected = bounds(one, batch, all);
    std::vector<std::vector<std::size_t>> orders = {all};
    std::vector<std::size_t> permuted = all, some, alone = {5};
    for (std::size_t i = 0; i < all.size(); ++i) permuted[i] = i * 8 % all.size();
    for (std::size_t i = 0; i < all.size(); i += 3) some.push_back(i);
    orders.insert(orders.end(), {permuted, some, alone});
    for (int threads : {1, 2, 3}) {
      Runner<Real> runner(GetParam(), threads);
      for (const auto& places : orders) {
        const std::vector<Real> found = bounds(runner, batch, places);
        for (std::size_t i = 0; i < places.size(); ++i) {
          ASSERT_EQ(found[i], expected[places[i]])
              << "sequence " << places[i] << " of " << places.size() << " on " << threads;
        }
      }
    }
  }
};

TEST_P(BoundOfASequence, HasTheSameBitsInAnyBatchOnAnyNumberOfThreads) {
  expect_same_bits<float>();
}
TEST_P(BoundOfASequence, HasTheSameBitsInFloat64Too) { expect_same_bits<double>(); }

INSTANTIATE_TEST_SUITE_P(
    Models, BoundOfASequence,
    testing::Values(NamedConfiguration{"dmm", "dmm", {{"z", 20}, {"rnn", 40}}},
                    NamedConfiguration{"vrnn", "vrnn", {{"hidden", 37}, {"z", 9}}},
                    NamedConfiguration{"rvae", "rvae", {{"z", 8}, {"decoder", 33}}}),
    [](const auto& info) { return info.param.label; });

TEST(Executor, SaysWhereASequenceStarts) {
  for (const bool continued : {false, true}) {
    ScanOptions options;
    options.trace.x_width = 1, options.paths = true;
    if (continued) options.trace.mode = Mode::generate, options.trace.continued = true;
    ParameterTable table;
    ThreadPool pool(2);
    Executor<double> executor(
        trace_scan(
            [](Step& s) {
              s.observed("x", {.kind = Emission::Kind::gaussian,
                               .density = {s.start(), multiply(s, s.time(), zeros(s, 1))}});
            },
            table, options),
        table, pool);
    SmallBatch<double> batch({3, 1, 2}, 1, Emission::Kind::gaussian, 1);
    const std::vector<double> none(1);
    executor.set_parameters(none.data());
    executor.run(batch.batch);
    std::vector<double> expected = {1, 0, 0, 1, 1, 0};
    if (continued) expected.assign(executor.output("mean:x").size(), 0);
    EXPECT_EQ(executor.output("mean:x"), expected);
  }
}

}  // namespace
}  // namespace seqvae::test

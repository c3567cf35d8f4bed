// Data files: what each format means, parts, windows, scaling, and what must be refused.
#include "seqvae/data/dataset.hpp"

#include <gmock/gmock.h>

#include "seqvae/core/error.hpp"
#include "seqvae/io/csv.hpp"
#include "seqvae/io/npy.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {
namespace {

using data::Dataset;
using data::LoadOptions;
using data::SequenceSet;
using io::Array;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;
using testing::IsNan;

const double kNan = std::numeric_limits<double>::quiet_NaN();

Array reals(std::vector<std::int64_t> shape, std::vector<double> values) {
  return Array::of(std::move(shape), values);
}
Array integers(std::vector<std::int32_t> values) {
  return Array::of({static_cast<std::int64_t>(values.size())}, values);
}

class LoadTest : public testing::Test {
 protected:
  std::string npz(const io::NamedArrays& arrays) {
    io::write_npz(folder / "d.npz", arrays);
    return (folder / "d.npz").string();
  }
  std::string csv(const std::string& text) {
    io::write_file(folder / "d.csv", text);
    return (folder / "d.csv").string();
  }
  void refuses(const io::NamedArrays& arrays, const std::string& message) {
    const std::string path = npz(arrays);
    EXPECT_THAT([&] { data::load(path); },
                testing::ThrowsMessage<InputError>(path + ": " + message));
  }
  void refuses_csv(const std::string& text, const LoadOptions& options,
                   const std::string& message) {
    const std::string path = csv(text);
    EXPECT_THAT([&] { data::load(path, options); },
                testing::ThrowsMessage<InputError>(path + ": " + message));
  }
  TemporaryFolder folder;
};

TEST_F(LoadTest, ReadsThePartsThatNumPyWrote) {
  const Dataset dataset = data::load(reference("io/sequences.npz"));
  ASSERT_EQ(dataset.parts.size(), 2u);
  const SequenceSet& train = dataset.part("train");
  EXPECT_EQ(train.D, 2);
  EXPECT_THAT(train.lengths, ElementsAre(2, 3));
  EXPECT_THAT(train.begin, ElementsAre(0, 0));
  EXPECT_THAT(train.ids, ElementsAre(0, 1));
  EXPECT_THAT(train.values, ElementsAre(1, IsNan(), 3, 4, 5, 6, 7, 8, 9, 10));
  EXPECT_THAT(train.starts(), ElementsAre(0, 2, 5));
  EXPECT_EQ(train.rows(), 5);
  EXPECT_EQ(train.observed(), 9);
  EXPECT_TRUE(train.has_missing());
  EXPECT_EQ(dataset.default_part_name(), "test");
  EXPECT_EQ(&dataset.training_part(), &train);
  EXPECT_THAT(dataset.unused, ElementsAre("train_labels"));
  EXPECT_THAT(dataset.columns, ElementsAre("0", "1"));
}

TEST_F(LoadTest, TakesMaskControlsAndTimes) {
  const Dataset dataset = data::load(npz({{"values", reals({3, 2}, {1, INFINITY, 3, 4, 5, 6})},
                                          {"lengths", integers({3})},
                                          {"mask", reals({3, 2}, {1, 0, 0, 1, 1, 1})},
                                          {"controls", reals({3}, {7, 8, 9})},
                                          {"times", reals({3}, {0, 0.5, 2})}}));
  const SequenceSet& all = dataset.part("all");
  EXPECT_THAT(all.values, ElementsAre(1, IsNan(), IsNan(), 4, 5, 6));
  EXPECT_EQ(all.U, 1);
  EXPECT_THAT(all.controls, ElementsAre(7, 8, 9));
  EXPECT_THAT(all.times, ElementsAre(0, 0.5, 2));
  const Dataset by_row = data::load(npz({{"values", reals({2, 2}, {1, 2, 3, 4})},
                                         {"lengths", integers({2})},
                                         {"mask", Array::booleans({2}, {{0, 1}})}}));
  EXPECT_THAT(by_row.part("all").values, ElementsAre(IsNan(), IsNan(), 3, 4));
}

TEST_F(LoadTest, MakesAnEpisodeASequence) {
  const Dataset dataset = data::load(npz({{"values", reals({6}, {1, 2, 3, 4, 5, 6})},
                                          {"lengths", integers({4, 2})},
                                          {"reset", integers({1, 0, 1, 0, 0, 1})}}));
  EXPECT_THAT(dataset.part("all").lengths, ElementsAre(2, 2, 1, 1));
  EXPECT_THAT(dataset.part("all").ids, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(dataset.part("all").values, ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST_F(LoadTest, ReadsNpyOfOneTwoAndThreeDimensions) {
  const auto load = [&](const Array& array) {
    io::write_npy(folder / "d.npy", array);
    return data::load(folder / "d.npy").part("all");
  };
  EXPECT_THAT(load(reals({3}, {1, 2, 3})).lengths, ElementsAre(3));
  EXPECT_EQ(load(reals({3, 2}, {1, 2, 3, 4, 5, 6})).D, 2);
  const SequenceSet cube = data::load(reference("io/cube.npy")).part("all");
  EXPECT_THAT(cube.lengths, ElementsAre(3, 3));
  EXPECT_EQ(cube.D, 4);
  EXPECT_EQ(cube.values[17], 17);
  const auto refuses = [&](const Array& array, const std::string& rule) {
    EXPECT_THAT([&] { load(array); },
                testing::ThrowsMessage<InputError>((folder / "d.npy").string() + ": " + rule));
  };
  refuses(reals({}, {1}), "header: has shape [], must be [T], [T, D] or [N, T, D]");
  refuses(reals({0, 2}, {}), "header: has shape [0, 2], must hold a value");
  refuses(reals({2}, {1, -INFINITY}), "values, row 1: column 0 is -inf, must be finite");
}

TEST_F(LoadTest, RefusesArraysThatDoNotFit) {
  const Array values = reals({3, 2}, {1, 2, 3, 4, 5, 6});
  const Array lengths = integers({2, 1});
  refuses({{"labels", lengths}}, "values: is missing, and so is train_values");
  refuses({{"lengths", lengths}}, "values: is missing");
  refuses({{"values", values}}, "lengths: is missing");
  refuses({{"valid_values", values}}, "valid_lengths: is missing");
  refuses({{"values", reals({}, {1})}, {"lengths", lengths}},
          "values: has shape [], must be [sum of lengths, D]");
  refuses({{"values", reals({3, 0}, {})}, {"lengths", lengths}}, "values: has no columns");
  refuses({{"values", values}, {"lengths", reals({2}, {2, kNan})}},
          "lengths: is float64, must be integers");
  refuses({{"values", values}, {"lengths", Array::of({1, 2}, std::vector<std::int32_t>{2, 1})}},
          "lengths: has shape [1, 2], must be [N]");
  refuses({{"values", values}, {"lengths", integers({})}},
          "lengths: is empty, must hold a sequence");
  refuses({{"values", values}, {"lengths", integers({3, 0})}},
          "lengths, sequence 1: is 0, must be >= 1");
  refuses({{"values", values}, {"lengths", integers({4, -1})}},
          "lengths, sequence 0: ends at row 4, values has 3");
  refuses({{"values", values}, {"lengths", integers({2, -1})}},
          "lengths, sequence 1: is -1, must be >= 1");
  refuses({{"values", values}, {"lengths", integers({1, 1})}},
          "lengths: sums to 2, values has 3 rows");
  refuses({{"values", values},
           {"lengths", Array::of({2}, std::vector<std::uint64_t>{2, ~std::uint64_t{0}})}},
          "lengths, sequence 1: ends at row 18446744073709551616, values has 3");
  refuses({{"values", reals({3, 2}, {1, 2, 3, INFINITY, 5, 6})}, {"lengths", lengths}},
          "values, row 1: column 1 is inf, must be finite");
  refuses({{"values", values}, {"lengths", lengths}, {"mask", reals({2}, {1, 1})}},
          "mask: has shape [2], must be [3, 2] or [3]");
  refuses({{"values", values}, {"lengths", lengths}, {"mask", reals({3}, {1, 0.5, 1})}},
          "mask, row 1: is 0.5, must be 0 or 1");
  refuses({{"values", values}, {"lengths", lengths}, {"mask", reals({3}, {1, 1, kNan})}},
          "mask, row 2: is nan, must be 0 or 1");
  refuses({{"values", values}, {"lengths", lengths}, {"controls", reals({2, 1}, {1, 1})}},
          "controls: has shape [2, 1], must be [3, U] as values has 3 rows");
  refuses({{"values", values}, {"lengths", lengths}, {"controls", reals({}, {1})}},
          "controls: has shape [], must be [3, U] as values has 3 rows");
  refuses({{"values", values}, {"lengths", lengths}, {"controls", reals({3}, {1, kNan, 1})}},
          "controls, row 1: column 0 is nan, must be finite");
  refuses({{"values", values}, {"lengths", lengths}, {"times", reals({2}, {0, 1})}},
          "times: has shape [2], must be [3] as values has 3 rows");
  refuses({{"values", values}, {"lengths", lengths}, {"times", reals({3}, {0, kNan, 1})}},
          "times, row 1: is nan, must be finite");
  refuses({{"values", values}, {"lengths", lengths}, {"reset", reals({3}, {0, 2, 0})}},
          "reset, row 1: is 2, must be 0 or 1");
  refuses({{"values", values},
           {"lengths", lengths},
           {"train_values", values},
           {"train_lengths", lengths}},
          "values: cannot stand beside train_, valid_ or test_values");
  refuses({{"train_values", values},
           {"train_lengths", lengths},
           {"test_values", reals({3}, {1, 2, 3})},
           {"test_lengths", lengths}},
          "train_values: has 2 columns, test_values has 1");
  refuses({{"train_values", values},
           {"train_lengths", lengths},
           {"train_controls", reals({3}, {1, 2, 3})},
           {"test_values", values},
           {"test_lengths", lengths}},
          "train_controls: has 1 columns, test_controls has 0");
}

TEST_F(LoadTest, RefusesOtherEndingsAndOptionsThatMeanNothing) {
  EXPECT_THAT([] { data::load("d.txt"); },
              testing::ThrowsMessage<InputError>("d.txt: name: must end in .npz, .npy or .csv"));
  EXPECT_THAT([] { data::load("d.npz", {.columns = {"a"}}); },
              testing::ThrowsMessage<InputError>(
                  "d.npz: name: must end in .csv where columns or a time are named"));
  EXPECT_THAT(
      [] { data::load("d.csv", {.stride = 3}); },
      testing::ThrowsMessage<InvalidArgument>("load: stride = 3, must be given with a window"));
  EXPECT_THAT([] { data::load("d.csv", {.window = -1}); },
              testing::ThrowsMessage<InvalidArgument>(
                  "load: window = -1, must be 1 .. 2^31 - 1, or 0 for none"));
  EXPECT_THAT([&] { data::load(csv("a\n1\n")).part("test"); },
              testing::ThrowsMessage<InputError>((folder / "d.csv").string() +
                                                 ": part 'test': is not there, the parts are all"));
}

const std::string kSeries =
    "date,a,b\n2000-01-01,1,10\n2000-01-02,2,20\n2000-01-03,3,\n2000-01-04,4,40\n2000-01-05,5,50\n";

TEST_F(LoadTest, KeepsThePastOfAPartOfOneSeries) {
  const Dataset dataset = data::load(csv(kSeries), {.split_at = {"2", "4"}});
  EXPECT_THAT(dataset.time_labels, testing::SizeIs(5));
  const auto part = [&](const char* name, int length, int begin, std::size_t observed) {
    const SequenceSet& set = dataset.part(name);
    EXPECT_THAT(set.lengths, ElementsAre(length));
    EXPECT_THAT(set.begin, ElementsAre(begin));
    EXPECT_THAT(set.ids, ElementsAre(0));
    EXPECT_EQ(set.values[0], 1);
    EXPECT_EQ(set.values.size(), static_cast<std::size_t>(2 * length));
    EXPECT_EQ(set.steps(), length - begin);
    EXPECT_EQ(set.observed(), static_cast<std::int64_t>(observed));
  };
  part("train", 2, 0, 4);
  part("valid", 4, 2, 3);
  part("test", 5, 4, 2);
}

TEST_F(LoadTest, SplitsAtDatesFractionsAndLeavesTheRest) {
  const auto bounds = [&](std::vector<std::string> split_at) {
    const Dataset dataset = data::load(csv(kSeries), {.split_at = std::move(split_at)});
    std::vector<std::int32_t> ends;
    for (const char* name : {"train", "valid", "test"}) {
      if (dataset.has(name)) ends.push_back(dataset.part(name).lengths[0]);
    }
    return ends;
  };
  EXPECT_THAT(bounds({"2000-01-03"}), ElementsAre(2, 5));
  EXPECT_THAT(bounds({"2000-01-02T12:00", "2000-01-05"}), ElementsAre(2, 4, 5));
  EXPECT_THAT(bounds({"0.6"}), ElementsAre(3, 5));
  EXPECT_THAT(bounds({"1", "2", "4"}), ElementsAre(1, 2, 4));
  EXPECT_THAT(bounds({"0.2", "0.4", "1.0"}), ElementsAre(1, 2, 5));
}

TEST_F(LoadTest, RefusesASplitThatCutsNothing) {
  const auto refuses = [&](std::vector<std::string> at, const std::string& message) {
    refuses_csv(kSeries, {.split_at = std::move(at)}, message);
  };
  refuses({"0"}, "split at '0': is row 0, must lie in 1 .. 5");
  refuses({"6"}, "split at '6': is row 6, must lie in 1 .. 5");
  refuses({"-1"}, "split at '-1': is row -1, must lie in 1 .. 5");
  refuses({"5"}, "split at '5': leaves no rows for test");
  refuses({"3", "3"}, "split at '3': is row 3, must lie in 4 .. 5");
  refuses({"1.5"}, "split at '1.5': a fraction must lie in (0, 1]");
  refuses({"nan"}, "split at 'nan': a fraction must lie in (0, 1]");
  refuses({"1999-01-01"}, "split at '1999-01-01': is row 0, must lie in 1 .. 5");
  refuses({"2001-01-01"}, "split at '2001-01-01': leaves no rows for test");
  refuses({"soon"}, "split at 'soon': is neither a row, nor a fraction, nor an ISO 8601 date");
  refuses_csv("a\n1\n2\n", {.split_at = {"2000-01-01"}},
              "split at '2000-01-01': the data have no dates (name their column: --time)");
  refuses_csv("s,a\n1.5,1\n2.5,2\n", {.time = "s", .split_at = {"2000-01-01"}},
              "split at '2000-01-01': the time column holds numbers, no dates");
  const std::string cube = reference("io/cube.npy").string();
  EXPECT_THAT(
      [&] { data::load(cube, {.split_at = {"1"}}); },
      testing::ThrowsMessage<InputError>(cube + ": split: needs a file that is one series"));
}

TEST_F(LoadTest, CutsWindowsThatCoverEveryRow) {
  const auto windows = [&](std::int64_t window, std::int64_t stride) {
    return data::load(csv("a\n0\n1\n2\n3\n4\n5\n6\n"), {.window = window, .stride = stride})
        .part("all");
  };
  EXPECT_THAT(windows(3, 0).lengths, ElementsAre(3, 3, 1));
  EXPECT_THAT(windows(3, 0).values, ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_THAT(windows(4, 2).lengths, ElementsAre(4, 4, 3));
  EXPECT_THAT(windows(4, 2).values, ElementsAre(0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6));
  EXPECT_THAT(windows(3, 2).lengths, ElementsAre(3, 3, 3));
  EXPECT_THAT(windows(3, 2).ids, ElementsAre(0, 1, 2));
  EXPECT_THAT(windows(100, 0).lengths, ElementsAre(7));
  const Dataset split =
      data::load(csv("a\n0\n1\n2\n3\n4\n5\n6\n"), {.window = 2, .split_at = {"4"}});
  EXPECT_THAT(split.part("train").lengths, ElementsAre(2, 2));
  EXPECT_THAT(split.part("test").lengths, ElementsAre(7));  // it keeps its past whole
  EXPECT_THAT(split.part("test").begin, ElementsAre(4));
}

TEST_F(LoadTest, WindowsCarryControlsAndTimes) {
  const SequenceSet set = data::load(npz({{"values", reals({3}, {1, 2, 3})},
                                          {"lengths", integers({3})},
                                          {"controls", reals({3, 1}, {7, 8, 9})},
                                          {"times", reals({3}, {0, 1, 5})}}),
                                     {.window = 2, .stride = 1})
                              .part("all");
  EXPECT_THAT(set.values, ElementsAre(1, 2, 2, 3));
  EXPECT_THAT(set.controls, ElementsAre(7, 8, 8, 9));
  EXPECT_THAT(set.times, ElementsAre(0, 1, 1, 5));
}

TEST_F(LoadTest, StandardizesByTheRowsOfTrain) {
  const Dataset dataset =
      data::load(csv("a,b\n1,7\n3,\n2,7\n100,9\n"), {.split_at = {"3"}, .standardize = true});
  ASSERT_TRUE(dataset.scaler);
  EXPECT_THAT(dataset.scaler->mean, ElementsAre(2, 7));
  EXPECT_DOUBLE_EQ(dataset.scaler->deviation[0], std::sqrt(2.0 / 3));
  EXPECT_EQ(dataset.scaler->deviation[1], 1);  // constant
  const SequenceSet& test = dataset.part("test");
  EXPECT_DOUBLE_EQ(test.values[6], 98 / std::sqrt(2.0 / 3));
  EXPECT_EQ(test.values[7], 2);
  EXPECT_TRUE(std::isnan(test.values[3]));
  const Dataset same = data::load(csv("a,b\n1,7\n"), {.scaler = dataset.scaler});
  EXPECT_DOUBLE_EQ(same.part("all").values[0], -1 / std::sqrt(2.0 / 3));
  refuses_csv("a\n1\n", {.scaler = dataset.scaler}, "columns: are 1, the scaler has 2");
}

TEST_F(LoadTest, NamesAColumnWithoutAnObservedValue) {
  refuses_csv("a,b\n1,\n2,\n3,4\n", {.split_at = {"2"}, .standardize = true},
              "column 'b': has no observed value");
  const std::string path = csv("a,b\n1,\n2,\n");
  EXPECT_THAT(
      [&] { data::load(path).require_observed_columns("all"); },
      testing::ThrowsMessage<InputError>(path + ": column 'b': has no observed value in all"));
  EXPECT_NO_THROW(data::load(csv("a,b\n1,\n,2\n")).require_observed_columns("all"));
}

TEST_F(LoadTest, ChoosesTheEmissionByTheValues) {
  const auto emission = [&](const std::string& text) {
    return data::choose_emission(data::load(csv(text)).part("all"));
  };
  EXPECT_EQ(emission("a\n0\n1\n\n"), "bernoulli");
  EXPECT_EQ(emission("a\n0\n1\n0.5\n"), "gaussian");
  EXPECT_EQ(emission("a\n0\n-1\n"), "gaussian");
}

TEST_F(LoadTest, SavesInTheUnitsOfTheFileAndReadsBack) {
  const Dataset dataset = data::load(csv(kSeries), {.split_at = {"3"}, .standardize = true});
  data::save_npz(folder / "out.npz", dataset);
  const Dataset again = data::load(folder / "out.npz");
  EXPECT_THAT(again.part("train").values,
              ElementsAre(1, testing::DoubleEq(10), 2, testing::DoubleEq(20), 3, IsNan()));
  EXPECT_THAT(again.part("test").lengths, ElementsAre(2));  // the past stays with train
  EXPECT_DOUBLE_EQ(again.part("test").values[0], 4);
}

TEST_F(LoadTest, ConvertsBetweenTheFormats) {
  data::convert(csv(kSeries), folder / "a.npz");
  data::convert(folder / "a.npz", folder / "b.npy");
  data::convert(folder / "b.npy", folder / "c.csv");
  data::convert(csv(kSeries), folder / "d2.csv");
  const std::vector<double> values = data::load(csv(kSeries)).part("all").values;
  for (const char* name : {"a.npz", "b.npy", "c.csv"}) {
    const std::vector<double> again = data::load(folder / name).part("all").values;
    ASSERT_EQ(again.size(), values.size()) << name;
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_TRUE(again[i] == values[i] || (std::isnan(again[i]) && std::isnan(values[i]))) << name;
    }
  }
  EXPECT_THAT(data::load(folder / "d2.csv").time_labels, testing::SizeIs(5));
}

TEST_F(LoadTest, RefusesToConvertWhatTheFormatCannotHold) {
  const std::string ragged =
      npz({{"values", reals({3}, {1, 2, 3})}, {"lengths", integers({2, 1})}});
  const auto refuses = [&](const std::string& in, const std::string& out, const std::string& rule) {
    const std::string path = (folder / out).string();
    EXPECT_THAT([&] { data::convert(in, path); }, testing::ThrowsMessage<InputError>(path + rule));
    EXPECT_FALSE(std::filesystem::exists(path));
  };
  refuses(ragged, "o.npy", ": holds sequences of one length, " + ragged + " has several");
  refuses(ragged, "o.csv", ": holds one series, " + ragged + " has 2 sequences");
  const std::string parts = reference("io/sequences.npz").string();
  refuses(parts, "o.csv", ": holds one part, " + parts + " has train, test");
  refuses(ragged, "o.txt", ": name: must end in .npz, .npy or .csv");
}

TEST_F(LoadTest, ReadsTheExampleWithItsGaps) {
  const Dataset co2 = data::load(std::filesystem::path(SEQVAE_SOURCE_DIR) / "examples/data/co2.csv",
                                 {.split_at = {"1990-01-01"}});
  EXPECT_THAT(co2.columns, ElementsAre("co2"));
  EXPECT_EQ(co2.time_labels.front(), "1958-03-29");
  const SequenceSet& test = co2.part("test");
  EXPECT_EQ(test.rows(), 2284);
  EXPECT_EQ(co2.time_labels[static_cast<std::size_t>(test.begin[0])], "1990-01-06");
  EXPECT_EQ(co2.part("train").observed() + test.observed(), 2284 - 59);
}

TEST_F(LoadTest, ReadsControls) {
  const std::string path = npz({{"values", reals({3}, {1, 2, 3})},
                                {"controls", reals({3, 2}, {1, 2, 3, 4, 5, 6})},
                                {"lengths", integers({2, 1})}});
  const SequenceSet set = data::load_controls(path, 2);
  EXPECT_THAT(set.lengths, ElementsAre(2, 1));
  EXPECT_THAT(set.values, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(
      [&] { data::load_controls(path, 3); },
      testing::ThrowsMessage<InputError>(path + ": controls: have 2 columns, the model takes 3"));
  const std::string gap = csv("u\n1\n\n");
  EXPECT_THAT([&] { data::load_controls(gap, 1); },
              testing::ThrowsMessage<InputError>(gap + ": controls: a value is missing"));
}

}  // namespace
}  // namespace seqvae::test

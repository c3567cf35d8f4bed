// Generators against what is known of their systems, and descriptions of data sets.
#include "seqvae/data/generators.hpp"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "seqvae/core/error.hpp"
#include "seqvae/data/describe.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {
namespace {

using data::Dataset;
using data::GeneratorOptions;

TEST(Make, IsTheSameForTheSameSeedAndDiffersBetweenPartsAndSequences) {
  for (const std::string& name : data::generator_names()) {
    const GeneratorOptions options{
        .name = name, .seed = 3, .train = 4, .valid = 0, .test = 2, .steps = 7};
    const Dataset dataset = data::make(options);
    EXPECT_FALSE(dataset.has("valid"));
    const auto& train = dataset.part("train").values;
    const auto& test = dataset.part("test").values;
    EXPECT_EQ(train, data::make(options).part("train").values) << name;
    const std::size_t width = 7 * dataset.columns.size();
    EXPECT_EQ(train.size(), 4 * width);
    EXPECT_FALSE(std::equal(train.begin(), train.begin() + static_cast<std::ptrdiff_t>(width),
                            train.begin() + static_cast<std::ptrdiff_t>(width)));
    EXPECT_FALSE(
        std::equal(test.begin(), test.begin() + static_cast<std::ptrdiff_t>(width), train.begin()));
    GeneratorOptions other = options;
    other.seed = 4;
    EXPECT_NE(train, data::make(other).part("train").values) << name;
    other = options;
    other.train = 9;  // more sequences leave the first as they were
    EXPECT_TRUE(
        std::equal(train.begin(), train.end(), data::make(other).part("train").values.begin()));
  }
}

TEST(Make, TracksAPointWithTheMomentsOfItsModel) {
  const Dataset dataset = data::make(
      {.name = "tracking", .seed = 1, .train = 40'000, .valid = 0, .test = 0, .steps = 2});
  // y0 = p0 + r0, y1 = p0 + v0 + w + r1: var y0 = 1 + 1/4, cov = 1, var y1 = 1 + .09 + q/3 + 1/4.
  double s00 = 0, s01 = 0, s11 = 0;
  const auto& y = dataset.part("train").values;
  for (std::size_t i = 0; i < y.size(); i += 4) {
    s00 += y[i] * y[i] / 40'000, s01 += y[i] * y[i + 2] / 40'000,
        s11 += y[i + 2] * y[i + 2] / 40'000;
  }
  const auto error = [](double variance) { return 4 * variance * std::sqrt(2.0 / 40'000); };
  EXPECT_NEAR(s00, 1.25, error(1.25));
  EXPECT_NEAR(s01, 1, error(1.3));
  EXPECT_NEAR(s11, 1.34 + 0.01 / 3, error(1.35));
}

TEST(Make, KeepsThePendulumOnItsCircleAndLorenzOnItsAttractor) {
  const Dataset pendulum = data::make({.name = "pendulum", .train = 20, .steps = 200});
  const auto& tip = pendulum.part("train").values;
  for (std::size_t i = 0; i < tip.size(); i += 2) {
    EXPECT_NEAR(std::hypot(tip[i], tip[i + 1]), 1, 0.3);  // noise 0.05
  }
  const Dataset lorenz = data::make({.name = "lorenz", .train = 20, .steps = 200});
  double mean_z = 0;
  const auto& x = lorenz.part("train").values;
  for (std::size_t i = 2; i < x.size(); i += 3) mean_z += x[i] / (20 * 200);
  EXPECT_NEAR(mean_z, 2.355, 0.05);  // long-run mean of z is 23.55 for sigma 10, rho 28, beta 8/3
}

TEST(Make, DrawsABallOfConstantSizeWithinTheFrame) {
  const Dataset dataset = data::make({.name = "ball", .train = 5, .steps = 60, .size = 16});
  const auto& pixels = dataset.part("train").values;
  for (std::size_t frame = 0; frame < 300; ++frame) {
    double area = 0;
    for (std::size_t i = 0; i < 256; ++i) area += pixels[frame * 256 + i];
    EXPECT_NEAR(area, M_PI * 4, 4.5);  // radius 2: 12.6 pixels, never cut by a wall
  }
  EXPECT_EQ(data::choose_emission(dataset.part("train")), "bernoulli");
}

TEST(Make, IsRefusedByNameAndRule) {
  const auto refuses = [](const GeneratorOptions& options, const std::string& message) {
    EXPECT_THAT([&] { data::make(options); }, testing::ThrowsMessage<InvalidArgument>(message));
  };
  refuses({.name = "noise"},
          "make: generator = noise, must be one of tracking, pendulum, lorenz, ball");
  refuses({.name = "ball", .size = 3}, "make: size = 3, must be 4 .. 256");
  refuses({.name = "ball", .steps = 0}, "make: steps = 0, must be 1 .. 2^24");
  refuses({.name = "ball", .train = -1}, "make: train = -1, must be 0 .. 2^24 / steps sequences");
  refuses({.name = "ball", .train = 0, .valid = 0, .test = 0},
          "make: train = 0, must be >= 1 where all else is 0");
}

TEST(Make, IsWrittenAndReadBack) {
  const TemporaryFolder folder;
  const Dataset dataset =
      data::make({.name = "ball", .train = 2, .valid = 1, .test = 1, .steps = 3});
  data::save_npz(folder / "b.npz", dataset);
  const Dataset again = data::load(folder / "b.npz");
  for (const char* part : {"train", "valid", "test"}) {
    EXPECT_EQ(again.part(part).values, dataset.part(part).values);
    EXPECT_EQ(again.part(part).lengths, dataset.part(part).lengths);
  }
}

TEST(Describe, CountsAndMeasuresTheStepsThatCount) {
  const TemporaryFolder folder;
  io::write_file(folder / "d.csv", "a,b\n1,\n3,\n5,\n9,2\n");
  const io::Json json = data::describe(data::load(folder / "d.csv", {.split_at = {"3"}}));
  EXPECT_EQ(json["emission"], "gaussian");
  EXPECT_EQ(json["columns"], 2);
  const io::Json& train = json["parts"]["train"];
  EXPECT_EQ(train["sequences"], 1);
  EXPECT_EQ(train["steps"], 3);
  EXPECT_EQ(train["observed"], 3);
  EXPECT_EQ(train["missing"], 3);
  EXPECT_EQ(train["length"]["max"], 3);
  EXPECT_EQ(train["columns"][0]["mean"], 3);
  EXPECT_DOUBLE_EQ(train["columns"][0]["deviation"].get<double>(), std::sqrt(8.0 / 3));
  EXPECT_TRUE(train["columns"][1]["mean"].is_null());
  EXPECT_EQ(json["parts"]["test"]["steps"], 1);
  EXPECT_EQ(json["parts"]["test"]["columns"][0]["mean"], 9);
}

TEST(DescribeText, ShowsATableAPart) {
  const TemporaryFolder folder;
  io::write_file(folder / "d.csv", "a,b\n1,\n3,\n");
  io::Json json = data::describe(data::load(folder / "d.csv"));
  json["file"] = "d.csv";
  EXPECT_EQ(data::describe_text(json),
            "d.csv: 2 columns, 0 controls, emission gaussian\n\n"
            "all: 1 sequences, 2 steps, lengths 2 to 2 (mean 2), 2 missing\n"
            "  column                  mean   deviation         min         max   missing\n"
            "  a                          2           1           1           3         0\n"
            "  b                          -           -           -           -         2\n");
  EXPECT_THAT(data::describe_text(json, 1), testing::HasSubstr("  ... and 1 more\n"));
}

}  // namespace
}  // namespace seqvae::test

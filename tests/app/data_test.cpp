// seqvae data and seqvae info, on files.
#include <gmock/gmock.h>

#include <algorithm>

#include "seqvae/io/npy.hpp"
#include "tests/app/program.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(DataMake, WritesADataSetThatDescribeReads) {
  const TemporaryFolder folder;
  const std::string file = folder / "lorenz.npz";
  const Outcome made = run({"data", "make", "lorenz", "--out", file, "--train", "7", "--valid", "0",
                            "--test", "2", "--steps", "11", "--json"});
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_THAT(files_in(folder.path()), ElementsAre("lorenz.npz"));
  const io::NamedArrays arrays = io::read_npz(file);
  EXPECT_THAT(arrays.at("train_values").shape, ElementsAre(77, 3));
  EXPECT_FALSE(arrays.contains("valid_values"));

  const Outcome described = run({"data", "describe", file, "--json"});
  ASSERT_EQ(described.status, 0) << described.err;
  EXPECT_EQ(described.json(), made.json());
  EXPECT_EQ(described.json().at("parts").at("test").at("steps"), 22);
  EXPECT_THAT(run({"data", "describe", file}).out, HasSubstr("train: 7 sequences, 77 steps"));
}

TEST(DataMake, FollowsItsSeed) {
  const TemporaryFolder folder;
  const auto make = [&](const std::string& name, const std::string& seed) {
    EXPECT_EQ(run({"data", "make", "pendulum", "--out", folder / name, "--seed", seed, "--train",
                   "2", "--quiet"})
                  .status,
              0);
    return io::read_file(folder / name);
  };
  const std::string first = make("a.npz", "3");
  EXPECT_EQ(first, make("b.npz", "3"));
  EXPECT_NE(first, make("c.npz", "4"));
}

TEST(DataMake, LeavesNothingWhereItFails) {
  const TemporaryFolder folder;
  const Outcome wrong = run({"data", "make", "lorentz", "--out", folder / "x.npz"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.err, HasSubstr("lorentz"));
  EXPECT_THAT(files_in(folder.path()), IsEmpty());
  const Outcome nowhere = run({"data", "make", "lorenz", "--out", folder / "no/x.npz"});
  EXPECT_EQ(nowhere.status, 2);
  EXPECT_EQ(nowhere.err, "seqvae: " + (folder / "no/x.npz").string() +
                             ": cannot be written to: No such file or directory\n");
}

TEST(DataConvert, KeepsValuesAndOrder) {
  const TemporaryFolder folder;
  io::write_file(folder / "in.csv", "year,a,b\n2001,1.5,2\n2002,,3\n2003,4,5\n");
  ASSERT_EQ(run({"data", "convert", "in.csv", "out.npz", "--time", "year", "--columns", "b,a"},
                folder.path())
                .status,
            0);
  const io::Array values = io::read_npz(folder / "out.npz").at("values");
  EXPECT_THAT(values.shape, ElementsAre(3, 2));
  EXPECT_THAT(values.to_double(), ElementsAre(2, 1.5, 3, testing::IsNan(), 5, 4));
}

TEST(DataDescribe, NamesFilePlaceAndRule) {
  const TemporaryFolder folder;
  io::write_file(folder / "bad.csv", "a,b\n1,2\n3,x\n");
  const Outcome outcome = run({"data", "describe", "bad.csv", "--json"}, folder.path());
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.err, testing::StartsWith("seqvae: bad.csv: line 3, column 'b': "));
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1);
  EXPECT_THAT(outcome.out, IsEmpty());
}

TEST(Info, ListsModelsAndGraphs) {
  const io::Json info = run({"info", "--json"}).json();
  EXPECT_TRUE(info.at("models").contains("dmm"));
  EXPECT_TRUE(info.at("models").contains("lgssm"));
  EXPECT_EQ(info.at("version"), SEQVAE_VERSION);
  const Outcome graph = run({"info", "--graph", "dmm", "--x-width", "88", "--emission", "bernoulli",
                             "--set", "configuration.z=7"});
  EXPECT_EQ(graph.status, 0) << graph.err;
  EXPECT_THAT(graph.out, HasSubstr("loop, backward in time"));
  EXPECT_THAT(graph.out, HasSubstr("loops on a CUDA device\n  backward in time"));
  EXPECT_THAT(graph.out, HasSubstr("nodes: one chain\n"));
  const Outcome drawn =
      run({"info", "--graph", "vrnn", "--mode", "generate", "--emission", "bernoulli"});
  EXPECT_THAT(drawn.out,
              HasSubstr("nodes: step by step: likelihood_sample is no stage of a chain"));
  EXPECT_FALSE(run({"info", "--models", "--json"}).json().contains("kernels"));
}

}  // namespace
}  // namespace seqvae::test

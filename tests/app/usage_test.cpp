// Help, and what a wrong command line comes to: status 2, one line on stderr, nothing on stdout.
#include <gmock/gmock.h>

#include "tests/app/program.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

using Words = std::vector<std::string>;

class Help : public testing::TestWithParam<Words> {};

TEST_P(Help, HasAnExampleAndTheExitStatuses) {
  Words words = GetParam();
  words.push_back("--help");
  const Outcome outcome = run(words);
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out, HasSubstr("Example: seqvae"));
  EXPECT_THAT(outcome.out, HasSubstr("Exit status: 0 done; 1 the work failed; 2 bad input"));
  EXPECT_THAT(outcome.err, IsEmpty());
}
INSTANTIATE_TEST_SUITE_P(Commands, Help,
                         testing::Values(Words{}, Words{"data"}, Words{"data", "describe"},
                                         Words{"data", "make"}, Words{"data", "convert"},
                                         Words{"info"}, Words{"train"}, Words{"evaluate"},
                                         Words{"infer"}, Words{"forecast"}, Words{"impute"},
                                         Words{"generate"}));

TEST(Usage, PrintsTheVersion) {
  const Outcome outcome = run({"--version"});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.out, "seqvae " SEQVAE_VERSION "\n");
}

struct WrongLine {
  Words words;
  std::string line;
};

class Usage : public testing::TestWithParam<WrongLine> {};

TEST_P(Usage, IsRefusedInOneLine) {
  const Outcome outcome = run(GetParam().words);
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.err, "seqvae: " + GetParam().line + "\n");
  EXPECT_THAT(outcome.out, IsEmpty());
}
INSTANTIATE_TEST_SUITE_P(
    Lines, Usage,
    testing::Values(
        WrongLine{{"fly"}, "fly: is no command"},
        WrongLine{{"dat"}, "dat: is no command; did you mean 'data'?"},
        WrongLine{{"data"}, "data: a command is needed: describe, make, convert"},
        WrongLine{{"data", "descrbe", "x.csv"},
                  "data: descrbe: is no command; did you mean 'describe'?"},
        WrongLine{{"data", "describe"}, "describe: FILE is required"},
        WrongLine{{"data", "describe", "a.csv", "b.csv"},
                  "describe: b.csv: is one argument too many"},
        WrongLine{{"data", "describe", "a.csv", "--windw", "5"},
                  "describe: --windw: is no option here; did you mean '--window'?"},
        WrongLine{{"data", "describe", "a.csv", "--window", "five"},
                  "--window: is 'five', must be an integer >= 0"},
        WrongLine{{"data", "describe", "a.csv", "--stride", "0"},
                  "--stride: is '0', must be an integer >= 1"},
        WrongLine{{"data", "describe", "a.csv", "--columns", "a,,b"},
                  "--columns: is 'a,,b', must be names between commas"},
        WrongLine{{"data", "make", "lorenz"}, "make: --out is required"},
        WrongLine{{"data", "make", "lorenz", "--out", "x.csv"}, "--out: x.csv: must end in .npz"},
        WrongLine{{"info", "--graph", "dnn"}, "model = dnn, must be one of lgssm, dmm, rvae, vrnn"},
        WrongLine{{"info", "--graph", "dmm", "--set", "configuration.zz=3"},
                  "--set: configuration.zz: is no key here; did you mean 'configuration.z'?"},
        WrongLine{{"info", "--graph", "dmm", "--set", "learning_rat=3"},
                  "--set: learning_rat: is no key here; did you mean 'train.learning_rate'?"},
        WrongLine{{"info", "--graph", "dmm", "--set", "configuration.z=many"},
                  "--set: configuration.z: is a string, must be an integer"},
        WrongLine{{"info", "--graph", "dmm", "--set", "z"}, "--set: z: must be key=value"}));

}  // namespace
}  // namespace seqvae::test

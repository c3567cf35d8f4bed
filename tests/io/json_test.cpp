// JSON with limits, and getters that name file, key and rule.
#include "seqvae/io/json.hpp"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "seqvae/core/error.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {
namespace {

using testing::ElementsAre;

TEST(ParseJson, KeepsValuesAndTheOrderOfKeys) {
  const io::Json json =
      io::parse_json(R"({"z": [1, -2, 3.5, true, null, "té\n"], "a": {"b": {}, "c": []}})", "f");
  EXPECT_EQ(json.dump(), R"({"z":[1,-2,3.5,true,null,"té\n"],"a":{"b":{},"c":[]}})");
}

TEST(WriteJson, WritesWhatReadsBackTheSame) {
  const TemporaryFolder folder;
  const io::Json json = {{"third", 1.0 / 3}, {"big", 9007199254740993}, {"list", {1, "x"}}};
  io::write_json(folder / "a.json", json);
  EXPECT_EQ(io::read_json(folder / "a.json"), json);
}

struct BadJson {
  std::string name, text, message;
  friend void PrintTo(const BadJson& m, std::ostream* out) { *out << m.name; }
};

class MalformedJson : public testing::TestWithParam<BadJson> {};

TEST_P(MalformedJson, IsRefusedWithPlaceAndRule) {
  EXPECT_THAT(
      [&] { io::parse_json(GetParam().text, "f.json"); },
      testing::ThrowsMessage<InputError>(testing::StartsWith("f.json: " + GetParam().message)));
}

std::string nested(int depth) {
  return std::string(std::size_t(depth), '[') + std::string(std::size_t(depth), ']');
}

INSTANTIATE_TEST_SUITE_P(
    Cases, MalformedJson,
    testing::Values(
        BadJson{"empty", "", "line 1, column 1: syntax error while parsing value"},
        BadJson{"cut", "{\"a\":\n [1, 2", "line 2, column 7: syntax error while parsing array"},
        BadJson{"comma", "{\"a\": 1,}", "line 1, column 9: syntax error while parsing object key"},
        BadJson{"comment", "{} // x", "line 1, column 4: syntax error"},
        BadJson{"two_values", "{} {}", "line 1, column 4: syntax error"},
        BadJson{"nan", "[NaN]", "line 1, column 2: syntax error"},
        BadJson{"infinity", "[-Infinity]", "line 1, column 3: syntax error"},
        BadJson{"beyond_double", "[1,\n1e999]", "line 2, column 5: a number is beyond double"},
        BadJson{"not_utf8", "[\"\xff\"]", "line 1, column 3: syntax error"},
        BadJson{"twice", R"({"a": {"b": 1, "b": 2}})", "a.b: is there twice"},
        BadJson{"twice_in_array", R"({"x": 1, "a": [0, {"b": 1, "b": 2}]})",
                "a[1].b: is there twice"},
        BadJson{"deep", nested(65), std::string("[0]") + "[0]"}),
    [](const auto& info) { return info.param.name; });

TEST(ParseJson, NestsAsDeepAsTheLimit) {
  EXPECT_NO_THROW(io::parse_json(nested(io::kJsonDepth), "f"));
  EXPECT_THAT([] { io::parse_json(nested(1'000'000), "f"); },
              testing::ThrowsMessage<InputError>(testing::EndsWith("is nested deeper than 64")));
}

class Getters : public testing::Test {
 protected:
  io::Json json = io::parse_json(
      R"({"n": 2.5, "i": 3, "whole": 1e3, "big": 18446744073709551615, "s": "gru", "t": true,
          "list": [1, 2, "x"], "m": [[1, 2], [3, 4]], "ragged": [[1, 2], [3]], "o": {"epochs": 1}})",
      "c.json");
  io::JsonView view{json, "c.json"};
};

TEST_F(Getters, YieldWhatIsThere) {
  EXPECT_EQ(view.at("n").number(), 2.5);
  EXPECT_EQ(view.at("i").integer(0, 3), 3);
  EXPECT_EQ(view.at("whole").integer(), 1000);
  EXPECT_EQ(view.at("s").choice({"lstm", "gru"}), "gru");
  EXPECT_TRUE(view.at("t").boolean());
  EXPECT_FALSE(view.get("none"));
  EXPECT_THAT(view.at("m").matrix(2, -1), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(view.at("o").at("epochs").place(), "o.epochs");
}

TEST_F(Getters, NameFileKeyAndRule) {
  const auto refuses = [](auto&& get, const std::string& message) {
    EXPECT_THAT(get, testing::ThrowsMessage<InputError>("c.json: " + message));
  };
  refuses([&] { view.at("none"); }, "none: is missing");
  refuses([&] { view.at("o").at("none"); }, "o.none: is missing");
  refuses([&] { view.at("n").get("x"); }, "n: is 2.5, must be an object");
  refuses([&] { view.at("s").number(); }, "s: is a string, must be a number");
  refuses([&] { view.at("n").number(3); }, "n: is 2.5, must be >= 3");
  refuses([&] { view.at("n").number(0, 1); }, "n: is 2.5, must be <= 1");
  refuses([&] { view.at("n").integer(); }, "n: is 2.5, must be an integer");
  refuses([&] { view.at("big").integer(); }, "big: is 18446744073709551615, must be an integer");
  refuses([&] { view.at("i").integer(4); }, "i: is 3, must be >= 4");
  refuses([&] { view.at("i").integer(0, 2); }, "i: is 3, must be <= 2");
  refuses([&] { view.at("i").boolean(); }, "i: is 3, must be true or false");
  refuses([&] { view.at("list").string(); }, "list: is an array, must be a string");
  refuses([&] { view.at("s").choice({"lstm", "rnn"}); }, "s: is 'gru', must be one of lstm, rnn");
  refuses([&] { view.at("list").numbers(); }, "list[2]: is a string, must be a number");
  refuses([&] { view.at("o").elements(); }, "o: is an object, must be an array");
  refuses([&] { view.at("m").matrix(3, 2); }, "m: has 2 rows, must have 3");
  refuses([&] { view.at("ragged").matrix(-1, -1); }, "ragged[1]: has 1 columns, must have 2");
  refuses(
      [&] {
        view.at("o").allow_only({"epoch", "seed"});
      },
      "o.epochs: is no key here; did you mean 'epoch'?");
  refuses([&] { view.at("o").allow_only({"seed"}); }, "o.epochs: is no key here");
}

}  // namespace
}  // namespace seqvae::test

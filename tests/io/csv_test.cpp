// Tables: what is accepted, what is refused and with which words.
#include "seqvae/io/csv.hpp"

#include <gmock/gmock.h>

#include <cmath>

#include "seqvae/core/error.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::IsNan;

TEST(ParseCsv, ReadsNumbersAndGaps) {
  const io::CsvTable table = io::parse_csv("a,b\n1,-2.5e3\n,nan\n+3, 4 \n", "f.csv");
  EXPECT_THAT(table.columns, ElementsAre("a", "b"));
  EXPECT_EQ(table.rows, 3);
  EXPECT_THAT(table.values, ElementsAre(1, -2500, IsNan(), IsNan(), 3, 4));
  EXPECT_THAT(table.times, IsEmpty());
}

TEST(ParseCsv, AcceptsByteOrderMarkCarriageReturnsQuotesAndNoLastNewline) {
  const io::CsvTable table =
      io::parse_csv("\xEF\xBB\xBF\"a\",\"b, \"\"c\"\"\"\r\n\"1\",2\r\n3,\"4\"", "f.csv");
  EXPECT_THAT(table.columns, ElementsAre("a", "b, \"c\""));
  EXPECT_THAT(table.values, ElementsAre(1, 2, 3, 4));
}

TEST(ParseCsv, TakesAnEmptyLineOfOneColumnForAGap) {
  EXPECT_THAT(io::parse_csv("a\n1\n\n3\n", "f.csv").values, ElementsAre(1, IsNan(), 3));
  EXPECT_THAT(io::parse_csv("a,b\n1,2\n\n\n", "f.csv").values, ElementsAre(1, 2));
}

TEST(ParseCsv, TakesAFirstColumnOfDatesForTheTime) {
  const io::CsvTable table = io::parse_csv("date,co2\n1958-03-29,316.1\n1958-04-05,\n", "f.csv");
  EXPECT_EQ(table.time_column, "date");
  EXPECT_THAT(table.columns, ElementsAre("co2"));
  EXPECT_THAT(table.times, ElementsAre("1958-03-29", "1958-04-05"));
  EXPECT_THAT(table.values, ElementsAre(316.1, IsNan()));
  const io::CsvTable unnamed = io::parse_csv(",co2\n1958-03-29 00:00:00,1\n", "f.csv");
  EXPECT_THAT(unnamed.columns, ElementsAre("co2"));
  EXPECT_THAT(unnamed.times, ElementsAre("1958-03-29 00:00:00"));
}

TEST(ParseCsv, ChoosesColumnsInTheOrderAsked) {
  const io::CsvTable table =
      io::parse_csv("t,name,a,b\n1871,x,1,2\n1872,y,3,4\n", "f.csv", {{"b", "a"}, "t"});
  EXPECT_THAT(table.columns, ElementsAre("b", "a"));
  EXPECT_THAT(table.values, ElementsAre(2, 1, 4, 3));
  EXPECT_THAT(table.times, ElementsAre("1871", "1872"));
}

TEST(WriteCsv, WritesWhatReadsBackTheSame) {
  const TemporaryFolder folder;
  io::CsvTable table;
  table.columns = {"plain", "with, comma and \"quote\""};
  table.values = {0.1, 1.0 / 3, NAN, -5e-324, 1.7976931348623157e308, 2};
  table.rows = 3;
  table.time_column = "date";
  table.times = {"2020-01-01", "2020-01-02T12:00", "2020-01-03"};
  io::write_csv(folder / "a.csv", table);
  const io::CsvTable again = io::read_csv(folder / "a.csv");
  EXPECT_EQ(again.columns, table.columns);
  EXPECT_EQ(again.times, table.times);
  EXPECT_EQ(again.time_column, "date");
  ASSERT_EQ(again.values.size(), table.values.size());
  for (std::size_t i = 0; i < table.values.size(); ++i) {
    EXPECT_TRUE(again.values[i] == table.values[i] ||
                (std::isnan(again.values[i]) && std::isnan(table.values[i])));
  }
}

TEST(ParseIso8601, KnowsDatesAndTimesOfDay) {
  EXPECT_EQ(io::parse_iso8601("1970-01-01"), 0);
  EXPECT_EQ(io::parse_iso8601("1970"), 0);
  EXPECT_EQ(io::parse_iso8601("1970-02"), 31 * 86400);
  EXPECT_EQ(io::parse_iso8601("2000-02-29T12:30"), 951'827'400);  // date -u -d ... +%s
  EXPECT_EQ(io::parse_iso8601("2016-07-01 00:00:00"), 1'467'331'200);
  EXPECT_EQ(io::parse_iso8601("1970-01-01T00:00:00.25Z"), 0.25);
  EXPECT_EQ(io::parse_iso8601("1970-01-01T02:00+02:00"), 0);
  EXPECT_EQ(io::parse_iso8601("1969-12-31T19:00:00-0500"), 0);
  for (const char* text :
       {"", "197", "1970-1-1", "1970-13-01", "2001-02-29", "1970-01-01x", "1970-01-01T", "19700101",
        "1970-01-01T24:00", "1970-01-01T00:60", "1970-01-01T00:00:00.", "1970-01-01T00:00+25:00",
        "1970-01T00:00", "1970-", "1970 00:00"}) {
    EXPECT_FALSE(io::parse_iso8601(text)) << text;
  }
}

struct BadCsv {
  std::string name, text, message;
  io::CsvOptions options = {};
  friend void PrintTo(const BadCsv& m, std::ostream* out) { *out << m.name; }
};

class MalformedCsv : public testing::TestWithParam<BadCsv> {};

TEST_P(MalformedCsv, IsRefusedWithPlaceAndRule) {
  const auto& [name, text, message, options] = GetParam();
  EXPECT_THAT([&] { io::parse_csv(text, "f.csv", options); },
              testing::ThrowsMessage<InputError>("f.csv: " + message));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, MalformedCsv,
    testing::Values(
        BadCsv{"empty", "", "line 1: must name the columns"},
        BadCsv{"only_mark", "\xEF\xBB\xBF", "line 1: must name the columns"},
        BadCsv{"header_only", "a,b\n", "line 2: must hold a row, the file ends"},
        BadCsv{"short_row", "a,b\n1,2\n3\n", "line 3: has 1 field, the header has 2"},
        BadCsv{"long_row", "a,b\n1,2,3\n", "line 2: has 3 fields, the header has 2"},
        BadCsv{"blank_line_within", "a,b\n\n1,2\n", "line 2: has 1 field, the header has 2"},
        BadCsv{"word", "a,b\n1,2\n3,four\n", "line 3, column 'b': 'four' is no number"},
        BadCsv{"trailing_text", "a\n1x\n", "line 2, column 'a': '1x' is no number"},
        BadCsv{"hexadecimal", "a\n0x10\n", "line 2, column 'a': '0x10' is no number"},
        BadCsv{"two_signs", "a\n+-1\n", "line 2, column 'a': '+-1' is no number"},
        BadCsv{"infinite", "a\n1\ninf\n", "line 3, column 'a': 'inf' is not finite"},
        BadCsv{"overflow", "a\n-1e999\n", "line 2, column 'a': '-1e999' is not finite"},
        BadCsv{"control_characters", "a\n\"1\n2\"\n", "line 2, column 'a': '1?2' is no number"},
        BadCsv{"column_twice", "a,a\n1,2\n", "line 1: column 'a' is there twice"},
        BadCsv{"no_name", "a,\n1,2\n", "line 1: column 2 has no name"},
        BadCsv{"no_name_first", ",a\n1,2\n", "line 1: column 1 has no name"},
        BadCsv{"open_quote", "a\n\"1\n2\n", "line 2: a quote is never closed"},
        BadCsv{"after_quote", "a\n\"1\"2\n", "line 2: something follows a closing quote"},
        BadCsv{"inner_quote", "a\n1\"2\n", "line 2: a quote stands within a field"},
        BadCsv{"lines_counted_in_quotes",
               "a,b\n\"x\ny\",2\nz,3,4\n",
               "line 4: has 3 fields, the header has 2",
               {{"b"}, ""}},
        BadCsv{
            "unknown_column", "a,b\n1,2\n", "line 1: has no column 'c'; it has a, b", {{"c"}, ""}},
        BadCsv{"unknown_time",
               "a,b\n1,2\n",
               "line 1: has no column 'date'; it has a, b",
               {{}, "date"}},
        BadCsv{
            "asked_twice", "a,b\n1,2\n", "line 1: column 'a' is asked for twice", {{"a", "a"}, ""}},
        BadCsv{"time_and_value",
               "a,b\n1,2\n",
               "line 1: column 'a' cannot hold both times and values",
               {{"a"}, "a"}},
        BadCsv{"only_time",
               "date\n2020-01-01\n",
               "line 1: has no column besides the times",
               {{}, "date"}},
        BadCsv{"no_such_date", "date,a\n2020-02-28,1\n2020-02-30,2\n",
               "line 3, column 'date': '2020-02-30' is no time (ISO 8601, or a number)"},
        BadCsv{"time_missing", "date,a\n2020-02-28,1\n,2\n",
               "line 3, column 'date': '' is no time (ISO 8601, or a number)"},
        BadCsv{"time_goes_back", "date,a\n2020-02-28,1\n2020-02-27,2\n",
               "line 3, column 'date': '2020-02-27' lies before the row above"},
        BadCsv{"dates_and_numbers", "t,a\n2020-02-28,1\n5e10,2\n",
               "line 3, column 't': must hold only dates or only numbers"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace seqvae::test

/// \file  Tables as comma separated values (RFC 4180; UTF-8, byte order mark and CRLF accepted).
///
/// The first line names the columns. A field is a number; an empty one, or "nan", is missing.
/// Fields may be quoted. One column may hold times: ISO 8601, or numbers; never descending.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "seqvae/io/file.hpp"

namespace seqvae::io {

struct CsvOptions {
  std::vector<std::string> columns;  ///< which, in this order; empty: all but the time column
  std::string time;  ///< the time column; empty: the first column where it holds dates, else none
};

struct CsvTable {
  std::vector<std::string> columns;  ///< [D]
  std::vector<double> values;        ///< [rows][D]  NaN is missing
  std::string time_column;           ///< empty: none
  std::vector<std::string> times;    ///< [rows] as written; empty: none
  std::int64_t rows = 0;
};

/// \throws InputError "file: line L, column 'NAME': rule".
CsvTable read_csv(const Path& path, const CsvOptions& options = {});
CsvTable parse_csv(std::string_view text, std::string_view file, const CsvOptions& options = {});
/// Numbers with as many digits as it takes to read the same value back; missing is empty.
void write_csv(const Path& path, const CsvTable& table);

/// Seconds since 1970-01-01T00:00Z of YYYY, YYYY-MM, YYYY-MM-DD or the last with a time of day:
/// "T" or a blank, HH:MM, optionally :SS and decimals, optionally Z or +HH:MM (none: UTC).
/// Nothing where the text is none of these or no such date exists.
std::optional<double> parse_iso8601(std::string_view text);

}  // namespace seqvae::io

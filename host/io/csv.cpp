#include "seqvae/io/csv.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>

#include "seqvae/core/error.hpp"

namespace seqvae::io {
namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string shortened(std::string_view text) {
  return std::string(text.substr(0, 40)) + (text.size() > 40 ? "..." : "");
}

// Records of a text, field by field. Line numbers count from 1, and a quoted field may span lines.
class Records {
 public:
  Records(std::string_view text, std::string_view file) : text_(text), file_(file) {
    if (text_.starts_with("\xEF\xBB\xBF")) text_.remove_prefix(3);
  }

  /// The next record's fields, valid until the next call; false at the end.
  bool next(std::vector<std::string>& fields) {
    if (at_ >= text_.size()) return false;
    record_line_ = line_;
    std::size_t used = 0;
    while (true) {
      if (used == fields.size()) fields.emplace_back();
      const bool more = field(fields[used++]);
      if (!more) break;
    }
    fields.resize(used);
    return true;
  }
  std::int64_t line() const { return record_line_; }  ///< where the record began
  bool only_blank_lines_follow() const {
    return text_.find_first_not_of("\r\n", at_) == std::string_view::npos;
  }

 private:
  [[noreturn]] void fail(std::string_view rule) const {
    throw InputError(file_, fmt::format("line {}", record_line_), rule);
  }
  // Reads one field and what ends it; true where that is a comma.
  bool field(std::string& out) {
    out.clear();
    if (at_ < text_.size() && text_[at_] == '"') {
      quoted(out);
    } else {
      const std::size_t end = std::min(text_.find_first_of(",\r\n\"", at_), text_.size());
      out.assign(text_.substr(at_, end - at_));
      at_ = end;
      if (at_ < text_.size() && text_[at_] == '"') fail("a quote stands within a field");
    }
    if (at_ >= text_.size()) return false;
    const char c = text_[at_++];
    if (c == ',') return true;
    if (c == '\r' && at_ < text_.size() && text_[at_] == '\n') ++at_;
    if (c == '\r' || c == '\n') {
      ++line_;
      return false;
    }
    fail("something follows a closing quote");
  }
  void quoted(std::string& out) {
    while (true) {
      const std::size_t close = text_.find('"', at_ + 1);
      if (close == std::string_view::npos) fail("a quote is never closed");
      const std::string_view part = text_.substr(at_ + 1, close - at_ - 1);
      line_ += std::count(part.begin(), part.end(), '\n');
      out += part;
      at_ = close + 1;
      if (at_ >= text_.size() || text_[at_] != '"') return;
      out += '"';  // two quotes stand for one
    }
  }

  std::string_view text_, file_;
  std::size_t at_ = 0;
  std::int64_t line_ = 1, record_line_ = 1;
};

class Parser {
 public:
  Parser(std::string_view text, std::string_view file, const CsvOptions& options)
      : records_(text, file), file_(file), options_(options) {}

  CsvTable parse() {
    std::vector<std::string> fields;
    if (!records_.next(fields)) throw InputError(file_, "line 1", "must name the columns");
    header_ = fields;
    for (std::string& name : header_) name = std::string(trimmed(name));
    choose_columns();
    double last_time = -std::numeric_limits<double>::infinity();
    while (records_.next(fields)) {
      const bool blank = fields.size() == 1 && fields[0].empty();
      if (blank && header_.size() > 1 && records_.only_blank_lines_follow()) break;
      if (fields.size() != header_.size()) {
        throw InputError(file_, fmt::format("line {}", records_.line()),
                         fmt::format("has {} field{}, the header has {}", fields.size(),
                                     fields.size() == 1 ? "" : "s", header_.size()));
      }
      if (table_.rows == 0 && guess_time_) guess_time(fields);
      if (time_ >= 0) last_time = add_time(fields[static_cast<std::size_t>(time_)], last_time);
      for (const std::size_t c : chosen_) table_.values.push_back(number(fields[c], c));
      ++table_.rows;
    }
    if (table_.rows == 0) throw InputError(file_, "line 2", "must hold a row, the file ends");
    return std::move(table_);
  }

 private:
  std::string place(std::size_t column) const {
    return fmt::format("line {}, column '{}'", records_.line(), shortened(header_[column]));
  }
  std::size_t index_of(const std::string& name) const {
    const auto found = std::find(header_.begin(), header_.end(), name);
    if (found == header_.end()) {
      std::string all;
      for (const std::string& other : header_) {
        all += (all.empty() ? "" : ", ") + other;
        if (all.size() > 200) break;
      }
      throw InputError(file_, "line 1",
                       fmt::format("has no column '{}'; it has {}", name, shortened(all)));
    }
    return static_cast<std::size_t>(found - header_.begin());
  }

  void choose_columns() {
    std::set<std::string> seen;
    for (const std::string& name : header_) {
      if (!name.empty() && !seen.insert(name).second) {
        throw InputError(file_, "line 1", fmt::format("column '{}' is there twice", name));
      }
    }
    if (!options_.time.empty()) time_ = static_cast<std::int64_t>(index_of(options_.time));
    guess_time_ = time_ < 0 && options_.columns.empty();
    std::set<std::string> asked;
    for (const std::string& name : options_.columns) {
      if (!asked.insert(name).second) {
        throw InputError(file_, "line 1", fmt::format("column '{}' is asked for twice", name));
      }
      chosen_.push_back(index_of(name));
      if (static_cast<std::int64_t>(chosen_.back()) == time_) {
        throw InputError(file_, "line 1",
                         fmt::format("column '{}' cannot hold both times and values", name));
      }
    }
    if (options_.columns.empty()) {
      for (std::size_t c = 0; c < header_.size(); ++c) {
        if (static_cast<std::int64_t>(c) != time_) chosen_.push_back(c);
      }
    }
    name_columns();
  }
  void name_columns() {
    for (const std::size_t c : chosen_) {
      if (header_[c].empty() && !(guess_time_ && c == 0)) {
        throw InputError(file_, "line 1", fmt::format("column {} has no name", c + 1));
      }
    }
    if (chosen_.empty()) throw InputError(file_, "line 1", "has no column besides the times");
    table_.columns.clear();
    for (const std::size_t c : chosen_) table_.columns.push_back(header_[c]);
    if (time_ >= 0) table_.time_column = header_[static_cast<std::size_t>(time_)];
  }
  // The first column is the time where its first field is a date and no plain number.
  void guess_time(const std::vector<std::string>& fields) {
    guess_time_ = false;
    const std::string_view first = trimmed(fields[0]);
    if (first.find('-', 1) != std::string_view::npos && parse_iso8601(first)) {
      time_ = 0;
      chosen_.erase(chosen_.begin());
    }
    name_columns();
  }

  double add_time(const std::string& field, double last) {
    const std::string_view text = trimmed(field);
    const auto column = static_cast<std::size_t>(time_);
    std::optional<double> time = parse_iso8601(text);
    const bool date = time.has_value();
    if (!date) time = plain_number(text);
    if (!time || !std::isfinite(*time)) {
      throw InputError(file_, place(column),
                       fmt::format("'{}' is no time (ISO 8601, or a number)", shortened(text)));
    }
    if (table_.rows > 0 && date != dates_) {
      throw InputError(file_, place(column), "must hold only dates or only numbers");
    }
    dates_ = date;
    if (!(*time >= last)) {
      throw InputError(file_, place(column),
                       fmt::format("'{}' lies before the row above", shortened(text)));
    }
    table_.times.emplace_back(text);
    return *time;
  }

  static std::optional<double> plain_number(std::string_view text) {
    if (text.starts_with('+')) {
      text.remove_prefix(1);
      if (text.starts_with('-') || text.starts_with('+')) return std::nullopt;
    }
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc::result_out_of_range && end == text.data() + text.size()) {
      return std::numeric_limits<double>::infinity();
    }
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
  }

  double number(const std::string& field, std::size_t column) const {
    const std::string_view text = trimmed(field);
    if (text.empty()) return kMissing;
    const std::optional<double> value = plain_number(text);
    if (!value) {
      throw InputError(file_, place(column), fmt::format("'{}' is no number", shortened(text)));
    }
    if (std::isinf(*value)) {
      throw InputError(file_, place(column), fmt::format("'{}' is not finite", shortened(text)));
    }
    return std::isnan(*value) ? kMissing : *value;
  }

  Records records_;
  std::string_view file_;
  const CsvOptions& options_;
  std::vector<std::string> header_;
  std::vector<std::size_t> chosen_;  // indices into the header
  std::int64_t time_ = -1;
  bool guess_time_ = false, dates_ = false;
  CsvTable table_;
};

std::string quoted_where_needed(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos && trimmed(text).size() == text.size()) {
    return text;
  }
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + '"';
}

}  // namespace

CsvTable parse_csv(std::string_view text, std::string_view file, const CsvOptions& options) {
  return Parser(text, file, options).parse();
}

CsvTable read_csv(const Path& path, const CsvOptions& options) {
  return parse_csv(read_file(path), path.string(), options);
}

void write_csv(const Path& path, const CsvTable& table) {
  std::string text;
  const std::size_t D = table.columns.size();
  const bool timed = !table.time_column.empty();
  if (timed) text += quoted_where_needed(table.time_column) + ',';
  for (std::size_t d = 0; d < D; ++d) {
    if (d > 0) text += ',';
    text += quoted_where_needed(table.columns[d]);
  }
  text += '\n';
  for (std::size_t r = 0; r < static_cast<std::size_t>(table.rows); ++r) {
    if (timed) text += quoted_where_needed(table.times[r]) + ',';
    for (std::size_t d = 0; d < D; ++d) {
      if (d > 0) text += ',';
      const double value = table.values[r * D + d];
      if (!std::isnan(value)) fmt::format_to(std::back_inserter(text), "{}", value);
    }
    text += '\n';
  }
  write_file(path, text);
}

}  // namespace seqvae::io

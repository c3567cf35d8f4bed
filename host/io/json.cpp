#include "seqvae/io/json.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "seqvae/core/error.hpp"

namespace seqvae::io {
namespace {

std::string member_of(const std::string& place, std::string_view key) {
  return place.empty() ? std::string(key) : fmt::format("{}.{}", place, key);
}

std::string line_and_column(std::string_view text, std::size_t byte) {
  const std::string_view before = text.substr(0, std::min(byte, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t start = before.rfind('\n') + 1;  // npos + 1 = 0
  return fmt::format("line {}, column {}", line, before.size() - start + 1);
}

// Builds the document from the parser's events, so that a limit or a rule stops it at once.
class Builder {
 public:
  Builder(std::string_view text, std::string_view file) : text_(text), file_(file) {}
  Json take() { return std::move(root_); }

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(Json::number_integer_t value) { return add(value); }
  bool number_unsigned(Json::number_unsigned_t value) { return add(value); }
  bool number_float(Json::number_float_t value, const std::string&) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(std::size_t) { return open(Json::object()); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& name) {
    if (!keys_.back().insert(name).second) {
      throw InputError(file_, member_of(place(), name), "is there twice");
    }
    key_ = name;
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&, const nlohmann::detail::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error ...; last
    // read: ...": what stands after the place.
    std::string message = error.what();
    if (error.id == 406) {
      message = "a number is beyond double";
    } else if (const auto at = message.find(": "); at != std::string::npos) {
      message.erase(0, at + 2);
    }
    throw InputError(file_, line_and_column(text_, byte == 0 ? 0 : byte - 1), message);
  }

 private:
  std::string place() const {
    std::string text;
    for (std::size_t i = 0; i + 1 < open_.size(); ++i) text = step(text, i);
    return text;
  }
  // The way from level i to level i + 1: the last element, for the document is built in order.
  std::string step(const std::string& text, std::size_t i) const {
    const Json& level = *open_[i];
    if (level.is_array()) return fmt::format("{}[{}]", text, level.size() - 1);
    return member_of(text, std::prev(level.end()).key());
  }
  Json* put(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    // ordered_json keeps its members in a vector: growing it moves the members before, but no
    // member that is still open is among them. (Its operator[] would search: quadratic.)
    auto& members = open_.back()->get_ref<Json::object_t&>();
    static_cast<Json::object_t::Container&>(members).emplace_back(key_, std::move(value));
    return &members.back().second;
  }
  bool add(Json value) {
    put(std::move(value));
    return true;
  }
  bool open(Json value) {
    if (open_.size() >= static_cast<std::size_t>(kJsonDepth)) {
      throw InputError(file_, place(), fmt::format("is nested deeper than {}", kJsonDepth));
    }
    open_.push_back(put(std::move(value)));
    keys_.emplace_back();
    return true;
  }
  bool close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
  }

  std::string_view text_, file_;
  Json root_;
  std::vector<Json*> open_;
  std::vector<std::unordered_set<std::string>> keys_;  // of each open level
  std::string key_;
};

std::string kind_of(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_number()) return value.dump();
  if (value.is_string()) return "a string";
  return value.is_array() ? "an array" : "an object";
}

}  // namespace

Json parse_json(std::string_view text, std::string_view file) {
  if (static_cast<std::int64_t>(text.size()) > kJsonBytes) {
    throw InputError(file, "", fmt::format("is longer than {} bytes", kJsonBytes));
  }
  Builder builder(text, file);
  Json::sax_parse(text, &builder);
  return builder.take();
}

Json read_json(const Path& path) { return parse_json(read_file(path), path.string()); }

void write_json(const Path& path, const Json& json) {
  write_file(path, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void JsonView::fail(std::string_view rule) const { throw InputError(file_, place_, rule); }

std::optional<JsonView> JsonView::get(std::string_view key) const {
  if (!value_->is_object()) fail(fmt::format("is {}, must be an object", kind_of(*value_)));
  const auto found = value_->find(std::string(key));
  if (found == value_->end()) return std::nullopt;
  return JsonView(*found, file_, member_of(place_, key));
}

JsonView JsonView::at(std::string_view key) const {
  if (const auto member = get(key)) return *member;
  throw InputError(file_, member_of(place_, key), "is missing");
}

std::vector<std::string> JsonView::keys() const {
  if (!value_->is_object()) fail(fmt::format("is {}, must be an object", kind_of(*value_)));
  std::vector<std::string> names;
  for (const auto& member : value_->items()) names.push_back(member.key());
  return names;
}

void JsonView::allow_only(const std::vector<std::string>& allowed) const {
  for (const std::string& key : keys()) {
    if (std::find(allowed.begin(), allowed.end(), key) != allowed.end()) continue;
    const std::optional<std::string> meant = nearest(key, allowed);
    throw InputError(file_, member_of(place_, key),
                     meant ? fmt::format("is no key here; did you mean '{}'?", *meant)
                           : std::string("is no key here"));
  }
}

void JsonView::allow_only(std::initializer_list<std::string_view> allowed) const {
  allow_only(std::vector<std::string>(allowed.begin(), allowed.end()));
}

std::vector<JsonView> JsonView::elements() const {
  if (!value_->is_array()) fail(fmt::format("is {}, must be an array", kind_of(*value_)));
  std::vector<JsonView> views;
  for (std::size_t i = 0; i < value_->size(); ++i) {
    views.emplace_back((*value_)[i], file_, fmt::format("{}[{}]", place_, i));
  }
  return views;
}

double JsonView::number(double least, double most) const {
  if (!value_->is_number()) fail(fmt::format("is {}, must be a number", kind_of(*value_)));
  const double number = value_->get<double>();
  if (!(number >= least)) fail(fmt::format("is {}, must be >= {}", number, least));
  if (!(number <= most)) fail(fmt::format("is {}, must be <= {}", number, most));
  return number;
}

std::int64_t JsonView::integer(std::int64_t least, std::int64_t most) const {
  // 1e3 and 2.0 are integers too, as far as double tells them apart.
  const bool whole = value_->is_number_float() && std::abs(value_->get<double>()) <= 0x1p53 &&
                     std::trunc(value_->get<double>()) == value_->get<double>();
  const bool beyond = value_->is_number_unsigned() &&
                      value_->get<std::uint64_t>() >
                          static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if ((!value_->is_number_integer() && !whole) || beyond) {
    fail(fmt::format("is {}, must be an integer", kind_of(*value_)));
  }
  const std::int64_t integer =
      whole ? static_cast<std::int64_t>(value_->get<double>()) : value_->get<std::int64_t>();
  if (integer < least) fail(fmt::format("is {}, must be >= {}", integer, least));
  if (integer > most) fail(fmt::format("is {}, must be <= {}", integer, most));
  return integer;
}

bool JsonView::boolean() const {
  if (!value_->is_boolean()) fail(fmt::format("is {}, must be true or false", kind_of(*value_)));
  return value_->get<bool>();
}

std::string JsonView::string() const {
  if (!value_->is_string()) fail(fmt::format("is {}, must be a string", kind_of(*value_)));
  return value_->get<std::string>();
}

std::string JsonView::choice(std::initializer_list<std::string_view> choices) const {
  std::string text = string(), all;
  for (const std::string_view one : choices) {
    if (text == one) return text;
    all += (all.empty() ? "" : ", ") + std::string(one);
  }
  fail(fmt::format("is '{}', must be one of {}", text, all));
}

std::vector<double> JsonView::numbers() const {
  std::vector<double> values;
  for (const JsonView& element : elements()) values.push_back(element.number());
  return values;
}

std::vector<double> JsonView::matrix(std::int64_t rows, std::int64_t columns) const {
  const std::vector<JsonView> lines = elements();
  const auto count = static_cast<std::int64_t>(lines.size());
  if (rows >= 0 && count != rows) fail(fmt::format("has {} rows, must have {}", count, rows));
  std::vector<double> values;
  for (const JsonView& line : lines) {
    const std::vector<double> row = line.numbers();
    if (columns < 0) columns = static_cast<std::int64_t>(row.size());
    if (static_cast<std::int64_t>(row.size()) != columns) {
      line.fail(fmt::format("has {} columns, must have {}", row.size(), columns));
    }
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

std::optional<std::string> nearest(std::string_view text,
                                   const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  std::size_t best_distance = text.size() / 3 + 1;
  for (const std::string& candidate : candidates) {
    std::vector<std::size_t> row(candidate.size() + 1);  // Levenshtein, one row at a time
    for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (std::size_t i = 0; i < text.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i + 1;
      for (std::size_t j = 0; j < candidate.size(); ++j) {
        const std::size_t replaced = diagonal + (text[i] == candidate[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
      }
    }
    if (row.back() <= best_distance && (!best || row.back() < best_distance)) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace seqvae::io

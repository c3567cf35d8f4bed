/// \file  JSON from files that may be anything, and getters that say what is wrong where.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "seqvae/io/file.hpp"

namespace seqvae::io {

/// Keys keep their order. Declared here; who looks into one includes <nlohmann/json.hpp>.
using Json = nlohmann::ordered_json;

inline constexpr int kJsonDepth = 64;                   ///< nesting beyond it is refused
inline constexpr std::int64_t kJsonBytes = 64ll << 20;  ///< so are longer texts

/// RFC 8259, with limits on depth and length; a key given twice is refused, and so are NaN,
/// Infinity and numbers beyond double.
/// \throws InputError "file: line L, column C: rule" or "file: a.b[2]: rule".
Json read_json(const Path& path);
Json parse_json(std::string_view text, std::string_view file);
/// Indented by two, atomic. A NaN becomes null.
void write_json(const Path& path, const Json& json);

/// A value of a JSON document with its place. Every getter throws InputError "file: a.b[2]: rule"
/// where the value is not what is asked for. The document must outlive it.
class JsonView {
 public:
  JsonView(const Json& value, std::string file, std::string place = "")
      : value_(&value), file_(std::move(file)), place_(std::move(place)) {}

  const Json& value() const { return *value_; }
  const std::string& place() const { return place_; }

  /// A member of an object; get: nothing where it is absent, at: it must be there.
  std::optional<JsonView> get(std::string_view key) const;
  JsonView at(std::string_view key) const;
  std::vector<std::string> keys() const;
  /// Refuses any other key, and names the nearest of those allowed.
  void allow_only(std::initializer_list<std::string_view> keys) const;
  void allow_only(const std::vector<std::string>& keys) const;

  std::vector<JsonView> elements() const;  ///< of an array
  double number(double least = -std::numeric_limits<double>::infinity(),
                double most = std::numeric_limits<double>::infinity()) const;
  std::int64_t integer(std::int64_t least = std::numeric_limits<std::int64_t>::min(),
                       std::int64_t most = std::numeric_limits<std::int64_t>::max()) const;
  bool boolean() const;
  std::string string() const;
  /// A string that is one of these.
  std::string choice(std::initializer_list<std::string_view> choices) const;
  std::vector<double> numbers() const;  ///< an array of numbers
  /// Nested arrays by rows, `rows` x `columns` (either may be -1: any): row-major.
  std::vector<double> matrix(std::int64_t rows, std::int64_t columns) const;

  [[noreturn]] void fail(std::string_view rule) const;

 private:
  const Json* value_;
  std::string file_, place_;
};

/// The candidate nearest to `text` by edit distance, where it is at most 1/3 of the length away.
std::optional<std::string> nearest(std::string_view text,
                                   const std::vector<std::string>& candidates);

}  // namespace seqvae::io

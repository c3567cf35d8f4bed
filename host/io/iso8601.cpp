#include <charconv>
#include <chrono>

#include "seqvae/io/csv.hpp"

namespace seqvae::io {
namespace {

// Takes digits off the front of a text.
class Digits {
 public:
  explicit Digits(std::string_view text) : rest_(text) {}

  /// Exactly `count` digits.
  std::optional<int> number(std::size_t count) {
    if (rest_.size() < count) return std::nullopt;
    int value = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (rest_[i] < '0' || rest_[i] > '9') return std::nullopt;
      value = value * 10 + (rest_[i] - '0');
    }
    rest_.remove_prefix(count);
    return value;
  }
  bool accept(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  /// "." and at least one digit more: a part of 1.
  std::optional<double> decimals() {
    double value = 0, scale = 0.1;
    if (rest_.empty() || rest_[0] < '0' || rest_[0] > '9') return std::nullopt;
    while (!rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9') {
      value += scale * (rest_[0] - '0');
      scale /= 10;
      rest_.remove_prefix(1);
    }
    return value;
  }
  bool empty() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

// HH:MM[:SS[.s]][Z|+HH:MM|-HH:MM], seconds into the day, less the zone.
std::optional<double> time_of_day(Digits& text) {
  const std::optional<int> hour = text.number(2);
  if (!hour || *hour > 23 || !text.accept(':')) return std::nullopt;
  const std::optional<int> minute = text.number(2);
  if (!minute || *minute > 59) return std::nullopt;
  double seconds = *hour * 3600.0 + *minute * 60.0;
  if (text.accept(':')) {
    const std::optional<int> second = text.number(2);
    if (!second || *second > 59) return std::nullopt;
    seconds += *second;
    if (text.accept('.')) {
      const std::optional<double> part = text.decimals();
      if (!part) return std::nullopt;
      seconds += *part;
    }
  }
  if (text.accept('Z') || text.empty()) return seconds;
  const bool east = text.accept('+');
  if (!east && !text.accept('-')) return std::nullopt;
  const std::optional<int> hours = text.number(2);
  text.accept(':');
  const std::optional<int> minutes = text.number(2);
  if (!hours || !minutes || *hours > 23 || *minutes > 59) return std::nullopt;
  const double zone = *hours * 3600.0 + *minutes * 60.0;
  return east ? seconds - zone : seconds + zone;
}

}  // namespace

std::optional<double> parse_iso8601(std::string_view whole) {
  Digits text(whole);
  const std::optional<int> year = text.number(4);
  if (!year) return std::nullopt;
  int month = 1, day = 1;
  bool has_day = false;
  if (text.accept('-')) {
    const std::optional<int> given = text.number(2);
    if (!given) return std::nullopt;
    month = *given;
    if (text.accept('-')) {
      const std::optional<int> given_day = text.number(2);
      if (!given_day) return std::nullopt;
      day = *given_day;
      has_day = true;
    } else if (!text.empty()) {
      return std::nullopt;
    }
  }
  const std::chrono::year_month_day date{std::chrono::year{*year},
                                         std::chrono::month{static_cast<unsigned>(month)},
                                         std::chrono::day{static_cast<unsigned>(day)}};
  if (!date.ok()) return std::nullopt;
  double seconds = std::chrono::sys_days(date).time_since_epoch().count() * 86400.0;
  if (text.empty()) return seconds;
  if (!has_day || (!text.accept('T') && !text.accept(' '))) return std::nullopt;
  const std::optional<double> into_day = time_of_day(text);
  if (!into_day || !text.empty()) return std::nullopt;
  return seconds + *into_day;
}

}  // namespace seqvae::io

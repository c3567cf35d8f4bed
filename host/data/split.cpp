#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "host/data/read.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/io/csv.hpp"

namespace seqvae::data {
namespace {

// The first row of the next part: a row number, a fraction of the rows or a date.
std::int64_t bound_of(const std::string& text, std::int64_t rows, const Dataset& dataset) {
  const auto fail = [&](std::string_view rule) {
    throw InputError(dataset.file, fmt::format("split at '{}'", text), rule);
  };
  std::int64_t row = 0;
  const char* end = text.data() + text.size();
  if (const auto [stop, error] = std::from_chars(text.data(), end, row);
      error == std::errc() && stop == end) {
    return row;
  }
  double fraction = 0;
  if (const auto [stop, error] = std::from_chars(text.data(), end, fraction);
      error == std::errc() && stop == end) {
    if (!(fraction > 0 && fraction <= 1)) fail("a fraction must lie in (0, 1]");
    return std::llround(fraction * static_cast<double>(rows));
  }
  const std::optional<double> date = io::parse_iso8601(text);
  if (!date) fail("is neither a row, nor a fraction, nor an ISO 8601 date");
  if (dataset.time_labels.empty()) fail("the data have no dates (name their column: --time)");
  std::int64_t first = 0;
  for (const std::string& label : dataset.time_labels) {
    const std::optional<double> time = io::parse_iso8601(label);
    if (!time) fail("the time column holds numbers, no dates");
    if (*time >= *date) break;
    ++first;
  }
  return first;
}

}  // namespace

SequenceSet windows_of(const SequenceSet& set, std::int64_t window, std::int64_t stride) {
  SequenceSet out;
  out.D = set.D;
  out.U = set.U;
  std::int64_t start = 0;
  for (const std::int32_t length : set.lengths) {
    for (std::int64_t first = 0; first < length; first += stride) {
      const std::int64_t last = std::min<std::int64_t>(first + window, length);
      out.append(set, start + first, start + last, start + first,
                 static_cast<std::uint32_t>(out.count()));
      if (last == length) break;
    }
    start += length;
  }
  return out;
}

void split_series(Dataset& dataset, const std::vector<std::string>& split_at) {
  const auto all = dataset.parts.find("all");
  if (all == dataset.parts.end() || all->second.count() != 1) {
    throw InputError(dataset.file, "split", "needs a file that is one series");
  }
  const SequenceSet series = std::move(all->second);
  const std::int64_t rows = series.rows();
  std::vector<std::int64_t> bounds(1, 0);
  for (const std::string& text : split_at) {
    bounds.push_back(bound_of(text, rows, dataset));
    const std::int64_t before = bounds[bounds.size() - 2];
    if (bounds.back() <= before || bounds.back() > rows) {
      throw InputError(
          dataset.file, fmt::format("split at '{}'", text),
          fmt::format("is row {}, must lie in {} .. {}", bounds.back(), before + 1, rows));
    }
  }
  if (split_at.size() < 3) {
    if (bounds.back() == rows) {
      throw InputError(dataset.file, fmt::format("split at '{}'", split_at.back()),
                       "leaves no rows for test");
    }
    bounds.push_back(rows);
  }
  dataset.parts.clear();
  const std::vector<std::string> names = bounds.size() == 3
                                             ? std::vector<std::string>{"train", "test"}
                                             : std::vector<std::string>{"train", "valid", "test"};
  for (std::size_t p = 0; p < names.size(); ++p) {
    SequenceSet& part = dataset.parts[names[p]];
    part.D = series.D;
    part.U = series.U;
    part.append(series, 0, bounds[p + 1], bounds[p], 0);
  }
}

}  // namespace seqvae::data

#include "seqvae/data/sequence_set.hpp"

#include <algorithm>

namespace seqvae::data {

std::int64_t SequenceSet::rows() const {
  std::int64_t rows = 0;
  for (const std::int32_t length : lengths) rows += length;
  return rows;
}

std::int64_t SequenceSet::steps() const {
  std::int64_t steps = rows();
  for (const std::int32_t past : begin) steps -= past;
  return steps;
}

std::vector<std::int64_t> SequenceSet::starts() const {
  std::vector<std::int64_t> starts(1, 0);
  for (const std::int32_t length : lengths) starts.push_back(starts.back() + length);
  return starts;
}

std::int64_t SequenceSet::observed() const {
  std::int64_t count = 0, start = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const auto first = values.begin() + (start + begin[i]) * D;
    start += lengths[i];
    count +=
        std::count_if(first, values.begin() + start * D, [](double v) { return !std::isnan(v); });
  }
  return count;
}

bool SequenceSet::has_missing() const {
  return std::any_of(values.begin(), values.end(), [](double v) { return std::isnan(v); });
}

void SequenceSet::append(const SequenceSet& from, std::int64_t first, std::int64_t last,
                         std::int64_t counted, std::uint32_t id) {
  const auto copy = [&](const std::vector<double>& in, std::int64_t width,
                        std::vector<double>& out) {
    out.insert(out.end(), in.begin() + first * width, in.begin() + last * width);
  };
  copy(from.values, D, values);
  copy(from.controls, U, controls);
  if (!from.times.empty()) copy(from.times, 1, times);
  lengths.push_back(static_cast<std::int32_t>(last - first));
  begin.push_back(static_cast<std::int32_t>(counted - first));
  ids.push_back(id);
}

std::string choose_emission(const SequenceSet& set) {
  const bool binary = std::all_of(set.values.begin(), set.values.end(),
                                  [](double v) { return std::isnan(v) || v == 0 || v == 1; });
  return binary ? "bernoulli" : "gaussian";
}

}  // namespace seqvae::data

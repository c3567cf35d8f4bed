#include "seqvae/data/describe.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace seqvae::data {
namespace {

struct Column {
  double count = 0, mean = 0, squares = 0, least = HUGE_VAL, most = -HUGE_VAL;

  void add(double value) {  // Welford's update
    count += 1;
    const double difference = value - mean;
    mean += difference / count;
    squares += difference * (value - mean);
    least = std::min(least, value);
    most = std::max(most, value);
  }
};

io::Json describe_part(const SequenceSet& set, const std::vector<std::string>& names) {
  const auto D = static_cast<std::size_t>(set.D);
  std::vector<Column> columns(D);
  std::size_t start = 0;
  std::int64_t least = set.rows(), most = 0;
  for (std::size_t i = 0; i < set.lengths.size(); ++i) {
    const std::size_t end = start + static_cast<std::size_t>(set.lengths[i]);
    for (std::size_t r = start + static_cast<std::size_t>(set.begin[i]); r < end; ++r) {
      for (std::size_t d = 0; d < D; ++d) {
        const double value = set.values[r * D + d];
        if (!std::isnan(value)) columns[d].add(value);
      }
    }
    const std::int64_t length = set.lengths[i] - set.begin[i];
    least = std::min(least, length);
    most = std::max(most, length);
    start = end;
  }
  const std::int64_t steps = set.steps(), observed = set.observed();
  io::Json list = io::Json::array();
  for (std::size_t d = 0; d < D; ++d) {
    const Column& c = columns[d];
    io::Json entry = {
        {"name", names[d]},     {"mean", nullptr},
        {"deviation", nullptr}, {"min", nullptr},
        {"max", nullptr},       {"missing", steps - static_cast<std::int64_t>(c.count)}};
    if (c.count > 0) {
      entry["mean"] = c.mean;
      entry["deviation"] = std::sqrt(c.squares / c.count);
      entry["min"] = c.least;
      entry["max"] = c.most;
    }
    list.push_back(std::move(entry));
  }
  const double mean_length = static_cast<double>(steps) / static_cast<double>(set.count());
  return {{"sequences", set.count()},
          {"steps", steps},
          {"length", {{"min", least}, {"mean", mean_length}, {"max", most}}},
          {"observed", observed},
          {"missing", steps * set.D - observed},
          {"columns", std::move(list)}};
}

std::string cell(const io::Json& value) {
  return value.is_null() ? "-" : fmt::format("{:.6g}", value.get<double>());
}

}  // namespace

io::Json describe(const Dataset& dataset) {
  io::Json parts = io::Json::object();
  for (const char* name : {"all", "train", "valid", "test"}) {
    if (dataset.has(name)) parts[name] = describe_part(dataset.part(name), dataset.columns);
  }
  const bool binary = std::all_of(dataset.parts.begin(), dataset.parts.end(), [](const auto& part) {
    return choose_emission(part.second) == "bernoulli";
  });
  return {{"file", dataset.file},
          {"columns", dataset.D()},
          {"controls", dataset.U()},
          {"times", !dataset.parts.begin()->second.times.empty()},
          {"emission", binary ? "bernoulli" : "gaussian"},
          {"parts", std::move(parts)},
          {"unused", dataset.unused}};
}

std::string describe_text(const io::Json& description, int most) {
  std::string text = fmt::format(
      "{}: {} columns, {} controls, emission {}\n", description.at("file").get<std::string>(),
      description.at("columns").get<std::int64_t>(), description.at("controls").get<std::int64_t>(),
      description.at("emission").get<std::string>());
  for (const auto& [name, part] : description.at("parts").items()) {
    const io::Json& length = part.at("length");
    text += fmt::format(
        "\n{}: {} sequences, {} steps, lengths {} to {} (mean {:.6g}), {} missing\n", name,
        part.at("sequences").get<std::int64_t>(), part.at("steps").get<std::int64_t>(),
        length.at("min").get<std::int64_t>(), length.at("max").get<std::int64_t>(),
        length.at("mean").get<double>(), part.at("missing").get<std::int64_t>());
    text += fmt::format("  {:<16}{:>12}{:>12}{:>12}{:>12}{:>10}\n", "column", "mean", "deviation",
                        "min", "max", "missing");
    int shown = 0;
    for (const io::Json& column : part.at("columns")) {
      if (shown++ == most) {
        text += fmt::format("  ... and {} more\n",
                            part.at("columns").size() - static_cast<std::size_t>(most));
        break;
      }
      text += fmt::format("  {:<16}{:>12}{:>12}{:>12}{:>12}{:>10}\n",
                          column.at("name").get<std::string>(), cell(column.at("mean")),
                          cell(column.at("deviation")), cell(column.at("min")),
                          cell(column.at("max")), column.at("missing").get<std::int64_t>());
    }
  }
  for (const io::Json& name : description.at("unused")) {
    text += fmt::format("\nunused: {}", name.get<std::string>());
  }
  if (!description.at("unused").empty()) text += '\n';
  return text;
}

}  // namespace seqvae::data

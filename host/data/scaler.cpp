#include "seqvae/data/scaler.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

#include "seqvae/core/error.hpp"

namespace seqvae::data {

Scaler Scaler::fit(const SequenceSet& set, const std::vector<std::string>& columns,
                   const std::string& file) {
  const auto D = static_cast<std::size_t>(set.D);
  Scaler scaler{columns, std::vector<double>(D, 0.0), std::vector<double>(D, 0.0)};
  std::vector<double> count(D, 0.0), least(D, HUGE_VAL), most(D, -HUGE_VAL);
  const auto each = [&](const auto& visit) {
    std::size_t start = 0;
    for (std::size_t i = 0; i < set.lengths.size(); ++i) {
      const std::size_t end = start + static_cast<std::size_t>(set.lengths[i]);
      for (std::size_t r = start + static_cast<std::size_t>(set.begin[i]); r < end; ++r) {
        for (std::size_t d = 0; d < D; ++d) {
          if (!std::isnan(set.values[r * D + d])) visit(d, set.values[r * D + d]);
        }
      }
      start = end;
    }
  };
  // Means first, deviations about them in a second pass: no cancellation.
  each([&](std::size_t d, double v) {
    count[d] += 1;
    scaler.mean[d] += (v - scaler.mean[d]) / count[d];
    least[d] = std::min(least[d], v);
    most[d] = std::max(most[d], v);
  });
  for (std::size_t d = 0; d < D; ++d) {
    if (count[d] == 0) {
      throw InputError(file, fmt::format("column '{}'", columns[d]), "has no observed value");
    }
  }
  each([&](std::size_t d, double v) {
    const double difference = v - scaler.mean[d];
    scaler.deviation[d] += difference * difference / count[d];
  });
  for (std::size_t d = 0; d < D; ++d) {
    scaler.deviation[d] = std::sqrt(scaler.deviation[d]);
    if (least[d] == most[d]) {
      scaler.mean[d] = least[d];
      scaler.deviation[d] = 1;
    } else if (!std::isfinite(scaler.deviation[d]) || scaler.deviation[d] == 0) {
      throw InputError(file, fmt::format("column '{}'", columns[d]),
                       "its standard deviation is beyond double");
    }
  }
  return scaler;
}

void Scaler::scale(std::span<double> rows) const {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t d = i % mean.size();
    rows[i] = (rows[i] - mean[d]) / deviation[d];
  }
}

void Scaler::unscale(std::span<double> rows) const {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t d = i % mean.size();
    rows[i] = mean[d] + deviation[d] * rows[i];
  }
}

double Scaler::log_jacobian(const SequenceSet& set) const {
  double sum = 0;
  std::size_t start = 0;
  const std::size_t D = mean.size();
  for (std::size_t i = 0; i < set.lengths.size(); ++i) {
    const std::size_t end = start + static_cast<std::size_t>(set.lengths[i]);
    for (std::size_t r = start + static_cast<std::size_t>(set.begin[i]); r < end; ++r) {
      for (std::size_t d = 0; d < D; ++d) {
        if (!std::isnan(set.values[r * D + d])) sum -= std::log(deviation[d]);
      }
    }
    start = end;
  }
  return sum;
}

io::Json Scaler::to_json() const {
  return {{"columns", columns}, {"mean", mean}, {"deviation", deviation}};
}

Scaler Scaler::from_json(const io::JsonView& json) {
  json.allow_only({"columns", "mean", "deviation"});
  Scaler scaler;
  for (const io::JsonView& name : json.at("columns").elements()) {
    scaler.columns.push_back(name.string());
  }
  scaler.mean = json.at("mean").numbers();
  for (const io::JsonView& deviation : json.at("deviation").elements()) {
    scaler.deviation.push_back(deviation.number());
    if (!(scaler.deviation.back() > 0)) deviation.fail("must be > 0");
  }
  for (const std::string key : {"mean", "deviation"}) {
    const std::size_t count = json.at(key).value().size();
    if (count != scaler.columns.size()) {
      json.at(key).fail(fmt::format("has {} numbers, must have one for each of {} columns", count,
                                    scaler.columns.size()));
    }
  }
  return scaler;
}

}  // namespace seqvae::data

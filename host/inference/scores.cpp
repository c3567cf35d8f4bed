#include "seqvae/inference/scores.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "seqvae/core/error.hpp"
#include "seqvae/core/index.hpp"

namespace seqvae {
namespace {

/// A forecast from row `origin` (the first forecast step) of a sequence.
struct Window {
  std::int64_t sequence, origin;
};

std::vector<Window> windows_of(const data::SequenceSet& set, const ForecastOptions& o,
                               std::int64_t& too_short) {
  require(o.horizon >= 1, "forecast", "horizon", o.horizon, ">= 1");
  require(o.stride >= 1, "forecast", "stride", o.stride, ">= 1");
  require(o.context >= 0, "forecast", "context", o.context, ">= 0");
  std::vector<Window> windows;
  for (std::int64_t i = 0; i < set.count(); ++i) {
    const std::size_t before = windows.size();
    const std::int64_t least = std::max<std::int64_t>(o.context, 1);
    for (std::int64_t at = std::max<std::int64_t>(set.begin[index(i)], least);
         at + o.horizon <= set.lengths[index(i)]; at += o.stride) {
      windows.push_back({i, at});
    }
    too_short += windows.size() == before;
  }
  return windows;
}

/// Adds up scores; a component counts where its truth is there.
class Tally {
 public:
  void add(double truth, double mean, double crps, const double (&low)[3],
           const double (&high)[3]) {
    ++count_;
    squares_ += (truth - mean) * (truth - mean), absolute_ += std::abs(truth - mean), crps_ += crps;
    for (int i = 0; i < 3; ++i) inside_[i] += low[i] <= truth && truth <= high[i];
  }
  void write(ForecastScores& s) const {
    const double n = static_cast<double>(count_);
    s.mse = squares_ / n, s.mae = absolute_ / n, s.crps = crps_ / n;
    s.coverage_50 = inside_[0] / n, s.coverage_80 = inside_[1] / n, s.coverage_95 = inside_[2] / n;
  }

 private:
  std::int64_t count_ = 0;
  double squares_ = 0, absolute_ = 0, crps_ = 0, inside_[3] = {0, 0, 0};
};

constexpr double kLevels[6] = {0.25, 0.75, 0.1, 0.9, 0.025, 0.975};
constexpr double kNormal[3] = {0.6744897501960817, 1.2815515655446004, 1.959963984540054};

double gaussian_crps(double truth, double mean, double std) {
  if (!(std > 0)) return std::abs(truth - mean);
  const double z = (truth - mean) / std;
  const double density = std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi);
  return std *
         (z * std::erf(z / std::numbers::sqrt2) + 2 * density - 1 / std::sqrt(std::numbers::pi));
}

/// mean |X - x| - 1/2 mean |X - X'| of ascending draws, X' another draw.
double sample_crps(double truth, const std::vector<double>& ascending) {
  const double S = static_cast<double>(ascending.size());
  double distance = 0, spread = 0;
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    distance += std::abs(ascending[i] - truth);
    spread += (2 * static_cast<double>(i) - S + 1) * ascending[i];
  }
  return distance / S - (S > 1 ? spread / (S * (S - 1)) : 0);
}

void tally_window(const Forecast& f, std::int64_t n, std::span<const double> truth, Tally& tally) {
  const std::int64_t block = f.H * f.D;
  std::vector<double> draws(index(f.S));
  for (std::int64_t i = 0; i < block; ++i) {
    if (std::isnan(truth[index(i)])) continue;
    const std::int64_t at = n * block + i;
    const double mean = f.mean[index(at)], std = f.std[index(at)];
    double low[3], high[3];
    if (f.gaussian) {
      for (int k = 0; k < 3; ++k)
        low[k] = mean - kNormal[k] * std, high[k] = mean + kNormal[k] * std;
      tally.add(truth[index(i)], mean, gaussian_crps(truth[index(i)], mean, std), low, high);
      continue;
    }
    for (std::int64_t s = 0; s < f.S; ++s) draws[index(s)] = f.samples[index(s * f.N * block + at)];
    std::sort(draws.begin(), draws.end());
    for (int k = 0; k < 6; ++k) {
      const double place = kLevels[k] * static_cast<double>(f.S - 1);
      const std::size_t below = static_cast<std::size_t>(place),
                        above = std::min(below + 1, draws.size() - 1);
      const double value =
          draws[below] + (place - static_cast<double>(below)) * (draws[above] - draws[below]);
      (k % 2 == 0 ? low : high)[k / 2] = value;
    }
    tally.add(truth[index(i)], mean, sample_crps(truth[index(i)], draws), low, high);
  }
}

void unscale_forecast(Forecast& f, const std::function<void(std::span<double>)>& unscale) {
  if (!unscale) return;
  std::vector<double> upper(f.mean.size());
  for (std::size_t i = 0; i < upper.size(); ++i) upper[i] = f.mean[i] + f.std[i];
  unscale(upper), unscale(f.mean), unscale(f.samples);
  for (std::size_t i = 0; i < upper.size(); ++i) f.std[i] = upper[i] - f.mean[i];
}

}  // namespace

ForecastScores score_forecasts(Predictor& predictor, const data::SequenceSet& set,
                               const ForecastOptions& options,
                               const std::function<void(std::span<double>)>& unscale,
                               const Progress& progress) {
  ForecastScores scores;
  scores.horizon = options.horizon;
  const std::vector<Window> windows = windows_of(set, options, scores.too_short);
  scores.windows = static_cast<std::int64_t>(windows.size());
  require(!windows.empty(), "forecast", "windows", 0,
          "at least one: every sequence is shorter than context and horizon");
  const std::vector<std::int64_t> starts = set.starts();
  const std::int64_t at_once =
      std::clamp<std::int64_t>(20'000'000 / (options.samples * options.horizon * set.D), 1, 4096);
  Tally tally;
  for (std::size_t first = 0; first < windows.size(); first += index(at_once)) {
    const std::size_t last = std::min(windows.size(), first + index(at_once));
    data::SequenceSet contexts;
    contexts.D = set.D, contexts.U = set.U;
    std::vector<double> controls, truth;
    for (std::size_t w = first; w < last; ++w) {
      const std::int64_t row = starts[index(windows[w].sequence)] + windows[w].origin;
      const std::int64_t length = options.context > 0 ? options.context : windows[w].origin;
      contexts.append(set, row - length, row, row - length, set.ids[index(windows[w].sequence)]);
      controls.insert(controls.end(), set.controls.begin() + row * set.U,
                      set.controls.begin() + (row + options.horizon) * set.U);
      truth.insert(truth.end(), set.values.begin() + row * set.D,
                   set.values.begin() + (row + options.horizon) * set.D);
    }
    Forecast forecast = predictor.forecast(contexts, options.horizon, controls, options.samples,
                                           options.seed, nullptr);
    unscale_forecast(forecast, unscale);
    if (unscale) unscale(truth);
    const std::size_t block = index(options.horizon * set.D);
    for (std::size_t w = first; w < last; ++w) {
      const std::int64_t n = static_cast<std::int64_t>(w - first);
      tally_window(forecast, n, std::span<const double>(truth).subspan((w - first) * block, block),
                   tally);
    }
    if (progress) progress(static_cast<std::int64_t>(last), scores.windows);
  }
  tally.write(scores);
  return scores;
}

ForecastScores score_seasonal_naive(const data::SequenceSet& set, const ForecastOptions& options,
                                    std::int64_t season,
                                    const std::function<void(std::span<double>)>& unscale) {
  require(season >= 1, "seasonal naive", "season", season, ">= 1");
  ForecastScores scores;
  scores.horizon = options.horizon;
  const std::vector<Window> windows = windows_of(set, options, scores.too_short);
  scores.windows = static_cast<std::int64_t>(windows.size());
  require(!windows.empty(), "seasonal naive", "windows", 0,
          "at least one: every sequence is shorter than context and horizon");
  std::vector<double> values = set.values;
  if (unscale) unscale(values);
  const std::vector<std::int64_t> starts = set.starts();
  Tally tally;
  for (const Window& window : windows) {
    const std::int64_t begin = starts[index(window.sequence)], origin = begin + window.origin;
    for (std::int64_t d = 0; d < set.D; ++d) {
      const auto at = [&](std::int64_t row) { return values[index(row * set.D + d)]; };
      double squares = 0;
      std::int64_t pairs = 0;
      for (std::int64_t row = begin + season; row < origin; ++row) {
        const double difference = at(row) - at(row - season);
        if (std::isnan(difference)) continue;
        squares += difference * difference, ++pairs;
      }
      for (std::int64_t h = 0; h < options.horizon; ++h) {
        const double truth = at(origin + h);
        if (std::isnan(truth)) continue;
        // The same season's last value that is there; each season back widens the band.
        std::int64_t seasons = h / season + 1;
        while (origin + h - seasons * season >= begin &&
               std::isnan(at(origin + h - seasons * season)))
          ++seasons;
        std::int64_t row = origin + h - seasons * season;
        if (row < begin) {  // less than a season of data: the last value
          row = origin - 1;
          while (row > begin && std::isnan(at(row))) --row;
        }
        const double mean = at(row);
        if (std::isnan(mean)) continue;
        const double std =
            pairs > 0
                ? std::sqrt(squares / static_cast<double>(pairs) * static_cast<double>(seasons))
                : 0;
        double low[3], high[3];
        for (int k = 0; k < 3; ++k)
          low[k] = mean - kNormal[k] * std, high[k] = mean + kNormal[k] * std;
        tally.add(truth, mean, gaussian_crps(truth, mean, std), low, high);
      }
    }
  }
  tally.write(scores);
  return scores;
}

}  // namespace seqvae

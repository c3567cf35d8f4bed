#include "host/app/figures.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "host/app/gnuplot.hpp"
#include "host/app/metrics.hpp"
#include "seqvae/core/index.hpp"

namespace seqvae::app {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kMostPanels = 6;
constexpr const char* kInk = "#222222";

/// Panels one above the other, `each` pixels high.
Gnuplot panels(const std::filesystem::path& picture, std::int64_t count, int each) {
  Gnuplot plot(picture, 1000, static_cast<int>(count) * each + 40);
  plot.add(
      fmt::format("set multiplot layout {},1 margins char 9,char 3,char 3.8,char 2 "
                  "spacing char 0,char 3.5",
                  count));
  return plot;
}

/// A step between ticks that gives about four of them over these values.
void add_ticks(Gnuplot& plot, std::initializer_list<const std::vector<double>*> values) {
  double least = HUGE_VAL, most = -HUGE_VAL;
  for (const std::vector<double>* curve : values) {
    for (double v : *curve) {
      if (std::isfinite(v)) least = std::min(least, v), most = std::max(most, v);
    }
  }
  if (!(most > least)) {
    plot.add("set ytics autofreq");
    return;
  }
  const double rough = (most - least) / 4, decade = std::pow(10, std::floor(std::log10(rough)));
  const double digit = rough / decade;
  plot.add(fmt::format("set ytics {}", decade * (digit < 1.5   ? 1
                                                 : digit < 3.5 ? 2
                                                 : digit < 7.5 ? 5
                                                               : 10)));
}

std::vector<double> counting(std::int64_t first, std::int64_t count) {
  std::vector<double> numbers(index(count));
  std::iota(numbers.begin(), numbers.end(), static_cast<double>(first));
  return numbers;
}

/// Column d of rows first .. first + count of [.][width] values.
std::vector<double> column(const std::vector<double>& values, std::int64_t width, std::int64_t d,
                           std::int64_t first, std::int64_t count) {
  std::vector<double> out;
  for (std::int64_t r = first; r < first + count; ++r) out.push_back(values[index(r * width + d)]);
  return out;
}

/// rows [T][D] turned to an image of D lines with time to the right, only the lines in use.
void add_roll(Gnuplot& plot, const std::vector<double>& values, std::int64_t T, std::int64_t D,
              std::int64_t low, std::int64_t high, std::int64_t t0, const std::string& title) {
  std::vector<double> image;
  for (std::int64_t d = low; d <= high; ++d) {
    for (std::int64_t t = 0; t < T; ++t) image.push_back(values[index(t * D + d)]);
  }
  const std::string name = plot.matrix(image, index(high - low + 1), index(T));
  plot.add("set palette defined (0 '#ffffff', 0.15 '#d6e6f2', 0.5 '#5b9bc8', 1 '#08306b')");
  plot.add("set cbrange [0:1]\nunset colorbox\nunset key\nunset grid");
  plot.add(fmt::format("set xrange [{}:{}]\nset yrange [{}:{}]", static_cast<double>(t0) - 0.5,
                       static_cast<double>(t0 + T) - 0.5, static_cast<double>(low) - 0.5,
                       static_cast<double>(high) + 0.5));
  plot.add("set title " + quoted(title));
  plot.add(
      fmt::format("plot {} matrix using ($1 + {}):($2 + {}):3 with image notitle", name, t0, low));
}

/// The lines of a roll that hold anything, one more on either side.
std::pair<std::int64_t, std::int64_t> used_lines(const std::vector<double>& values,
                                                 std::int64_t D) {
  std::int64_t low = D, high = -1;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!(values[i] > 0.05)) continue;
    const auto d = static_cast<std::int64_t>(i) % D;
    low = std::min(low, d), high = std::max(high, d);
  }
  if (high < 0) return {0, D - 1};
  return {std::max<std::int64_t>(low - 1, 0), std::min(high + 1, D - 1)};
}

void plot_forecast_roll(const std::filesystem::path& picture, const ForecastFigure& f) {
  const std::int64_t D = f.set->D, H = f.H;
  const std::int64_t N = std::min<std::int64_t>(f.set->count(), 3);
  Gnuplot plot = panels(picture, N, 280);
  const std::vector<std::int64_t> starts = f.set->starts();
  for (std::int64_t i = 0; i < N; ++i) {
    const std::int64_t origin = (*f.origins)[index(i)];
    const std::int64_t shown = std::min(origin, std::max<std::int64_t>(2 * H, 32));
    const auto first = f.set->values.begin() + (starts[index(i)] + origin - shown) * D;
    std::vector<double> rows(first, first + shown * D);
    rows.insert(rows.end(), f.mean->begin() + i * H * D, f.mean->begin() + (i + 1) * H * D);
    const auto [low, high] = used_lines(rows, D);
    plot.add("unset arrow");
    plot.add(
        fmt::format("set arrow from {0},graph 0 to {0},graph 1 nohead front linewidth 1.2 "
                    "linecolor rgb '#d55e00'",
                    static_cast<double>(origin) - 0.5));
    if (i + 1 == N) plot.add("set xlabel 'step'");
    add_roll(plot, rows, shown + H, D, low, high, origin - shown,
             fmt::format("sequence {}: context, then the forecast's probabilities", i));
  }
  plot.save();
}

std::string band(const std::string& name, int low, int high, const std::string& color,
                 const std::string& title) {
  return fmt::format("{} using 1:{}:{} with filledcurves fillcolor rgb '{}' title '{}'", name, low,
                     high, color, title);
}

}  // namespace

void plot_training(const std::filesystem::path& picture, const std::filesystem::path& metrics) {
  std::vector<double> steps[2], values[2];
  for (const io::Json& json : read_metrics(metrics)) {
    const std::size_t which = json.at("split") == "train" ? 0 : 1;
    steps[which].push_back(json.at("step").get<double>());
    const io::Json& value = json.at("nats_per_step");
    values[which].push_back(value.is_null() ? kNan : value.get<double>());
  }
  Gnuplot plot(picture, 900, 480);
  plot.add("set xlabel 'step'\nset ylabel 'nats per step'");
  std::vector<double> all = values[0];
  all.insert(all.end(), values[1].begin(), values[1].end());
  std::erase_if(all, [](double v) { return !std::isfinite(v); });
  if (all.size() > 20) {  // the first steps would flatten all that matters
    std::sort(all.begin(), all.end());
    const double least = all.front(), most = all[all.size() * 97 / 100];
    if (most > least) {
      plot.add(fmt::format("set yrange [{}:{}]", least - 0.05 * (most - least),
                           most + 0.05 * (most - least)));
    }
  }
  std::vector<std::string> curves;
  const char* names[] = {"train", "valid"};
  for (std::size_t i = 0; i < 2; ++i) {
    if (steps[i].empty()) continue;
    const std::string name = plot.table({steps[i], values[i]});
    curves.push_back(
        fmt::format("{} using 1:2 with lines linetype {} title '{}'", name, i + 1, names[i]));
  }
  if (!values[1].empty()) {
    const auto best = std::min_element(values[1].begin(), values[1].end());
    const std::string name = plot.table({{steps[1][index(best - values[1].begin())]}, {*best}});
    curves.push_back(
        fmt::format("{} using 1:2 with points pointtype 7 pointsize 1 linetype 2 "
                    "title 'best valid {:.4g}'",
                    name, *best));
  }
  if (curves.empty()) return;
  plot.add(fmt::format("plot {}", fmt::join(curves, ", ")));
  plot.save();
}

void plot_forecast(const std::filesystem::path& picture, const ForecastFigure& f) {
  if (f.roll) return plot_forecast_roll(picture, f);
  const std::int64_t D = f.set->D, H = f.H, N = f.set->count();
  // All columns of the first sequence, or the one column of several.
  const std::int64_t count = D > 1 ? std::min(D, kMostPanels) : std::min<std::int64_t>(N, 3);
  Gnuplot plot = panels(picture, count, count == 1 ? 360 : 220);
  const std::vector<std::int64_t> starts = f.set->starts();
  const std::int64_t block = N * H * D;
  for (std::int64_t panel = 0; panel < count; ++panel) {
    const std::int64_t i = D > 1 ? 0 : panel, d = D > 1 ? panel : 0;
    const std::int64_t origin = (*f.origins)[index(i)];
    const std::int64_t shown = std::min(origin, 2 * H + 8);
    // The last value seen is the first of the bands, so that they start where the data end.
    const std::int64_t joined = shown > 0 ? 1 : 0;
    const std::vector<double> past =
        column(f.set->values, D, d, starts[index(i)] + origin - shown, shown);
    std::vector<std::vector<double>> bands = {counting(origin - joined, H + joined)};
    for (std::int64_t level = 0; level < 7; ++level) {
      std::vector<double> line(index(joined), past.empty() ? 0 : past.back());
      for (std::int64_t h = 0; h < H; ++h) {
        line.push_back((*f.quantiles)[index(level * block + (i * H + h) * D + d)]);
      }
      bands.push_back(std::move(line));
    }
    std::vector<double> truth(index(joined), past.empty() ? 0 : past.back());
    for (std::int64_t h = 0; h < H; ++h) truth.push_back((*f.truth)[index((i * H + h) * D + d)]);
    const std::string q = plot.table(bands), t = plot.table({bands[0], truth});
    std::vector<std::string> curves = {band(q, 2, 8, "#d3e5f2", "95 %"),
                                       band(q, 3, 7, "#a3c9e3", "80 %"),
                                       band(q, 4, 6, "#6aa5cf", "50 %")};
    if (!past.empty()) {
      const std::string p = plot.table({counting(origin - shown, shown), past});
      curves.push_back(
          fmt::format("{} using 1:2 with lines linewidth 1.4 linecolor rgb '{}' "
                      "title 'observed'",
                      p, kInk));
    }
    if (std::any_of(truth.begin() + joined, truth.end(), [](double x) { return !std::isnan(x); })) {
      curves.push_back(fmt::format("{} using 1:2 with lines linewidth 1.4 linecolor rgb '{}' {}", t,
                                   kInk, past.empty() ? "title 'observed'" : "notitle"));
    }
    curves.push_back(fmt::format("{} using 1:5 with lines linetype 1 title 'median'", q));
    plot.add(fmt::format("set xrange [{}:{}]", origin - shown, origin + H - 1));
    add_ticks(plot, {&past, &bands[1], &bands[7], &truth});
    plot.add(panel == 0 ? "set key outside top center horizontal" : "unset key");
    if (panel + 1 == count) plot.add("set xlabel 'step'");
    plot.add("set ylabel " + quoted(D > 1 ? f.columns[index(d)] : fmt::format("sequence {}", i)));
    plot.add(fmt::format("plot {}", fmt::join(curves, ", ")));
  }
  plot.save();
}

void plot_states(const std::filesystem::path& picture, const std::vector<double>& mean,
                 const std::vector<double>& deviation, std::int64_t n, std::int64_t steps) {
  std::vector<std::int64_t> order(index(n));
  std::iota(order.begin(), order.end(), 0);
  std::vector<double> spread(index(n), 0);
  for (std::int64_t d = 0; d < n; ++d) {
    const std::vector<double> path = column(mean, n, d, 0, steps);
    const double average = std::accumulate(path.begin(), path.end(), 0.0) / double(steps);
    for (double x : path) spread[index(d)] += (x - average) * (x - average);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return spread[index(a)] > spread[index(b)]; });
  const std::int64_t count = std::min(n, kMostPanels);
  Gnuplot plot = panels(picture, count, 140);
  plot.add(fmt::format("set xrange [0:{}]\nset key outside top center horizontal",
                       std::max<std::int64_t>(steps - 1, 1)));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t d = order[index(i)];
    const std::vector<double> m = column(mean, n, d, 0, steps),
                              s = column(deviation, n, d, 0, steps);
    std::vector<double> low(m), high(m);
    for (std::size_t t = 0; t < m.size(); ++t) low[t] -= 2 * s[t], high[t] += 2 * s[t];
    const std::string name = plot.table({counting(0, steps), m, low, high});
    add_ticks(plot, {&low, &high});
    if (i == 1) plot.add("unset key");
    if (i + 1 == count) plot.add("set xlabel 'step'");
    plot.add("set ylabel " + quoted(fmt::format("z{}", d)));
    plot.add(fmt::format("plot {}, {} using 1:2 with lines linetype 1 title 'mean'",
                         band(name, 3, 4, "#bcd7ea", "two deviations"), name));
  }
  plot.save();
}

void plot_imputation(const std::filesystem::path& picture, const std::vector<double>& mean,
                     const std::vector<double>& deviation, const std::vector<double>& observed,
                     const std::vector<std::string>& columns) {
  const auto D = static_cast<std::int64_t>(columns.size());
  const std::int64_t steps = static_cast<std::int64_t>(mean.size()) / D;
  std::vector<std::int64_t> shown;
  for (const bool with_gaps : {true, false}) {
    for (std::int64_t d = 0; d < D; ++d) {
      const std::vector<double> x = column(observed, D, d, 0, steps);
      const bool gaps = std::any_of(x.begin(), x.end(), [](double v) { return std::isnan(v); });
      if (gaps == with_gaps) shown.push_back(d);
    }
  }
  const std::int64_t count = std::min(D, kMostPanels);
  Gnuplot plot = panels(picture, count, count == 1 ? 360 : 180);
  plot.add(fmt::format("set xrange [0:{}]\nset key outside top center horizontal",
                       std::max<std::int64_t>(steps - 1, 1)));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t d = shown[index(i)];
    const std::vector<double> m = column(mean, D, d, 0, steps),
                              s = column(deviation, D, d, 0, steps);
    const std::vector<double> x = column(observed, D, d, 0, steps);
    std::vector<double> wide[2] = {m, m}, narrow[2] = {m, m}, filled(m);
    for (std::size_t t = 0; t < m.size(); ++t) {
      wide[0][t] -= 1.96 * s[t], wide[1][t] += 1.96 * s[t];
      narrow[0][t] -= 0.674 * s[t], narrow[1][t] += 0.674 * s[t];
    }
    const std::string name =
        plot.table({counting(0, steps), wide[0], wide[1], narrow[0], narrow[1], m, x});
    add_ticks(plot, {&wide[0], &wide[1], &x});
    if (i == 1) plot.add("unset key");
    if (i + 1 == count) plot.add("set xlabel 'step'");
    plot.add("set ylabel " + quoted(columns[index(d)]));
    plot.add(fmt::format(
        "plot {}, {}, {} using 1:6 with lines linetype 1 title 'filled', {} using 1:7 with "
        "linespoints pointtype 7 pointsize 0.35 linewidth 1.2 linecolor rgb '{}' title 'observed'",
        band(name, 2, 3, "#d3e5f2", "95 %"), band(name, 4, 5, "#8dbbdb", "50 %"), name, name,
        kInk));
  }
  plot.save();
}

void plot_samples(const std::filesystem::path& picture, const std::vector<double>& values,
                  std::int64_t count, std::int64_t steps, const std::vector<std::string>& columns,
                  bool roll) {
  const auto D = static_cast<std::int64_t>(columns.size());
  const std::int64_t shown = std::min(count, std::min<std::int64_t>(kMostPanels, roll ? 4 : 6));
  Gnuplot plot = panels(picture, shown, roll ? 240 : 160);
  const auto [low, high] = used_lines(values, D);
  for (std::int64_t i = 0; i < shown; ++i) {
    const std::vector<double> rows(values.begin() + i * steps * D,
                                   values.begin() + (i + 1) * steps * D);
    if (i + 1 == shown) plot.add("set xlabel 'step'");
    if (roll) {
      add_roll(plot, rows, steps, D, low, high, 0, fmt::format("draw {}", i));
      continue;
    }
    std::vector<std::vector<double>> table = {counting(0, steps)};
    std::vector<std::string> curves;
    for (std::int64_t d = 0; d < std::min<std::int64_t>(D, 8); ++d) {
      table.push_back(column(rows, D, d, 0, steps));
    }
    const std::string name = plot.table(table);
    add_ticks(plot, {&rows});
    for (std::int64_t d = 0; d < std::min<std::int64_t>(D, 8); ++d) {
      curves.push_back(fmt::format("{} using 1:{} with lines linetype {} title {}", name, d + 2,
                                   d + 1, quoted(columns[index(d)])));
    }
    plot.add(i == 0 && D > 1 ? "set key outside top center horizontal" : "unset key");
    plot.add(fmt::format("set xrange [0:{}]\nset ylabel 'draw {}'",
                         std::max<std::int64_t>(steps - 1, 1), i));
    plot.add(fmt::format("plot {}", fmt::join(curves, ", ")));
  }
  plot.save();
}

}  // namespace seqvae::app

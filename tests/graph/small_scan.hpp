// Small scans over a ragged batch, with data, parameters and noise that are functions of an index:
// what the tests of the graph room run.
#pragma once
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "seqvae/graph/executor.hpp"
#include "seqvae/nn/layers.hpp"

namespace seqvae::test {

inline constexpr std::int64_t kX = 3, kControls = 2;

/// What a test says of a scan.
struct SmallScan {
  std::string name;
  std::function<Scan(ParameterTable&, bool gradient, bool weighted)> make;
  std::int64_t particles = 1;
  Emission::Kind data = Emission::Kind::gaussian;

  /// Fills the table and gives the scan. `weighted` asks for it; not every scan can be.
  Scan build(ParameterTable& table, bool gradient, bool weighted = false) const {
    return make(table, gradient, weighted);
  }
};

/// A step from a function that makes its layers in the table first.
using StepMaker = std::function<StepFunction(ParameterTable&)>;

inline SmallScan small_step(std::string name, StepMaker make, ScanOptions options = {},
                            std::int64_t particles = 1,
                            Emission::Kind data = Emission::Kind::gaussian) {
  options.trace.x_width = kX, options.trace.controls_width = kControls;
  options.trace.particles = particles > 1;
  return {std::move(name),
          [make = std::move(make), options](ParameterTable& table, bool gradient, bool weighted) {
            ScanOptions asked = options;
            asked.gradient = gradient;
            if (weighted) asked.weighted = true;
            const StepFunction step = make(table);
            return trace_scan(step, table, asked);
          },
          particles, data};
}

/// Values that look random, and are the same everywhere: |value| < 1.
inline double wave(std::int64_t i, double phase) {
  return 0.9 * std::sin(1.7 * static_cast<double>(i + 1) + phase +
                        0.4 * std::cos(0.9 * static_cast<double>(i)));
}

/// A batch of sequences of the given lengths with data of every input that a scan may have.
template <class Real>
struct SmallBatch {
  std::vector<std::int32_t> lengths;
  std::vector<std::int64_t> first_row;
  std::vector<std::uint32_t> ids;
  std::vector<Real> x, mask, missing, controls, weight, beta = {Real(0.7)}, seed = {Real(-0.6)},
                                                        one_over_particles;
  ScanBatch<Real> batch;

  explicit SmallBatch(std::vector<std::int32_t> lengths_ = {5, 3, 3, 1}, std::int64_t particles = 1,
                      Emission::Kind data = Emission::Kind::gaussian, std::int64_t x_width = kX)
      : lengths(std::move(lengths_)), one_over_particles{Real(1) / static_cast<Real>(particles)} {
    std::int64_t rows = 0;
    for (std::size_t b = 0; b < lengths.size(); ++b) {
      first_row.push_back(rows), ids.push_back(static_cast<std::uint32_t>(3 + 2 * b));
      rows += lengths[b];
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      weight.push_back(static_cast<Real>(r % 4 == 1 ? 0 : 1));
      for (std::int64_t u = 0; u < kControls; ++u)
        controls.push_back(static_cast<Real>(wave(r * kControls + u, 2.0)));
      for (std::int64_t d = 0; d < x_width; ++d) {
        const std::int64_t i = r * x_width + d;
        // A categorical row is seen or not as a whole.
        const std::int64_t seen = data == Emission::Kind::categorical ? r + 1 : i;
        mask.push_back(static_cast<Real>(seen % 5 != 2));
        missing.push_back(1 - mask.back());
        x.push_back(static_cast<Real>(datum(data, r, d, i)));
      }
    }
    batch.lengths = lengths, batch.first_row = first_row, batch.sequence_id = ids;
    batch.bindings = {{"x", x.data()},
                      {"x_mask", mask.data()},
                      {"x_missing", missing.data()},
                      {"controls", controls.data()},
                      {"weight", weight.data()},
                      {"beta", beta.data()},
                      {"seed", seed.data()},
                      {"one_over_particles", one_over_particles.data()}};
    batch.seed = 11, batch.step = 4;
  }
  SmallBatch(const SmallBatch&) = delete;
  SmallBatch& operator=(const SmallBatch&) = delete;

 private:
  static double datum(Emission::Kind kind, std::int64_t r, std::int64_t d, std::int64_t i) {
    switch (kind) {
      case Emission::Kind::bernoulli:
        return wave(i, 0.3) > 0;
      case Emission::Kind::categorical:
        return (r * 7 + 1) % 3 == d % 3;
      case Emission::Kind::poisson:
        return static_cast<double>((i * 5) % 4);
      case Emission::Kind::gaussian:
        break;
    }
    return wave(i, 0.1);
  }
};

/// A value for every parameter, none of them zero.
template <class Real>
std::vector<Real> parameter_values(const ParameterTable& table) {
  std::vector<Real> values(static_cast<std::size_t>(table.size()), Real{0});
  for (const Parameter& p : table.all()) {
    for (std::int64_t i = 0; i < p.count(); ++i) {
      values[static_cast<std::size_t>(p.offset + i)] =
          static_cast<Real>(0.7 * wave(p.offset + i, static_cast<double>(p.rows)));
    }
  }
  return values;
}

}  // namespace seqvae::test

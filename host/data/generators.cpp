#include "seqvae/data/generators.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "seqvae/core/error.hpp"
#include "seqvae/core/random.hpp"

namespace seqvae::data {
namespace {

/// Draws of one sequence, one after the other: word i of counter (i / 4, sequence, part, 0).
class Draws {
 public:
  Draws(std::uint64_t seed, std::uint32_t part, std::uint32_t sequence)
      : seed_(seed), part_(part), sequence_(sequence) {}
  double normal() { return seqvae::normal(words(), next_++ % 4); }
  double uniform(double least, double most) {
    return least + (most - least) * seqvae::uniform(words().w[next_++ % 4]);
  }

 private:
  Words words() const {
    return philox({{static_cast<std::uint32_t>(next_ / 4), sequence_, part_, 0}}, seed_);
  }
  std::uint64_t seed_;
  std::uint32_t part_, sequence_;
  int next_ = 0;
};

/// One step of the classical Runge-Kutta method for dx/dt = f(x).
template <std::size_t n, class F>
std::array<double, n> runge_kutta(const std::array<double, n>& x, double dt, const F& f) {
  const auto moved = [&](const std::array<double, n>& slope, double by) {
    std::array<double, n> y;
    for (std::size_t i = 0; i < n; ++i) y[i] = x[i] + by * slope[i];
    return y;
  };
  const auto k1 = f(x), k2 = f(moved(k1, dt / 2)), k3 = f(moved(k2, dt / 2)), k4 = f(moved(k3, dt));
  std::array<double, n> y;
  for (std::size_t i = 0; i < n; ++i) {
    y[i] = x[i] + dt / 6 * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]);
  }
  return y;
}

using Rows = std::vector<double>;

// A point in the plane at nearly constant velocity, its position seen with noise: position and
// velocity of each axis follow x' = [1 dt; 0 1] x + N(0, q [dt^3/3 dt^2/2; dt^2/2 dt]), dt = 1,
// q = 0.01; y = position + N(0, 0.25); at the start position ~ N(0, 1), velocity ~ N(0, 0.09).
void tracking(Draws& draws, const GeneratorOptions& options, Rows& rows) {
  const double q = 0.01, r = 0.5;
  std::array<double, 2> position, velocity;
  for (double& p : position) p = draws.normal();
  for (double& v : velocity) v = 0.3 * draws.normal();
  for (std::int64_t t = 0; t < options.steps; ++t) {
    for (const double p : position) rows.push_back(p + r * draws.normal());
    for (std::size_t a = 0; a < 2; ++a) {
      // Cholesky factor of [1/3 1/2; 1/2 1]: [1/sqrt 3, 0; sqrt 3 / 2, 1/2].
      const double e1 = draws.normal(), e2 = draws.normal();
      position[a] += velocity[a] + std::sqrt(q / 3) * e1;
      velocity[a] += std::sqrt(q) * (std::sqrt(3.0) / 2 * e1 + e2 / 2);
    }
  }
}

// A pendulum with friction, pushed at random: angle'' = -9.81 sin(angle) - 0.1 angle' ; every 0.1 s
// the tip (sin angle, -cos angle) is seen with noise 0.05, and the speed takes a push N(0, 0.1^2).
void pendulum(Draws& draws, const GeneratorOptions& options, Rows& rows) {
  std::array<double, 2> x = {draws.uniform(-2.5, 2.5), draws.normal()};
  const auto slope = [](const std::array<double, 2>& s) {
    return std::array<double, 2>{s[1], -9.81 * std::sin(s[0]) - 0.1 * s[1]};
  };
  for (std::int64_t t = 0; t < options.steps; ++t) {
    rows.push_back(std::sin(x[0]) + 0.05 * draws.normal());
    rows.push_back(-std::cos(x[0]) + 0.05 * draws.normal());
    for (int i = 0; i < 4; ++i) x = runge_kutta(x, 0.025, slope);
    x[1] += 0.1 * draws.normal();
  }
}

// Lorenz' system, sigma = 10, rho = 28, beta = 8/3, every 0.05 from a point on the attractor, each
// coordinate divided by 10 and seen with noise 0.1.
void lorenz(Draws& draws, const GeneratorOptions& options, Rows& rows) {
  std::array<double, 3> x = {draws.normal(), draws.normal(), 25 + draws.normal()};
  const auto slope = [](const std::array<double, 3>& s) {
    return std::array<double, 3>{10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1],
                                 s[0] * s[1] - 8.0 / 3 * s[2]};
  };
  const auto advance = [&](int pieces) {
    for (int i = 0; i < pieces; ++i) x = runge_kutta(x, 0.01, slope);
  };
  advance(1000);  // onto the attractor
  for (std::int64_t t = 0; t < options.steps; ++t) {
    for (const double coordinate : x) rows.push_back(coordinate / 10 + 0.1 * draws.normal());
    advance(5);
  }
}

// A disc that bounces in a square of size x size pixels: 1 where a pixel's middle lies within the
// disc, else 0. Radius size / 8 (at least 1), speed size / 16 pixels a step, any direction.
void ball(Draws& draws, const GeneratorOptions& options, Rows& rows) {
  const auto size = static_cast<double>(options.size);
  const double radius = std::max(1.0, size / 8), speed = size / 16;
  std::array<double, 2> position, velocity;
  for (double& p : position) p = draws.uniform(radius, size - radius);
  const double direction = draws.uniform(0, 2 * M_PI);
  velocity = {speed * std::cos(direction), speed * std::sin(direction)};
  for (std::int64_t t = 0; t < options.steps; ++t) {
    for (std::int64_t i = 0; i < options.size; ++i) {
      for (std::int64_t j = 0; j < options.size; ++j) {
        const double dy = static_cast<double>(i) + 0.5 - position[0];
        const double dx = static_cast<double>(j) + 0.5 - position[1];
        rows.push_back(dx * dx + dy * dy <= radius * radius ? 1.0 : 0.0);
      }
    }
    for (std::size_t a = 0; a < 2; ++a) {
      position[a] += velocity[a];
      const double low = radius, high = size - radius;
      if (position[a] >= low && position[a] <= high) continue;
      position[a] = 2 * (position[a] < low ? low : high) - position[a];
      velocity[a] = -velocity[a];
    }
  }
}

struct Generator {
  const char* name;
  void (*rows)(Draws&, const GeneratorOptions&, Rows&);
  std::vector<std::string> columns;  // empty: the pixels
};

const std::vector<Generator>& generators() {
  static const std::vector<Generator> all = {{"tracking", tracking, {"x", "y"}},
                                             {"pendulum", pendulum, {"x", "y"}},
                                             {"lorenz", lorenz, {"x", "y", "z"}},
                                             {"ball", ball, {}}};
  return all;
}

}  // namespace

std::vector<std::string> generator_names() {
  std::vector<std::string> names;
  for (const Generator& generator : generators()) names.emplace_back(generator.name);
  return names;
}

Dataset make(const GeneratorOptions& options) {
  const char* where = "make";
  constexpr std::int64_t most = 1 << 24;
  const Generator* generator = nullptr;
  std::string names;
  for (const Generator& one : generators()) {
    if (options.name == one.name) generator = &one;
    names += (names.empty() ? "" : ", ") + std::string(one.name);
  }
  require(generator != nullptr, where, "generator", options.name, "one of " + names);
  require(options.steps >= 1 && options.steps <= most, where, "steps", options.steps, "1 .. 2^24");
  require(options.size >= 4 && options.size <= 256, where, "size", options.size, "4 .. 256");
  Dataset dataset;
  dataset.file = options.name;
  dataset.columns = generator->columns;
  if (dataset.columns.empty()) {
    for (std::int64_t d = 0; d < options.size * options.size; ++d) {
      dataset.columns.push_back(std::to_string(d));
    }
  }
  const std::pair<const char*, std::int64_t> parts[] = {
      {"train", options.train}, {"valid", options.valid}, {"test", options.test}};
  std::uint32_t number = 0;
  for (const auto& [name, count] : parts) {
    require(count >= 0 && count <= most / options.steps, where, name, count,
            "0 .. 2^24 / steps sequences");
    ++number;
    if (count == 0) continue;
    SequenceSet& set = dataset.parts[name];
    set.D = dataset.D();
    for (std::int64_t i = 0; i < count; ++i) {
      const auto id = static_cast<std::uint32_t>(i);
      Draws draws(options.seed, number, id);
      generator->rows(draws, options, set.values);
      set.lengths.push_back(static_cast<std::int32_t>(options.steps));
      set.begin.push_back(0);
      set.ids.push_back(id);
    }
  }
  require(!dataset.parts.empty(), where, "train", options.train, ">= 1 where all else is 0");
  return dataset;
}

}  // namespace seqvae::data

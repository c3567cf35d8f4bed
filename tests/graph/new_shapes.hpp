// What the first step at a new batch shape costs more than the same step repeated.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace seqvae::test {

struct ShapeCosts {
  std::vector<double> unseen;  ///< seconds, one a shape: an executor's first, all memory included
  std::vector<double> seen;    ///< its T, B and R are new, but nothing had to be planned or to grow
};

/// Each of `histories` histories is `shapes` random shapes: 18 to 22 sequences of 20 to 129 steps.
/// Six new executors live through each, running every shape twice; the least of the first runs is
/// held against the least of the second, since what the machine does besides only adds. `make`
/// gives a new executor; `step` runs one step of it over sequences of the given lengths.
template <class Make, class Step>
ShapeCosts shape_costs(int histories, int shapes, const Make& make, const Step& step) {
  constexpr int executors = 6;
  std::minstd_rand chance(1);
  const auto between = [&](unsigned least, unsigned most) {
    return static_cast<std::int32_t>(least + chance() % (most - least + 1));
  };
  struct Shape {
    std::vector<std::int32_t> lengths;
    double first = std::numeric_limits<double>::infinity(), again = first;
    bool seen = false;
  };
  ShapeCosts costs;
  for (int h = 0; h < histories; ++h) {
    std::vector<Shape> history(static_cast<std::size_t>(shapes));
    for (Shape& shape : history) {
      shape.lengths.resize(static_cast<std::size_t>(between(18, 22)));
      for (std::int32_t& length : shape.lengths) length = between(20, 129);
    }
    for (int e = 0; e < executors; ++e) {
      auto executor = make();
      for (Shape& shape : history) {
        const auto seconds = [&] {
          const auto begin = std::chrono::steady_clock::now();
          step(executor, shape.lengths);
          return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        };
        const auto plans = executor.plan_count();
        const auto bytes = executor.arena_bytes();
        shape.first = std::min(shape.first, seconds());
        shape.seen = executor.plan_count() == plans && executor.arena_bytes() == bytes;
        shape.again = std::min(shape.again, seconds());
      }
    }
    for (const Shape& shape : history) {
      const double extra = shape.first - shape.again;
      if (&shape == &history.front()) {
        costs.unseen.push_back(extra);
      } else if (shape.seen) {
        costs.seen.push_back(extra);
      }
    }
  }
  return costs;
}

}  // namespace seqvae::test

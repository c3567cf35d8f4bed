// What the first step at a new batch shape costs more than the same step repeated.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <random>
#include <vector>

namespace seqvae::test {

struct ShapeCosts {
  std::vector<double> unseen;  ///< seconds, one a shape: an executor's first, all memory included
  std::vector<double> seen;    ///< its T, B and R are new, but nothing had to be planned or to grow
};

/// Each of `executors` executors meets `shapes` random ones: 18 to 22 sequences of 20 to 129 steps.
/// `make` gives a new executor; `step` runs one step of it over sequences of the given lengths.
template <class Make, class Step>
ShapeCosts shape_costs(int executors, int shapes, const Make& make, const Step& step) {
  std::minstd_rand chance(1);
  const auto between = [&](unsigned least, unsigned most) {
    return static_cast<std::int32_t>(least + chance() % (most - least + 1));
  };
  ShapeCosts costs;
  for (int e = 0; e < executors; ++e) {
    auto executor = make();
    for (int i = 0; i < shapes; ++i) {
      std::vector<std::int32_t> lengths(static_cast<std::size_t>(between(18, 22)));
      for (std::int32_t& length : lengths) length = between(20, 129);
      const auto seconds = [&] {
        const auto begin = std::chrono::steady_clock::now();
        step(executor, lengths);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      };
      const auto plans = executor.plan_count();
      const auto bytes = executor.arena_bytes();
      const double first = seconds();
      const bool seen = executor.plan_count() == plans && executor.arena_bytes() == bytes;
      const double extra = first - std::min({seconds(), seconds(), seconds()});
      if (i == 0) costs.unseen.push_back(extra);
      if (i > 0 && seen) costs.seen.push_back(extra);
    }
  }
  return costs;
}

}  // namespace seqvae::test

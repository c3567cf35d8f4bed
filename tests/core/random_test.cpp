// The generator against published values, and the normals against the distribution they claim.
#include "seqvae/core/random.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace seqvae::test {
namespace {

TEST(Philox, YieldsTheKnownAnswersOfRandom123) {
  // Random123 1.14, tests/kat_vectors, philox 4x32 10.
  EXPECT_THAT(philox({{0, 0, 0, 0}}, 0).w,
              testing::ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  EXPECT_THAT(philox({{~0u, ~0u, ~0u, ~0u}}, ~std::uint64_t{0}).w,
              testing::ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(philox({{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}}, 0x299f31d0a4093822u).w,
              testing::ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(Uniform, IsNeverZeroAndNeverAboveOne) {
  EXPECT_GT(uniform(0), 0.0f);
  EXPECT_LE(uniform(0xFFFFFFFFu), 1.0f);
}

TEST(LogUnit, IsWithinTwoUlpOfTheLogarithm) {
  for (std::uint64_t word = 0; word <= 0xFFFFFFFFu; word += 9973) {
    const float u = uniform(static_cast<std::uint32_t>(word));
    const double exact = std::log(static_cast<double>(u));
    const double ulp = std::abs(exact) * 0x1p-23 + 1e-38;
    ASSERT_LE(std::abs(log_unit(u) - exact), 2 * ulp) << "u = " << u;
  }
}

TEST(NormalPair, FollowsBoxMullerInDouble) {
  for (std::uint64_t i = 0; i < 1'000'000; ++i) {
    const Words r = philox({{static_cast<std::uint32_t>(i), 0, 0, 0}}, 7);
    float first, second;
    normal_pair(r.w[0], r.w[1], first, second);
    const double radius = std::sqrt(-2 * std::log(static_cast<double>(uniform(r.w[0]))));
    const double angle = 2 * M_PI * (r.w[1] / 4294967296.0);
    ASSERT_NEAR(first, radius * std::cos(angle), 3e-7 * radius + 1e-12);
    ASSERT_NEAR(second, radius * std::sin(angle), 3e-7 * radius + 1e-12);
  }
}

TEST(Normal, PassesKolmogorovSmirnov) {
  std::vector<double> draws;
  for (std::uint32_t i = 0; i < 50'000; ++i) {
    const Words r = philox(noise_counter(3, 1, i, 0, 2, 5, 1), 11);
    for (int c = 0; c < 4; ++c) draws.push_back(normal(r, c));
  }
  std::sort(draws.begin(), draws.end());
  double distance = 0;
  const double n = static_cast<double>(draws.size());
  for (std::size_t i = 0; i < draws.size(); ++i) {
    const double cdf = 0.5 * std::erfc(-draws[i] / std::sqrt(2.0));
    distance = std::max(
        {distance, cdf - static_cast<double>(i) / n, (static_cast<double>(i) + 1) / n - cdf});
  }
  EXPECT_LT(distance * std::sqrt(n), 1.95);  // the 0.1 % point of the Kolmogorov distribution
}

TEST(NoiseCounter, SeparatesSitesStepsSequencesParticlesAndQuads) {
  const auto counter = noise_counter(2, 9, 77, 5, 3, 10, 1);
  EXPECT_THAT(counter.w, testing::ElementsAre(3 * 3 + 1, 77u, 9u, 2u << 24 | 5u));
}

}  // namespace
}  // namespace seqvae::test

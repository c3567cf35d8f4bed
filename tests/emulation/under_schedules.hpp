// Runs of a kernel under many schedules.
#pragma once
#include <gmock/gmock.h>

#include <cstdint>

#include "seqvae/core/error.hpp"
#include "tests/emulation/emulation.hpp"

namespace seqvae::test {

constexpr std::uint64_t kSeeds = 20;

/// Each ends with one report of such a fault.
template <class Run>
emulation::Report report_of(testing::Matcher<emulation::Fault> fault, Run run) {
  emulation::Report last{};
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    emulation::set_schedule(seed);
    emulation::take_reports();
    EXPECT_THROW(run(), CudaError) << "seed " << seed;
    const auto reports = emulation::take_reports();
    EXPECT_EQ(reports.size(), 1u) << "seed " << seed;
    if (reports.empty()) return {};
    EXPECT_THAT(reports[0].fault, fault) << "seed " << seed << ": " << reports[0].text;
    last = reports[0];
  }
  return last;
}

template <class Run>
void expect_clean(Run run) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    emulation::set_schedule(seed);
    EXPECT_NO_THROW(run()) << "seed " << seed;
    EXPECT_TRUE(emulation::take_reports().empty());
  }
}

}  // namespace seqvae::test

// Clusters, mbarriers, st.async, cp.async: each fault that the emulator claims to find in their
// use, planted, and the same kernel without it.
#include <gmock/gmock.h>

#include <numeric>

#include "kernels/common/runtime.hpp"
#include "tests/emulation/faults/cluster_faults.hpp"
#include "tests/emulation/under_schedules.hpp"
#include "tests/support/device_array.hpp"

namespace seqvae::test {
namespace {

using emulation::Fault;
using testing::AnyOf;
using testing::HasSubstr;
using testing::MatchesRegex;

constexpr unsigned kCells = 2 * kClusterSize * kExchangeThreads;

TEST(EmulatedCluster, ExchangesUnderAnySchedule) {
  const DeviceArray<unsigned> y(kCells);
  expect_clean([&] { exchange_in_cluster(Cluster::nothing, y.data()); });
  std::vector<unsigned> expected(kCells);
  for (unsigned i = 0; i < kCells; ++i) expected[i] = exchanged(i);
  EXPECT_EQ(y.read(), expected);
}

TEST(EmulatedCluster, IsTheSameForTheSameSeed) {
  const DeviceArray<unsigned> y(kCells);
  const auto text = [&] {
    return report_of(Fault::race, [&] { exchange_in_cluster(Cluster::one_buffer, y.data()); }).text;
  };
  EXPECT_EQ(text(), text());
}

struct PlantedCluster {
  Cluster fault;
  testing::Matcher<Fault> found;
  std::string text;  // of the report, a piece that does not hang on the schedule
};

class EmulatedClusterFault : public testing::TestWithParam<PlantedCluster> {};

TEST_P(EmulatedClusterFault, IsFoundUnderAnySchedule) {
  const DeviceArray<unsigned> y(kCells);
  const auto report =
      report_of(GetParam().found, [&] { exchange_in_cluster(GetParam().fault, y.data()); });
  EXPECT_EQ(report.kernel, "exchange");
  EXPECT_THAT(report.place, MatchesRegex(".*/cluster_faults\\.cu:[0-9]+"));
  EXPECT_THAT(report.text, HasSubstr(GetParam().text));
}

// Where several kinds may be found, it hangs on who comes first.
INSTANTIATE_TEST_SUITE_P(
    Planted, EmulatedClusterFault,
    testing::Values(
        PlantedCluster{Cluster::one_buffer, Fault::race, "shared memory that block"},
        PlantedCluster{Cluster::no_arm, Fault::dead_wait,
                       "which is in phase 0: 1 of 1 arrivals missing, 1024 bytes too many"},
        PlantedCluster{Cluster::too_few_bytes, Fault::dead_wait, "0 of 1 arrivals missing"},
        PlantedCluster{Cluster::too_many_bytes,
                       AnyOf(Fault::race, Fault::mbarrier_misuse, Fault::uninitialised), ""},
        PlantedCluster{Cluster::wrong_parity,
                       AnyOf(Fault::race, Fault::mbarrier_misuse, Fault::uninitialised), ""},
        PlantedCluster{Cluster::no_wait,
                       AnyOf(Fault::race, Fault::mbarrier_misuse, Fault::uninitialised), ""},
        PlantedCluster{Cluster::no_sync_before_send, AnyOf(Fault::race, Fault::uninitialised),
                       "shared memory"},
        PlantedCluster{Cluster::no_initialisation, Fault::mbarrier_misuse,
                       "mbarrier_arm: not an mbarrier, or not initialised"},
        PlantedCluster{Cluster::no_cluster_barrier, AnyOf(Fault::race, Fault::mbarrier_misuse),
                       "initialised"},
        PlantedCluster{Cluster::leaves_early, Fault::late_write,
                       "writes into a CTA that has ended"},
        PlantedCluster{Cluster::misaligned_send, Fault::misaligned,
                       "st_async: not aligned to 16 bytes"},
        PlantedCluster{Cluster::plain_store, Fault::out_of_range,
                       "writes the shared memory of another block, where only st_async may write"},
        PlantedCluster{Cluster::wrong_rank, Fault::out_of_range,
                       "map_shared: rank 4 in a cluster of 4"},
        PlantedCluster{Cluster::armed_twice, Fault::mbarrier_misuse, "too much for the mbarrier"},
        PlantedCluster{Cluster::initialised_twice, Fault::mbarrier_misuse,
                       "is an mbarrier already"},
        PlantedCluster{Cluster::other_mbarrier, Fault::mbarrier_misuse,
                       "of another CTA than the bytes"},
        PlantedCluster{Cluster::barrier_in_branch, Fault::divergence,
                       "waits at a cluster barrier while"}));

TEST(EmulatedCluster, OrdersGlobalMemoryAtItsBarrier) {
  const DeviceArray<unsigned> y(8 * 32);
  expect_clean([&] { hand_over_in_cluster(false, y.data()); });
  EXPECT_EQ(y.read()[5 * 32], 7u + 1u);
  report_of(AnyOf(Fault::race, Fault::uninitialised),
            [&] { hand_over_in_cluster(true, y.data()); });
}

TEST(EmulatedCluster, MbarrierOrdersTheThreadsThatArriveAndWait) {
  const DeviceArray<unsigned> y(128);
  expect_clean([&] { meet_on_mbarrier(false, y.data()); });
  EXPECT_EQ(y.read()[3], 124u + 2u);
  report_of(AnyOf(Fault::race, Fault::uninitialised), [&] { meet_on_mbarrier(true, y.data()); });
}

TEST(EmulatedCluster, LaunchesAsCudaWould) {
  const DeviceArray<unsigned> y(32);
  const auto rank = [&](unsigned blocks, unsigned cluster, std::size_t bytes = 0) {
    ask_rank(blocks, cluster, bytes, Stream(), y.data());
  };
  for (const unsigned cluster : {1u, 2u, 8u, 16u}) {
    rank(16, cluster, 200 << 10);
    for (unsigned i = 0; i < 16; ++i) {
      EXPECT_EQ(y.read()[2 * i], i % cluster);
      EXPECT_EQ(y.read()[2 * i + 1], cluster);
    }
  }
  EXPECT_THROW(rank(12, 8), CudaError);
  EXPECT_THROW(rank(17, 17), CudaError);
  EXPECT_THROW(rank(1, 1, 228 << 10), CudaError);
  EXPECT_EQ(clusters_at_once(16), 8);

  const Stream stream = cuda::create_stream();
  {
    cuda::Graph graph(stream, [&](Stream s) { ask_rank(16, 16, 100 << 10, s, y.data()); });
    graph.replay();
    EXPECT_EQ(y.read(stream)[30], 15u);
  }
  cuda::destroy_stream(stream);
}

std::vector<float> count_up(std::size_t n) {
  std::vector<float> x(n);
  std::iota(x.begin(), x.end(), 0.0f);
  return x;
}

TEST(EmulatedCopy, IsThereAfterTheWait) {
  const DeviceArray<float> x(count_up(68)), y(64);
  expect_clean([&] { copy_ahead(Copy::nothing, x.data(), y.data()); });
  for (int i = 0; i < 64; ++i) EXPECT_EQ(y.read()[i], 4.0f * i + 6.0f + (63.0f - i));
}

struct PlantedCopy {
  Copy fault;
  testing::Matcher<Fault> found;
  std::string text;
};

class EmulatedCopyFault : public testing::TestWithParam<PlantedCopy> {};

TEST_P(EmulatedCopyFault, IsFoundUnderAnySchedule) {
  const DeviceArray<float> x(count_up(68)), y(64);
  const auto report =
      report_of(GetParam().found, [&] { copy_ahead(GetParam().fault, x.data(), y.data()); });
  EXPECT_EQ(report.kernel, "copy_steps");
  EXPECT_THAT(report.place, MatchesRegex(".*/cluster_faults\\.cu:[0-9]+"));
  EXPECT_THAT(report.text, HasSubstr(GetParam().text));
}

constexpr const char* kNotWaited = "fills by cp.async, which it has not waited for";
INSTANTIATE_TEST_SUITE_P(
    PlantedCluster, EmulatedCopyFault,
    testing::Values(PlantedCopy{Copy::no_wait, Fault::race, kNotWaited},
                    PlantedCopy{Copy::no_commit, Fault::race, kNotWaited},
                    PlantedCopy{Copy::too_early, Fault::race, kNotWaited},
                    PlantedCopy{Copy::no_barrier, AnyOf(Fault::race, Fault::uninitialised), ""},
                    PlantedCopy{Copy::overwritten, Fault::race, "shared memory"},
                    PlantedCopy{Copy::misaligned, Fault::misaligned,
                                "cp_async: not aligned to 16 bytes"}));

}  // namespace
}  // namespace seqvae::test

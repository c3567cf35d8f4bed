// Barriers between CTAs: the cooperative grid's, one of flags in global memory among a group of
// CTAs, and the cluster's. And how many clusters of which size the device holds.
#include <cooperative_groups.h>

#include "constants.hpp"

namespace seqvae::bench::gpu {
namespace {

__global__ void __launch_bounds__(kThreads) grid_barriers(int n) {
  const auto grid = cooperative_groups::this_grid();
  for (int i = 0; i < n; ++i) grid.sync();
}

constexpr unsigned kFlagsPerGroup = 64;

/// Every CTA of a group raises its own flag to the step's number and one warp waits for all flags.
/// The CTAs beyond the last full group leave. Both __syncthreads belong to the barrier.
__global__ void __launch_bounds__(kThreads)
    group_barriers(int n, unsigned group, unsigned* flags, Failures* failures) {
  const unsigned rank = blockIdx.x % group, first = blockIdx.x - rank;
  if (first + group > gridDim.x) return;
  unsigned* const mine = flags + blockIdx.x / group * kFlagsPerGroup;
  bool ok = true;
  for (unsigned step = 1; step <= static_cast<unsigned>(n); ++step) {
    __syncthreads();
    if (threadIdx.x == 0) st_release(mine + rank, step);
    if (threadIdx.x < 32) {
      for (unsigned peer = threadIdx.x; peer < group; peer += 32) {
        if (!ok || ld_acquire(mine + peer) >= step) continue;
        const long long start = clock64();
        while (ok && ld_acquire(mine + peer) < step) ok = clock64() - start < kPatience;
      }
    }
    __syncthreads();
  }
  if (!ok) atomicAdd(&failures->timeouts, 1);
}

/// With store, each thread also writes 4 bytes a step to global memory, which a release waits for.
template <bool kRelease>
__global__ void __launch_bounds__(kThreads, 1) cluster_barriers(int n, float* store) {
  for (int i = 0; i < n; ++i) {
    if (store != nullptr) {
      store[(static_cast<unsigned>(i % 64) * gridDim.x + blockIdx.x) * kThreads + threadIdx.x] = 1;
    }
    cluster_barrier<kRelease>();
  }
}

void measure_cluster_counts(Bench& bench) {
  for (const int kb : {100, 200, 227}) {
    for (const int cluster : {2, 4, 8, 16}) {
      bench.measure(
          "clusters_of_" + std::to_string(cluster) + "_with_" + std::to_string(kb) + "_kb", "count",
          "cudaOccupancyMaxActiveClusters, 256 threads a CTA", [&] {
            const int bytes = kb * 1024;
            allow(cluster_barriers<false>, bytes);
            return clusters_that_fit(cluster_barriers<false>, {cluster, kThreads, bytes, cluster});
          });
    }
  }
}

template <bool kRelease>
void measure_cluster_barriers(Bench& bench) {
  const DeviceArray<float> store(std::size_t{64} * 256 * kThreads);
  for (const int cluster : {8, 16}) {
    for (const char* how : {"alone", "full", "full_storing"}) {
      const bool alone = how == std::string("alone"), storing = how == std::string("full_storing");
      const std::string name = "cluster" + std::to_string(cluster) + "_barrier_" +
                               (kRelease ? "release_" : "relaxed_") + how;
      const std::string what =
          std::string("barrier.cluster arrive.") + (kRelease ? "release" : "relaxed") +
          " and wait.acquire, " + (alone ? "one cluster" : "all clusters that fit, a CTA an SM") +
          (storing ? ", each thread storing 4 bytes to global memory a step" : "");
      bench.measure(name, "us", what, [&] {
        const auto kernel = cluster_barriers<kRelease>;
        Shape shape{cluster, kThreads, kOneCtaPerSm, cluster};
        allow(kernel, kOneCtaPerSm);
        if (!alone) shape.grid *= clusters_that_fit(kernel, shape);
        return bench.slope_us(4096, [&](int n) {
          launch(kernel, shape, bench.stream, n, storing ? store.get() : nullptr);
        });
      });
    }
  }
}

}  // namespace

void measure_barriers(Bench& bench) {
  const Shape all{.grid = bench.sms, .shared_bytes = kOneCtaPerSm, .cooperative = true};
  allow(grid_barriers, kOneCtaPerSm);
  allow(group_barriers, kOneCtaPerSm);
  bench.measure(
      "grid_sync", "us", "cooperative_groups grid.sync(), a CTA of 256 threads an SM", [&] {
        return bench.slope_us(2048, [&](int n) { launch(grid_barriers, all, bench.stream, n); });
      });
  const DeviceArray<unsigned> flags(std::size_t{kFlagsPerGroup} * 256);
  for (const int group : {8, 16, 33}) {
    bench.measure("group" + std::to_string(group) + "_barrier", "us",
                  "__syncthreads, st.release of a flag a CTA, one warp ld.acquires all flags of "
                  "the group, __syncthreads; groups fill the device",
                  [&] {
                    return bench.slope_us(2048, [&](int n) {
                      check(cudaMemsetAsync(flags.get(), 0, flags.bytes(), bench.stream));
                      launch(group_barriers, all, bench.stream, n, group, flags.get(),
                             bench.failures);
                    });
                  });
  }
  measure_cluster_counts(bench);
  measure_cluster_barriers<false>(bench);
  measure_cluster_barriers<true>(bench);
}

}  // namespace seqvae::bench::gpu

// How the CTAs of a cluster that runs 8 sequences add up a product whose K is dealt among them:
// each CTA has products of its share of K for all rows, and sends every row's to the CTA that owns
// it, which adds what it gets from all of them in their order. Partial sums travel as bfloat16,
// added they are in float. So 16 bytes a unit go to a CTA a step, where its share of K, 3 or 4
// values a unit, would take as many times more; and distributed shared memory moves some 12 bytes a
// cycle to a multiprocessor, which is what a step waits for.
//
// Hazards. A CTA sends for step i + 1 only after a __syncthreads that stands after its last read of
// what came for step i. Then two buffers suffice: what is sent for step i + 2 follows the receipt
// of what that CTA sent for step i + 1. No CTA may leave before all that is sent to it is in.
#pragma once
#include "kernels/recurrence/cluster_exchange.cuh"

namespace seqvae::cuda {

/// Of CTAs that own kUnits units each, a warp's rows being kTilesM tiles of 16.
template <int kCluster, int kUnits, int kTilesM>
struct ScatterBuffers {
  static constexpr int kOctets = kUnits / 8;  // of a CTA's rows
  static constexpr unsigned kBytes = kCluster * kOctets * kWarpSize * sizeof(unsigned);
  // Word l of an octet: row l / 4, sequences 2 (l % 4) and the next.
  alignas(16) unsigned sums[2][kCluster][kOctets][kWarpSize];
  alignas(16) unsigned send[kClusterWarps][2 * kTilesM][kWarpSize];
  std::uint64_t received[2];
};

template <int kCluster, int kUnits, int kTilesM>
class Scatter {
 public:
  using Buffers = ScatterBuffers<kCluster, kUnits, kTilesM>;

  __device__ explicit Scatter(Buffers& buffers)
      : buffers_(buffers),
        sums_(shared_address(buffers.sums)),
        received_(shared_address(buffers.received)),
        rank_(cluster_rank()) {}

  /// Before the first send, by all threads of the cluster.
  __device__ void begin() const {
    if (threadIdx.x == 0) {
      for (unsigned i = 0; i < 2; ++i) mbarrier_init(received_ + 8 * i, 1);
      mbarrier_init_fence();
      for (unsigned i = 0; i < 2; ++i) mbarrier_arm(received_ + 8 * i, Buffers::kBytes);
    }
    cluster_barrier();
  }
  /// By a whole warp, c its tiles' products, to be added for step i.
  __device__ void send(int i, const float (&c)[kTilesM][4]) const {
    auto& words = buffers_.send[warp()];
    __syncwarp();  // after what was sent before
#pragma unroll
    for (int m = 0; m < kTilesM; ++m) {
      words[2 * m][lane()] = pack_bf16(c[m][0], c[m][1]);
      words[2 * m + 1][lane()] = pack_bf16(c[m][2], c[m][3]);
    }
    __syncwarp();
    constexpr int kVectors = 2 * kTilesM * 8;  // 16 bytes each, 8 an octet
#pragma unroll
    for (int v0 = 0; v0 < kVectors; v0 += kWarpSize) {
      const int v = v0 + lane();
      if (v >= kVectors) break;
      const unsigned* four = &words[v / 8][v % 8 * 4];
      const int octet = warp() * 2 * kTilesM + v / 8;  // among all rows
      const unsigned to = static_cast<unsigned>(octet / Buffers::kOctets);
      const unsigned place =
          (((i & 1) * kCluster + rank_) * Buffers::kOctets + octet % Buffers::kOctets) * 8 + v % 8;
      st_async(map_shared(sums_ + place * sizeof(uint4), to),
               make_uint4(four[0], four[1], four[2], four[3]),
               map_shared(received_ + 8 * (i & 1), to));
    }
  }
  /// What came for step i > 0 to this thread, of a warp that owns an octet: its unit's sums for its
  /// two sequences are added to `sum`.
  __device__ void add(int i, float (&sum)[2]) const {
    mbarrier_wait(received_ + 8 * (i & 1), ((i - 1) >> 1) & 1);
    __syncwarp();  // lanes may have polled a different number of times
    if (threadIdx.x == 0) mbarrier_arm(received_ + 8 * (i & 1), Buffers::kBytes);
#pragma unroll
    for (int from = 0; from < kCluster; ++from) {
      const unsigned two = buffers_.sums[i & 1][from][warp()][lane()];
      sum[0] += __uint_as_float(two << 16);
      sum[1] += __uint_as_float(two & 0xFFFF0000u);
    }
  }

 private:
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kWarpSize; }
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / kWarpSize; }
  Buffers& buffers_;
  SharedAddress sums_, received_;
  unsigned rank_;
};

}  // namespace seqvae::cuda

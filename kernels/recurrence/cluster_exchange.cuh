// How the CTAs of a cluster that runs 8 sequences tell each other their units' values: every CTA
// gets all of them as bfloat16, in the order that ldmatrix wants for B of m16n8k16, in a buffer of
// two, counted on an mbarrier each. Used by the recurrences that keep their weights in registers.
//
// Hazards. Before its next send a CTA passes a __syncthreads that stands after its last read of the
// buffer. Then two buffers suffice: having all of step j from a CTA proves that it has read all of
// step j - 1. No CTA may leave before the last sends to it are in: `end`.
#pragma once
#include "kernels/common/cluster.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/mma.cuh"
#include "kernels/common/warp.cuh"

namespace seqvae::cuda {

constexpr int kClusterThreads = 256, kClusterWarps = kClusterThreads / kWarpSize;
constexpr int kSequences = 8;  // of a cluster: the columns of one mma tile

/// kValues values of each sequence, from all CTAs, kGates of each unit. Vector 8 o + s: values 8 o
/// .. 8 o + 7 of sequence s.
template <int kValues, int kGates>
struct ExchangeBuffers {
  static constexpr unsigned kBytes = kValues * kSequences * 2;
  uint4 values[2][kValues];
  alignas(16) unsigned send[kClusterWarps][kGates][kSequences][4];  // the last: two units
  std::uint64_t received[2];
};

/// A thread's view of them. In a warp that finishes units, lane l owns unit l / 4 of its 8 and the
/// sequences 2 (l % 4) and 2 (l % 4) + 1.
template <int kCluster, int kValues, int kGates>
class Exchange {
 public:
  using Buffers = ExchangeBuffers<kValues, kGates>;

  __device__ explicit Exchange(Buffers& buffers)
      : buffers_(buffers),
        values_(shared_address(buffers.values)),
        received_(shared_address(buffers.received)),
        rank_(cluster_rank()) {}

  /// Before the first send or wait, by all threads of the cluster.
  __device__ void begin() const {
    if (threadIdx.x == 0) {
      for (unsigned i = 0; i < 2; ++i) mbarrier_init(received_ + 8 * i, 1);
      mbarrier_init_fence();
      for (unsigned i = 0; i < 2; ++i) mbarrier_arm(received_ + 8 * i, Buffers::kBytes);
    }
    cluster_barrier();
  }
  /// Until all values of step j are in.
  __device__ void wait(int j) const {
    mbarrier_wait(received_ + 8 * (j & 1), (j >> 1) & 1);
    __syncwarp();  // lanes may have polled a different number of times
    if (threadIdx.x == 0) mbarrier_arm(received_ + 8 * (j & 1), Buffers::kBytes);
  }
  /// Where lane l reads row l % 8 of the matrix l / 8 of four neighbouring ones, from value `first`
  /// (a multiple of 8) of step j on.
  __device__ SharedAddress fragments(int j, int first) const {
    return values_ + static_cast<unsigned>((j & 1) * kValues + first + lane()) * sizeof(uint4);
  }
  /// To all CTAs, by a whole warp: this lane's unit of its two sequences, gate by gate. The warp's
  /// 8 units of gate g are the values first + g kValues / kGates .. of step j.
  __device__ void send(int j, int first, const float (&own)[2][kGates]) const {
    auto& words = buffers_.send[threadIdx.x / kWarpSize];
    __syncwarp();  // after what was sent before
#pragma unroll
    for (int g = 0; g < kGates; ++g) {
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        const float above = __shfl_down_sync(kFullMask, own[s][g], 4);  // the next unit's
        if (lane() % 8 < 4) {
          words[g][lane() % 4 * 2 + s][lane() / 8] = pack_bf16(own[s][g], above);
        }
      }
    }
    __syncwarp();
    // Lane l sends sequence l % 8 to the CTAs l / 8, l / 8 + 4, ... from here.
    const SharedAddress place =
        values_ + static_cast<unsigned>((j & 1) * kValues + first + lane() % 8) * sizeof(uint4);
#pragma unroll
    for (int g = 0; g < kGates; ++g) {
      const unsigned(&four)[4] = words[g][lane() % 8];
      const uint4 vector = make_uint4(four[0], four[1], four[2], four[3]);
#pragma unroll
      for (int i = 0; i < kCluster; i += 4) {
        const unsigned to = (rank_ + static_cast<unsigned>(lane() / 8 + i)) % kCluster;
        constexpr unsigned kApart = kValues / kGates * sizeof(uint4);
        st_async(map_shared(place + g * kApart, to), vector,
                 map_shared(received_ + 8 * (j & 1), to));
      }
    }
  }
  /// After the last step's sends, j the step that they are values of.
  __device__ void end(int j) const { mbarrier_wait(received_ + 8 * (j & 1), (j >> 1) & 1); }

 private:
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kWarpSize; }
  Buffers& buffers_;
  SharedAddress values_, received_;
  unsigned rank_;
};

/// This lane's part of the 16 x 16 tile of A = value(row, column) that begins at (row, column).
template <class Value>
__device__ __forceinline__ uint4 fragment_of(int row, int column, int lane, Value value) {
  const auto pair = [&](int r, int c) { return pack_bf16(value(r, c), value(r, c + 1)); };
  const int r = row + lane / 4, c = column + lane % 4 * 2;
  return make_uint4(pair(r, c), pair(r + 8, c), pair(r, c + 8), pair(r + 8, c + 8));
}

/// Whose fragment a thread of a kernel that arranges them makes: [CTA][warp][m][k][lane].
struct FragmentPlace {
  int rank, warp, m, k, lane;
};
template <class Tile>
__device__ __forceinline__ FragmentPlace fragment_place(int i) {
  const int tile = i / kWarpSize, warp = tile / (Tile::tiles_m * Tile::tiles_k);
  return {warp / kClusterWarps, warp % kClusterWarps, tile / Tile::tiles_k % Tile::tiles_m,
          tile % Tile::tiles_k, i % kWarpSize};
}

/// All tiles of a warp into registers, where they stay.
template <int kTilesM, int kTilesK>
__device__ __forceinline__ void load_fragments(unsigned (&a)[kTilesM][kTilesK][4],
                                               const uint4* fragments, int rank, int warp,
                                               int lane) {
  const uint4* from =
      fragments + ((rank * kClusterWarps + warp) * kTilesM * kTilesK) * kWarpSize + lane;
#pragma unroll
  for (int m = 0; m < kTilesM; ++m) {
#pragma unroll
    for (int k = 0; k < kTilesK; ++k) {
      const uint4 four = load_resident(from + (m * kTilesK + k) * kWarpSize);
      a[m][k][0] = four.x, a[m][k][1] = four.y, a[m][k][2] = four.z, a[m][k][3] = four.w;
    }
  }
}

/// Of an element among rows: 32 bits, which cost a step far fewer instructions than 64.
__device__ __forceinline__ unsigned index_of(int row, int stride, int column) {
  return static_cast<unsigned>(row) * static_cast<unsigned>(stride) + static_cast<unsigned>(column);
}

/// The largest of the lengths that lanes l, l % 8 the sequence, hold.
__device__ __forceinline__ int longest_of(int length) {
  for (int apart = kSequences / 2; apart > 0; apart /= 2) {
    const int other = __shfl_xor_sync(kFullMask, length, apart);
    length = length < other ? other : length;
  }
  return length;
}

/// Clusters for B sequences, with shared memory for Tile::Shared.
template <class Tile>
LaunchShape cluster_shape(std::int64_t B, unsigned cluster) {
  LaunchShape shape{blocks_for(B, kSequences) * cluster, kClusterThreads,
                    sizeof(typename Tile::Shared)};
  shape.cluster = cluster;
  return shape;
}

/// Errors of about 1e-7: far below what bfloat16 rounds off.
__device__ __forceinline__ float fast_sigmoid(float x) {
  return __fdividef(1.0f, 1.0f + __expf(-x));
}
__device__ __forceinline__ float fast_tanh(float x) {
  return 1.0f - __fdividef(2.0f, 1.0f + __expf(2.0f * x));
}

}  // namespace seqvae::cuda

// Whole steps of a GRU whose weights stay in registers, one cluster for 8 sequences. It does the
// work of the recurrence and keeps its hazards, on random weights and inputs:
//
//     a = R h_{t-1}                       mma.sync, R in registers, h by ldmatrix
//     r = sigmoid(x_r + a_r),  z = sigmoid(x_z + a_z),  n = tanh(x_n + r (a_n + b_n))
//     h_t = n + z (h_{t-1} - n)           float; sent to all CTAs as bf16
//
// CTA c owns H/C units with their three gates: 3 H/C rows of R, gate by gate, padded to tiles of
// 16. Its 8 warps are 2 parts of the rows x 4 parts of K. The four partial products meet in shared
// memory and are added in their order. Then warp w finishes units 8 w to 8 w + 7, lane l unit l/4
// of these and sequences 2 (l%4) and 2 (l%4) + 1.
//
// The exchange is that of constants_exchange.cu. One __syncthreads a step is enough: it is after
// the last read of h_{t-1} and before the first send of h_t; and `partial` is written again only
// after all of h_t is in, which every finishing warp sends after its last read of `partial`.
#include <cuda_bf16.h>

#include "constants.hpp"

namespace seqvae::bench::gpu {
namespace {

constexpr int kRowParts = 2, kParts = 4;  // of the gate rows, of K
constexpr int kAhead = 4;                 // steps by which x is asked for before it is used

enum Phase { kWait, kMma, kBarrier, kFinish, kStore, kPhases };
constexpr const char* kPhaseNames[kPhases] = {"wait", "mma", "barrier", "finish", "store"};

template <int kCluster, int kHidden>
struct Tile {
  static constexpr int units = kHidden / kCluster;         // of one CTA
  static constexpr int rows = (3 * units + 31) / 32 * 32;  // of R in one CTA, padded
  static constexpr int tiles_m = rows / 16 / kRowParts;    // of one warp
  static constexpr int tiles_k = kHidden / 16 / kParts;    // of one warp
  static constexpr int fragments = kCluster * 8 * tiles_m * tiles_k * 32;  // of all of R
  static_assert(units % 8 == 0 && units <= 64 && tiles_k % 2 == 0);
  static_assert(tiles_k * 16 * kParts == kHidden);

  struct Shared {
    alignas(128) uint4 h[2][kHidden];  // vector 8 o + s: units 8 o to 8 o + 7 of sequence s
    alignas(16) float partial[kParts][rows][kSequences];
    alignas(16) __nv_bfloat16 send[8][kSequences][8];  // [warp][sequence][unit]
    float x[kAhead][6][kThreads];  // [step % kAhead][sequence, gate][thread that asked for it]
    std::uint64_t received[2];
    unsigned cycles[kPhases], clock;
  };
  static constexpr int shared_bytes = sizeof(Shared);
};

struct GruArgs {
  const uint4* weights;  // in the order of the registers that they become
  const float* b_n;      // [H]
  const float* x;        // [steps + kAhead][B][3][H]  W x_t + b
  float* y;              // [steps][B][H]
  float* gates;          // [steps][B][4][H]  r, z, n, a_n + b_n; null: not stored
  unsigned* cycles;      // [kPhases] of the first thread, all steps; written by kProfile
  int steps, batch;
  Failures* failures;
};

/// 4 bytes from global to shared memory, on their way until cp_async_wait.
__device__ void cp_async(const float* to, const float* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(to)), "l"(from)
               : "memory");
}

__device__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// All but the last kPending groups of this thread are in.
template <int kPending>
__device__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

__device__ float sigmoid(float v) { return __fdividef(1.0f, 1.0f + expf(-v)); }

template <int kCluster, int kHidden, bool kClusterScope, bool kProfile>
__global__ void __launch_bounds__(kThreads, 1) gru_steps(const GruArgs args) {
  using T = Tile<kCluster, kHidden>;
  constexpr unsigned bytes = kHidden * 16;
  extern __shared__ __align__(128) uint4 dynamic[];
  auto& shared = *reinterpret_cast<typename T::Shared*>(dynamic);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int rank = static_cast<int>(cluster_rank()), row_part = warp % kRowParts;
  const int k_part = warp / kRowParts;

  unsigned a[T::tiles_m][T::tiles_k][4];
  const uint4* weights = args.weights + (rank * 8 + warp) * T::tiles_m * T::tiles_k * 32 + lane;
#pragma unroll
  for (int m = 0; m < T::tiles_m; ++m) {
#pragma unroll
    for (int k = 0; k < T::tiles_k; ++k) {
      load_fragment(a[m][k], weights + (m * T::tiles_k + k) * 32);
    }
  }

  const unsigned h_at = shared_address(shared.h), received_at = shared_address(shared.received);
  if (threadIdx.x == 0) {
    for (unsigned i = 0; i < 2; ++i) mbarrier_init(received_at + 8 * i);
    mbarrier_init_fence();
    for (unsigned i = 0; i < 2; ++i) mbarrier_arm(received_at + 8 * i, bytes);
  }
  cluster_barrier<true>();

  // What a finishing thread owns: one unit, two sequences.
  const bool finishes = warp < T::units / 8;
  const int own = warp * 8 + lane / 4, unit = rank * T::units + own;
  const int sequence = static_cast<int>(blockIdx.x) / kCluster * kSequences + lane % 4 * 2;
  float h[2] = {}, b_n = 0;
  int row = sequence;  // t B + sequence
  const auto ask_x = [&](int step, int from) {
    const float* p = args.x + (from * 3 * kHidden + unit);
#pragma unroll
    for (int i = 0; i < 6; ++i) {
      cp_async(&shared.x[step % kAhead][i][threadIdx.x], p + i * kHidden);
    }
    cp_async_commit();
  };
  // Lane l sends sequence l % 8 of the warp's 8 units to the CTAs l / 8, l / 8 + 4, ... from here.
  const auto send_h = [&](unsigned buffer) {
    __syncwarp();
    const uint4 v = *reinterpret_cast<const uint4*>(shared.send[warp][lane % 8]);
    const unsigned vector = static_cast<unsigned>(unit / 8 * 8 + lane % 8);
#pragma unroll
    for (int i = 0; i < kCluster; i += 4) {
      const unsigned to = static_cast<unsigned>(rank + lane / 8 + i) % kCluster;
      st_async(map_to(h_at + buffer * bytes + vector * 16, to), v,
               map_to(received_at + 8 * buffer, to));
    }
  };
  if (finishes) {
    b_n = args.b_n[unit];
    for (int i = 0; i < kAhead; ++i) ask_x(i, row + i * args.batch);
    for (int s = 0; s < 2; ++s) shared.send[warp][lane % 4 * 2 + s][lane / 4] = 0.0f;
    send_h(0);
  }

  const auto lap = [&](Phase phase) {
    if constexpr (kProfile) {
      if (threadIdx.x > 0) return;
      const auto now = static_cast<unsigned>(clock());
      shared.cycles[phase] += now - shared.clock;
      shared.clock = now;
    }
  };
  if constexpr (kProfile) {
    if (threadIdx.x == 0) {
      for (unsigned& c : shared.cycles) c = 0;
      shared.clock = static_cast<unsigned>(clock());
    }
  }
  const unsigned b_at = h_at + static_cast<unsigned>(k_part * T::tiles_k * 256 + lane * 16);
  bool ok = true;
  for (unsigned t = 0; t < static_cast<unsigned>(args.steps); ++t) {
    const unsigned buffer = t & 1, parity = (t >> 1) & 1;
    ok = ok && mbarrier_wait<kClusterScope>(received_at + 8 * buffer, parity);
    __syncwarp();  // lanes may have polled a different number of times
    if (threadIdx.x == 0) mbarrier_arm(received_at + 8 * buffer, bytes);
    lap(kWait);

    float c[T::tiles_m][4] = {};
#pragma unroll
    for (int k = 0; k < T::tiles_k; k += 2) {
      unsigned b[4];
      ldmatrix_x4(b, b_at + buffer * bytes + static_cast<unsigned>(k) * 256);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int m = 0; m < T::tiles_m; ++m) {
          mma<false>(c[m], a[m][k + half], b[2 * half], b[2 * half + 1]);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < T::tiles_m; ++m) {
      const int tile_row = (row_part * T::tiles_m + m) * 16 + lane / 4;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        *reinterpret_cast<float2*>(&shared.partial[k_part][tile_row + 8 * half][lane % 4 * 2]) = {
            c[m][2 * half], c[m][2 * half + 1]};
      }
    }
    float x[2][3] = {};
    if (finishes) {
      cp_async_wait<kAhead - 1>();
#pragma unroll
      for (int i = 0; i < 6; ++i) x[i / 3][i % 3] = shared.x[t % kAhead][i][threadIdx.x];
    }
    lap(kMma);
    __syncthreads();  // partial is complete; the last read of this buffer is over
    lap(kBarrier);

    if (finishes) {
      float sum[2][3] = {};
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
#pragma unroll
        for (int g = 0; g < 3; ++g) {
          const auto p = *reinterpret_cast<const float2*>(
              &shared.partial[part][g * T::units + own][lane % 4 * 2]);
          sum[0][g] += p.x;
          sum[1][g] += p.y;
        }
      }
      float saved[2][4];
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        const float q = sum[s][2] + b_n, r = sigmoid(x[s][0] + sum[s][0]);
        const float z = sigmoid(x[s][1] + sum[s][1]), n = tanhf(x[s][2] + r * q);
        h[s] = n + z * (h[s] - n);
        shared.send[warp][lane % 4 * 2 + s][lane / 4] = __float2bfloat16_rn(h[s]);
        saved[s][0] = r, saved[s][1] = z, saved[s][2] = n, saved[s][3] = q;
      }
      send_h(buffer ^ 1);
      lap(kFinish);
      // From here on nothing is on the way of the next step.
      ask_x(static_cast<int>(t), row + kAhead * args.batch);
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        args.y[(row + s) * kHidden + unit] = h[s];
        if (args.gates == nullptr) continue;
#pragma unroll
        for (int g = 0; g < 4; ++g) {
          args.gates[((row + s) * 4 + g) * kHidden + unit] = saved[s][g];
        }
      }
      row += args.batch;
    }
    lap(kStore);
  }
  const unsigned last = static_cast<unsigned>(args.steps);
  ok = ok && mbarrier_wait<kClusterScope>(received_at + 8 * (last & 1), (last >> 1) & 1);
  cp_async_wait<0>();
  if (!ok) atomicAdd(&args.failures->timeouts, 1);
  if (!(fabsf(h[0]) <= 1 && fabsf(h[1]) <= 1)) atomicAdd(&args.failures->mismatches, 1);
  if constexpr (kProfile) {
    if (blockIdx.x == 0 && threadIdx.x == 0) {
      for (int i = 0; i < kPhases; ++i) args.cycles[i] = shared.cycles[i];
    }
  }
  cluster_barrier<true>();
}

__global__ void fill_weights(__nv_bfloat162* weights, unsigned count, float bound) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const auto uniform = [&](unsigned bits) {
    return bound * (static_cast<float>(bits & 0xffffu) / 32768.0f - 1.0f);
  };
  if (i < count) weights[i] = __floats2bfloat162_rn(uniform(hash(i)), uniform(hash(i) >> 16));
}

__global__ void fill_inputs(float* x, std::size_t count) {
  std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i < count; i += std::size_t{gridDim.x} * blockDim.x) {
    x[i] = static_cast<float>(hash(static_cast<unsigned>(i))) * 0x1p-31f - 1.0f;
  }
}

/// Inputs, outputs and weights for up to kSteps steps.
template <int kCluster, int kHidden>
class Problem {
  using T = Tile<kCluster, kHidden>;

 public:
  static constexpr int kSteps = 512;
  Problem(Bench& bench, int clusters, bool save)
      : cells_(std::size_t{kSequences} * static_cast<std::size_t>(clusters) * kHidden),
        x_(cells_ * 3 * (kSteps + kAhead)),
        y_(cells_ * kSteps),
        gates_(save ? cells_ * 4 * kSteps : 1) {
    launch(fill_weights, {T::fragments * 4 / kThreads}, bench.stream,
           reinterpret_cast<__nv_bfloat162*>(weights_.get()), unsigned{T::fragments * 4},
           1 / sqrtf(kHidden));
    launch(fill_inputs, {4 * bench.sms}, bench.stream, x_.get(), x_.count());
    args_ = {.weights = weights_.get(),
             .b_n = b_n_.get(),
             .x = x_.get(),
             .y = y_.get(),
             .gates = save ? gates_.get() : nullptr,
             .cycles = cycles_.get(),
             .steps = kSteps,
             .batch = clusters * kSequences,
             .failures = bench.failures};
  }
  GruArgs args(int steps) const {
    GruArgs args = args_;
    args.steps = steps;
    return args;
  }
  std::vector<unsigned> cycles() const { return cycles_.read(); }

 private:
  std::size_t cells_;
  DeviceArray<uint4> weights_{T::fragments};
  DeviceArray<float> b_n_{kHidden}, x_, y_, gates_;
  DeviceArray<unsigned> cycles_{kPhases};
  GruArgs args_{};
};

/// clusters 0: as many as fit.
template <int kCluster, int kHidden, bool kClusterScope>
void measure_step(Bench& bench, int clusters, bool save) {
  using T = Tile<kCluster, kHidden>;
  const std::string name = "gru_c" + std::to_string(kCluster) + "_h" + std::to_string(kHidden) +
                           (clusters > 0 ? "_b" + std::to_string(clusters * kSequences) : "_full") +
                           (kClusterScope ? "_acquire_cluster" : "") +
                           (save ? "_saving_gates" : "");
  const auto kernel = gru_steps<kCluster, kHidden, kClusterScope, false>;
  allow(kernel, T::shared_bytes);
  const int fit = clusters_that_fit(kernel, {kCluster, kThreads, T::shared_bytes, kCluster});
  if (clusters == 0) clusters = fit;
  const std::string what = "a GRU step, " + std::to_string(kCluster) + " CTAs a cluster, " +
                           std::to_string(clusters) + " clusters (" + std::to_string(fit) +
                           " fit) of 8 sequences; all bf16 weights in registers (" +
                           std::to_string(T::tiles_m * T::tiles_k * 4) + " a thread, " +
                           std::to_string(T::rows * kHidden * 2 / 1024) +
                           " KB a CTA), K in 4 parts and rows in 2 over the 8 warps; h" +
                           (save ? ", r, z, n, q" : "") + " stored as float";
  bench.measure(name, "us", what, [&] {
    const Problem<kCluster, kHidden> problem(bench, clusters, save);
    return bench.slope_us(problem.kSteps, [&](int n) {
      launch(kernel, {clusters * kCluster, kThreads, T::shared_bytes, kCluster}, bench.stream,
             problem.args(n));
    });
  });
}

/// Where a step's time goes, as the first thread sees it; the clock reads themselves lengthen it.
template <int kCluster, int kHidden>
void measure_phases(Bench& bench, int clusters) {
  using T = Tile<kCluster, kHidden>;
  const char* const what[kPhases] = {
      "until all of h is in", "ldmatrix, mma, partial products stored", "__syncthreads",
      "partial products added, gates, h sent", "x asked for, h stored"};
  for (int phase = 0; phase < kPhases; ++phase) {
    const std::string name = "gru_c" + std::to_string(kCluster) + "_h" + std::to_string(kHidden) +
                             "_phase_" + kPhaseNames[phase];
    bench.measure(name, "cycles", std::string("of a step, first thread: ") + what[phase], [&] {
      const auto kernel = gru_steps<kCluster, kHidden, false, true>;
      allow(kernel, T::shared_bytes);
      const Problem<kCluster, kHidden> problem(bench, clusters, false);
      launch(kernel, {clusters * kCluster, kThreads, T::shared_bytes, kCluster}, bench.stream,
             problem.args(problem.kSteps));
      bench.wait();
      return static_cast<double>(problem.cycles()[static_cast<std::size_t>(phase)]) /
             problem.kSteps;
    });
  }
}

template <int kCluster, int kHidden, int kClusters>
void measure_size(Bench& bench) {
  for (const int clusters : {kClusters, 0}) {
    measure_step<kCluster, kHidden, false>(bench, clusters, false);
    measure_step<kCluster, kHidden, false>(bench, clusters, true);
    measure_step<kCluster, kHidden, true>(bench, clusters, false);
    measure_step<kCluster, kHidden, true>(bench, clusters, true);
  }
  measure_phases<kCluster, kHidden>(bench, kClusters);
}

}  // namespace

void measure_gru(Bench& bench) {
  measure_size<8, 512, 8>(bench);   // M: B = 64
  measure_size<16, 640, 3>(bench);  // S: B = 24
}

}  // namespace seqvae::bench::gpu

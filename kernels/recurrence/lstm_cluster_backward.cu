// The gradient of an LSTM's recurrence in one kernel for all steps, each sequence from its own last
// step on: the mirror of lstm_cluster.cu. A CTA keeps the columns of R^T that its own gates'
// gradients multiply, for all H rows, in registers as bfloat16, those that do not fit in shared
// memory.
//
//     g = grad h_t + R^T grad a_{t+1}
//     grad c_t = g o (1 - tanh(c_t)^2) + f_{t+1} grad c_{t+1}
//     grad a: of i, f, g, o before their functions                float, by the units' owners
//     R^T grad a of this CTA's units                              mma.sync, R^T is A, K = 4 U
//     each row's partial sum to the unit's owner                  bfloat16 (cluster_scatter.cuh)
//
// Eight warps share the H rows. Warp w finishes units 8 w .. 8 w + 7 of the CTA's. What a step
// reads is asked for kAhead steps before; c_t is what the step after in time read as its c_{t-1}. A
// carry that began at h0 and c0, at a sequence's start or at a reset, hands its gradient to them.
// Floor: as forward; 24 bytes read and 16 written a unit. Hazards: one __syncthreads a step,
// between the last write of grad a and its first read; grad a has two buffers, since a warp may be
// a step ahead of another's reads. Gradients are written where the gates stood, kAhead steps after
// those were asked for; until then they lie where this thread had read the gates.
#include "kernels/recurrence/cluster_scatter.cuh"
#include "kernels/recurrence/lstm_loop.hpp"
#include "kernels/recurrence/lstm_memory.hpp"
#include "kernels/recurrence/lstm_weights.hpp"
#include "kernels/recurrence/sequence.cuh"

namespace seqvae::cuda {
namespace {

constexpr int kInRegisters = 50;  // tiles of a warp, of weights and of sums
constexpr int kAhead = 4;         // steps by which what is read is asked for before its use
constexpr int kRing = 8;          // rows of steps i - 1 .. i + kAhead + 2
enum Read { kI, kF, kG, kO, kGradH, kPrevious, kReads };

template <int kCluster, int kUnits>
struct Tile {
  static constexpr int hidden = kCluster * kUnits;             // H, padded
  static constexpr int tiles_m = hidden / 16 / kClusterWarps;  // of one warp
  static constexpr int tiles_k = 4 * kUnits / 16;              // of one CTA's gates
  static constexpr int tiles = tiles_m * tiles_k;
  static constexpr int finishing = kUnits / 8 * kWarpSize;  // threads
  static_assert(kUnits % 8 == 0 && kUnits <= 64 && tiles_m * 16 * kClusterWarps == hidden);
  using Weights = LstmWeights<tiles, std::max(0, tiles + tiles_m - kInRegisters)>;

  struct Shared {
    ScatterBuffers<kCluster, kUnits, tiles_m> scatter;
    typename Weights::Shared weights;
    // [buffer][octet of gates' units][sequence][two units]: what ldmatrix wants for B
    alignas(16) unsigned grad_a[2][2 * tiles_k][kSequences][4];
    float read[kAhead][2 * kReads][finishing];  // [step][sequence of the thread, what][thread]
    int row[kRing][kSequences];  // of step i at [i % kRing]; -1 past the sequence's beginning
  };
  static_assert(sizeof(Shared) <= 227 << 10);  // what a CTA may have
};

/// The fragments of R^T in the order of the registers that they become: [CTA][warp][m][k][lane]. A
/// row is a unit, a CTA's K goes gate by gate over its own; zeros beyond H.
template <int kCluster, int kUnits>
__global__ void __launch_bounds__(kClusterThreads)
    arrange_columns(const float* weight_hh, int H, uint4* fragments) {
  using T = Tile<kCluster, kUnits>;
  const int i = static_cast<int>(blockIdx.x * kClusterThreads + threadIdx.x);
  const auto [rank, warp, m, k, lane] = fragment_place<T>(i);
  fragments[i] = fragment_of((warp * T::tiles_m + m) * 16, k * 16, lane, [&](int row, int column) {
    const int gate = column / kUnits, from = rank * kUnits + column % kUnits;
    return from < H && row < H ? weight_hh[(std::int64_t{gate} * H + from) * H + row] : 0.0f;
  });
}

template <int kCluster, int kUnits>
__global__ void __launch_bounds__(kClusterThreads, 1)
    lstm_gradients(const __grid_constant__ LstmBackwardLoop a, const uint4* fragments) {
  using T = Tile<kCluster, kUnits>;
  auto& shared = shared_storage<typename T::Shared>();
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize;
  const int lane = thread % kWarpSize, H = static_cast<int>(a.H);
  const int grad_h_stride = static_cast<int>(a.grad_h.stride);
  const int rank = static_cast<int>(cluster_rank());
  const int first = static_cast<int>(blockIdx.x) / kCluster * kSequences;

  const typename T::Weights weights(fragments, rank, warp, lane, shared.weights);

  const int own = first + lane % kSequences;
  const int length = own < a.layout.B ? length_of(a.layout, own) : 0;
  const int steps = longest_of(length);
  const auto row_at = [&](int i) {  // the last step first
    return i < length ? row_of(a.layout, time_of(length - 1 - i, length, a.reverse), own) : -1;
  };
  if (thread < kSequences) {  // which keep the ring
    for (int i = 0; i <= kAhead + 1; ++i) shared.row[i % kRing][thread] = row_at(i);
  }
  const bool finishes = thread < T::finishing;
  for (int i = 0; finishes && i < kAhead * 2 * kReads; ++i) {  // what is not asked for is 0
    shared.read[i / (2 * kReads)][i % (2 * kReads)][thread] = 0.0f;
  }
  const Scatter<kCluster, kUnits, T::tiles_m> scatter(shared.scatter);
  scatter.begin();

  // What a finishing thread owns: one unit of two sequences.
  const int own_unit = warp * 8 + lane / 4, unit = rank * kUnits + own_unit, pair = lane % 4 * 2;
  const bool exists = finishes && unit < H;
  const auto ask_for = [&](int i) {
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      const int row = exists ? shared.row[i % kRing][pair + s] : -1;
      if (row < 0) continue;
      const auto ask = [&](Read what, const float* from) {
        cp_async4(&shared.read[i % kAhead][kReads * s + what][thread], from);
      };
      const unsigned at = index_of(row, 4 * H, unit);
      ask(kI, a.gates + at);
      ask(kF, a.gates + (at + H));
      ask(kG, a.gates + (at + 2 * H));
      ask(kO, a.gates + (at + 3 * H));
      if (a.grad_h) ask(kGradH, a.grad_h.data + index_of(row, grad_h_stride, unit));
      const int previous = shared.row[(i + 1) % kRing][pair + s];
      if (previous >= 0) ask(kPrevious, a.c + index_of(previous, H, unit));
    }
    cp_async_commit();
  };
  float carried_c[2] = {};                       // of the carry out of the step
  float tanh_c[2] = {};                          // of the step's c
  float of_start_h[2] = {}, of_start_c[2] = {};  // gradients of h0, c0
  bool begins[2] = {};                           // the step before this one began at h0, c0
  if (finishes) {
    for (int i = 0; i < kAhead; ++i) ask_for(i);
    for (int s = 0; s < 2; ++s) {
      const int b = first + pair + s;
      if (!exists || b >= a.layout.B) continue;
      if (a.grad_c_final) carried_c[s] = a.grad_c_final[b][unit];
      const int row = shared.row[0][pair + s];
      if (row >= 0) tanh_c[s] = fast_tanh(a.c[index_of(row, H, unit)]);
    }
  }

  // Step `steps` only brings the last gradients of h0 and c0 home.
  for (int i = 0; i <= steps; ++i) {
    const int coming = thread < kSequences ? row_at(i + kAhead + 2) : 0;
    const auto read = [&](int s, int what) -> float& {
      return shared.read[i % kAhead][kReads * s + what][thread];
    };
    if (finishes) {
      float carried_h[2] = {};  // gradient of the carry out of this step
      if (i > 0) {
        scatter.add(i, carried_h);
      } else if (a.grad_h_final && exists) {
        for (int s = 0; s < 2; ++s) {
          const int b = first + pair + s;
          if (b < a.layout.B) carried_h[s] = a.grad_h_final[b][unit];
        }
      }
      cp_async_wait<kAhead - 1>();
      // Almost without a branch, so that the two sequences are under way side by side.
      float grad[2][4];
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        const int row = exists ? shared.row[i % kRing][pair + s] : -1;
        const bool takes = row >= 0, home = begins[s] || !takes;
        of_start_h[s] += home ? carried_h[s] : 0.0f;
        of_start_c[s] += home ? carried_c[s] : 0.0f;
        const float from_h = begins[s] ? 0.0f : carried_h[s];
        const float from_c = begins[s] ? 0.0f : carried_c[s];
        const int previous = shared.row[(i + 1) % kRing][pair + s];
        begins[s] = takes && (previous < 0 ||
                              (a.reset != nullptr && a.reset[a.reverse ? previous : row] != 0));
        float c = read(s, kPrevious);
        if (begins[s]) c = a.c0 ? a.c0[first + pair + s][unit] : 0.0f;
        const float in = read(s, kI), f = read(s, kF), g = read(s, kG), o = read(s, kO);
        const float grad_h = from_h + read(s, kGradH), y = tanh_c[s];
        const float grad_c = grad_h * o * (1.0f - y) * (1.0f + y) + from_c;
        grad[s][0] = takes ? grad_c * g * in * (1.0f - in) : 0.0f;
        grad[s][1] = takes ? grad_c * c * f * (1.0f - f) : 0.0f;
        grad[s][2] = takes ? grad_c * in * (1.0f - g) * (1.0f + g) : 0.0f;
        grad[s][3] = takes ? grad_h * y * o * (1.0f - o) : 0.0f;
        carried_c[s] = takes ? grad_c * f : 0.0f;
      }
#pragma unroll
      for (int g = 0; g < 4; ++g) {
#pragma unroll
        for (int s = 0; s < 2; ++s) {
          const float above = __shfl_down_sync(kFullMask, grad[s][g], 4);  // the next unit's
          if (lane % 8 < 4) {
            shared.grad_a[i & 1][g * (kUnits / 8) + warp][pair + s][lane / 8] =
                pack_bf16(grad[s][g], above);
          }
          read(s, kI + g) = grad[s][g];
        }
      }
    }
    if (i == steps) break;
    if (thread < kSequences) shared.row[(i + kAhead + 2) % kRing][thread] = coming;
    __syncthreads();

    const SharedAddress b_at =
        shared_address(&shared.grad_a[i & 1][0][0][0]) + static_cast<unsigned>(lane) * 16;
    float sums[T::tiles_m][4] = {};
#pragma unroll
    for (int k = 0; k < T::tiles_k; k += 2) {
      unsigned b[4];
      ldmatrix_x4(b, b_at + static_cast<unsigned>(k) * 256);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int m = 0; m < T::tiles_m; ++m) {
          weights.multiply(sums[m], m * T::tiles_k + k + half, b[2 * half], b[2 * half + 1]);
        }
      }
    }
    scatter.send(i + 1, sums);
    if (!finishes) continue;
      // From here on nothing is on the way of the next step.
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      tanh_c[s] = fast_tanh(read(s, kPrevious));
      const int row = exists ? shared.row[i % kRing][pair + s] : -1;
      if (row < 0) continue;
      const unsigned at = index_of(row, 4 * H, unit);
#pragma unroll
      for (int g = 0; g < 4; ++g) a.gates[at + g * H] = read(s, kI + g);
    }
    ask_for(i + kAhead);  // where that stood
  }
  __syncthreads();  // all that was sent here is in, and a finishing warp has seen it
  if (!exists) return;
  for (int s = 0; s < 2; ++s) {
    const int b = first + pair + s;
    if (b >= a.layout.B) continue;
    a.grad_h0[std::int64_t{b} * H + unit] = of_start_h[s];
    a.grad_c0[std::int64_t{b} * H + unit] = of_start_c[s];
  }
}

template <int kCluster, int kUnits>
void run(const LstmBackwardLoop& a, void* scratch, Stream stream) {
  using T = Tile<kCluster, kUnits>;
  uint4* fragments = static_cast<uint4*>(scratch);
  launch(arrange_columns<kCluster, kUnits>, {kCluster * T::tiles, kClusterThreads}, stream,
         a.weight_hh, static_cast<int>(a.H), fragments);
  launch(lstm_gradients<kCluster, kUnits>, cluster_shape<T>(a.layout.B, kCluster), stream, a,
         fragments);
}

/// How many clusters of a kind the device holds.
constexpr auto at_once = [](auto cluster) {
  return max_active_clusters(lstm_gradients<cluster.ctas, cluster.units>,
                             cluster_shape<Tile<cluster.ctas, cluster.units>>(1, cluster.ctas));
};

}  // namespace

bool lstm_backward_fits_cluster(std::int64_t H, std::int64_t rows, std::int64_t longest_stride) {
  constexpr std::int64_t kMost = (std::int64_t{1} << 32) - 1;
  if (H > kLstmMostUnits || rows >= kMost / std::max(longest_stride, 4 * H)) return false;
  return with_lstm_cluster_for(H, 1, at_once, at_once) > 0;
}

void lstm_backward_in_cluster(const LstmBackwardLoop& a, void* fragments, Stream stream) {
  with_lstm_cluster_for(a.H, a.layout.B, at_once, [&](auto cluster) {
    run<cluster.ctas, cluster.units>(a, fragments, stream);
  });
}

}  // namespace seqvae::cuda

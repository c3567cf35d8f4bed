// The recurrence of a GRU in one kernel for all steps. A cluster of C CTAs runs 8 sequences and
// needs no other cluster: a CTA owns U = H / C units (H padded up) with their three gates, and its
// rows of the recurrent weights stay in registers as bfloat16 from the first step to the last.
//
//     q = R h_{t-1}              mma.sync m16n8k16: R is A, the 8 sequences are B's columns
//     r, z, n, h_t               float, by the threads that own (unit, two sequences)
//     h_t to all CTAs            bfloat16 (cluster_exchange.cuh)
//
// Eight warps: 2 parts of the gates' rows by 4 parts of K. The four partial products meet in shared
// memory and are added in their order; warp w then finishes units 8 w .. 8 w + 7. The state itself
// stays in float with its owner, so that rounding does not add up over steps. Inputs W x are asked
// for kAhead steps before they are used.
// Floor: a step's products, 6 H^2 flop a sequence at the rate of mma.sync, and the exchange's
// latency (0.37 us in a cluster of 8, 0.50 in one of 16, measured on an H200).
// Hazards: one __syncthreads a step, after the last read of h_{t-1} and before the first send of
// h_t; `partial` is written again only after all of h_t is in, which every finishing warp sends
// after its last read of `partial`. Gates are written where their inputs stood, kAhead steps after
// those were asked for.
#include "kernels/recurrence/cluster_exchange.cuh"
#include "kernels/recurrence/gru_loop.hpp"
#include "kernels/recurrence/gru_memory.hpp"
#include "kernels/recurrence/sequence.cuh"

namespace seqvae::cuda {
namespace {

constexpr int kRowParts = 2, kParts = 4;  // of the gates' rows, of K
constexpr int kAhead = 4;                 // steps by which inputs are asked for before their use
constexpr int kRing = 8;                  // rows of steps j - 2 .. j + kAhead + 1

template <int kCluster, int kUnits>
struct Tile {
  static constexpr int hidden = kCluster * kUnits;          // H, padded
  static constexpr int rows = (3 * kUnits + 31) / 32 * 32;  // of R in one CTA, padded
  static constexpr int tiles_m = rows / 16 / kRowParts;     // of one warp
  static constexpr int tiles_k = hidden / 16 / kParts;
  static_assert(kUnits % 8 == 0 && kUnits <= 64 && tiles_k % 2 == 0);
  static_assert(tiles_k * 16 * kParts == hidden);

  struct Shared {
    ExchangeBuffers<hidden, 1> exchange;
    float partial[kParts][rows][kSequences];
    float x[kAhead][6][kClusterThreads];  // [step][sequence of the thread, gate][thread]
    float bias[3][kUnits];
    int row[kRing][kSequences];  // of step j at [j % kRing]; -1 past the sequence's end
  };
};

/// R's fragments in the order of the registers that they become: [CTA][warp][m][k][lane]. Rows go
/// gate by gate; zeros beyond H.
template <int kCluster, int kUnits>
__global__ void __launch_bounds__(kClusterThreads)
    arrange_rows(const float* weight_hh, int H, uint4* fragments) {
  using T = Tile<kCluster, kUnits>;
  const int i = static_cast<int>(blockIdx.x * kClusterThreads + threadIdx.x);
  const auto [rank, warp, m, k, lane] = fragment_place<T>(i);
  const int row_part = warp % kRowParts, k_part = warp / kRowParts;
  fragments[i] = fragment_of((row_part * T::tiles_m + m) * 16, (k_part * T::tiles_k + k) * 16, lane,
                             [&](int row, int column) {
                               const int gate = row / kUnits, unit = rank * kUnits + row % kUnits;
                               return gate < 3 && unit < H && column < H
                                          ? weight_hh[(std::int64_t{gate} * H + unit) * H + column]
                                          : 0.0f;
                             });
}

template <int kCluster, int kUnits>
__global__ void __launch_bounds__(kClusterThreads, 1)
    gru_steps(const __grid_constant__ GruLoop a, const uint4* fragments) {
  using T = Tile<kCluster, kUnits>;
  auto& shared = shared_storage<typename T::Shared>();
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize;
  const int lane = thread % kWarpSize, H = static_cast<int>(a.H);
  const int h_stride = static_cast<int>(a.h.stride);
  const int rank = static_cast<int>(cluster_rank());
  const int row_part = warp % kRowParts, k_part = warp / kRowParts;
  const int first = static_cast<int>(blockIdx.x) / kCluster * kSequences;

  unsigned weights[T::tiles_m][T::tiles_k][4];
  load_fragments(weights, fragments, rank, warp, lane);

  // Lengths: of this lane's sequence among the 8, and the longest.
  const int own = first + lane % kSequences;
  const int length = own < a.layout.B ? length_of(a.layout, own) : 0;
  const int steps = longest_of(length);
  const auto row_at = [&](int j) {
    return j < length ? row_of(a.layout, time_of(j, length, a.reverse), own) : -1;
  };
  if (thread < kSequences) {  // which keep the ring
    for (int j = 0; j <= kAhead; ++j) shared.row[j % kRing][thread] = row_at(j);
  }
  for (int i = thread; i < 3 * kUnits; i += kClusterThreads) {
    const int unit = rank * kUnits + i % kUnits;
    shared.bias[i / kUnits][i % kUnits] =
        a.bias_hh != nullptr && unit < H ? a.bias_hh[i / kUnits * H + unit] : 0.0f;
  }
  for (int i = 0; i < kAhead * 6; ++i)
    shared.x[i / 6][i % 6][thread] = 0.0f;  // if none is asked for
  const Exchange<kCluster, T::hidden, 1> exchange(shared.exchange);
  exchange.begin();

  // What a finishing thread owns: one unit of two sequences.
  const int own_unit = warp * 8 + lane / 4, unit = rank * kUnits + own_unit, pair = lane % 4 * 2;
  const bool finishes = warp < kUnits / 8, exists = finishes && unit < H;
  const auto start_of = [&](int s) {
    return a.h0 && first + pair + s < a.layout.B ? a.h0[first + pair + s][unit] : 0.0f;
  };
  const auto ask_for_inputs = [&](int j) {
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      const int row = exists ? shared.row[j % kRing][pair + s] : -1;
      if (row < 0) continue;
      const unsigned at = index_of(row, 3 * H, unit);
#pragma unroll
      for (int g = 0; g < 3; ++g) {
        cp_async4(&shared.x[j % kAhead][3 * s + g][thread], a.gates + (at + g * H));
      }
    }
    cp_async_commit();
  };
  float carry[2] = {};
  if (finishes) {
    for (int j = 0; j < kAhead; ++j) ask_for_inputs(j);
    for (int s = 0; s < 2; ++s) {
      if (!exists) continue;
      carry[s] = start_of(s);
      if (a.h_final && first + pair + s < a.layout.B && shared.row[0][pair + s] < 0) {
        a.h_final[first + pair + s][unit] = carry[s];
      }
    }
    exchange.send(0, rank * kUnits + warp * 8, {{carry[0]}, {carry[1]}});
  }

  for (int j = 0; j < steps; ++j) {
    const int coming = thread < kSequences ? row_at(j + kAhead + 1) : 0;
    exchange.wait(j);
    const SharedAddress b_at = exchange.fragments(j, k_part * T::tiles_k * 16);
    float c[T::tiles_m][4] = {};
#pragma unroll
    for (int k = 0; k < T::tiles_k; k += 2) {
      unsigned b[4];
      ldmatrix_x4(b, b_at + static_cast<unsigned>(k) * 256);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int m = 0; m < T::tiles_m; ++m) {
          mma_bf16(c[m], weights[m][k + half], b[2 * half], b[2 * half + 1]);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < T::tiles_m; ++m) {
      const int tile_row = (row_part * T::tiles_m + m) * 16 + lane / 4;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        *reinterpret_cast<float2*>(&shared.partial[k_part][tile_row + 8 * half][pair]) =
            make_float2(c[m][2 * half], c[m][2 * half + 1]);
      }
    }
    if (thread < kSequences) shared.row[(j + kAhead + 1) % kRing][thread] = coming;
    if (finishes) cp_async_wait<kAhead - 1>();
    __syncthreads();
    if (!finishes) continue;

    float q[3][2];
#pragma unroll
    for (int g = 0; g < 3; ++g) {
      q[g][0] = q[g][1] = shared.bias[g][own_unit];
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const float2 p =
            *reinterpret_cast<const float2*>(&shared.partial[part][g * kUnits + own_unit][pair]);
        q[g][0] += p.x, q[g][1] += p.y;
      }
    }
    // Without a branch, so that the two sequences' functions are under way side by side.
    float h[2], gates[2][3];
    int row[2];
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      row[s] = exists ? shared.row[j % kRing][pair + s] : -1;
      const auto x = [&](int g) { return shared.x[j % kAhead][3 * s + g][thread]; };
      gates[s][0] = fast_sigmoid(x(0) + q[0][s]);
      gates[s][1] = fast_sigmoid(x(1) + q[1][s]);
      gates[s][2] = fast_tanh(x(2) + gates[s][0] * q[2][s]);
      h[s] = gates[s][2] + gates[s][1] * (carry[s] - gates[s][2]);
      carry[s] = row[s] < 0 ? carry[s] : h[s];
    }
    if (a.reset != nullptr) {  // a carry that would cross into another episode begins anew
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        const int next = exists ? shared.row[(j + 1) % kRing][pair + s] : -1;
        if (next >= 0 && a.reset[a.reverse ? row[s] : next] != 0) carry[s] = start_of(s);
      }
    }
    exchange.send(j + 1, rank * kUnits + warp * 8, {{carry[0]}, {carry[1]}});
    // From here on nothing is on the way of the next step.
    ask_for_inputs(j + kAhead);
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      if (row[s] < 0) continue;
      a.h.data[index_of(row[s], h_stride, unit)] = h[s];
      if (a.h_final && shared.row[(j + 1) % kRing][pair + s] < 0) {
        a.h_final[first + pair + s][unit] = h[s];
      }
      if (a.q_n == nullptr) continue;
      const unsigned at = index_of(row[s], 3 * H, unit);
#pragma unroll
      for (int g = 0; g < 3; ++g) a.gates[at + g * H] = gates[s][g];
      a.q_n[index_of(row[s], H, unit)] = q[2][s];
    }
  }
  exchange.end(steps);
  if (!exists || a.layout.offsets != nullptr) return;
  for (int s = 0; s < 2; ++s) {  // padding
    const int b = first + pair + s;
    if (b >= a.layout.B) continue;
    for (int t = length_of(a.layout, b); t < a.layout.T; ++t) {
      a.h[row_of(a.layout, t, b)][unit] = 0.0f;
    }
  }
}

template <int kCluster, int kUnits>
void run(const GruLoop& a, void* scratch, Stream stream) {
  using T = Tile<kCluster, kUnits>;
  uint4* fragments = static_cast<uint4*>(scratch);
  launch(arrange_rows<kCluster, kUnits>, {kCluster * T::tiles_m * T::tiles_k, kClusterThreads},
         stream, a.weight_hh, static_cast<int>(a.H), fragments);
  launch(gru_steps<kCluster, kUnits>, cluster_shape<T>(a.layout.B, kCluster), stream, a, fragments);
}

}  // namespace

bool gru_fits_cluster(std::int64_t H, std::int64_t rows, std::int64_t longest_stride) {
  constexpr std::int64_t kMost = (std::int64_t{1} << 32) - 1;
  return H <= 640 && rows < kMost / std::max(longest_stride, 3 * H) &&
         max_active_clusters(gru_steps<16, 40>, cluster_shape<Tile<16, 40>>(1, 16)) > 0;
}

void gru_in_cluster(const GruLoop& a, void* fragments, Stream stream) {
  const int units = gru_cluster(a.H).units;
  if (units == 16) return run<8, 16>(a, fragments, stream);
  if (units == 32) return run<8, 32>(a, fragments, stream);
  if (units == 48) return run<8, 48>(a, fragments, stream);
  if (units == 64) return run<8, 64>(a, fragments, stream);
  run<16, 40>(a, fragments, stream);
}

}  // namespace seqvae::cuda

// The recurrence of an LSTM in one kernel for all steps. A cluster of C CTAs runs 8 sequences and
// needs no other cluster: a CTA owns U = H / C units (H padded up) with their four gates, and its
// rows of the recurrent weights stay in registers as bfloat16 from the first step to the last,
// those that do not fit in shared memory.
//
//     q = R h_{t-1}              mma.sync m16n8k16: R is A, the 8 sequences are B's columns
//     i, f, g, o, c_t, h_t       float, by the threads that own (unit, two sequences)
//     h_t to all CTAs            bfloat16 (cluster_exchange.cuh)
//
// Eight warps: 2 parts of the gates' rows by 4 parts of K. The four partial products meet in shared
// memory and are added in their order; warp w then finishes units 8 w .. 8 w + 7. c stays in float
// with its owner, so that rounding does not add up over steps. Inputs W x are asked for kAhead
// steps before they are used.
// Floor: a step's products, 8 H^2 flop a sequence at the rate of mma.sync, and the exchange's
// latency (0.37 us in a cluster of 8, 0.50 in one of 16, measured on an H200).
// Hazards: one __syncthreads a step, after the last read of h_{t-1} and before the first send of
// h_t; `partial` is written again only after all of h_t is in, which every finishing warp sends
// after its last read of `partial`. Gates are written where their inputs stood, kAhead steps after
// those were asked for.
#include "kernels/recurrence/cluster_exchange.cuh"
#include "kernels/recurrence/lstm_loop.hpp"
#include "kernels/recurrence/lstm_memory.hpp"
#include "kernels/recurrence/lstm_weights.hpp"
#include "kernels/recurrence/sequence.cuh"

namespace seqvae::cuda {
namespace {

constexpr int kRowParts = 2, kParts = 4;  // of the gates' rows, of K
constexpr int kInRegisters = 51;          // tiles of a warp, of weights and of sums
constexpr int kAhead = 4;                 // steps by which inputs are asked for before their use
constexpr int kRing = 8;                  // rows of steps j - 2 .. j + kAhead + 1

template <int kCluster, int kUnits>
struct Tile {
  static constexpr int hidden = kCluster * kUnits;       // H, padded
  static constexpr int rows = 4 * kUnits;                // of R in one CTA
  static constexpr int tiles_m = rows / 16 / kRowParts;  // of one warp
  static constexpr int tiles_k = hidden / 16 / kParts;
  static constexpr int tiles = tiles_m * tiles_k;
  static constexpr int finishing = kUnits / 8 * kWarpSize;  // threads
  static_assert(kUnits % 8 == 0 && kUnits <= 64 && tiles_k % 2 == 0);
  static_assert(tiles_k * 16 * kParts == hidden);
  using Weights = LstmWeights<tiles, std::max(0, tiles + tiles_m - kInRegisters)>;

  struct Shared {
    ExchangeBuffers<hidden, 1> exchange;
    typename Weights::Shared weights;
    float partial[kParts][rows][kSequences];
    float x[kAhead][8][finishing];  // [step][sequence of the thread, gate][thread]
    float bias[4][kUnits];
    int row[kRing][kSequences];  // of step j at [j % kRing]; -1 past the sequence's end
  };
  static_assert(sizeof(Shared) <= 227 << 10);  // what a CTA may have
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
                               return unit < H && column < H
                                          ? weight_hh[(std::int64_t{gate} * H + unit) * H + column]
                                          : 0.0f;
                             });
}

template <int kCluster, int kUnits>
__global__ void __launch_bounds__(kClusterThreads, 1)
    lstm_steps(const __grid_constant__ LstmLoop a, const uint4* fragments) {
  using T = Tile<kCluster, kUnits>;
  auto& shared = shared_storage<typename T::Shared>();
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize;
  const int lane = thread % kWarpSize, H = static_cast<int>(a.H);
  const int h_stride = static_cast<int>(a.h.stride);
  const int rank = static_cast<int>(cluster_rank());
  const int row_part = warp % kRowParts, k_part = warp / kRowParts;
  const int first = static_cast<int>(blockIdx.x) / kCluster * kSequences;

  const typename T::Weights weights(fragments, rank, warp, lane, shared.weights);

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
  for (int i = thread; i < 4 * kUnits; i += kClusterThreads) {
    const int unit = rank * kUnits + i % kUnits;
    shared.bias[i / kUnits][i % kUnits] =
        a.bias_hh != nullptr && unit < H ? a.bias_hh[i / kUnits * H + unit] : 0.0f;
  }
  const bool finishes = thread < T::finishing;
  for (int i = 0; finishes && i < kAhead * 8; ++i) {
    shared.x[i / 8][i % 8][thread] = 0.0f;  // if none is asked for
  }
  const Exchange<kCluster, T::hidden, 1> exchange(shared.exchange);
  exchange.begin();

  // What a finishing thread owns: one unit of two sequences.
  const int own_unit = warp * 8 + lane / 4, unit = rank * kUnits + own_unit, pair = lane % 4 * 2;
  const bool exists = finishes && unit < H;
  const auto start_of = [&](const Rows<const float>& starts, int s) {
    return starts && first + pair + s < a.layout.B ? starts[first + pair + s][unit] : 0.0f;
  };
  const auto ask_for_inputs = [&](int j) {
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      const int row = exists ? shared.row[j % kRing][pair + s] : -1;
      if (row < 0) continue;
      const unsigned at = index_of(row, 4 * H, unit);
#pragma unroll
      for (int g = 0; g < 4; ++g) {
        cp_async4(&shared.x[j % kAhead][4 * s + g][thread], a.gates + (at + g * H));
      }
    }
    cp_async_commit();
  };
  float carry[2] = {};  // c
  if (finishes) {
    float h[2] = {};
    for (int j = 0; j < kAhead; ++j) ask_for_inputs(j);
    for (int s = 0; s < 2; ++s) {
      if (!exists) continue;
      h[s] = start_of(a.h0, s), carry[s] = start_of(a.c0, s);
      if (first + pair + s >= a.layout.B || shared.row[0][pair + s] >= 0) continue;
      if (a.h_final) a.h_final[first + pair + s][unit] = h[s];
      if (a.c_final) a.c_final[first + pair + s][unit] = carry[s];
    }
    exchange.send(0, rank * kUnits + warp * 8, {{h[0]}, {h[1]}});
  }

  for (int j = 0; j < steps; ++j) {
    const int coming = thread < kSequences ? row_at(j + kAhead + 1) : 0;
    exchange.wait(j);
    const SharedAddress b_at = exchange.fragments(j, k_part * T::tiles_k * 16);
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
#pragma unroll
    for (int m = 0; m < T::tiles_m; ++m) {
      const int tile_row = (row_part * T::tiles_m + m) * 16 + lane / 4;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        *reinterpret_cast<float2*>(&shared.partial[k_part][tile_row + 8 * half][pair]) =
            make_float2(sums[m][2 * half], sums[m][2 * half + 1]);
      }
    }
    if (thread < kSequences) shared.row[(j + kAhead + 1) % kRing][thread] = coming;
    if (finishes) cp_async_wait<kAhead - 1>();
    __syncthreads();
    if (!finishes) continue;

    float q[4][2];
#pragma unroll
    for (int g = 0; g < 4; ++g) {
      q[g][0] = q[g][1] = shared.bias[g][own_unit];
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const float2 p =
            *reinterpret_cast<const float2*>(&shared.partial[part][g * kUnits + own_unit][pair]);
        q[g][0] += p.x, q[g][1] += p.y;
      }
    }
    // Without a branch, so that the two sequences' functions are under way side by side.
    float h[2], c[2], gates[2][4];
    int row[2];
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      row[s] = exists ? shared.row[j % kRing][pair + s] : -1;
      const auto a_of = [&](int g) { return shared.x[j % kAhead][4 * s + g][thread] + q[g][s]; };
      gates[s][0] = fast_sigmoid(a_of(0));
      gates[s][1] = fast_sigmoid(a_of(1));
      gates[s][2] = fast_tanh(a_of(2));
      gates[s][3] = fast_sigmoid(a_of(3));
      c[s] = gates[s][1] * carry[s] + gates[s][0] * gates[s][2];
      h[s] = gates[s][3] * fast_tanh(c[s]);
      carry[s] = row[s] < 0 ? carry[s] : c[s];
    }
    float sent[2] = {h[0], h[1]};  // past a sequence's end whatever comes out: nothing uses it
    if (a.reset != nullptr) {      // a carry that would cross into another episode begins anew
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        const int next = exists ? shared.row[(j + 1) % kRing][pair + s] : -1;
        if (next < 0 || a.reset[a.reverse ? row[s] : next] == 0) continue;
        sent[s] = start_of(a.h0, s), carry[s] = start_of(a.c0, s);
      }
    }
    exchange.send(j + 1, rank * kUnits + warp * 8, {{sent[0]}, {sent[1]}});
    // From here on nothing is on the way of the next step.
    ask_for_inputs(j + kAhead);
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      if (row[s] < 0) continue;
      a.h.data[index_of(row[s], h_stride, unit)] = h[s];
      if (shared.row[(j + 1) % kRing][pair + s] < 0) {
        if (a.h_final) a.h_final[first + pair + s][unit] = h[s];
        if (a.c_final) a.c_final[first + pair + s][unit] = c[s];
      }
      if (a.c == nullptr) continue;
      const unsigned at = index_of(row[s], 4 * H, unit);
#pragma unroll
      for (int g = 0; g < 4; ++g) a.gates[at + g * H] = gates[s][g];
      a.c[index_of(row[s], H, unit)] = c[s];
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
void run(const LstmLoop& a, void* scratch, Stream stream) {
  using T = Tile<kCluster, kUnits>;
  uint4* fragments = static_cast<uint4*>(scratch);
  launch(arrange_rows<kCluster, kUnits>, {kCluster * T::tiles, kClusterThreads}, stream,
         a.weight_hh, static_cast<int>(a.H), fragments);
  launch(lstm_steps<kCluster, kUnits>, cluster_shape<T>(a.layout.B, kCluster), stream, a,
         fragments);
}

/// How many clusters of a kind the device holds.
constexpr auto at_once = [](auto cluster) {
  return max_active_clusters(lstm_steps<cluster.ctas, cluster.units>,
                             cluster_shape<Tile<cluster.ctas, cluster.units>>(1, cluster.ctas));
};

}  // namespace

bool lstm_fits_cluster(std::int64_t H, std::int64_t rows, std::int64_t longest_stride) {
  constexpr std::int64_t kMost = (std::int64_t{1} << 32) - 1;
  if (H > kLstmMostUnits || rows >= kMost / std::max(longest_stride, 4 * H)) return false;
  return with_lstm_cluster_for(H, 1, at_once, at_once) > 0;
}

void lstm_in_cluster(const LstmLoop& a, void* fragments, Stream stream) {
  with_lstm_cluster_for(a.H, a.layout.B, at_once, [&](auto cluster) {
    run<cluster.ctas, cluster.units>(a, fragments, stream);
  });
}

}  // namespace seqvae::cuda

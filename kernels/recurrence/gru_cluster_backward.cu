// The gradient of a GRU's recurrence in one kernel for all steps, each sequence from its own last
// step on: the mirror of gru_cluster.cu. A CTA keeps the columns of R^T that its own gates'
// gradients multiply, for all H rows, in registers as bfloat16.
//
//     g = grad h_t + R^T grad q_{t+1} + z_{t+1} g_{t+1}
//     grad of r, z, n before their functions, and of q            float, by the units' owners
//     R^T grad q of this CTA's units                              mma.sync, R^T is A, K = 3 U
//     each row's partial sum to the unit's owner                  bfloat16 (cluster_scatter.cuh)
//
// Eight warps share the H rows. Warp w finishes units 8 w .. 8 w + 7 of the CTA's. What a step
// reads is asked for kAhead steps before. A carry that began at h0, at a sequence's start or at a
// reset, hands its gradient to h0. Floor: as forward; 24 bytes read and 20 written a unit. Hazards:
// one __syncthreads a step, between the last write of grad q and its first read; grad q has two
// buffers, since a warp may be a step ahead of another's reads. Gradients are written where the
// gates stood, kAhead steps after those were asked for.
#include "kernels/recurrence/cluster_scatter.cuh"
#include "kernels/recurrence/gru_loop.hpp"
#include "kernels/recurrence/gru_memory.hpp"
#include "kernels/recurrence/sequence.cuh"

namespace seqvae::cuda {
namespace {

constexpr int kAhead = 4;  // steps by which what is read is asked for before its use
constexpr int kRing = 8;   // rows of steps i - 1 .. i + kAhead + 2
enum Read { kR, kZ, kN, kQ, kGradH, kPrevious, kReads };

template <int kCluster, int kUnits>
struct Tile {
  static constexpr int hidden = kCluster * kUnits;             // H, padded
  static constexpr int tiles_m = hidden / 16 / kClusterWarps;  // of one warp
  static constexpr int tiles_k = (3 * kUnits + 15) / 16;       // of one CTA's gates
  static_assert(kUnits % 8 == 0 && kUnits <= 64 && tiles_m * 16 * kClusterWarps == hidden);

  struct Shared {
    ScatterBuffers<kCluster, kUnits, tiles_m> scatter;
    // [buffer][octet of gates' units][sequence][two units]: what ldmatrix wants for B
    alignas(16) unsigned grad_q[2][2 * tiles_k][kSequences][4];
    float read[kAhead][2 * kReads][kClusterThreads];  // [step][sequence of the thread, what]
    int row[kRing][kSequences];  // of step i at [i % kRing]; -1 past the sequence's beginning
  };
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
    return gate < 3 && from < H && row < H ? weight_hh[(std::int64_t{gate} * H + from) * H + row]
                                           : 0.0f;
  });
}

template <int kCluster, int kUnits>
__global__ void __launch_bounds__(kClusterThreads, 1)
    gru_gradients(const __grid_constant__ GruBackwardLoop a, const uint4* fragments) {
  using T = Tile<kCluster, kUnits>;
  auto& shared = shared_storage<typename T::Shared>();
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize;
  const int lane = thread % kWarpSize, H = static_cast<int>(a.H);
  const int h_stride = static_cast<int>(a.h.stride);
  const int grad_h_stride = static_cast<int>(a.grad_h.stride);
  const int rank = static_cast<int>(cluster_rank());
  const int first = static_cast<int>(blockIdx.x) / kCluster * kSequences;

  unsigned weights[T::tiles_m][T::tiles_k][4];
  load_fragments(weights, fragments, rank, warp, lane);

  const int own = first + lane % kSequences;
  const int length = own < a.layout.B ? length_of(a.layout, own) : 0;
  const int steps = longest_of(length);
  const auto row_at = [&](int i) {  // the last step first
    return i < length ? row_of(a.layout, time_of(length - 1 - i, length, a.reverse), own) : -1;
  };
  if (thread < kSequences) {  // which keep the ring
    for (int i = 0; i <= kAhead + 1; ++i) shared.row[i % kRing][thread] = row_at(i);
  }
  for (int i = 0; i < kAhead * 2 * kReads; ++i) {  // what is not asked for is 0
    shared.read[i / (2 * kReads)][i % (2 * kReads)][thread] = 0.0f;
  }
  for (int i = thread; i < 2 * 2 * T::tiles_k * kSequences * 4; i += kClusterThreads) {
    (&shared.grad_q[0][0][0][0])[i] = 0;  // where K is padded it stays
  }
  const Scatter<kCluster, kUnits, T::tiles_m> scatter(shared.scatter);
  scatter.begin();

  // What a finishing thread owns: one unit of two sequences.
  const int own_unit = warp * 8 + lane / 4, unit = rank * kUnits + own_unit, pair = lane % 4 * 2;
  const bool finishes = warp < kUnits / 8, exists = finishes && unit < H;
  const auto ask_for = [&](int i) {
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      const int row = exists ? shared.row[i % kRing][pair + s] : -1;
      if (row < 0) continue;
      const auto ask = [&](Read what, const float* from) {
        cp_async4(&shared.read[i % kAhead][kReads * s + what][thread], from);
      };
      const unsigned at = index_of(row, 3 * H, unit);
      ask(kR, a.gates + at);
      ask(kZ, a.gates + (at + H));
      ask(kN, a.gates + (at + 2 * H));
      ask(kQ, a.q_n + index_of(row, H, unit));
      if (a.grad_h) ask(kGradH, a.grad_h.data + index_of(row, grad_h_stride, unit));
      const int previous = shared.row[(i + 1) % kRing][pair + s];
      if (previous >= 0) ask(kPrevious, a.h.data + index_of(previous, h_stride, unit));
    }
    cp_async_commit();
  };
  float passed[2] = {};    // to the carry beside R^T grad q: z g
  float of_start[2] = {};  // gradient of h0
  bool begins[2] = {};     // the step before this one began at h0
  if (finishes) {
    for (int i = 0; i < kAhead; ++i) ask_for(i);
    for (int s = 0; s < 2; ++s) {
      if (exists && a.grad_h_final && first + pair + s < a.layout.B) {
        passed[s] = a.grad_h_final[first + pair + s][unit];
      }
    }
  }

  // Step `steps` only brings the last gradients of h0 home.
  for (int i = 0; i <= steps; ++i) {
    const int coming = thread < kSequences ? row_at(i + kAhead + 2) : 0;
    float grad[2][3], grad_q[2][3];
    int row[2] = {-1, -1};
    if (finishes) {
      float carried[2] = {passed[0], passed[1]};  // gradient of the carry out of this step
      if (i > 0) scatter.add(i, carried);
      cp_async_wait<kAhead - 1>();
      // Almost without a branch, so that the two sequences are under way side by side.
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        row[s] = exists ? shared.row[i % kRing][pair + s] : -1;
        const bool takes = row[s] >= 0;
        of_start[s] += begins[s] || !takes ? carried[s] : 0.0f;
        carried[s] = begins[s] ? 0.0f : carried[s];
        const auto read = [&](Read what) -> float& {
          return shared.read[i % kAhead][kReads * s + what][thread];
        };
        const int previous = shared.row[(i + 1) % kRing][pair + s];
        begins[s] = takes && (previous < 0 ||
                              (a.reset != nullptr && a.reset[a.reverse ? previous : row[s]] != 0));
        if (begins[s]) read(kPrevious) = a.h0 ? a.h0[first + pair + s][unit] : 0.0f;
        const float r = read(kR), z = read(kZ), n = read(kN);
        const float g = carried[s] + read(kGradH);
        grad[s][2] = g * (1.0f - z) * (1.0f - n) * (1.0f + n);
        grad[s][1] = g * (read(kPrevious) - n) * z * (1.0f - z);
        grad[s][0] = grad[s][2] * read(kQ) * r * (1.0f - r);
        grad_q[s][0] = takes ? grad[s][0] : 0.0f;
        grad_q[s][1] = takes ? grad[s][1] : 0.0f;
        grad_q[s][2] = takes ? grad[s][2] * r : 0.0f;
        passed[s] = takes ? g * z : 0.0f;
      }
#pragma unroll
      for (int g = 0; g < 3; ++g) {
#pragma unroll
        for (int s = 0; s < 2; ++s) {
          const float above = __shfl_down_sync(kFullMask, grad_q[s][g], 4);  // the next unit's
          if (lane % 8 < 4) {
            shared.grad_q[i & 1][g * (kUnits / 8) + warp][pair + s][lane / 8] =
                pack_bf16(grad_q[s][g], above);
          }
        }
      }
    }
    if (i == steps) break;
    if (thread < kSequences) shared.row[(i + kAhead + 2) % kRing][thread] = coming;
    __syncthreads();

    const SharedAddress b_at =
        shared_address(&shared.grad_q[i & 1][0][0][0]) + static_cast<unsigned>(lane) * 16;
    float c[T::tiles_m][4] = {};
#pragma unroll
    for (int k = 0; k < T::tiles_k; k += 2) {
      unsigned b[4];
      if (k + 1 < T::tiles_k) {
        ldmatrix_x4(b, b_at + static_cast<unsigned>(k) * 256);
      } else {
        unsigned two[2];
        ldmatrix_x2(two, b_at + static_cast<unsigned>(k) * 256);
        b[0] = two[0], b[1] = two[1];
      }
#pragma unroll
      for (int half = 0; half < 2 && k + half < T::tiles_k; ++half) {
#pragma unroll
        for (int m = 0; m < T::tiles_m; ++m) {
          mma_bf16(c[m], weights[m][k + half], b[2 * half], b[2 * half + 1]);
        }
      }
    }
    scatter.send(i + 1, c);
    if (!finishes) continue;
      // From here on nothing is on the way of the next step.
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      if (row[s] < 0) continue;
      const unsigned at = index_of(row[s], 3 * H, unit);
#pragma unroll
      for (int g = 0; g < 3; ++g) a.gates[at + g * H] = grad[s][g];
      const unsigned at_unit = index_of(row[s], H, unit);
      a.q_n[at_unit] = grad_q[s][2];
      a.h_previous[at_unit] = shared.read[i % kAhead][kReads * s + kPrevious][thread];
    }
    ask_for(i + kAhead);  // where that stood
  }
  __syncthreads();  // all that was sent here is in, and a finishing warp has seen it
  if (!exists) return;
  for (int s = 0; s < 2; ++s) {
    const int b = first + pair + s;
    if (b >= a.layout.B) continue;
    a.grad_h0[std::int64_t{b} * H + unit] = of_start[s];
    if (a.layout.offsets != nullptr) continue;
    for (int t = length_of(a.layout, b); t < a.layout.T; ++t) {  // padding
      const std::int64_t row_t = row_of(a.layout, t, b);
      for (int g = 0; g < 3; ++g) a.gates[(row_t * 3 + g) * H + unit] = 0.0f;
      a.q_n[row_t * H + unit] = a.h_previous[row_t * H + unit] = 0.0f;
    }
  }
}

template <int kCluster, int kUnits>
void run(const GruBackwardLoop& a, void* scratch, Stream stream) {
  using T = Tile<kCluster, kUnits>;
  uint4* fragments = static_cast<uint4*>(scratch);
  launch(arrange_columns<kCluster, kUnits>, {kCluster * T::tiles_m * T::tiles_k, kClusterThreads},
         stream, a.weight_hh, static_cast<int>(a.H), fragments);
  launch(gru_gradients<kCluster, kUnits>, cluster_shape<T>(a.layout.B, kCluster), stream, a,
         fragments);
}

}  // namespace

void gru_backward_in_cluster(const GruBackwardLoop& a, void* fragments, Stream stream) {
  const int units = gru_cluster(a.H).units;
  if (units == 16) return run<8, 16>(a, fragments, stream);
  if (units == 32) return run<8, 32>(a, fragments, stream);
  if (units == 48) return run<8, 48>(a, fragments, stream);
  if (units == 64) return run<8, 64>(a, fragments, stream);
  run<16, 40>(a, fragments, stream);
}

}  // namespace seqvae::cuda

// The exchange of a recurrent state within a cluster: every CTA writes its units of h_t to every
// CTA, itself included, by st.async, and waits until all of h_t has come in.
//
// Two buffers and two mbarriers are enough, and no cluster barrier in the loop:
// - h_{t+2} goes where h_t was. A CTA sends it only after it has all of h_{t+1}, and a peer sends
//   its part of h_{t+1} only after the __syncthreads that follows its last read of h_t.
// - A phase is armed for its successor right after the wait for it and before that __syncthreads,
//   so before any CTA can send the bytes of the successor. The one arrival that arming is would
//   hold the phase open even for bytes that came before it.
// - A wait cannot be lapped: the phase after the next one needs this CTA's own later part.
// - No CTA leaves while another may write to it: a cluster barrier comes last.
#include "constants.hpp"

namespace seqvae::bench::gpu {
namespace {

/// Vector v = 8 o + s holds units 8 o to 8 o + 7 of sequence s, in bf16. What is sent tells step
/// and sender.
__device__ uint4 payload(unsigned step, unsigned vector) {
  const unsigned word = step * 0x9e3779b1u + vector * 4;
  return {word, word + 1, word + 2, word + 3};
}

__device__ unsigned differs(uint4 a, uint4 b) {
  return a.x != b.x || a.y != b.y || a.z != b.z || a.w != b.w;
}

/// kCheckAll: every step's h is read and compared, not only the last two.
template <int kCluster, int kHidden, bool kClusterScope, bool kCheckAll>
__global__ void __launch_bounds__(kThreads, 1) exchange(int steps, Failures* failures) {
  constexpr unsigned vectors = kHidden, mine = vectors / kCluster, bytes = vectors * 16;
  static_assert(kHidden % (8 * kCluster) == 0);
  __shared__ __align__(128) uint4 h[2][vectors];
  __shared__ std::uint64_t received[2];
  const unsigned rank = cluster_rank();
  const unsigned h_at = shared_address(h), received_at = shared_address(received);
  if (threadIdx.x == 0) {
    for (unsigned i = 0; i < 2; ++i) mbarrier_init(received_at + 8 * i);
    mbarrier_init_fence();
    for (unsigned i = 0; i < 2; ++i) mbarrier_arm(received_at + 8 * i, bytes);
  }
  cluster_barrier<true>();

  // Each thread sends the same vectors to the same CTAs in every step.
  constexpr unsigned sends = kCluster * mine, turns = (sends + kThreads - 1) / kThreads;
  unsigned vector[turns], to_h[turns], to_received[turns];
#pragma unroll
  for (unsigned j = 0; j < turns; ++j) {
    const unsigned i = threadIdx.x + j * kThreads, to = (i / mine + rank) % kCluster;
    vector[j] = rank * mine + i % mine;
    to_h[j] = map_to(h_at + vector[j] * 16, to);
    to_received[j] = map_to(received_at, to);
  }

  unsigned wrong = 0;
  const auto compare = [&](unsigned step) {
    for (unsigned v = threadIdx.x; v < vectors; v += kThreads) {
      wrong += differs(h[step & 1][v], payload(step, v));
    }
  };
  bool ok = true;
  for (unsigned t = 0; t < static_cast<unsigned>(steps); ++t) {
    const unsigned buffer = t & 1, parity = (t >> 1) & 1;
#pragma unroll
    for (unsigned j = 0; j < turns; ++j) {
      if (threadIdx.x + j * kThreads >= sends) break;
      st_async(to_h[j] + buffer * bytes, payload(t, vector[j]), to_received[j] + buffer * 8);
    }
    ok = ok && mbarrier_wait<kClusterScope>(received_at + 8 * buffer, parity);
    __syncwarp();  // lanes may have polled a different number of times
    if (threadIdx.x == 0) mbarrier_arm(received_at + 8 * buffer, bytes);
    if constexpr (kCheckAll) compare(t);
    __syncthreads();
  }
  for (int t = max(0, steps - 2); t < steps; ++t) compare(static_cast<unsigned>(t));
  if (!ok) atomicAdd(&failures->timeouts, 1);
  if (wrong > 0) atomicAdd(&failures->mismatches, wrong);
  cluster_barrier<true>();
}

template <int kCluster, int kHidden, bool kClusterScope>
void measure_one(Bench& bench, bool alone) {
  const std::string name = "exchange_c" + std::to_string(kCluster) + "_h" +
                           std::to_string(kHidden) + (kClusterScope ? "_acquire_cluster" : "") +
                           (alone ? "_alone" : "_full");
  const std::string what = "a step of the exchange only: " + std::to_string(kHidden) +
                           " units x 8 sequences in bf16 to each of " + std::to_string(kCluster) +
                           " CTAs by st.async, mbarrier wait (acquire." +
                           (kClusterScope ? "cluster" : "cta") + "), __syncthreads; " +
                           (alone ? "one cluster" : "all clusters that fit");
  bench.measure(name, "us", what, [&] {
    const auto kernel = exchange<kCluster, kHidden, kClusterScope, false>;
    const auto checking = exchange<kCluster, kHidden, kClusterScope, true>;
    Shape shape{kCluster, kThreads, kOneCtaPerSm, kCluster};
    allow(kernel, kOneCtaPerSm);
    allow(checking, kOneCtaPerSm);
    if (!alone) shape.grid *= clusters_that_fit(kernel, shape);
    launch(checking, shape, bench.stream, 2001, bench.failures);
    return bench.slope_us(4096,
                          [&](int n) { launch(kernel, shape, bench.stream, n, bench.failures); });
  });
}

}  // namespace

void measure_exchange(Bench& bench) {
  for (const bool alone : {true, false}) {
    measure_one<8, 512, false>(bench, alone);
    measure_one<8, 512, true>(bench, alone);
    measure_one<16, 640, false>(bench, alone);
    measure_one<16, 640, true>(bench, alone);
  }
}

}  // namespace seqvae::bench::gpu

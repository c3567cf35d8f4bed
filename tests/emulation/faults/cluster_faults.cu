#include "tests/emulation/faults/cluster_faults.hpp"

#include "kernels/common/cluster.cuh"
#include "kernels/common/launch.cuh"

namespace seqvae::test {
namespace {

using namespace seqvae::cuda;

constexpr unsigned kVectors = kClusterSize * kExchangeThreads / 4;  // of a step: a quarter sends

/// What thread `sender` of a CTA sends in a step.
__host__ __device__ unsigned value_of(unsigned step, unsigned block, unsigned sender) {
  return step * 1000 + block * 100 + sender;
}

struct Exchanged {
  uint4 h[2][kVectors];
  unsigned mine[kExchangeThreads];
  std::uint64_t received[2];
};

__global__ void exchange(Cluster fault, unsigned* y) {
  auto& shared = shared_storage<Exchanged>();
  const unsigned i = threadIdx.x, rank = cluster_rank();
  const SharedAddress h = shared_address(shared.h), received = shared_address(shared.received);
  constexpr unsigned step_bytes = sizeof shared.h[0];
  const unsigned armed = fault == Cluster::too_many_bytes ? step_bytes - 16 : step_bytes;
  if (i == 0) {
    for (unsigned b = fault == Cluster::no_initialisation; b < 2; ++b) {
      mbarrier_init(received + 8 * b, 1);
      if (fault == Cluster::initialised_twice) mbarrier_init(received + 8 * b, 1);
    }
    mbarrier_init_fence();
    for (unsigned b = 0; b < 2; ++b) {
      if (fault != Cluster::no_arm) mbarrier_arm(received + 8 * b, armed);
      if (fault == Cluster::armed_twice) mbarrier_arm(received + 8 * b, 0);
    }
  }
  if (fault != Cluster::no_cluster_barrier) cluster_barrier();
  const unsigned to = i / 16, vector = rank * 16 + i % 16;  // 16 vectors to each CTA
  unsigned sum = 0;
  for (unsigned t = 0; t < kExchangeSteps; ++t) {
    const unsigned buffer = t % 2, place = fault == Cluster::one_buffer ? 0 : buffer;
    shared.mine[i] = value_of(t, blockIdx.x, i);
    if (fault != Cluster::no_sync_before_send) __syncthreads();
    const unsigned* four = &shared.mine[i % 16 * 4];
    SharedAddress target = h + place * step_bytes + vector * 16;
    if (fault == Cluster::misaligned_send) target += 4;
    const SharedAddress counted = received + 8 * buffer;
    if (fault == Cluster::plain_store) {
      *reinterpret_cast<unsigned*>(map_shared(target, to)) = four[0];
    }
    const unsigned mapped = fault == Cluster::wrong_rank && to == 3 ? 4 : to;
    if (fault != Cluster::too_few_bytes || i != 5 || t != 3) {
      st_async(map_shared(target, mapped), make_uint4(four[0], four[1], four[2], four[3]),
               fault == Cluster::other_mbarrier ? counted : map_shared(counted, to));
    }
    if (fault == Cluster::leaves_early && t + 1 == kExchangeSteps) break;
    const unsigned parity = t / 2 % 2;
    if (fault == Cluster::wrong_parity) {
      mbarrier_wait(counted, 1 - parity);
    } else if (fault != Cluster::no_wait) {
      mbarrier_wait(counted, parity);
    }
    __syncwarp();
    if (i == 0 && fault != Cluster::no_arm) mbarrier_arm(counted, armed);
    const uint4 v = shared.h[place][i];
    sum += v.x + v.y + v.z + v.w;
    __syncthreads();
  }
  y[blockIdx.x * kExchangeThreads + i] = sum;
  if (fault == Cluster::leaves_early || (fault == Cluster::barrier_in_branch && rank == 1)) return;
  cluster_barrier();
}

__global__ void hand_over(bool fault, unsigned* y) {
  const unsigned rank = cluster_rank(), size = cluster_size(), first = blockIdx.x - rank;
  unsigned* next = y + (first + (rank + 1) % size) * blockDim.x + threadIdx.x;
  *next = 7;
  if (!fault) cluster_barrier();
  y[blockIdx.x * blockDim.x + threadIdx.x] += rank;
}

struct Met {
  unsigned at[128];
  std::uint64_t barrier;
};

__global__ void meet(bool fault, unsigned* y) {
  auto& shared = shared_storage<Met>();
  const unsigned i = threadIdx.x;
  const SharedAddress barrier = shared_address(&shared.barrier);
  if (i == 0) mbarrier_init(barrier, 128);
  __syncthreads();
  for (unsigned round = 0; round < 3; ++round) {
    shared.at[i] = i + round;
    mbarrier_arm(barrier, 0);
    if (!fault || i < 64) mbarrier_wait(barrier, round % 2);
    y[i] = shared.at[127 - i];
    __syncthreads();
  }
}

constexpr int kRing = 2, kCopies = 4;

struct Copied {
  float at[kRing][64];
  float last[64];
};

__global__ void copy_steps(Copy fault, const float* x, float* y) {
  auto& shared = shared_storage<Copied>();
  const unsigned i = threadIdx.x;
  const auto ask = [&](int step) {
    if (step < kCopies) cp_async4(&shared.at[step % kRing][i], x + i + step);
    if (fault != Copy::no_commit) cp_async_commit();
  };
  ask(0);
  float sum = 0.0f;
  for (int step = 0; step < kCopies; ++step) {
    ask(step + 1);
    if (fault == Copy::too_early) {
      cp_async_wait<2>();
    } else if (fault != Copy::no_wait) {
      cp_async_wait<1>();
    }
    sum += shared.at[step % kRing][i];
  }
  if (i < 16) cp_async16(&shared.last[4 * i + (fault == Copy::misaligned && i == 3)], x + 4 * i);
  cp_async_commit();
  cp_async_wait<0>();
  if (fault != Copy::no_barrier) __syncthreads();
  y[i] = sum + shared.last[63 - i];
  if (fault == Copy::overwritten) cp_async4(&shared.last[i], x + i);
}

}  // namespace

void exchange_in_cluster(Cluster planted, unsigned* y) {
  launch(exchange, {2 * kClusterSize, kExchangeThreads, sizeof(Exchanged), kClusterSize}, Stream(),
         planted, y);
}

unsigned exchanged(unsigned i) {
  // Vector i of a step holds what threads 4 (i % 16) to 4 (i % 16) + 3 of CTA i / 16 had.
  const unsigned block = i / kExchangeThreads, vector = i % kExchangeThreads;
  const unsigned from = block / kClusterSize * kClusterSize + vector / 16;
  unsigned sum = 0;
  for (unsigned t = 0; t < kExchangeSteps; ++t) {
    for (unsigned k = 0; k < 4; ++k) sum += value_of(t, from, vector % 16 * 4 + k);
  }
  return sum;
}

void hand_over_in_cluster(bool fault, unsigned* y) {
  launch(hand_over, {8, 32, 0, 4}, Stream(), fault, y);
}
void meet_on_mbarrier(bool fault, unsigned* y) {
  launch(meet, {1, 128, sizeof(Met)}, Stream(), fault, y);
}
void copy_ahead(Copy planted, const float* x, float* y) {
  launch(copy_steps, {1, 64, sizeof(Copied)}, Stream(), planted, x, y);
}

}  // namespace seqvae::test

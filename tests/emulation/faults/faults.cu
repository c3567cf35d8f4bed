#include "tests/emulation/faults/faults.hpp"

#include <cub/block/block_reduce.cuh>

#include "kernels/common/launch.cuh"
#include "kernels/common/runtime.hpp"
#include "kernels/common/warp.cuh"

namespace seqvae::test {
namespace {

using cuda::launch;
using cuda::shared_storage;

constexpr int kThreads = 128;

struct Numbers {
  float at[kThreads];
};

__global__ void sum_numbers(bool fault, const float* x, float* sum) {
  auto& numbers = shared_storage<Numbers>();
  const int i = static_cast<int>(threadIdx.x);
  numbers.at[i] = x[i];
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (i < half) numbers.at[i] += numbers.at[i + half];
    if (!fault || half != 16) __syncthreads();
  }
  if (i == 0) *sum = numbers.at[0];
}

struct Total {
  float value;
};

__global__ void subtract_twice(bool fault, const float* x, float* y) {
  auto& total = shared_storage<Total>();
  const unsigned i = threadIdx.x;
  float value = x[i];
  for (int round = 0; round < 2; ++round) {
    if (i == 0) total.value = value;
    __syncthreads();
    value -= total.value;
    if (!fault) __syncthreads();  // else thread 0 writes the next total while others read this one
  }
  y[i] = value;
}

using Reduce = cub::BlockReduce<float, kThreads>;

__global__ void sum_twice(bool fault, const float* x, float* sums) {
  auto& storage = shared_storage<Reduce::TempStorage>();
  for (int round = 0; round < 2; ++round) {
    const float sum = Reduce(storage).Sum(x[threadIdx.x]);
    if (threadIdx.x == 0) sums[round] = sum;
    if (!fault) __syncthreads();
  }
}

__global__ void rotate_in_warp(bool fault, float* y) {
  auto& numbers = shared_storage<Numbers>();
  const unsigned i = threadIdx.x;
  numbers.at[i] = static_cast<float>(i);
  if (!fault) __syncwarp();
  y[i] = numbers.at[i / 32 * 32 + (i + 1) % 32];
}

__global__ void count_blocks(bool fault, unsigned* total) {
  if (threadIdx.x != 0) return;
  if (fault) {
    *total += 1;
  } else {
    atomicAdd(total, 1u);
  }
}

__global__ void fill(bool fault, float* y, int count) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count + (fault ? 1 : 0)) y[i] = 1.0f;
}

__global__ void reverse(bool fault, float* y) {
  auto& numbers = shared_storage<Numbers>();
  const unsigned i = threadIdx.x;
  if (!fault || i < kThreads / 2) numbers.at[i] = static_cast<float>(i);
  __syncthreads();
  y[i] = numbers.at[kThreads - 1 - i];
}

__global__ void wait_somewhere(bool fault, float* y) {
  if (!fault || threadIdx.x < kThreads / 2) __syncthreads();
  y[threadIdx.x] = 1.0f;
}

__global__ void exchange(bool fault, float* y) {
  float value = static_cast<float>(threadIdx.x);
  if (!fault || threadIdx.x % 32 < 16) value = __shfl_xor_sync(0xFFFFFFFFu, value, 1);
  y[threadIdx.x] = value;
}

__global__ void exchange_low(bool fault, float* y) {
  float value = static_cast<float>(threadIdx.x);
  if (threadIdx.x % 32 < 16) value = __shfl_xor_sync(0x0000FFFFu, value, fault ? 16 : 8);
  y[threadIdx.x] = value;
}

struct Four {
  float at[4];
  float after;
};

__global__ void index_array(int last, float* y) {
  auto& four = shared_storage<Four>();
  if (threadIdx.x == 0) {
    four.after = 0.0f;
    for (int i = 0; i <= last; ++i) four.at[i] = 1.0f;
    *y = four.at[0];
  }
}

__global__ void read_four(const float* x, float* y) {
  const float4 four = *reinterpret_cast<const float4*>(x);
  *y = four.x + four.y + four.z + four.w;
}

struct Pointers {
  float* at[kThreads];
};

__global__ void lend(bool fault, float* y) {
  auto& pointers = shared_storage<Pointers>();
  float own[2] = {static_cast<float>(threadIdx.x), 0.0f};
  pointers.at[threadIdx.x] = own;
  __syncthreads();
  y[threadIdx.x] = *pointers.at[fault ? (threadIdx.x + 1) % kThreads : threadIdx.x];
  __syncthreads();
}

__global__ void hand_over(unsigned* flag, float* y) {
  if (threadIdx.x == 0) {
    while (atomicAdd(flag, 0u) == 0) {
    }
    *y = 1.0f;
  } else if (threadIdx.x == 1) {
    atomicExch(flag, 1u);
  }
}

bool is(Planted planted) { return planted == Planted::fault; }

}  // namespace

void sum_block(Planted p, const float* x, float* sum) {
  launch(sum_numbers, {1, kThreads, sizeof(Numbers)}, Stream(), is(p), x, sum);
}
void read_after_total(Planted p, const float* x, float* y) {
  launch(subtract_twice, {1, kThreads, sizeof(Total)}, Stream(), is(p), x, y);
}
void reuse_storage(Planted p, const float* x, float* sums) {
  launch(sum_twice, {1, kThreads, sizeof(Reduce::TempStorage)}, Stream(), is(p), x, sums);
}
void share_in_warp(Planted p, float* y) {
  launch(rotate_in_warp, {1, kThreads, sizeof(Numbers)}, Stream(), is(p), y);
}
void add_between_blocks(Planted p, unsigned* total) {
  launch(count_blocks, {5, kThreads}, Stream(), is(p), total);
}
void write_past_end(Planted p, float* y, int count) {
  launch(fill, {1, kThreads}, Stream(), is(p), y, count);
}
void read_unwritten(Planted p, float* y) {
  launch(reverse, {1, kThreads, sizeof(Numbers)}, Stream(), is(p), y);
}
void wait_in_branch(Planted p, float* y) {
  launch(wait_somewhere, {1, kThreads}, Stream(), is(p), y);
}
void shuffle_in_branch(Planted p, float* y) { launch(exchange, {1, kThreads}, Stream(), is(p), y); }
void shuffle_outside_mask(Planted p, float* y) {
  launch(exchange_low, {1, kThreads}, Stream(), is(p), y);
}
void index_beyond_array(Planted p, float* y) {
  launch(index_array, {1, kThreads, sizeof(Four)}, Stream(), is(p) ? 4 : 3, y);
}
void read_misaligned(Planted p, const float* x, float* y) {
  launch(read_four, {1, 1}, Stream(), x + (is(p) ? 1 : 0), y);
}
void use_freed(Planted p, float* y) {
  auto* memory = static_cast<float*>(cuda::allocate(kThreads * sizeof(float)));
  if (is(p)) cuda::release(memory);
  launch(fill, {1, kThreads}, Stream(), false, memory, kThreads);
  launch(fill, {1, kThreads}, Stream(), false, y, kThreads);
  if (!is(p)) cuda::release(memory);
}
void point_to_neighbour(Planted p, float* y) {
  launch(lend, {1, kThreads, sizeof(Pointers)}, Stream(), is(p), y);
}
void poll(unsigned* flag, float* y) { launch(hand_over, {1, 64}, Stream(), flag, y); }

}  // namespace seqvae::test

// The device side: indices, barriers, warp operations, atomics.
#include <cuda_runtime.h>

#include <algorithm>

#include "tests/emulation/engine/scheduler.hpp"

#define SEQVAE_PLACE reinterpret_cast<std::uintptr_t>(__builtin_return_address(0))

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace seqvae::emulation {

void show_shape(const Launch& launch) {
  const auto as_dim3 = [](Index3 i) { return dim3(i.x, i.y, i.z); };
  blockDim = as_dim3(launch.block_dim());
  gridDim = as_dim3(launch.grid_dim());
}

void show(const Launch& launch) {
  const auto as_uint3 = [](Index3 i) { return uint3{i.x, i.y, i.z}; };
  threadIdx = as_uint3(launch.fiber().index);
  blockIdx = as_uint3(launch.block_index());
}

namespace {

/// Reads, changes and writes one word, then lets other threads run.
template <class T, class Change>
T atomic(T* to, std::uintptr_t place, Change change) {
  running->access(reinterpret_cast<std::uintptr_t>(to), sizeof(T), true, true, place);
  const T before = *to;
  *to = change(before);
  running->yield();
  return before;
}

}  // namespace

void* shared_memory() { return reinterpret_cast<void*>(running->shared()); }
unsigned lane_index() { return running->fiber().number % kLanes; }

std::uint64_t collective(Collective kind, unsigned mask, std::uint64_t value, unsigned source) {
  const auto operation = kind == Collective::shuffle  ? WarpOperation::shuffle
                         : kind == Collective::ballot ? WarpOperation::ballot
                                                      : WarpOperation::sync;
  return running->warp_operation(operation, mask, value, source, SEQVAE_PLACE);
}

}  // namespace seqvae::emulation

using seqvae::emulation::atomic;

void __syncthreads() { seqvae::emulation::running->sync_threads(SEQVAE_PLACE); }

int atomicAdd(int* to, int v) {
  return atomic(to, SEQVAE_PLACE, [=](int old) {
    return static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(v));
  });
}
unsigned atomicAdd(unsigned* to, unsigned v) {
  return atomic(to, SEQVAE_PLACE, [=](unsigned old) { return old + v; });
}
unsigned long long atomicAdd(unsigned long long* to, unsigned long long v) {
  return atomic(to, SEQVAE_PLACE, [=](unsigned long long old) { return old + v; });
}
int atomicMax(int* to, int v) {
  return atomic(to, SEQVAE_PLACE, [=](int old) { return std::max(old, v); });
}
unsigned atomicMax(unsigned* to, unsigned v) {
  return atomic(to, SEQVAE_PLACE, [=](unsigned old) { return std::max(old, v); });
}
int atomicMin(int* to, int v) {
  return atomic(to, SEQVAE_PLACE, [=](int old) { return std::min(old, v); });
}
unsigned atomicMin(unsigned* to, unsigned v) {
  return atomic(to, SEQVAE_PLACE, [=](unsigned old) { return std::min(old, v); });
}
int atomicExch(int* to, int v) {
  return atomic(to, SEQVAE_PLACE, [=](int) { return v; });
}
unsigned atomicExch(unsigned* to, unsigned v) {
  return atomic(to, SEQVAE_PLACE, [=](unsigned) { return v; });
}
int atomicCAS(int* to, int expected, int v) {
  return atomic(to, SEQVAE_PLACE, [=](int old) { return old == expected ? v : old; });
}
unsigned atomicCAS(unsigned* to, unsigned expected, unsigned v) {
  return atomic(to, SEQVAE_PLACE, [=](unsigned old) { return old == expected ? v : old; });
}
unsigned atomicOr(unsigned* to, unsigned v) {
  return atomic(to, SEQVAE_PLACE, [=](unsigned old) { return old | v; });
}
unsigned atomicAnd(unsigned* to, unsigned v) {
  return atomic(to, SEQVAE_PLACE, [=](unsigned old) { return old & v; });
}

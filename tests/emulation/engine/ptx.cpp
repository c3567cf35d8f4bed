// What stands in for the PTX of kernels/common/cluster.cuh and mma.cuh.
#include <cuda_runtime.h>

#include <bit>
#include <cmath>

#include "tests/emulation/engine/matrix.hpp"
#include "tests/emulation/engine/scheduler.hpp"

#define SEQVAE_PLACE reinterpret_cast<std::uintptr_t>(__builtin_return_address(0))

namespace seqvae::emulation {
namespace {

std::uint64_t address_of(const auto& operands) {
  return reinterpret_cast<std::uintptr_t>(&operands);
}

unsigned to_bf16(float value) {
  if (std::isnan(value)) return 0x7FFFu;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
}

}  // namespace

unsigned cluster_rank() { return running->fiber().cta; }
unsigned cluster_size() { return running->cluster_size(); }

bool is_in_shared(const void* p) { return running->is_own(reinterpret_cast<std::uintptr_t>(p)); }
std::uintptr_t shared_address(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  running->require_own("shared_address", address, 0, SEQVAE_PLACE);
  return address;
}
std::uintptr_t map_shared(std::uintptr_t address, unsigned rank) {
  return running->map_shared(address, rank, SEQVAE_PLACE);
}
void cluster_barrier() { running->cluster_barrier(SEQVAE_PLACE); }

void mbarrier_init(std::uintptr_t barrier, unsigned arrivals) {
  running->mbarrier_init(barrier, arrivals, SEQVAE_PLACE);
}
void mbarrier_arm(std::uintptr_t barrier, unsigned bytes) {
  running->mbarrier_arm(barrier, bytes, SEQVAE_PLACE);
}
void mbarrier_wait(std::uintptr_t barrier, unsigned parity) {
  running->mbarrier_wait(barrier, parity, SEQVAE_PLACE);
}
void st_async(std::uintptr_t remote, uint4 value, std::uintptr_t remote_barrier) {
  running->st_async(remote, std::bit_cast<Bytes16>(value), remote_barrier, SEQVAE_PLACE);
}

void cp_async(void* shared, const void* global, unsigned bytes) {
  running->cp_async(reinterpret_cast<std::uintptr_t>(shared),
                    reinterpret_cast<std::uintptr_t>(global), bytes, SEQVAE_PLACE);
}
void cp_async_commit() { running->cp_async_commit(); }
void cp_async_wait(unsigned pending) { running->cp_async_wait(pending); }

void ldmatrix(unsigned* b, unsigned matrices, std::uintptr_t row) {
  // The lane that names a row counts as its reader.
  if (running->fiber().number % kLanes < 8 * matrices) {
    running->require_own("ldmatrix", row, 16, SEQVAE_PLACE);
    running->access(row, 16, false, false, SEQVAE_PLACE);
  }
  const LoadOperands operands{b, row};
  running->matrix_operation(matrices == 4 ? WarpOperation::ldmatrix_x4 : WarpOperation::ldmatrix_x2,
                            address_of(operands), SEQVAE_PLACE);
}
void mma_bf16(float* c, const unsigned* a, unsigned b0, unsigned b1) {
  const unsigned b[] = {b0, b1};
  const MultiplyOperands operands{c, a, b};
  running->matrix_operation(WarpOperation::mma_bf16, address_of(operands), SEQVAE_PLACE);
}
void mma_tf32(float* c, const unsigned* a, unsigned b0, unsigned b1) {
  const unsigned b[] = {b0, b1};
  const MultiplyOperands operands{c, a, b};
  running->matrix_operation(WarpOperation::mma_tf32, address_of(operands), SEQVAE_PLACE);
}

unsigned pack_bf16(float low, float high) { return to_bf16(low) | to_bf16(high) << 16; }

}  // namespace seqvae::emulation

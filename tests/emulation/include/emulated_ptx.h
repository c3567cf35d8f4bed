// What the wrappers of kernels/common/cluster.cuh and mma.cuh call in place of PTX.
#pragma once
#include <cstdint>

namespace seqvae::emulation {

unsigned cluster_rank();
unsigned cluster_size();
bool is_in_shared(const void* p);
std::uintptr_t shared_address(const void* p);
std::uintptr_t map_shared(std::uintptr_t address, unsigned rank);
void cluster_barrier();
void mbarrier_init(std::uintptr_t barrier, unsigned arrivals);
void mbarrier_arm(std::uintptr_t barrier, unsigned bytes);
void mbarrier_wait(std::uintptr_t barrier, unsigned parity);
void st_async(std::uintptr_t remote, uint4 value, std::uintptr_t remote_barrier);
void cp_async(void* shared, const void* global, unsigned bytes);
void cp_async_commit();
void cp_async_wait(unsigned pending);
void ldmatrix(unsigned* b, unsigned matrices, std::uintptr_t row);
/// Sums in double, rounded to float once: the products are exact.
void mma_bf16(float* c, const unsigned* a, unsigned b0, unsigned b1);
void mma_tf32(float* c, const unsigned* a, unsigned b0, unsigned b1);
unsigned pack_bf16(float low, float high);

}  // namespace seqvae::emulation

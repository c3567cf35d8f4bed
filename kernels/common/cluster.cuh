// What a cluster of CTAs needs: ranks, addresses, barriers, stores that arrive on a barrier; and
// copies from global memory that a thread waits for later. One PTX instruction each:
//
// | function            | instruction                                               | sm  |
// |---------------------|-----------------------------------------------------------|-----|
// | cluster_rank, _size | %cluster_ctarank, %cluster_nctarank                       | 90  |
// | is_in_shared        | isspacep.shared                                           | any |
// | shared_address      | cvta.to.shared                                            | any |
// | load_shared4        | ld.shared.v4                                              | any |
// | map_shared          | mapa.shared::cluster                                      | 90  |
// | cluster_barrier     | barrier.cluster.arrive.release and .wait.acquire          | 90  |
// | mbarrier_*          | mbarrier.init, .arrive.expect_tx, .try_wait.parity        | 90  |
// | mbarrier_init_fence | fence.mbarrier_init.release.cluster                       | 90  |
// | st_async            | st.async.shared::cluster.mbarrier::complete_tx::bytes     | 90  |
// | cp_async*           | cp.async.ca (4 bytes), .cg (16), commit_group, wait_group | 80  |
//
// Code for less than sm_90 compiles, and traps where it comes to what needs it: whoever launches
// asks the device first.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace seqvae::cuda {

/// An address in the shared memory of this CTA or another of its cluster.
#if defined(__CUDACC__)
using SharedAddress = std::uint32_t;
#else
using SharedAddress = std::uintptr_t;
#endif

/// This CTA's number in its cluster, and how many there are.
__device__ __forceinline__ unsigned cluster_rank();
__device__ __forceinline__ unsigned cluster_size();

/// Whether it points to this CTA's shared memory.
__device__ __forceinline__ bool is_in_shared(const void* p);

/// Of what lies in this CTA's shared memory.
__device__ __forceinline__ SharedAddress shared_address(const void* p);

/// Four floats of this CTA's shared memory, at a multiple of 16: where the compiler cannot know
/// that a pointer leads there, this is quicker than asking through the pointer.
__device__ __forceinline__ float4 load_shared4(SharedAddress a);

/// The same place in the shared memory of CTA `rank`; only st_async may use it.
__device__ __forceinline__ SharedAddress map_shared(SharedAddress a, unsigned rank);

/// All threads of the cluster meet. What they did before, each of them sees after; but an st_async
/// is in only once its mbarrier says so. Costs a fence of the whole device: not for inner loops.
__device__ __forceinline__ void cluster_barrier();

/// An mbarrier is 8 aligned bytes of shared memory. A phase of it is over when `arrivals` threads
/// have arrived and as many bytes have come in as they said; the next begins at once. The first is
/// phase 0, of parity 0.
__device__ __forceinline__ void mbarrier_init(SharedAddress barrier, unsigned arrivals);
/// Makes this thread's mbarrier_init known to the cluster; a cluster_barrier has to follow.
__device__ __forceinline__ void mbarrier_init_fence();
/// Arrives, and says that `bytes` more belong to this phase. They may already have come.
__device__ __forceinline__ void mbarrier_arm(SharedAddress barrier, unsigned bytes);
/// Waits until the current or the last phase, whichever has this parity, is over. Then all that
/// armers and senders of it did before is seen. Lanes leave one by one: __syncwarp may be needed.
__device__ __forceinline__ void mbarrier_wait(SharedAddress barrier, unsigned parity);

/// 16 bytes to another CTA's shared memory, at a multiple of 16; they count on the mbarrier there
/// once they are in. The other CTA must not end before.
__device__ __forceinline__ void st_async(SharedAddress remote, uint4 value,
                                         SharedAddress remote_barrier);

/// From global memory to this CTA's shared memory, on its way until cp_async_wait. Aligned to the
/// bytes copied, 4 or 16.
__device__ __forceinline__ void cp_async4(void* shared, const float* global);
__device__ __forceinline__ void cp_async16(void* shared, const void* global);
/// What this thread has asked for since the last call is one group.
__device__ __forceinline__ void cp_async_commit();
/// All but the last kPending groups of this thread are in, for this thread only: others need a
/// barrier after it.
template <int kPending>
__device__ __forceinline__ void cp_async_wait();

#if defined(__CUDACC__)

__device__ __forceinline__ SharedAddress shared_address(const void* p) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ bool is_in_shared(const void* p) { return __isShared(p) != 0; }
__device__ __forceinline__ float4 load_shared4(SharedAddress a) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(a)
               : "memory");
  return v;
}
__device__ __forceinline__ void cp_async4(void* shared, const float* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(shared)), "l"(global)
               : "memory");
}
__device__ __forceinline__ void cp_async16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
               "l"(global)
               : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900

__device__ __forceinline__ unsigned cluster_rank() {
  __trap();
  return 0;
}
__device__ __forceinline__ unsigned cluster_size() {
  __trap();
  return 1;
}
__device__ __forceinline__ SharedAddress map_shared(SharedAddress a, unsigned) {
  __trap();
  return a;
}
__device__ __forceinline__ void cluster_barrier() { __trap(); }
__device__ __forceinline__ void mbarrier_init(SharedAddress, unsigned) { __trap(); }
__device__ __forceinline__ void mbarrier_init_fence() { __trap(); }
__device__ __forceinline__ void mbarrier_arm(SharedAddress, unsigned) { __trap(); }
__device__ __forceinline__ void mbarrier_wait(SharedAddress, unsigned) { __trap(); }
__device__ __forceinline__ void st_async(SharedAddress, uint4, SharedAddress) { __trap(); }

#else

__device__ __forceinline__ unsigned cluster_rank() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ unsigned cluster_size() {
  unsigned size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}
__device__ __forceinline__ SharedAddress map_shared(SharedAddress a, unsigned rank) {
  SharedAddress remote;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(a), "r"(rank));
  return remote;
}
__device__ __forceinline__ void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ void mbarrier_init(SharedAddress barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void mbarrier_arm(SharedAddress barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void mbarrier_wait(SharedAddress barrier, unsigned parity) {
  unsigned done;
  do {  // each try sleeps for a while before it gives up
    asm volatile(
        "{.reg .pred p;\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (done == 0);
}
__device__ __forceinline__ void st_async(SharedAddress remote, uint4 value,
                                         SharedAddress remote_barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1,%2,%3,%4}, [%5];" ::
          "r"(remote),
      "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w), "r"(remote_barrier)
      : "memory");
}

#endif
#else  // the emulator

__forceinline__ unsigned cluster_rank() { return emulation::cluster_rank(); }
__forceinline__ unsigned cluster_size() { return emulation::cluster_size(); }
__forceinline__ bool is_in_shared(const void* p) { return emulation::is_in_shared(p); }
__forceinline__ float4 load_shared4(SharedAddress a) { return *reinterpret_cast<const float4*>(a); }
__forceinline__ SharedAddress shared_address(const void* p) { return emulation::shared_address(p); }
__forceinline__ SharedAddress map_shared(SharedAddress a, unsigned rank) {
  return emulation::map_shared(a, rank);
}
__forceinline__ void cluster_barrier() { emulation::cluster_barrier(); }
__forceinline__ void mbarrier_init(SharedAddress barrier, unsigned arrivals) {
  emulation::mbarrier_init(barrier, arrivals);
}
__forceinline__ void mbarrier_init_fence() {}
__forceinline__ void mbarrier_arm(SharedAddress barrier, unsigned bytes) {
  emulation::mbarrier_arm(barrier, bytes);
}
__forceinline__ void mbarrier_wait(SharedAddress barrier, unsigned parity) {
  emulation::mbarrier_wait(barrier, parity);
}
__forceinline__ void st_async(SharedAddress remote, uint4 value, SharedAddress remote_barrier) {
  emulation::st_async(remote, value, remote_barrier);
}
__forceinline__ void cp_async4(void* shared, const float* global) {
  emulation::cp_async(shared, global, 4);
}
__forceinline__ void cp_async16(void* shared, const void* global) {
  emulation::cp_async(shared, global, 16);
}
__forceinline__ void cp_async_commit() { emulation::cp_async_commit(); }
template <int kPending>
__forceinline__ void cp_async_wait() {
  emulation::cp_async_wait(kPending);
}

#endif

}  // namespace seqvae::cuda

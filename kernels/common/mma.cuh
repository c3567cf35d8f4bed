// Matrix products of a warp, and what feeds them. All 32 lanes take part, together. One PTX
// instruction each (from sm_80 on), with lane = 4 g + q:
//
// | mma_bf16, m16n8k16 | element                  |   | mma_tf32, m16n8k8 | element          |
// |--------------------|--------------------------|---|-------------------|------------------|
// | a[0]               | A[g]    [2q, 2q + 1]     |   | a[0]              | A[g]    [q]      |
// | a[1]               | A[g + 8][2q, 2q + 1]     |   | a[1]              | A[g + 8][q]      |
// | a[2]               | A[g]    [2q + 8, 2q + 9] |   | a[2]              | A[g]    [q + 4]  |
// | a[3]               | A[g + 8][2q + 8, 2q + 9] |   | a[3]              | A[g + 8][q + 4]  |
// | b0                 | B[2q, 2q + 1]    [g]     |   | b0                | B[q]    [g]      |
// | b1                 | B[2q + 8, 2q + 9][g]     |   | b1                | B[q + 4][g]      |
// | c[0], c[1]         | C[g]    [2q], [2q + 1]   |   | c[0], c[1]        | the same         |
// | c[2], c[3]         | C[g + 8][2q], [2q + 1]   |   | c[2], c[3]        | the same         |
//
// Two bf16 share a register, the one of lower k in the lower half. Of a tf32 operand, the bits of a
// float, the lower 13 bits count for nothing.
//
// ldmatrix_xN reads N matrices of 8 rows of 16 bytes (8 bf16). Lane 8 j + i gives the address of
// row i of matrix j; b[j] becomes elements 2q and 2q + 1 of row g of matrix j. So rows that hold a
// column of B each, k along the row, come out as b0 (k 0 to 7) and b1 (k 8 to 15).
#pragma once
#include <cuda_runtime.h>

#include "kernels/common/cluster.cuh"

namespace seqvae::cuda {

/// Rows lie at multiples of 16 bytes in this CTA's shared memory. x2: lanes 0 to 15 give them.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&b)[4], SharedAddress row);
__device__ __forceinline__ void ldmatrix_x2(unsigned (&b)[2], SharedAddress row);

/// C += A B with float sums.
__device__ __forceinline__ void mma_bf16(float (&c)[4], const unsigned (&a)[4], unsigned b0,
                                         unsigned b1);
__device__ __forceinline__ void mma_tf32(float (&c)[4], const unsigned (&a)[4], unsigned b0,
                                         unsigned b1);

/// Both rounded to the nearest bf16, ties to even; NaN stays NaN.
__device__ __forceinline__ unsigned pack_bf16(float low, float high);

/// From global memory, for registers that a kernel keeps: it cannot be loaded a second time.
__device__ __forceinline__ uint4 load_resident(const uint4* p);

#if defined(__CUDACC__)

__device__ __forceinline__ void ldmatrix_x4(unsigned (&b)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(unsigned (&b)[2], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(b[0]), "=r"(b[1])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void mma_bf16(float (&c)[4], const unsigned (&a)[4], unsigned b0,
                                         unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void mma_tf32(float (&c)[4], const unsigned (&a)[4], unsigned b0,
                                         unsigned b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
__device__ __forceinline__ uint4 load_resident(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

#else  // the emulator

__forceinline__ void ldmatrix_x4(unsigned (&b)[4], SharedAddress row) {
  emulation::ldmatrix(b, 4, row);
}
__forceinline__ void ldmatrix_x2(unsigned (&b)[2], SharedAddress row) {
  emulation::ldmatrix(b, 2, row);
}
__forceinline__ void mma_bf16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  emulation::mma_bf16(c, a, b0, b1);
}
__forceinline__ void mma_tf32(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  emulation::mma_tf32(c, a, b0, b1);
}
__forceinline__ unsigned pack_bf16(float low, float high) {
  return emulation::pack_bf16(low, high);
}
__forceinline__ uint4 load_resident(const uint4* p) { return *p; }

#endif

}  // namespace seqvae::cuda

#include "kernels/common/launch.cuh"
#include "kernels/common/mma.cuh"
#include "tests/emulation/faults/cluster_faults.hpp"

namespace seqvae::test {
namespace {

using namespace seqvae::cuda;

struct Columns {
  alignas(16) unsigned b[8][8];  // [column][two neighbours in k]
  std::uint64_t written;
};

__global__ void multiply_bf16(MatrixFault fault, const float* A, const float* B, float* C) {
  auto& shared = shared_storage<Columns>();
  const unsigned lane = threadIdx.x, g = lane / 4, q = lane % 4;
  for (unsigned k = q; k < 8; k += 4) {
    shared.b[g][k] = pack_bf16(B[2 * k * 8 + g], B[(2 * k + 1) * 8 + g]);
  }
  const SharedAddress written = shared_address(&shared.written);
  if (lane == 0) mbarrier_init(written, 32);
  if (fault != MatrixFault::no_sync) {
    __syncwarp();
    mbarrier_arm(written, 0);
    mbarrier_wait(written, 0);
    if (fault != MatrixFault::lanes_apart) __syncwarp();
  }
  unsigned a[4], b[2];
  for (unsigned i = 0; i < 4; ++i) {
    const float* two = A + (g + i % 2 * 8) * 16 + 2 * q + i / 2 * 8;
    a[i] = pack_bf16(two[0], two[1]);
  }
  SharedAddress row = shared_address(&shared.b[lane % 8][lane / 8 % 2 * 4]);
  if (fault == MatrixFault::misaligned_row && lane == 3) row += 4;
  if (fault == MatrixFault::global_row && lane == 3) {
    row = static_cast<SharedAddress>(reinterpret_cast<std::uintptr_t>(A));
  }
  ldmatrix_x2(b, row);
  float c[4] = {};
  if (fault == MatrixFault::missing_lane && lane == 17) return;
  if (fault == MatrixFault::other_operation && lane == 17) {
    mma_tf32(c, a, b[0], b[1]);
  } else {
    mma_bf16(c, a, b[0], b[1]);
  }
  for (unsigned i = 0; i < 4; ++i) C[(g + i / 2 * 8) * 8 + 2 * q + i % 2] = c[i];
}

__global__ void multiply_tf32(const float* A, const float* B, float* C) {
  const unsigned lane = threadIdx.x, g = lane / 4, q = lane % 4;
  unsigned a[4];
  for (unsigned i = 0; i < 4; ++i) a[i] = __float_as_uint(A[(g + i % 2 * 8) * 8 + q + i / 2 * 4]);
  float c[4] = {};
  mma_tf32(c, a, __float_as_uint(B[q * 8 + g]), __float_as_uint(B[(q + 4) * 8 + g]));
  for (unsigned i = 0; i < 4; ++i) C[(g + i / 2 * 8) * 8 + 2 * q + i % 2] = c[i];
}

struct Rows {
  alignas(16) std::uint16_t at[32][8];
};

__global__ void load_rows(int matrices, const std::uint16_t* x, unsigned* y) {
  auto& shared = shared_storage<Rows>();
  const unsigned lane = threadIdx.x;
  if (lane < static_cast<unsigned>(8 * matrices)) {
    for (unsigned i = 0; i < 8; ++i) shared.at[lane][i] = x[lane * 8 + i];
  }
  __syncwarp();
  unsigned four[4], two[2];
  if (matrices == 4) {
    ldmatrix_x4(four, shared_address(shared.at[lane]));
    for (unsigned i = 0; i < 4; ++i) y[i * 32 + lane] = four[i];
  } else {
    ldmatrix_x2(two, shared_address(shared.at[lane % 16]));
    for (unsigned i = 0; i < 2; ++i) y[i * 32 + lane] = two[i];
  }
}

__global__ void pack_pairs(const float* x, unsigned* y) {
  y[threadIdx.x] = pack_bf16(x[2 * threadIdx.x], x[2 * threadIdx.x + 1]);
}

__global__ void write_rank(unsigned* y) {
  y[2 * blockIdx.x] = cluster_rank();
  y[2 * blockIdx.x + 1] = cluster_size();
}

}  // namespace

void multiply_in_bf16(MatrixFault planted, const float* A, const float* B, float* C) {
  launch(multiply_bf16, {1, 32, sizeof(Columns)}, Stream(), planted, A, B, C);
}
void multiply_in_tf32(const float* A, const float* B, float* C) {
  launch(multiply_tf32, {1, 32}, Stream(), A, B, C);
}
void load_matrices_of(int matrices, const std::uint16_t* x, unsigned* y) {
  launch(load_rows, {1, 32, sizeof(Rows)}, Stream(), matrices, x, y);
}
void pack(const float* x, unsigned* y) { launch(pack_pairs, {1, 32}, Stream(), x, y); }

void ask_rank(unsigned blocks, unsigned cluster, std::size_t shared_bytes, Stream stream,
              unsigned* y) {
  launch(write_rank, {blocks, 1, shared_bytes, cluster}, stream, y);
}
int clusters_at_once(unsigned cluster) {
  return max_active_clusters(write_rank, {cluster, 32, 100 << 10, cluster});
}

}  // namespace seqvae::test

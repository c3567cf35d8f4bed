// Small kernels for clusters, asynchronous copies and matrix products: each with faults planted or,
// beside it, the same without.
#pragma once
#include <cstdint>

#include "seqvae/core/stream.hpp"

namespace seqvae::test {

enum class Cluster {
  nothing,
  one_buffer,           ///< the next step's bytes go where this step's are read
  no_arm,               ///< nobody says how many bytes a phase waits for
  too_few_bytes,        ///< one vector is not sent
  too_many_bytes,       ///< one vector more than the phase waits for
  wrong_parity,         ///< waits for the other phase
  no_wait,              ///< reads without waiting
  no_sync_before_send,  ///< sends what other warps write, and overtakes reads of other warps
  no_initialisation,    ///< of the mbarrier that is waited on
  no_cluster_barrier,   ///< between initialisation and the first send
  leaves_early,         ///< ends without waiting for the last step's bytes
  misaligned_send,      ///< to an address that is no multiple of 16
  plain_store,          ///< through a mapped address
  wrong_rank,           ///< maps to a CTA that the cluster does not have
  armed_twice,          ///< one arrival more than the mbarrier expects
  initialised_twice,
  other_mbarrier,     ///< of this CTA, for bytes to another
  barrier_in_branch,  ///< one CTA of the cluster skips a cluster barrier
};

constexpr unsigned kClusterSize = 4, kExchangeThreads = 64, kExchangeSteps = 5;

/// Every thread of 2 clusters of 4 CTAs of 64 threads adds up what all CTAs of its cluster sent it
/// in 5 steps. y [2 * 4 * 64]
void exchange_in_cluster(Cluster planted, unsigned* y);
/// What exchange_in_cluster leaves in y[i].
unsigned exchanged(unsigned i);

/// y[i] in global memory, written by the next CTA of the cluster before a cluster barrier.
void hand_over_in_cluster(bool fault, unsigned* y);  ///< fault: no barrier

/// 128 threads of a block meet on an mbarrier with 128 arrivals in place of __syncthreads.
void meet_on_mbarrier(bool fault, unsigned* y);  ///< fault: half of them do not wait

enum class Copy {
  nothing,
  no_wait,      ///< reads its own copy before it is in
  no_commit,    ///< waits for groups of which the copy is none
  too_early,    ///< waits for all but one group more than it may
  no_barrier,   ///< reads another thread's copy without a barrier
  overwritten,  ///< copies to a place that others still read
  misaligned,   ///< 16 bytes to a multiple of 4
};
/// y[i] = the sum of x[i], x[i + 1] and so on, one of 4 steps each, through a ring in shared
/// memory.
void copy_ahead(Copy planted, const float* x, float* y);

enum class MatrixFault {
  nothing,
  misaligned_row,   ///< of ldmatrix
  global_row,       ///< an address that is not in shared memory
  no_sync,          ///< ldmatrix reads what other lanes write
  missing_lane,     ///< one lane does not take part
  other_operation,  ///< one lane does another mma
  lanes_apart,      ///< no __syncwarp after an mbarrier_wait
};
/// C [16][8] = A [16][16] B [16][8] in bf16, all row-major and float outside.
void multiply_in_bf16(MatrixFault planted, const float* A, const float* B, float* C);
/// C [16][8] = A [16][8] B [8][8] in tf32.
void multiply_in_tf32(const float* A, const float* B, float* C);
/// Registers b[i] of lane l to y[i * 32 + l], of x [8 * matrices][8] 2-byte numbers.
void load_matrices_of(int matrices, const std::uint16_t* x, unsigned* y);

/// The words of pack_bf16(x[2 i], x[2 i + 1]), i < 32.
void pack(const float* x, unsigned* y);

/// Clusters of `cluster` blocks; each block writes its rank and the cluster's size.
void ask_rank(unsigned blocks, unsigned cluster, std::size_t shared_bytes, Stream stream,
              unsigned* y);
int clusters_at_once(unsigned cluster);

}  // namespace seqvae::test

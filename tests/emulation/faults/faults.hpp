// Small kernels, each with a fault planted or, beside it, the same without.
#pragma once
#include "seqvae/core/stream.hpp"

namespace seqvae::test {

enum class Planted { nothing, fault };

/// Each runs one kernel over device memory and throws CudaError where the emulator objects.
void sum_block(Planted planted, const float* x, float* sum);       ///< fault: a barrier is missing
void read_after_total(Planted planted, const float* x, float* y);  ///< fault: a read is overtaken
void reuse_storage(Planted planted, const float* x, float* sums);  ///< fault: CUB's, too early
void share_in_warp(Planted planted, float* y);                     ///< fault: __syncwarp is missing
void add_between_blocks(Planted planted, unsigned* total);         ///< fault: no atomic
void write_past_end(Planted planted, float* y, int count);         ///< fault: one thread too many
void read_unwritten(Planted planted, float* y);                    ///< fault: half is never written
void wait_in_branch(Planted planted, float* y);  ///< fault: half of the threads reach the barrier
void shuffle_in_branch(Planted planted, float* y);  ///< fault: half of the mask reaches the shuffle
void shuffle_outside_mask(Planted planted, float* y);  ///< fault: a value from outside the mask
void index_beyond_array(Planted planted, float* y);    ///< fault: element 4 of a member array of 4
void read_misaligned(Planted planted, const float* x, float* y);  ///< fault: float4 at x + 1
void use_freed(Planted planted, float* y);           ///< fault: memory freed before the launch
void point_to_neighbour(Planted planted, float* y);  ///< fault: reads another thread's local memory
void poll(unsigned* flag, float* y);                 ///< one thread polls what another sets

}  // namespace seqvae::test

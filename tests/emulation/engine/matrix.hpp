// ldmatrix and mma.sync of a whole warp: the fragments' layouts are those of
// kernels/common/mma.cuh.
#pragma once
#include <cstdint>

namespace seqvae::emulation {

/// What a lane brings.
struct LoadOperands {
  unsigned* fragments;
  std::uintptr_t row;
};
struct MultiplyOperands {
  float* c;
  const unsigned *a, *b;  ///< 4 and 2 registers
};

/// Of 32 lanes, their operands' addresses.
void load_matrices(unsigned count, const std::uint64_t* lanes);
/// Sums in double over k and c, rounded to float once.
void multiply_bf16(const std::uint64_t* lanes);
void multiply_tf32(const std::uint64_t* lanes);

}  // namespace seqvae::emulation

// How the rows of a sum are cut, by their number and width alone: what hosts and kernels agree on.
#pragma once
#include <algorithm>
#include <cstdint>

namespace seqvae::cuda {

constexpr std::int64_t kFewRows = 4096;     // which one launch adds, without a workspace
constexpr std::int64_t kRowsOfChunk = 512;  // at least
constexpr std::int64_t kSumBlocks = 1024;   // about as many as a device holds at a time
constexpr std::int64_t kColumnsOfBlock = 32;

inline std::int64_t column_blocks(std::int64_t D) {
  return (D + kColumnsOfBlock - 1) / kColumnsOfBlock;
}

/// Chunks that one launch adds apart and a second adds up; 1: there is no second.
inline std::int64_t chunks_of(std::int64_t rows, std::int64_t D) {
  if (D == 0 || rows <= kFewRows) return 1;
  return std::max<std::int64_t>(1, std::min(kSumBlocks / column_blocks(D), rows / kRowsOfChunk));
}

}  // namespace seqvae::cuda

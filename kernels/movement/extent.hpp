// How many rows of y a move writes at most: what its grid and its strides hang on.
#pragma once
#include "seqvae/kernels/movement.hpp"

namespace seqvae {

/// From the sizes alone: offsets may lie in device memory.
inline std::int64_t moved_rows_at_most(Move move, const RowLayout& layout) {
  if (move == Move::from_first || move == Move::from_last) return layout.B * layout.K;
  if (move == Move::to_padded) return layout.T * layout.B * layout.K;
  return layout.rows_at_most();
}

}  // namespace seqvae

/// \file  What the operands of a matrix product are rounded to on a GPU.
#pragma once

namespace seqvae {

/// Sums are in float at least, and what is stored is float, whatever the operands are. The CPU
/// rounds nothing.
enum class Precision {
  float32,   ///< not rounded
  bfloat16,  ///< 8 bits of mantissa; twice the weights fit on the chip
};

}  // namespace seqvae

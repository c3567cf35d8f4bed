// How the rows that a weight gradient sums over are cut, by sizes alone: what hosts and kernels
// agree on. A gradient is small and its sums are long, so that one product would leave most of a
// device idle; a library's own split of the sums would hang their order on the device's load.
#pragma once
#include <algorithm>
#include <cstdint>

namespace seqvae::cuda {

/// `full` slices of `length` rows each, and what is left over as one more.
struct GradientSlices {
  std::int64_t full = 1, length = 0, rest = 0;
  std::int64_t count() const { return full + (rest > 0 ? 1 : 0); }
};

inline GradientSlices gradient_slices(std::int64_t M, std::int64_t N, std::int64_t K) {
  constexpr std::int64_t kTile = 64, kTiles = 264, kMost = 16, kShortest = 512;
  const std::int64_t tiles = ((N + kTile - 1) / kTile) * ((K + kTile - 1) / kTile);
  const std::int64_t wanted = std::min({kTiles / tiles, kMost, M / kShortest});
  if (wanted < 2) return {1, M, 0};
  const std::int64_t length = M / wanted / 8 * 8;  // aligned, if the first is
  return {wanted, length, M - wanted * length};
}

}  // namespace seqvae::cuda

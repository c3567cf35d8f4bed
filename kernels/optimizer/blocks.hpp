// How an update is cut: what hosts and kernels agree on.
#pragma once
#include <cstdint>

namespace seqvae::cuda {

constexpr std::int64_t kElementsOfBlock = 2048;  // at least
constexpr std::int64_t kMostBlocks = 512;        // which keep a device's memory busy

}  // namespace seqvae::cuda

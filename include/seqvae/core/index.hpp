/// \file  Places in the standard library's containers, which count unsigned.
#pragma once
#include <concepts>
#include <cstddef>

namespace seqvae {

constexpr std::size_t index(std::integral auto i) { return static_cast<std::size_t>(i); }

}  // namespace seqvae

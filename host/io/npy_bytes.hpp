// One .npy as bytes: what an .npz and a file of its own share.
#pragma once
#include <string>
#include <string_view>

#include "seqvae/io/array.hpp"

namespace seqvae::io {

/// `array` names the member of an .npz in messages; empty: a file of its own.
Array parse_npy_member(std::string_view bytes, std::string_view file, std::string_view array);
/// All that stands before the elements.
std::string npy_header(const Array& array);

}  // namespace seqvae::io

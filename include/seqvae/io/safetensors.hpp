/// \file  Named tensors in Hugging Face's safetensors format.
///
///     8 bytes N, little endian | N bytes of JSON | data
///     JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
///            "__metadata__": {"key": "text", ...}}
///
/// Offsets count from the start of the data and cover it without holes or overlap.
#pragma once
#include <map>
#include <string>
#include <string_view>

#include "seqvae/io/array.hpp"
#include "seqvae/io/file.hpp"

namespace seqvae::io {

struct Safetensors {
  NamedArrays tensors;
  std::map<std::string, std::string> metadata;
};

/// \throws InputError "file: header: rule", "file: tensor: rule" or "file: byte N: rule".
Safetensors read_safetensors(const Path& path);
Safetensors parse_safetensors(std::string_view bytes, std::string_view file);
/// Atomic (see write_file). Wide elements first, then by name, so that every tensor is aligned.
void write_safetensors(const Path& path, const Safetensors& contents);

}  // namespace seqvae::io

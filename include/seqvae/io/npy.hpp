/// \file  NumPy's .npy and .npz, as numpy.lib.format documents them (versions 1.0, 2.0, 3.0).
///
/// Little endian; bool, integers of 1 to 8 bytes, float32, float64; Fortran order is transposed at
/// reading; no pickles, records, complex or half numbers. An .npz is a zip of .npy files.
/// What a header claims is checked against the bytes that are there before memory is taken.
#pragma once
#include <string_view>

#include "seqvae/io/array.hpp"
#include "seqvae/io/file.hpp"

namespace seqvae::io {

/// \throws InputError "file: byte N: rule" or "file: header: rule".
Array read_npy(const Path& path);
/// The same from memory; `file` stands in messages.
Array parse_npy(std::string_view bytes, std::string_view file);
void write_npy(const Path& path, const Array& array);

/// All arrays by name, ".npy" cut off. Members of other kinds are passed over.
/// \throws InputError "file: array: rule" or, where the zip itself is broken, "file: zip: rule".
NamedArrays read_npz(const Path& path);
NamedArrays parse_npz(std::string_view bytes, std::string_view file);
/// Integers deflated, floating-point numbers stored (their mantissas do not compress). The same
/// arrays give the same bytes. \throws InvalidArgument where there is none; else as write_file.
void write_npz(const Path& path, const NamedArrays& arrays);

}  // namespace seqvae::io

/// \file  An array as files hold it: element type, shape, bytes in C order.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "seqvae/core/dtype.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae::io {

static_assert(std::endian::native == std::endian::little, "files are little endian");

/// Contiguous, C order.
struct Array {
  DType dtype = DType::float64;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;  ///< element_count(shape) * bytes_of(dtype)

  template <class T>
  static Array of(std::vector<std::int64_t> shape, std::span<const T> values) {
    require(element_count(shape, sizeof(T)) == static_cast<std::int64_t>(values.size()),
            "Array::of", "values", values.size(), "as many as the shape says");
    Array array{dtype_of<T>(), std::move(shape), std::vector<std::byte>(values.size_bytes())};
    if (!values.empty()) std::memcpy(array.bytes.data(), values.data(), values.size_bytes());
    return array;
  }
  template <class T>
  static Array of(std::vector<std::int64_t> shape, const std::vector<T>& values) {
    return of(std::move(shape), std::span<const T>(values));
  }
  /// One byte an element: 0 or 1.
  static Array booleans(std::vector<std::int64_t> shape, std::span<const std::uint8_t> values) {
    Array array = of(std::move(shape), values);
    array.dtype = DType::boolean;
    return array;
  }

  std::int64_t count() const { return element_count(shape, bytes_of(dtype)); }
  /// The elements as they are. \throws InvalidArgument where the element type is another.
  template <class T>
  std::span<const T> as() const {
    require(dtype == dtype_of<T>() || (dtype == DType::boolean && sizeof(T) == 1), "Array::as",
            "dtype", name_of(dtype), name_of(dtype_of<T>()));
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
  /// The elements of any type as double (integers beyond 2^53 are rounded).
  std::vector<double> to_double() const;
};

using NamedArrays = std::map<std::string, Array>;

}  // namespace seqvae::io

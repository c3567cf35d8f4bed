/// \file  An array as files hold it: element type, shape, bytes in C order.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "seqvae/core/error.hpp"

namespace seqvae::io {

static_assert(std::endian::native == std::endian::little, "files are little endian");

enum class DType {
  float32,
  float64,
  int8,
  int16,
  int32,
  int64,
  uint8,
  uint16,
  uint32,
  uint64,
  boolean
};

std::string_view name_of(DType dtype);  ///< "float32", ..., "bool"
std::int64_t bytes_of(DType dtype);     ///< of one element
inline bool is_floating(DType d) { return d == DType::float32 || d == DType::float64; }

/// The DType of a C++ type; boolean is held as std::uint8_t, see Array::booleans.
template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::float32;
  if constexpr (std::is_same_v<T, double>) return DType::float64;
  if constexpr (std::is_same_v<T, std::int8_t>) return DType::int8;
  if constexpr (std::is_same_v<T, std::int16_t>) return DType::int16;
  if constexpr (std::is_same_v<T, std::int32_t>) return DType::int32;
  if constexpr (std::is_same_v<T, std::int64_t>) return DType::int64;
  if constexpr (std::is_same_v<T, std::uint8_t>) return DType::uint8;
  if constexpr (std::is_same_v<T, std::uint16_t>) return DType::uint16;
  if constexpr (std::is_same_v<T, std::uint32_t>) return DType::uint32;
  if constexpr (std::is_same_v<T, std::uint64_t>) return DType::uint64;
}

/// The number of elements of a shape, or -1 where it is negative or its bytes exceed 2^63 - 1.
std::int64_t element_count(std::span<const std::int64_t> shape, std::int64_t element_bytes);

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

/// "[3, 4]"
std::string text_of(std::span<const std::int64_t> shape);

}  // namespace seqvae::io

/// \file  Element types and shapes, of tensors and of arrays in files.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace seqvae {

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

/// The DType of a C++ type; boolean has none of its own, it is held as std::uint8_t.
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

/// "[3, 4]"
std::string text_of(std::span<const std::int64_t> shape);

}  // namespace seqvae

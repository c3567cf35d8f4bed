#include "seqvae/core/dtype.hpp"

#include <fmt/ranges.h>

#include "seqvae/core/error.hpp"

namespace seqvae {
namespace {

struct Kind {
  DType dtype;
  std::string_view name;
  std::int64_t bytes;
};

constexpr Kind kKinds[] = {
    {DType::float32, "float32", 4}, {DType::float64, "float64", 8}, {DType::int8, "int8", 1},
    {DType::int16, "int16", 2},     {DType::int32, "int32", 4},     {DType::int64, "int64", 8},
    {DType::uint8, "uint8", 1},     {DType::uint16, "uint16", 2},   {DType::uint32, "uint32", 4},
    {DType::uint64, "uint64", 8},   {DType::boolean, "bool", 1}};

const Kind& kind_of(DType dtype) {
  for (const Kind& kind : kKinds) {
    if (kind.dtype == dtype) return kind;
  }
  throw InvalidArgument("kind_of: dtype is none of DType");
}

}  // namespace

std::string_view name_of(DType dtype) { return kind_of(dtype).name; }
std::int64_t bytes_of(DType dtype) { return kind_of(dtype).bytes; }

std::int64_t element_count(std::span<const std::int64_t> shape, std::int64_t element_bytes) {
  std::int64_t count = 1, bytes = element_bytes;
  bool empty = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0) return -1;
    if (extent == 0) {
      empty = true;
      continue;
    }
    // The product of the other extents must fit too: a later 0 does not excuse an overflow.
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return -1;
    count *= extent;
  }
  return empty ? 0 : count;
}

std::string text_of(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace seqvae

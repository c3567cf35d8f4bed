#include "seqvae/io/array.hpp"

#include <fmt/ranges.h>

namespace seqvae::io {
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

template <class T>
void widen(const std::vector<std::byte>& bytes, std::vector<double>& out) {
  const T* from = reinterpret_cast<const T*>(bytes.data());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<double>(from[i]);
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

std::vector<double> Array::to_double() const {
  std::vector<double> out(static_cast<std::size_t>(count()));
  switch (dtype) {
    case DType::float32:
      widen<float>(bytes, out);
      break;
    case DType::float64:
      widen<double>(bytes, out);
      break;
    case DType::int8:
      widen<std::int8_t>(bytes, out);
      break;
    case DType::int16:
      widen<std::int16_t>(bytes, out);
      break;
    case DType::int32:
      widen<std::int32_t>(bytes, out);
      break;
    case DType::int64:
      widen<std::int64_t>(bytes, out);
      break;
    case DType::uint8:
      widen<std::uint8_t>(bytes, out);
      break;
    case DType::uint16:
      widen<std::uint16_t>(bytes, out);
      break;
    case DType::uint32:
      widen<std::uint32_t>(bytes, out);
      break;
    case DType::uint64:
      widen<std::uint64_t>(bytes, out);
      break;
    case DType::boolean:
      widen<std::uint8_t>(bytes, out);
      break;
  }
  return out;
}

std::string text_of(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace seqvae::io

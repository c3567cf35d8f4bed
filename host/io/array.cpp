#include "seqvae/io/array.hpp"

namespace seqvae::io {
namespace {

template <class T>
void widen(const std::vector<std::byte>& bytes, std::vector<double>& out) {
  const T* from = reinterpret_cast<const T*>(bytes.data());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<double>(from[i]);
}

}  // namespace

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

}  // namespace seqvae::io

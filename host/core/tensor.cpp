#include "seqvae/core/tensor.hpp"

#include <cstring>
#include <new>
#include <utility>

namespace seqvae {
namespace {

constexpr std::align_val_t kAlignment{64};  // a cache line, and the widest vector

std::int64_t bytes_of_shape(DType dtype, const std::vector<std::int64_t>& shape) {
  const std::int64_t count = element_count(shape, bytes_of(dtype));
  require(count >= 0, "Tensor", "shape", text_of(shape),
          ">= 0 along each axis and at most 2^63 - 1 bytes");
  return count * bytes_of(dtype);
}

std::shared_ptr<void> zeros(std::int64_t bytes) {
  if (bytes == 0) return nullptr;
  const auto size = static_cast<std::size_t>(bytes);
  std::shared_ptr<void> first(::operator new(size, kAlignment),
                              [](void* p) { ::operator delete(p, kAlignment); });
  std::memset(first.get(), 0, size);
  return first;
}

}  // namespace

Tensor::Tensor(DType dtype, std::vector<std::int64_t> shape)
    : dtype_(dtype),
      shape_(std::move(shape)),
      device_(Device::cpu()),
      data_(zeros(bytes_of_shape(dtype_, shape_))) {}

Tensor::Tensor(DType dtype, std::vector<std::int64_t> shape, Device device,
               std::shared_ptr<void> data)
    : dtype_(dtype), shape_(std::move(shape)), device_(device), data_(std::move(data)) {
  if (bytes_of_shape(dtype_, shape_) == 0) return;  // then nobody reads through it
  require_pointer(data_.get(), "Tensor", "data");
  const auto element = static_cast<std::uintptr_t>(bytes_of(dtype_));
  require(reinterpret_cast<std::uintptr_t>(data_.get()) % element == 0, "Tensor", "data",
          fmt::ptr(data_.get()), fmt::format("aligned to {} bytes", element));
}

Tensor Tensor::slice(std::int64_t begin, std::int64_t end) const {
  require(!shape_.empty(), "Tensor::slice", "shape", "[]", "of one axis or more");
  if (end > shape_[0]) {
    require(false, "Tensor::slice", "end", end, fmt::format("at most {}, the rows", shape_[0]));
  }
  if (begin < 0 || begin > end) {
    require(false, "Tensor::slice", "begin", begin, fmt::format("from 0 to end, {}", end));
  }
  Tensor view = *this;
  view.shape_[0] = end - begin;
  if (view.count() > 0) {
    const std::int64_t row_bytes = count() / shape_[0] * bytes_of(dtype_);
    view.data_ = {data_, static_cast<std::byte*>(data()) + begin * row_bytes};
  }
  return view;
}

}  // namespace seqvae

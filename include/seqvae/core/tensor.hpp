/// \file  Memory with its element type, shape and device, shared by all who look at it.
///
/// For memory that changes hands: the library's to an application, another framework's to a
/// contract (core/dlpack.hpp). Contracts themselves take pointers, and need no tensor.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "seqvae/core/device.hpp"
#include "seqvae/core/dtype.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae {

/// Contiguous, C order. A handle: copies and slices look at the same elements, and the memory stays
/// until the last of them is gone. So a const Tensor's elements may be written, as a span's may.
class Tensor {
 public:
  /// Zeros on the CPU, aligned to 64 bytes. \throws InvalidArgument on a bad shape.
  Tensor(DType dtype, std::vector<std::int64_t> shape);

  /// Memory that stands elsewhere: `data` is its first element, and owns whatever keeps it.
  /// \throws InvalidArgument on a bad shape, a misaligned element, or null where there are elements
  Tensor(DType dtype, std::vector<std::int64_t> shape, Device device, std::shared_ptr<void> data);

  DType dtype() const { return dtype_; }
  const std::vector<std::int64_t>& shape() const { return shape_; }  ///< []: one element
  Device device() const { return device_; }
  std::int64_t count() const { return element_count(shape_, bytes_of(dtype_)); }
  /// The first element, on the device; may be null where there is none.
  void* data() const { return data_.get(); }

  /// begin .. end - 1 of the first axis, which stays: a view. \throws InvalidArgument outside it
  Tensor slice(std::int64_t begin, std::int64_t end) const;

  /// The elements, on the CPU; booleans are std::uint8_t.
  /// \throws InvalidArgument where the element type is another, or the memory is a device's
  template <class T>
  std::span<T> values() const {
    const bool same =
        dtype_ == dtype_of<T>() || (dtype_ == DType::boolean && std::is_same_v<T, std::uint8_t>);
    require(same, "Tensor::values", "dtype", name_of(dtype_), name_of(dtype_of<T>()));
    require(device_.is_cpu(), "Tensor::values", "device", device_.name(), "cpu");
    return {static_cast<T*>(data()), static_cast<std::size_t>(count())};
  }

 private:
  DType dtype_;
  std::vector<std::int64_t> shape_;
  Device device_;
  std::shared_ptr<void> data_;
};

}  // namespace seqvae

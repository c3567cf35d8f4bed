// An array in device memory for the tests of the CUDA kernels.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/common/runtime.hpp"

namespace seqvae::test {

/// On the emulator fresh memory is NaN, and a kernel that reads it before it is written fails.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count)
      : count_(count), data_(static_cast<T*>(cuda::allocate(count * sizeof(T)))) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    cuda::copy(data_, values.data(), count_ * sizeof(T), Stream());
    cuda::synchronize(Stream());
  }
  ~DeviceArray() { cuda::release(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  std::vector<T> read(Stream stream = Stream()) const {
    std::vector<T> values(count_);
    cuda::copy(values.data(), data_, count_ * sizeof(T), stream);
    cuda::synchronize(stream);
    return values;
  }

 private:
  std::size_t count_;
  T* data_;
};

}  // namespace seqvae::test

// Deals out memory on a GPU to what keeps and needs several arrays.
#pragma once
#include <cstddef>
#include <cstdint>

namespace seqvae::cuda {

/// Deals out 64-byte aligned arrays of floats from a block of memory; over null it only counts.
class FloatArrays {
 public:
  explicit FloatArrays(void* memory) : base_(static_cast<std::byte*>(memory)) {}
  float* take(std::int64_t count) {
    std::byte* at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(float) + 63) / 64 * 64;
    return reinterpret_cast<float*>(at);
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

}  // namespace seqvae::cuda

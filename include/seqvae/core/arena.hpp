/// \file  How a block of memory is dealt out, on the host for itself or for a device.
#pragma once
#include <cstddef>
#include <cstdint>

namespace seqvae {

/// Deals out 64-byte aligned arrays from a block of memory; over a null block it only counts.
class Arena {
 public:
  explicit Arena(void* memory = nullptr) : base_(static_cast<std::byte*>(memory)) {}
  template <class Value>
  Value* take(std::int64_t count) {
    std::byte* at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(Value) + 63) / 64 * 64;
    return reinterpret_cast<Value*>(at);
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

}  // namespace seqvae

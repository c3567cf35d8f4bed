/// \file  How a block of memory is dealt out, on the host for itself or for a device.
#pragma once
#include <cstddef>
#include <cstdint>

#include "seqvae/core/host_device.hpp"

namespace seqvae {

/// Deals out arrays, aligned to so many bytes, from a block of memory that is; over a null block it
/// only counts.
class Arena {
 public:
  SEQVAE_HOST_DEVICE explicit Arena(void* memory = nullptr, std::size_t alignment = 64)
      : base_(static_cast<std::byte*>(memory)), alignment_(alignment) {}
  template <class Value>
  SEQVAE_HOST_DEVICE Value* take(std::int64_t count) {
    std::byte* at = base_ == nullptr ? nullptr : base_ + used_;
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(Value);
    used_ += (bytes + alignment_ - 1) / alignment_ * alignment_;
    return reinterpret_cast<Value*>(at);
  }
  SEQVAE_HOST_DEVICE std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t alignment_, used_ = 0;
};

}  // namespace seqvae

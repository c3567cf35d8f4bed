// Stacks of fibers.
#pragma once
#include <cstddef>
#include <cstdint>

namespace seqvae::emulation {

constexpr std::size_t kStack = 64 << 10;
constexpr unsigned kThreadsMost = 16 * 1024;  // of a cluster

std::uintptr_t reserve_stacks();
/// Where they begin.
inline std::uintptr_t stacks() {
  static const std::uintptr_t base = reserve_stacks();
  return base;
}

struct Stack {
  void *bottom, *top;
  std::size_t bytes;
};

/// Of a cluster's thread by its number, above a page that may not be touched.
Stack stack_of(unsigned thread);

/// Whose stack an address lies in; -1: none.
inline std::int64_t thread_of_stack(std::uintptr_t address) {
  const std::uintptr_t offset = address - stacks();
  return offset < kStack * kThreadsMost ? static_cast<std::int64_t>(offset / kStack) : -1;
}

}  // namespace seqvae::emulation

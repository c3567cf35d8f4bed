// Stacks of fibers.
#pragma once
#include <cstddef>
#include <cstdint>

namespace seqvae::emulation {

struct Stack {
  void *bottom, *top;
  std::size_t bytes;
};

/// Of a cluster's thread by its number, above a page that may not be touched.
Stack stack_of(unsigned thread);

/// Whose stack an address lies in; -1: none.
std::int64_t thread_of_stack(std::uintptr_t address);

}  // namespace seqvae::emulation

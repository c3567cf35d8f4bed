#include "tests/emulation/engine/stacks.hpp"

#include <sys/mman.h>

#include <stdexcept>

namespace seqvae::emulation {
namespace {

constexpr std::size_t kPage = 4096;

}  // namespace

std::uintptr_t reserve_stacks() {
  void* range = mmap(nullptr, kStack * kThreadsMost, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) throw std::runtime_error("emulator: no memory for stacks");
  return reinterpret_cast<std::uintptr_t>(range);
}

Stack stack_of(unsigned thread) {
  static unsigned guarded = 0;
  for (; guarded <= thread; ++guarded) {
    mprotect(reinterpret_cast<void*>(stacks() + guarded * kStack), kPage, PROT_NONE);
  }
  const std::uintptr_t bottom = stacks() + thread * kStack + kPage;
  return {reinterpret_cast<void*>(bottom), reinterpret_cast<void*>(bottom + kStack - kPage),
          kStack - kPage};
}

}  // namespace seqvae::emulation

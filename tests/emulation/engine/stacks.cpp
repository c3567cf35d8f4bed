#include "tests/emulation/engine/stacks.hpp"

#include <sys/mman.h>

#include <stdexcept>

namespace seqvae::emulation {
namespace {

constexpr std::size_t kStack = 64 << 10, kPage = 4096;
constexpr unsigned kThreadsMost = 16 * 1024;  // of a cluster

std::uintptr_t stacks() {
  static const std::uintptr_t base = [] {
    void* range = mmap(nullptr, kStack * kThreadsMost, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) throw std::runtime_error("emulator: no memory for stacks");
    return reinterpret_cast<std::uintptr_t>(range);
  }();
  return base;
}

}  // namespace

Stack stack_of(unsigned thread) {
  static unsigned guarded = 0;
  for (; guarded <= thread; ++guarded) {
    mprotect(reinterpret_cast<void*>(stacks() + guarded * kStack), kPage, PROT_NONE);
  }
  const std::uintptr_t bottom = stacks() + thread * kStack + kPage;
  return {reinterpret_cast<void*>(bottom), reinterpret_cast<void*>(bottom + kStack - kPage),
          kStack - kPage};
}

std::int64_t thread_of_stack(std::uintptr_t address) {
  const std::uintptr_t offset = address - stacks();
  return offset < kStack * kThreadsMost ? static_cast<std::int64_t>(offset / kStack) : -1;
}

}  // namespace seqvae::emulation

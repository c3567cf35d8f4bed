#include "tests/emulation/engine/memory.hpp"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace seqvae::emulation {
namespace {

constexpr int kPoison = 0xFF;

std::uintptr_t round_up(std::uintptr_t value, std::size_t to) { return (value + to - 1) / to * to; }

/// Address space that costs memory only where it is touched; zeros at first.
void* reserve(std::size_t bytes) {
  void* range = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) throw std::runtime_error("emulator: no address space");
  return range;
}

}  // namespace

Memory::Memory() {
  base_ = reinterpret_cast<std::uintptr_t>(reserve(kBytes));
  owners_ = static_cast<std::uint32_t*>(reserve(kBytes / kBlock * sizeof(std::uint32_t)));
  written_ = static_cast<std::uint8_t*>(reserve(kBytes / 4));
  history_ = static_cast<History*>(reserve(kBytes / 4 * sizeof(History)));
  allocations_.emplace_back();  // number 0 is "nobody"
  next_ = base_ + kGap;
  for (std::uint32_t& slot : shared_) slot = add(next_, 0, kShared, Space::shared);
  parameters_ = add(next_, 0, kParameters, Space::parameters);
}

std::uint32_t Memory::add(std::uintptr_t begin, std::size_t bytes, std::size_t extent,
                          Space space) {
  const auto number = static_cast<std::uint32_t>(allocations_.size());
  allocations_.push_back({begin, begin + bytes, space, true});
  const std::size_t first = (begin - base_) / kBlock;
  std::fill_n(owners_ + first, round_up(extent, kBlock) / kBlock, number);
  next_ = round_up(begin + extent, kBlock) + kGap;
  return number;
}

void* Memory::allocate(std::size_t bytes) {
  auto& freed = freed_[bytes];
  if (freed.size() > kReuse) {
    Allocation& again = allocations_[freed.front()];
    freed.pop_front();
    again.live = true;
    void* begin = reinterpret_cast<void*>(again.begin);
    std::memset(begin, kPoison, bytes);
    std::memset(&written(again.begin), 0, (bytes + 3) / 4);
    return begin;
  }
  if (bytes > kBytes - (next_ - base_) - 2 * kGap) return nullptr;
  const std::uintptr_t begin = next_;
  add(begin, bytes, std::max<std::size_t>(bytes, 1), Space::global);
  std::memset(reinterpret_cast<void*>(begin), kPoison, bytes);
  return reinterpret_cast<void*>(begin);
}

bool Memory::release(void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (!contains(address)) return false;
  const std::uint32_t owner = owners_[(address - base_) / kBlock];
  Allocation& found = allocations_[owner];
  if (owner == 0 || found.begin != address || !found.live || found.space != Space::global) {
    return false;
  }
  found.live = false;
  freed_[found.end - found.begin].push_back(owner);
  return true;
}

void* Memory::open_shared(unsigned block, std::size_t bytes) {
  Allocation& slot = allocations_[shared_[block]];
  slot.end = slot.begin + bytes;
  std::memset(reinterpret_cast<void*>(slot.begin), kPoison, bytes);
  std::memset(&written(slot.begin), 0, (bytes + 3) / 4);
  return reinterpret_cast<void*>(slot.begin);
}

void* Memory::open_parameters(std::size_t bytes) {
  Allocation& slot = allocations_[parameters_];
  slot.end = slot.begin + bytes;
  mark_written(reinterpret_cast<void*>(slot.begin), bytes);
  return reinterpret_cast<void*>(slot.begin);
}

bool Memory::valid(const void* begin, std::size_t bytes) const {
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const Allocation* found = contains(address) ? find(address) : nullptr;
  return found != nullptr && found->live && address >= found->begin &&
         bytes <= found->end - address;
}

std::string Memory::nearest(std::uintptr_t address, std::size_t bytes) const {
  const auto names = [](const Allocation& a) {
    const char* kind = a.space == Space::shared       ? "shared memory"
                       : a.space == Space::parameters ? "the kernel's parameters"
                                                      : "an allocation";
    return fmt::format("{} of {} bytes{}", kind, a.end - a.begin, a.live ? "" : ", freed before");
  };
  const Allocation* best = nullptr;
  std::uintptr_t least = ~std::uintptr_t{0};
  for (std::size_t i = 1; i < allocations_.size(); ++i) {
    const Allocation& a = allocations_[i];
    const std::uintptr_t distance = address < a.begin  ? a.begin - address
                                    : address >= a.end ? address - a.end
                                                       : 0;
    if (distance < least) least = distance, best = &a;
  }
  if (!contains(address) || best == nullptr) return "no device memory";
  if (address < best->begin) return fmt::format("{} bytes before {}", least, names(*best));
  if (address >= best->end) return fmt::format("{} bytes past the end of {}", least, names(*best));
  if (!best->live) return names(*best);
  return fmt::format("across the end of {}, at byte {} with {} bytes", names(*best),
                     address - best->begin, bytes);
}

void Memory::mark_written(const void* begin, std::size_t bytes) {
  if (bytes == 0) return;
  const auto first = reinterpret_cast<std::uintptr_t>(begin), last = first + bytes;
  std::uintptr_t address = first;
  for (; address < last && address % 4 != 0; ++address) {
    written(address) |= static_cast<std::uint8_t>(1u << (address % 4));
  }
  std::memset(&written(address), 0xF, last > address ? (last - address) / 4 : 0);
  for (address = std::max(address, last / 4 * 4); address < last; ++address) {
    written(address) |= static_cast<std::uint8_t>(1u << (address % 4));
  }
}

}  // namespace seqvae::emulation

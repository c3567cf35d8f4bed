// Accesses to memory: may they touch it, and what happened there before.
#include <fmt/format.h>

#include <algorithm>

#include "tests/emulation/engine/memory.hpp"
#include "tests/emulation/engine/place.hpp"
#include "tests/emulation/engine/scheduler.hpp"
#include "tests/emulation/engine/stacks.hpp"

namespace seqvae::emulation {

bool Launch::ordered(const Stamp& before, bool shared) const {
  if (before.launch != serial_) return true;
  const std::uint32_t thread = before.thread - first_thread_;
  if (thread >= fibers_.size()) return shared;  // of another cluster, which had other memory
  if (before.event == Stamp::cp_async) return false;
  const Fiber& now = *current_;
  if (before.event == Stamp::st_async) {
    const AsyncWrite& write = writes_[before.clock];
    return write.phases != 0 && knows(now, entry_of_mbarrier(write.mbarrier)) >= write.phases;
  }
  if (thread == now.in_cluster) return true;
  const Fiber& other = fibers_[thread];
  const bool of_warp = other.cta == now.cta && other.number / kLanes == now.number / kLanes;
  if (of_warp && now.seen[other.number % kLanes] >= before.clock) return true;
  return knows(now, thread) >= before.clock;
}

std::string Launch::name(std::uint32_t thread) const {
  const std::uint64_t block = thread / thread_count_;
  const unsigned number = thread % thread_count_;
  const Index3 grid = shape_.grid, threads = shape_.threads;
  return fmt::format("block ({},{},{}) thread ({},{},{})", block % grid.x, block / grid.x % grid.y,
                     block / grid.x / grid.y, number % threads.x, number / threads.x % threads.y,
                     number / threads.x / threads.y);
}

void Launch::access(std::uintptr_t address, std::size_t bytes, bool write, bool atomic,
                    std::uintptr_t place) {
  if (const std::int64_t owner = thread_of_stack(address); owner >= 0) {
    if (owner == current_->in_cluster) return;
    fail(Fault::out_of_range, "touches the local memory of another thread", place);
  }
  const char* verb = write ? "writes" : "reads";
  Memory& memory = Memory::instance();
  if (!memory.contains(address)) {
    if (!write && is_static(address)) return;
    fail(Fault::out_of_range,
         fmt::format("{} {} bytes at {:#x}: no device memory", verb, bytes, address), place);
  }
  const Allocation* found = memory.find(address);
  if (found == nullptr || !found->live || address + bytes > found->end) {
    fail(Fault::out_of_range,
         fmt::format("{} {} bytes: {}", verb, bytes, memory.nearest(address, bytes)), place);
  }
  if (found->space == Space::global) {
    (write ? traffic_.bytes_written : traffic_.bytes_read) += static_cast<std::int64_t>(bytes);
    if (atomic) traffic_.bytes_read += static_cast<std::int64_t>(bytes);
  }
  if (found->space == Space::parameters) {
    if (write) fail(Fault::out_of_range, "writes to the kernel's parameters", place);
    return;
  }
  if (found->space == Space::shared && found->begin != shared()) {
    fail(Fault::out_of_range,
         fmt::format("{} the shared memory of another block, where only st_async may write", verb),
         place);
  }
  const std::uintptr_t end = address + bytes;
  for (std::uintptr_t at = address; at < end; at = at / 4 * 4 + 4) {
    const auto first = static_cast<unsigned>(at % 4);
    const auto last = static_cast<unsigned>(std::min<std::uintptr_t>(end - at / 4 * 4, 4));
    touch(at, (1u << last) - (1u << first), write, atomic, found->space == Space::shared, place);
  }
}

Stamp Launch::stamp(std::uint32_t bytes, bool atomic, std::uintptr_t place) const {
  return {.launch = serial_,
          .thread = first_thread_ + current_->in_cluster,
          .event = Stamp::access,
          .bytes = bytes & 0xFu,
          .clock = current_->clock & 0x7FFFFFFFu,
          .atomic = atomic,
          .place = static_cast<std::uint32_t>(place - program_base())};
}

inline void Launch::check(const Stamp& before, std::uint32_t bytes, bool write, bool atomic,
                          bool shared, bool before_wrote, std::uintptr_t place) {
  if (before.launch != serial_ || (before.bytes & bytes) == 0 || (before.atomic && atomic)) return;
  if (!ordered(before, shared)) fail_race(before, write, shared, before_wrote, place);
}

void Launch::fail_race(const Stamp& before, bool write, bool shared, bool before_wrote,
                       std::uintptr_t place) {
  const std::string what = fmt::format("{} {} memory that {}", write ? "writes" : "reads",
                                       shared ? "shared" : "global", name(before.thread));
  const char* how =
      before.event == Stamp::cp_async   ? "fills by cp.async, which it has not waited for"
      : before.event == Stamp::st_async ? "fills by st.async, without waiting for its mbarrier"
      : before_wrote                    ? "wrote without synchronisation between"
                                        : "read without synchronisation between";
  fail(Fault::race, fmt::format("{} {}", what, how), place, program_base() + before.place);
}

void Launch::touch(std::uintptr_t address, std::uint32_t bytes, bool write, bool atomic,
                   bool shared, std::uintptr_t place) {
  Memory& memory = Memory::instance();
  std::uint8_t& written = memory.written(address);
  History& history = memory.history(address);
  check(history.write, bytes, write, atomic, shared, true, place);
  if ((!write || atomic) && (written & bytes) != bytes) {
    fail(Fault::uninitialised,
         fmt::format("reads {} memory that nothing was written to", shared ? "shared" : "global"),
         place);
  }
  const Stamp now = stamp(bytes, atomic, place);
  if (write) {
    for (const Stamp& read : history.reads) check(read, bytes, true, atomic, shared, false, place);
    history.write = now;
    written |= static_cast<std::uint8_t>(bytes);
    return;
  }
  for (Stamp& read : history.reads) {
    if (read.thread == now.thread || read.launch != serial_ || ordered(read, shared)) {
      read = now;
      return;
    }
  }
}

/// The shared memory is written at some time from now on: what comes before and after is checked
/// now, and the bytes themselves change when it lands.
void Launch::write_later(std::uintptr_t to, std::size_t bytes, Stamp::Event event,
                         std::uint32_t number, std::uintptr_t place) {
  for (std::uintptr_t at = to; at < to + bytes; at += 4) {
    History& history = Memory::instance().history(at);
    check(history.write, 0xF, true, false, true, true, place);
    for (const Stamp& read : history.reads) check(read, 0xF, true, false, true, false, place);
    history.write = stamp(0xF, false, place);
    history.write.event = event;
    history.write.clock = number & 0x7FFFFFFFu;
  }
}

}  // namespace seqvae::emulation

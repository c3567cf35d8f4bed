#include "tests/emulation/engine/scheduler.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include <algorithm>
#include <atomic>
#include <bit>
#include <mutex>
#include <numeric>
#include <stdexcept>

#include "tests/emulation/engine/memory.hpp"
#include "tests/emulation/engine/place.hpp"
#include "tests/emulation/engine/runtime.hpp"

namespace seqvae::emulation {
namespace {

constexpr std::size_t kStack = 64 << 10, kPage = 4096;
constexpr unsigned kThreadsMost = 1024;

/// The stacks of a block's threads, each above a page that may not be touched.
std::uintptr_t stacks() {
  static const std::uintptr_t base = [] {
    void* range = mmap(nullptr, kStack * kThreadsMost, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) throw std::runtime_error("emulator: no memory for stacks");
    for (unsigned i = 0; i < kThreadsMost; ++i) {
      mprotect(static_cast<char*>(range) + i * kStack, kPage, PROT_NONE);
    }
    return reinterpret_cast<std::uintptr_t>(range);
  }();
  return base;
}

std::uint32_t next_serial() {
  static std::atomic<std::uint32_t> serial{0};
  return ++serial;
}

}  // namespace

thread_local Launch* running = nullptr;

Launch::Launch(const void* kernel, Entry entry, void* parameters, Index3 grid, Index3 threads,
               std::size_t shared_bytes, std::uint64_t seed)
    : kernel_(kernel),
      entry_(entry),
      parameters_(parameters),
      grid_(grid),
      threads_(threads),
      thread_count_(threads.x * threads.y * threads.z),
      shared_bytes_(shared_bytes),
      random_(seed),
      serial_(next_serial()) {}

std::string Launch::kernel_name() const {
  return function_at(reinterpret_cast<std::uintptr_t>(kernel_));
}

bool Launch::run() {
  const std::uint64_t blocks = std::uint64_t{grid_.x} * grid_.y * grid_.z;
  std::vector<std::uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), random_);
  fibers_.resize(thread_count_);
  meetings_.resize((thread_count_ + kLanes - 1) / kLanes);
  running = this;
  for (const std::uint32_t block : order) {
    run_block(block);
    if (failed_) break;
  }
  running = nullptr;
  traffic_.kernel = kernel_;
  if (!failed_) record(traffic_);
  return !failed_;
}

void Launch::run_block(std::uint64_t block) {
  block_number_ = block;
  block_ = {static_cast<unsigned>(block % grid_.x),
            static_cast<unsigned>(block / grid_.x % grid_.y),
            static_cast<unsigned>(block / grid_.x / grid_.y)};
  shared_ = Memory::instance().open_shared(shared_bytes_);
  at_barrier_ = 0;
  phase_ = 0;
  for (auto& meetings : meetings_) meetings.clear();
  ready_.clear();
  for (unsigned i = 0; i < thread_count_; ++i) {
    Fiber& fiber = fibers_[i] = Fiber{};
    fiber.number = i;
    fiber.index = {i % threads_.x, i / threads_.x % threads_.y, i / threads_.x / threads_.y};
    const std::uintptr_t top = stacks() + (i + 1) * kStack;
#ifdef __SANITIZE_ADDRESS__  // frames of a fiber that was never resumed are still marked there
    __asan_unpoison_memory_region(reinterpret_cast<void*>(top - kStack + kPage), kStack - kPage);
#endif
    fiber.context = boost::context::detail::make_fcontext(reinterpret_cast<void*>(top),
                                                          kStack - kPage, &Launch::enter);
    ready_.push_back(&fiber);
  }
  unsigned done = 0;
  while (!ready_.empty() && !failed_) {
    Fiber*& pick = ready_[random_() % ready_.size()];
    current_ = pick;
    pick = ready_.back();
    ready_.pop_back();
    show(*this);
    const auto from = boost::context::detail::jump_fcontext(current_->context, this);
    current_->context = from.fctx;
    if (current_->state == Fiber::State::done) ++done;
  }
  if (!failed_ && done < thread_count_) report_divergence();
}

void Launch::enter(boost::context::detail::transfer_t from) {
  auto& launch = *static_cast<Launch*>(from.data);
  launch.scheduler_ = from.fctx;
  launch.entry_(launch.parameters_);
  launch.current_->state = Fiber::State::done;
  launch.switch_to_scheduler();
}

void Launch::switch_to_scheduler() {
  const auto back = boost::context::detail::jump_fcontext(scheduler_, nullptr);
  scheduler_ = back.fctx;
}

void Launch::wait(Fiber::State state, std::uintptr_t place) {
  current_->state = state;
  current_->waits_at = place;
  switch_to_scheduler();
}

void Launch::yield() {
  ready_.push_back(current_);
  switch_to_scheduler();
}

void Launch::sync_threads(std::uintptr_t place) {
  if (++at_barrier_ < thread_count_) {
    wait(Fiber::State::barrier, place);
    return;
  }
  at_barrier_ = 0;
  ++phase_;
  for (Fiber& fiber : fibers_) {
    if (fiber.state != Fiber::State::barrier) continue;
    fiber.state = Fiber::State::ready;
    ready_.push_back(&fiber);
  }
  yield();
}

std::uint64_t Launch::warp_operation(WarpOperation operation, std::uint32_t mask,
                                     std::uint64_t value, unsigned source, std::uintptr_t place) {
  const unsigned lane = current_->number % kLanes;
  const std::uint32_t bit = std::uint32_t{1} << lane;
  if ((mask & bit) == 0) {
    fail(Fault::warp_misuse, fmt::format("lane {} is not in its mask {:#010x}", lane, mask), place);
  }
  auto& meetings = meetings_[current_->number / kLanes];
  auto meeting = std::find_if(meetings.begin(), meetings.end(),
                              [&](const Meeting& m) { return (m.mask & mask) != 0; });
  if (meeting == meetings.end()) {
    meetings.push_back({operation, mask, 0, {}, {}});
    meeting = meetings.end() - 1;
  }
  if (meeting->mask != mask || meeting->operation != operation) {
    fail(Fault::warp_misuse,
         fmt::format("lane {} with mask {:#010x} meets lanes that wait for another operation or "
                     "with mask {:#010x}",
                     lane, mask, meeting->mask),
         place);
  }
  meeting->values[lane] = value;
  meeting->sources[lane] = source;
  meeting->arrived |= bit;
  if (meeting->arrived != mask) {
    wait(Fiber::State::warp_operation, place);
    return current_->result;
  }
  const Meeting complete_one = *meeting;
  meetings.erase(meeting);
  for (unsigned i = 0; i < kLanes; ++i) {
    if (operation != WarpOperation::shuffle || (mask >> i & 1) == 0) continue;
    if ((mask >> complete_one.sources[i] & 1) == 0) {
      fail(Fault::warp_misuse,
           fmt::format("lane {} asks for the value of lane {}, which is not in mask {:#010x}", i,
                       complete_one.sources[i], mask),
           place);
    }
  }
  complete(complete_one);
  yield();
  return current_->result;
}

void Launch::complete(const Meeting& meeting) {
  Fiber* const warp = &fibers_[current_->number / kLanes * kLanes];
  std::uint64_t ballot = 0;
  std::uint32_t joined[kLanes]{};
  for (std::uint32_t rest = meeting.mask; rest != 0; rest &= rest - 1) {
    const unsigned lane = static_cast<unsigned>(std::countr_zero(rest));
    if (meeting.values[lane] != 0) ballot |= std::uint64_t{1} << lane;
    if (meeting.operation != WarpOperation::sync) continue;
    warp[lane].seen[lane] = warp[lane].clock++;
    for (unsigned i = 0; i < kLanes; ++i) joined[i] = std::max(joined[i], warp[lane].seen[i]);
  }
  for (std::uint32_t rest = meeting.mask; rest != 0; rest &= rest - 1) {
    const unsigned lane = static_cast<unsigned>(std::countr_zero(rest));
    Fiber& fiber = warp[lane];
    if (meeting.operation == WarpOperation::shuffle) {
      fiber.result = meeting.values[meeting.sources[lane]];
    } else {
      fiber.result = ballot;
    }
    if (meeting.operation == WarpOperation::sync) std::copy_n(joined, kLanes, fiber.seen);
    if (&fiber == current_) continue;
    fiber.state = Fiber::State::ready;
    ready_.push_back(&fiber);
  }
}

void Launch::report_divergence() {
  const auto waits = std::find_if(fibers_.begin(), fibers_.end(), [](const Fiber& fiber) {
    return fiber.state != Fiber::State::done;
  });
  const auto differs = std::find_if(fibers_.begin(), fibers_.end(), [&](const Fiber& fiber) {
    return fiber.state != waits->state;
  });
  current_ = &*waits;
  const char* at =
      waits->state == Fiber::State::barrier ? "at __syncthreads" : "at a warp operation";
  std::string others = "for lanes that the block does not have";
  std::uintptr_t other_place = 0;
  if (differs != fibers_.end()) {
    const bool done = differs->state == Fiber::State::done;
    other_place = done ? 0 : differs->waits_at;
    others = fmt::format("while {} {}", name(differs->number),
                         done ? "has returned" : "waits elsewhere");
  }
  failed_ = true;
  record(make_report(*this, Fault::divergence, fmt::format("waits {} {}", at, others),
                     waits->waits_at, other_place));
}

void Launch::fail(Fault fault, const std::string& what, std::uintptr_t place,
                  std::uintptr_t other) {
  failed_ = true;
  record(make_report(*this, fault, what, place, other));
  switch_to_scheduler();
  std::abort();  // the scheduler resumes nobody after a fault
}

bool Launch::ordered(const Stamp& before, bool shared) const {
  if (before.launch != serial_) return true;
  const std::uint64_t block = before.thread / thread_count_;
  const unsigned thread = before.thread % thread_count_;
  if (block != block_number_) return shared;  // another block's shared memory is another memory
  if (thread == current_->number || before.phase < phase_) return true;
  return thread / kLanes == current_->number / kLanes &&
         current_->seen[thread % kLanes] >= before.clock;
}

std::string Launch::name(std::uint32_t thread) const {
  const std::uint64_t block = thread / thread_count_;
  const unsigned number = thread % thread_count_;
  return fmt::format("block ({},{},{}) thread ({},{},{})", block % grid_.x,
                     block / grid_.x % grid_.y, block / grid_.x / grid_.y, number % threads_.x,
                     number / threads_.x % threads_.y, number / threads_.x / threads_.y);
}

void Launch::access(std::uintptr_t address, std::size_t bytes, bool write, bool atomic,
                    std::uintptr_t place) {
  if (address - stacks() < kStack * kThreadsMost) {
    if ((address - stacks()) / kStack == current_->number) return;
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
  const std::uintptr_t end = address + bytes;
  for (std::uintptr_t at = address; at < end; at = at / 4 * 4 + 4) {
    const auto first = static_cast<unsigned>(at % 4);
    const auto last = static_cast<unsigned>(std::min<std::uintptr_t>(end - at / 4 * 4, 4));
    touch(at, (1u << last) - (1u << first), write, atomic, found->space == Space::shared, place);
  }
}

void Launch::touch(std::uintptr_t address, std::uint32_t bytes, bool write, bool atomic,
                   bool shared, std::uintptr_t place) {
  Memory& memory = Memory::instance();
  std::uint8_t& written = memory.written(address);
  if ((!write || atomic) && (written & bytes) != bytes) {
    fail(Fault::uninitialised,
         fmt::format("reads {} memory that nothing was written to", shared ? "shared" : "global"),
         place);
  }
  History& history = memory.history(address);
  const auto check = [&](const Stamp& before, const char* verb) {
    if ((before.bytes & bytes) == 0 || (before.atomic && atomic) || ordered(before, shared)) return;
    fail(Fault::race,
         fmt::format("{} {} memory that {} {} without synchronisation between",
                     write ? "writes" : "reads", shared ? "shared" : "global", name(before.thread),
                     verb),
         place, program_base() + before.place);
  };
  check(history.write, "wrote");
  const Stamp now{
      .launch = serial_,
      .thread = static_cast<std::uint32_t>(block_number_ * thread_count_ + current_->number),
      .phase = phase_,
      .bytes = bytes & 0xFu,
      .clock = current_->clock & 0x7FFFFFFFu,
      .atomic = atomic,
      .place = static_cast<std::uint32_t>(place - program_base())};
  if (write) {
    check(history.reads[0], "read");
    check(history.reads[1], "read");
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

}  // namespace seqvae::emulation

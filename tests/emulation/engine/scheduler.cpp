#include "tests/emulation/engine/scheduler.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include <algorithm>
#include <atomic>
#include <bit>
#include <numeric>

#include "tests/emulation/engine/matrix.hpp"
#include "tests/emulation/engine/place.hpp"
#include "tests/emulation/engine/runtime.hpp"
#include "tests/emulation/engine/stacks.hpp"

namespace seqvae::emulation {
namespace {

constexpr std::uint32_t kAllLanes = 0xFFFFFFFFu;

std::uint32_t next_serial() {
  static std::atomic<std::uint32_t> serial{0};
  return ++serial;
}

}  // namespace

thread_local Launch* running = nullptr;

Launch::Launch(const void* kernel, Entry entry, void* parameters, const Shape& shape,
               std::uint64_t seed)
    : kernel_(kernel),
      entry_(entry),
      parameters_(parameters),
      shape_(shape),
      thread_count_(shape.threads.x * shape.threads.y * shape.threads.z),
      random_(seed),
      serial_(next_serial()),
      ctas_(shape.cluster),
      fibers_(shape.cluster * thread_count_) {}

std::string Launch::kernel_name() const {
  return function_at(reinterpret_cast<std::uintptr_t>(kernel_));
}

bool Launch::run() {
  const std::uint64_t blocks = std::uint64_t{shape_.grid.x} * shape_.grid.y * shape_.grid.z;
  std::vector<std::uint32_t> order(blocks / shape_.cluster);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), random_);
  running = this;
  show_shape(*this);
  for (const std::uint32_t cluster : order) {
    begin_cluster(cluster);
    run_cluster();
    if (failed_) break;
  }
  running = nullptr;
  traffic_.kernel = kernel_;
  if (!failed_) record(traffic_);
  return !failed_;
}

void Launch::begin_cluster(std::uint32_t cluster) {
  first_thread_ = cluster * shape_.cluster * thread_count_;
  at_cluster_barrier_ = done_ = 0;
  ready_.clear();
  mbarriers_.clear();
  sends_.clear();
  writes_.clear();
  if (shape_.cluster > 1) landing_odds_ = std::uint64_t{2} << random_() % 4 * 3;
  for (unsigned c = 0; c < shape_.cluster; ++c) {
    const std::uint32_t block = cluster * shape_.cluster + c;
    Cta& cta = ctas_[c];
    cta = Cta{};
    cta.index = {block % shape_.grid.x, block / shape_.grid.x % shape_.grid.y,
                 block / shape_.grid.x / shape_.grid.y};
    cta.shared =
        reinterpret_cast<std::uintptr_t>(Memory::instance().open_shared(c, shape_.shared_bytes));
    cta.meetings.resize((thread_count_ + kLanes - 1) / kLanes);
    cta.known = std::make_shared<Clocks>();
  }
  for (unsigned i = 0; i < fibers_.size(); ++i) {
    Fiber& fiber = fibers_[i] = Fiber{};
    const unsigned number = i % thread_count_;
    fiber.in_cluster = i;
    fiber.cta = i / thread_count_;
    fiber.number = number;
    fiber.index = {number % shape_.threads.x, number / shape_.threads.x % shape_.threads.y,
                   number / shape_.threads.x / shape_.threads.y};
    const Stack stack = stack_of(i);
#ifdef __SANITIZE_ADDRESS__  // frames of a fiber that was never resumed are still marked there
    __asan_unpoison_memory_region(stack.bottom, stack.bytes);
#endif
    fiber.context = boost::context::detail::make_fcontext(stack.top, stack.bytes, &Launch::enter);
    ready_.push_back(&fiber);
  }
  window_ = random_() % 8 == 0 ? fibers_.size() : kLanes;
  std::rotate(ready_.begin(),
              ready_.begin() + static_cast<std::ptrdiff_t>(random_() % ready_.size()),
              ready_.end());
}

void Launch::run_cluster() {
  while (!failed_) {
    const std::uint64_t draw = random_();
    if (!sends_.empty() && (ready_.empty() || (draw >> 32) % landing_odds_ == 0)) {
      land(draw % sends_.size());
      continue;
    }
    if (ready_.empty()) break;
    Fiber*& pick = ready_[ready_.size() - 1 - draw % std::min(ready_.size(), window_)];
    Fiber* const next = pick;
    pick = ready_.back();
    ready_.pop_back();
    resume(next);
  }
  if (!failed_ && done_ < fibers_.size()) report_deadlock();
}

void Launch::resume(Fiber* fiber) {
  current_ = fiber;
  show(*this);
  const auto from = boost::context::detail::jump_fcontext(fiber->context, this);
  fiber->context = from.fctx;
  if (fiber->state == Fiber::State::done && !failed_) end_thread(*fiber);
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

void Launch::make_ready(Fiber& fiber) {
  fiber.state = Fiber::State::ready;
  ready_.push_back(&fiber);
}

void Launch::go_on() {
  ready_.push_back(current_);
  switch_to_scheduler();
}

void Launch::yield() {
  ready_.push_back(current_);
  std::swap(ready_.back(), ready_[random_() % ready_.size()]);  // others may be far from the end
  switch_to_scheduler();
}

void Launch::sync_threads(std::uintptr_t place) {
  Cta& cta = ctas_[current_->cta];
  if (++cta.at_barrier < thread_count_) {
    wait(Fiber::State::barrier, place);
    return;
  }
  cta.at_barrier = 0;
  if (cta.known.use_count() > 1) cta.known = std::make_shared<Clocks>(*cta.known);
  Fiber* const first = &fibers_[current_->cta * thread_count_];
  for (Fiber* fiber = first; fiber < first + thread_count_; ++fiber) {
    pass_on(fiber->learnt, *cta.known);
    fiber->learnt.clear();
    fiber->apart = false;
    cta.known->raise(fiber->in_cluster, fiber->clock++);
    if (fiber->state == Fiber::State::barrier) make_ready(*fiber);
  }
  cta.known->raise(entry_of_cta(current_->cta), ++cta.phase);
  go_on();
}

void Launch::cluster_barrier(std::uintptr_t place) {
  if (++at_cluster_barrier_ < fibers_.size()) {
    wait(Fiber::State::cluster_barrier, place);
    return;
  }
  at_cluster_barrier_ = 0;
  const auto known = std::make_shared<Clocks>();
  for (const Cta& cta : ctas_) known->join(*cta.known);
  for (Fiber& fiber : fibers_) {
    pass_on(fiber.learnt, *known);
    fiber.learnt.clear();
    fiber.apart = false;
    known->raise(fiber.in_cluster, fiber.clock++);
    if (fiber.state == Fiber::State::cluster_barrier) make_ready(fiber);
  }
  for (unsigned c = 0; c < ctas_.size(); ++c) known->raise(entry_of_cta(c), ++ctas_[c].phase);
  for (Cta& cta : ctas_) cta.known = known;
  go_on();
}

std::uint64_t Launch::warp_operation(WarpOperation operation, std::uint32_t mask,
                                     std::uint64_t value, unsigned source, std::uintptr_t place) {
  const unsigned lane = current_->number % kLanes;
  const std::uint32_t bit = std::uint32_t{1} << lane;
  if ((mask & bit) == 0) {
    fail(Fault::warp_misuse, fmt::format("lane {} is not in its mask {:#010x}", lane, mask), place);
  }
  auto& meetings = ctas_[current_->cta].meetings[current_->number / kLanes];
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
  go_on();
  return current_->result;
}

void Launch::matrix_operation(WarpOperation operation, std::uint64_t operands,
                              std::uintptr_t place) {
  if (current_->apart) {
    fail(Fault::warp_misuse, "the lanes may have left mbarrier_wait one by one: __syncwarp first",
         place);
  }
  warp_operation(operation, kAllLanes, operands, 0, place);
}

void Launch::complete(const Meeting& meeting) {
  Fiber* const warp = current_ - current_->number % kLanes;
  const bool joins = meeting.operation == WarpOperation::sync;
  std::uint64_t ballot = 0;
  std::uint32_t joined[kLanes]{};
  std::vector<Learnt> learnt;
  for (std::uint32_t rest = meeting.mask; rest != 0; rest &= rest - 1) {
    const unsigned lane = static_cast<unsigned>(std::countr_zero(rest));
    if (meeting.values[lane] != 0) ballot |= std::uint64_t{1} << lane;
    if (!joins) continue;
    warp[lane].seen[lane] = warp[lane].clock++;
    for (unsigned i = 0; i < kLanes; ++i) joined[i] = std::max(joined[i], warp[lane].seen[i]);
    learnt.insert(learnt.end(), warp[lane].learnt.begin(), warp[lane].learnt.end());
  }
  switch (meeting.operation) {
    case WarpOperation::ldmatrix_x2:
      load_matrices(2, meeting.values);
      break;
    case WarpOperation::ldmatrix_x4:
      load_matrices(4, meeting.values);
      break;
    case WarpOperation::mma_bf16:
      multiply_bf16(meeting.values);
      break;
    case WarpOperation::mma_tf32:
      multiply_tf32(meeting.values);
      break;
    default:
      break;
  }
  for (std::uint32_t rest = meeting.mask; rest != 0; rest &= rest - 1) {
    const unsigned lane = static_cast<unsigned>(std::countr_zero(rest));
    Fiber& fiber = warp[lane];
    if (meeting.operation == WarpOperation::shuffle) {
      fiber.result = meeting.values[meeting.sources[lane]];
    } else {
      fiber.result = ballot;
    }
    if (joins) std::copy_n(joined, kLanes, fiber.seen);
    if (joins && meeting.mask == kAllLanes) fiber.apart = false;
    for (const Learnt& news : learnt) learn(fiber, news);
    if (&fiber != current_) make_ready(fiber);
  }
}

void Launch::report_deadlock() {
  // An mbarrier says most; who waits elsewhere may wait for those who wait for it.
  auto waits = std::find_if(fibers_.begin(), fibers_.end(), [](const Fiber& fiber) {
    return fiber.state == Fiber::State::mbarrier;
  });
  const bool mbarrier = waits != fibers_.end();
  if (!mbarrier) {
    waits = std::find_if(fibers_.begin(), fibers_.end(),
                         [](const Fiber& fiber) { return fiber.state != Fiber::State::done; });
  }
  const auto differs = std::find_if(fibers_.begin(), fibers_.end(), [&](const Fiber& fiber) {
    return fiber.state != waits->state;
  });
  std::string at = "at a warp operation";
  if (waits->state == Fiber::State::barrier) at = "at __syncthreads";
  if (waits->state == Fiber::State::cluster_barrier) at = "at a cluster barrier";
  if (mbarrier) {
    at = fmt::format("for parity {} of an mbarrier {}", waits->parity,
                     state_of(mbarriers_[waits->mbarrier]));
  }
  std::string others = mbarrier ? "" : " for lanes that the block does not have";
  std::uintptr_t other_place = 0;
  if (differs != fibers_.end()) {
    const bool done = differs->state == Fiber::State::done;
    other_place = done ? 0 : differs->waits_at;
    others = fmt::format(" while {} {}", name(first_thread_ + differs->in_cluster),
                         done ? "has returned" : "waits elsewhere");
  }
  report(mbarrier ? Fault::dead_wait : Fault::divergence, *waits,
         fmt::format("waits {}{}", at, others), waits->waits_at, other_place);
}

void Launch::report(Fault fault, Fiber& fiber, const std::string& what, std::uintptr_t place,
                    std::uintptr_t other) {
  current_ = &fiber;
  failed_ = true;
  record(make_report(*this, fault, what, place, other));
}

void Launch::fail(Fault fault, const std::string& what, std::uintptr_t place,
                  std::uintptr_t other) {
  report(fault, *current_, what, place, other);
  switch_to_scheduler();
  std::abort();  // the scheduler resumes nobody after a fault
}

}  // namespace seqvae::emulation

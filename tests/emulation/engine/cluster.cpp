// What is asynchronous: mbarriers, st.async, cp.async; and who knows of what through them.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tests/emulation/engine/memory.hpp"
#include "tests/emulation/engine/place.hpp"
#include "tests/emulation/engine/scheduler.hpp"

namespace seqvae::emulation {
namespace {

constexpr std::uint32_t kCountsMost = (1 << 20) - 1;  // arrivals and bytes of a phase
constexpr unsigned kNone = ~0u;

void store(std::uintptr_t to, const Bytes16& value, std::size_t bytes) {
  std::memcpy(reinterpret_cast<void*>(to), value.data(), bytes);
  Memory::instance().mark_written(reinterpret_cast<void*>(to), bytes);
}

}  // namespace

// ---- What happened before -------------------------------------------------------------------

void Launch::pass_on(const std::vector<Learnt>& learnt, Clocks& to) const {
  for (const Learnt& news : learnt) {
    if (to[entry_of_mbarrier(news.mbarrier)] < news.phases) to.join(*news.clocks);
  }
}

void Launch::learn(Fiber& fiber, const Learnt& news) const {
  if (knows(fiber, entry_of_mbarrier(news.mbarrier)) >= news.phases) return;
  std::erase_if(fiber.learnt, [&](const Learnt& old) {
    return (*news.clocks)[entry_of_mbarrier(old.mbarrier)] >= old.phases;
  });
  fiber.learnt.push_back(news);
}

Release Launch::release() {
  Fiber& fiber = *current_;
  Release all{fiber.in_cluster, fiber.clock++, {}, ctas_[fiber.cta].known, fiber.learnt};
  std::copy_n(fiber.seen, kLanes, all.seen.begin());
  return all;
}

void Launch::join(Clocks& to, const Release& release) const {
  const Fiber& fiber = fibers_[release.thread];
  const std::size_t cta = entry_of_cta(fiber.cta);
  if (to[cta] < (*release.known)[cta]) to.join(*release.known);
  pass_on(release.learnt, to);
  const unsigned first = fiber.in_cluster - fiber.number % kLanes;
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (release.seen[lane] > 0) to.raise(first + lane, release.seen[lane]);
  }
  to.raise(release.thread, release.clock);
}

// ---- Addresses ------------------------------------------------------------------------------

unsigned Launch::cta_at(std::uintptr_t address, std::size_t bytes) const {
  for (unsigned c = 0; c < ctas_.size(); ++c) {
    const std::uintptr_t offset = address - ctas_[c].shared;
    if (offset < shape_.shared_bytes && bytes <= shape_.shared_bytes - offset) return c;
  }
  return kNone;
}

bool Launch::is_own(std::uintptr_t address) const { return cta_at(address, 1) == current_->cta; }

void Launch::require_own(const char* what, std::uintptr_t address, std::size_t bytes,
                         std::uintptr_t place) {
  if (cta_at(address, std::max<std::size_t>(bytes, 1)) != current_->cta) {
    fail(Fault::out_of_range, fmt::format("{}: not in this block's shared memory", what), place);
  }
  if (bytes > 0 && address % bytes != 0) {
    fail(Fault::misaligned, fmt::format("{}: not aligned to {} bytes", what, bytes), place);
  }
}

std::uintptr_t Launch::map_shared(std::uintptr_t address, unsigned rank, std::uintptr_t place) {
  require_own("map_shared", address, 0, place);
  if (rank >= ctas_.size()) {
    fail(Fault::out_of_range,
         fmt::format("map_shared: rank {} in a cluster of {}", rank, ctas_.size()), place);
  }
  return address - shared() + ctas_[rank].shared;
}

// ---- mbarriers ------------------------------------------------------------------------------

std::string Launch::state_of(const Mbarrier& m) const {
  return fmt::format(
      "at byte {} of shared memory, which is in phase {}: {} of {} arrivals missing, {} bytes {}",
      m.address - ctas_[m.cta].shared, m.phases, m.missing, m.arrivals,
      m.bytes < 0 ? -m.bytes : m.bytes, m.bytes < 0 ? "too many" : "missing");
}

unsigned Launch::mbarrier_at(const char* what, std::uintptr_t address, std::uintptr_t place) {
  for (unsigned m = 0; m < mbarriers_.size(); ++m) {
    if (mbarriers_[m].address != address) continue;
    const Stamp& before = mbarriers_[m].initialised;
    if (!ordered(before, true)) {
      fail(Fault::race,
           fmt::format("{}: the mbarrier was initialised by {} without synchronisation between",
                       what, name(before.thread)),
           place, program_base() + before.place);
    }
    return m;
  }
  fail(Fault::mbarrier_misuse, fmt::format("{}: not an mbarrier, or not initialised", what), place);
}

void Launch::mbarrier_init(std::uintptr_t address, std::uint32_t arrivals, std::uintptr_t place) {
  require_own("mbarrier_init", address, 8, place);
  auto& own = ctas_[current_->cta].mbarriers;
  const bool again = std::any_of(own.begin(), own.end(),
                                 [&](unsigned m) { return mbarriers_[m].address == address; });
  if (again || arrivals < 1 || arrivals > kCountsMost) {
    fail(Fault::mbarrier_misuse,
         again ? "mbarrier_init: is an mbarrier already"
               : fmt::format("mbarrier_init: {} arrivals", arrivals),
         place);
  }
  access(address, 8, true, false, place);
  own.push_back(static_cast<unsigned>(mbarriers_.size()));
  mbarriers_.push_back({.address = address,
                        .cta = current_->cta,
                        .arrivals = arrivals,
                        .missing = arrivals,
                        .initialised = stamp(0xF, false, place),
                        .pending = {},
                        .at_end = {},
                        .waiters = {}});
}

bool Launch::settle(unsigned number) {
  Mbarrier& m = mbarriers_[number];
  if (m.missing > 0 || m.bytes > 0) return m.bytes >= -std::int64_t{kCountsMost};
  if (m.bytes < 0) return false;
  ++m.phases;
  m.missing = m.arrivals;
  m.pending.raise(entry_of_mbarrier(number), m.phases);
  m.at_end = std::make_shared<Clocks>(m.pending);
  for (Fiber* fiber : m.waiters) make_ready(*fiber);
  m.waiters.clear();
  return true;
}

void Launch::mbarrier_arm(std::uintptr_t address, std::uint32_t bytes, std::uintptr_t place) {
  require_own("mbarrier_arm", address, 8, place);
  const unsigned number = mbarrier_at("mbarrier_arm", address, place);
  Mbarrier& m = mbarriers_[number];
  if (m.missing == 0 || m.bytes + bytes > kCountsMost) {
    fail(Fault::mbarrier_misuse, "mbarrier_arm: too much for the mbarrier " + state_of(m), place);
  }
  join(m.pending, release());
  --m.missing;
  m.bytes += bytes;
  if (!settle(number)) {
    fail(Fault::mbarrier_misuse, "mbarrier_arm: too little for the mbarrier " + state_of(m), place);
  }
}

void Launch::mbarrier_wait(std::uintptr_t address, unsigned parity, std::uintptr_t place) {
  require_own("mbarrier_wait", address, 8, place);
  const unsigned number = mbarrier_at("mbarrier_wait", address, place);
  if (parity > 1) {
    fail(Fault::mbarrier_misuse, fmt::format("mbarrier_wait: parity {}", parity), place);
  }
  const bool at_once = is_over(number, parity);
  while (!is_over(number, parity)) {
    mbarriers_[number].waiters.push_back(current_);
    current_->mbarrier = number;
    current_->parity = parity;
    wait(Fiber::State::mbarrier, place);
  }
  current_->apart = true;
  const Mbarrier& m = mbarriers_[number];
  if (m.phases > 0) learn(*current_, {number, m.phases, m.at_end});
  if (at_once) go_on();
}

// ---- st.async -------------------------------------------------------------------------------

void Launch::st_async(std::uintptr_t to, const Bytes16& value, std::uintptr_t mbarrier,
                      std::uintptr_t place) {
  const unsigned cta = cta_at(to, 16);
  if (cta == kNone || ctas_.size() == 1) {
    fail(Fault::out_of_range,
         cta == kNone ? "st_async: not in the shared memory of the cluster"
                      : "st_async: the launch has no clusters",
         place);
  }
  if (to % 16 != 0) fail(Fault::misaligned, "st_async: not aligned to 16 bytes", place);
  if (ctas_[cta].ended) {
    fail(Fault::late_write, "st_async: writes into a CTA that has ended", place);
  }
  const unsigned number = mbarrier_at("st_async", mbarrier, place);
  if (mbarriers_[number].cta != cta) {
    fail(Fault::mbarrier_misuse, "st_async: the mbarrier is of another CTA than the bytes", place);
  }
  const auto write = static_cast<std::uint32_t>(writes_.size());
  writes_.push_back({number, 0});
  write_later(to, 16, Stamp::st_async, write, place);
  sends_.push_back({to, value, number, write, place, release()});
}

void Launch::land(std::size_t i) {
  std::swap(sends_[i], sends_.back());
  const Send send = std::move(sends_.back());
  sends_.pop_back();
  Mbarrier& m = mbarriers_[send.mbarrier];
  store(send.to, send.value, 16);
  writes_[send.number].phases = m.counted = m.phases + 1;
  m.sender = send.release.thread;
  m.sent_at = send.place;
  m.bytes -= 16;
  join(m.pending, send.release);
  if (!settle(send.mbarrier)) {
    report(Fault::mbarrier_misuse, fibers_[m.sender],
           "st_async: more bytes than expected on the mbarrier " + state_of(m), send.place);
  }
}

/// A CTA may end only when some thread of it knows that all that is sent to it is in.
void Launch::end_thread(Fiber& fiber) {
  ++done_;
  Cta& cta = ctas_[fiber.cta];
  for (const unsigned m : cta.mbarriers) {
    std::uint32_t& known = mbarriers_[m].known_at_end;
    known = std::max(known, knows(fiber, entry_of_mbarrier(m)));
  }
  if (++cta.done < thread_count_) return;
  cta.ended = true;
  const std::string late = fmt::format(
      "st_async: writes into a CTA that has ended: block ({},{},{}) does not wait for it",
      cta.index.x, cta.index.y, cta.index.z);
  for (const Send& send : sends_) {
    if (mbarriers_[send.mbarrier].cta != fiber.cta) continue;
    return report(Fault::late_write, fibers_[send.release.thread], late, send.place);
  }
  for (const unsigned number : cta.mbarriers) {
    const Mbarrier& m = mbarriers_[number];
    if (m.bytes < 0) {
      return report(Fault::mbarrier_misuse, fibers_[m.sender],
                    "st_async: more bytes than expected on the mbarrier " + state_of(m), m.sent_at);
    }
    if (m.known_at_end < m.counted) {
      return report(Fault::late_write, fibers_[m.sender], late, m.sent_at);
    }
  }
}

// ---- cp.async -------------------------------------------------------------------------------

void Launch::cp_async(std::uintptr_t to, std::uintptr_t from, std::size_t bytes,
                      std::uintptr_t place) {
  require_own("cp_async", to, bytes, place);
  if (from % bytes != 0) {
    fail(Fault::misaligned, fmt::format("cp_async: source not aligned to {} bytes", bytes), place);
  }
  const Allocation* found =
      Memory::instance().contains(from) ? Memory::instance().find(from) : nullptr;
  if (found != nullptr && found->space != Space::global) {
    fail(Fault::out_of_range, "cp_async: the source is not global memory", place);
  }
  access(from, bytes, false, false, place);
  Copy copy{to, from, bytes, current_->group, copies_++, random_() % 2 == 0, {}};
  std::memcpy(copy.value.data(), reinterpret_cast<const void*>(from), bytes);
  write_later(to, bytes, Stamp::cp_async, copy.number, place);
  current_->copies.push_back(copy);
}

void Launch::cp_async_wait(std::uint32_t pending) {
  Fiber& fiber = *current_;
  std::erase_if(fiber.copies, [&](Copy& copy) {
    if (copy.group + pending >= fiber.group) return false;
    if (copy.reads_late) {
      std::memcpy(copy.value.data(), reinterpret_cast<const void*>(copy.from), copy.bytes);
    }
    store(copy.to, copy.value, copy.bytes);
    for (std::uintptr_t at = copy.to; at < copy.to + copy.bytes; at += 4) {
      Stamp& write = Memory::instance().history(at).write;  // from now on like any other
      if (write.event != Stamp::cp_async || write.clock != copy.number) continue;
      write.event = Stamp::access;
      write.clock = fiber.clock & 0x7FFFFFFFu;
    }
    return true;
  });
}

}  // namespace seqvae::emulation

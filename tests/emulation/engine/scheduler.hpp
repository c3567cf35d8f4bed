// Threads of a block as fibers on one OS thread, their barriers and warp operations.
#pragma once
#include <boost/context/detail/fcontext.hpp>
#include <cstdint>
#include <random>
#include <vector>

#include "tests/emulation/emulation.hpp"

namespace seqvae::emulation {

constexpr unsigned kLanes = 32;

struct Index3 {
  unsigned x = 0, y = 0, z = 0;
};

struct Stamp;

/// A CUDA thread.
struct Fiber {
  enum class State { ready, barrier, warp_operation, done };
  boost::context::detail::fcontext_t context = nullptr;
  State state = State::ready;
  unsigned number = 0;  ///< in its block, x fastest
  Index3 index;         ///< threadIdx
  std::uintptr_t waits_at = 0;
  std::uint64_t result = 0;      ///< of its last warp operation
  std::uint32_t clock = 1;       ///< its own, advanced by __syncwarp
  std::uint32_t seen[kLanes]{};  ///< clocks of its warp's lanes that happened before
};

enum class WarpOperation { shuffle, ballot, sync };

/// A warp operation that some of its lanes have reached.
struct Meeting {
  WarpOperation operation;
  std::uint32_t mask, arrived;
  std::uint64_t values[kLanes];
  unsigned sources[kLanes];
};

/// Bytes of global memory that a launch asked for.
struct Counted {
  const void* kernel = nullptr;
  std::int64_t bytes_read = 0, bytes_written = 0;
};

/// One kernel launch, block after block.
class Launch {
 public:
  using Entry = void (*)(void* parameters);
  Launch(const void* kernel, Entry entry, void* parameters, Index3 grid, Index3 threads,
         std::size_t shared_bytes, std::uint64_t seed);

  /// False where a fault ended it.
  bool run();

  // Called by the running fiber.
  void sync_threads(std::uintptr_t place);
  std::uint64_t warp_operation(WarpOperation operation, std::uint32_t mask, std::uint64_t value,
                               unsigned source, std::uintptr_t place);
  void access(std::uintptr_t address, std::size_t bytes, bool write, bool atomic,
              std::uintptr_t place);
  /// Lets the others run, so that a thread that polls an atomic makes progress.
  void yield();
  /// Records the report and never returns: the launch ends.
  [[noreturn]] void fail(Fault fault, const std::string& what, std::uintptr_t place,
                         std::uintptr_t other = 0);

  const Fiber& fiber() const { return *current_; }
  Index3 block_index() const { return block_; }
  Index3 block_dim() const { return threads_; }
  Index3 grid_dim() const { return grid_; }
  void* shared() const { return shared_; }
  std::string kernel_name() const;

 private:
  static void enter(boost::context::detail::transfer_t from);
  void run_block(std::uint64_t block);
  void wait(Fiber::State state, std::uintptr_t place);
  void switch_to_scheduler();
  void report_divergence();
  void complete(const Meeting& meeting);
  void touch(std::uintptr_t address, std::uint32_t bytes, bool write, bool atomic, bool shared,
             std::uintptr_t place);
  bool ordered(const Stamp& before, bool shared) const;
  std::string name(std::uint32_t thread) const;

  const void* kernel_;
  Entry entry_;
  void* parameters_;
  Index3 grid_, threads_;
  unsigned thread_count_;
  std::size_t shared_bytes_;
  std::mt19937_64 random_;
  std::uint32_t serial_;
  bool failed_ = false;

  boost::context::detail::fcontext_t scheduler_ = nullptr;
  Index3 block_;
  std::uint64_t block_number_ = 0;
  void* shared_ = nullptr;
  std::vector<Fiber> fibers_;
  std::vector<Fiber*> ready_;
  std::vector<std::vector<Meeting>> meetings_;  // of each warp
  unsigned at_barrier_ = 0;
  std::uint32_t phase_ = 0;
  Fiber* current_ = nullptr;
  Counted traffic_;
};

/// Sets threadIdx and its kin to the fiber that is about to run.
void show(const Launch& launch);

/// The launch whose fiber runs on this OS thread; nullptr in host code.
extern thread_local Launch* running;

}  // namespace seqvae::emulation

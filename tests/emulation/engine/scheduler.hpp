// Threads of a cluster of blocks as fibers on one OS thread, their barriers and warp operations. A
// block that is launched without a cluster is a cluster of one.
#pragma once
#include <array>
#include <boost/context/detail/fcontext.hpp>
#include <cstdint>
#include <random>
#include <vector>

#include "tests/emulation/emulation.hpp"
#include "tests/emulation/engine/clocks.hpp"
#include "tests/emulation/engine/memory.hpp"

namespace seqvae::emulation {

constexpr unsigned kLanes = 32;

struct Index3 {
  unsigned x = 0, y = 0, z = 0;
};

/// 16 bytes or fewer on their way.
using Bytes16 = std::array<unsigned char, 16>;

/// A cp.async that its thread has not waited for.
struct Copy {
  std::uintptr_t to, from;
  std::size_t bytes;
  std::uint32_t group, number;
  bool reads_late;  ///< the source, when it lands; else `value` is what was read at first
  Bytes16 value;
};

/// A CUDA thread.
struct Fiber {
  enum class State { ready, barrier, cluster_barrier, warp_operation, mbarrier, done };
  boost::context::detail::fcontext_t context = nullptr;
  State state = State::ready;
  unsigned in_cluster = 0;  ///< its number there
  unsigned cta = 0;         ///< of the cluster
  unsigned number = 0;      ///< in its block, x fastest
  Index3 index;             ///< threadIdx
  std::uintptr_t waits_at = 0;
  unsigned mbarrier = 0, parity = 0;  ///< that it waits for
  bool apart = false;                 ///< its warp left an mbarrier lane by lane
  std::uint64_t result = 0;           ///< of its last warp operation
  std::uint32_t clock = 1;            ///< its own, advanced whenever others learn of what it did
  std::uint32_t seen[kLanes]{};       ///< clocks of its warp's lanes that happened before
  std::vector<Learnt> learnt;
  std::vector<Copy> copies;
  std::uint32_t group = 0;  ///< of copies, not yet committed
};

enum class WarpOperation { shuffle, ballot, sync, ldmatrix_x2, ldmatrix_x4, mma_bf16, mma_tf32 };

/// A warp operation that some of its lanes have reached.
struct Meeting {
  WarpOperation operation;
  std::uint32_t mask, arrived;
  std::uint64_t values[kLanes];  ///< ldmatrix and mma: the address of the lane's operands
  unsigned sources[kLanes];
};

/// A block of the cluster.
struct Cta {
  Index3 index;  ///< blockIdx
  std::uintptr_t shared = 0;
  std::vector<std::vector<Meeting>> meetings;  ///< of each warp
  unsigned at_barrier = 0, done = 0;
  std::uint32_t phase = 0;        ///< full barriers passed
  std::shared_ptr<Clocks> known;  ///< to all of its threads
  std::vector<unsigned> mbarriers;
  bool ended = false;
};

/// What a thread tells whoever waits for it.
struct Release {
  std::uint32_t thread, clock;
  std::array<std::uint32_t, kLanes> seen;
  std::shared_ptr<const Clocks> known;
  std::vector<Learnt> learnt;
};

struct Mbarrier {
  std::uintptr_t address;
  unsigned cta;
  std::uint32_t arrivals, missing;  ///< of a phase, of this one
  Stamp initialised;
  std::int64_t bytes = 0;    ///< of this phase, armed for but not in; below 0: in but not armed for
  std::uint32_t phases = 0;  ///< that are over
  std::uint32_t counted = 0;  ///< phases that must be over for all bytes to be in
  std::uint32_t sender = 0;   ///< of the last bytes
  std::uintptr_t sent_at = 0;
  std::uint32_t known_at_end = 0;        ///< phases, to threads that have returned
  Clocks pending;                        ///< of all that arrived so far
  std::shared_ptr<const Clocks> at_end;  ///< of the last phase
  std::vector<Fiber*> waiters;
};

/// An st.async that has not landed.
struct Send {
  std::uintptr_t to;
  Bytes16 value;
  unsigned mbarrier;
  std::uint32_t number;
  std::uintptr_t place;
  Release release;
};

/// An st.async ever issued in this cluster.
struct AsyncWrite {
  unsigned mbarrier;
  std::uint32_t phases;  ///< that must be over for it to have happened before; 0: has not landed
};

/// Bytes of global memory that a launch asked for.
struct Counted {
  const void* kernel = nullptr;
  std::int64_t bytes_read = 0, bytes_written = 0;
};

struct Shape {
  Index3 grid, threads;
  std::size_t shared_bytes = 0;
  unsigned cluster = 1;  ///< blocks, along x
};

/// One kernel launch, cluster after cluster.
class Launch {
 public:
  using Entry = void (*)(void* parameters);
  Launch(const void* kernel, Entry entry, void* parameters, const Shape& shape, std::uint64_t seed);

  /// False where a fault ended it.
  bool run();

  // Called by the running fiber.
  void sync_threads(std::uintptr_t place);
  void cluster_barrier(std::uintptr_t place);
  std::uint64_t warp_operation(WarpOperation operation, std::uint32_t mask, std::uint64_t value,
                               unsigned source, std::uintptr_t place);
  /// One of all 32 lanes, which must be together.
  void matrix_operation(WarpOperation operation, std::uint64_t operands, std::uintptr_t place);
  void access(std::uintptr_t address, std::size_t bytes, bool write, bool atomic,
              std::uintptr_t place);
  std::uintptr_t map_shared(std::uintptr_t address, unsigned rank, std::uintptr_t place);
  /// Faults where [address, address + bytes) is not this CTA's shared memory, or not aligned.
  bool is_own(std::uintptr_t address) const;
  void require_own(const char* what, std::uintptr_t address, std::size_t bytes,
                   std::uintptr_t place);
  void mbarrier_init(std::uintptr_t address, std::uint32_t arrivals, std::uintptr_t place);
  void mbarrier_arm(std::uintptr_t address, std::uint32_t bytes, std::uintptr_t place);
  void mbarrier_wait(std::uintptr_t address, unsigned parity, std::uintptr_t place);
  void st_async(std::uintptr_t to, const Bytes16& value, std::uintptr_t mbarrier,
                std::uintptr_t place);
  void cp_async(std::uintptr_t to, std::uintptr_t from, std::size_t bytes, std::uintptr_t place);
  void cp_async_commit() { ++current_->group; }
  void cp_async_wait(std::uint32_t pending);
  /// Lets the others run, so that a thread that polls an atomic makes progress.
  void yield();
  /// Records the report and never returns: the launch ends.
  [[noreturn]] void fail(Fault fault, const std::string& what, std::uintptr_t place,
                         std::uintptr_t other = 0);

  const Fiber& fiber() const { return *current_; }
  unsigned cluster_size() const { return shape_.cluster; }
  Index3 block_index() const { return ctas_[current_->cta].index; }
  Index3 block_dim() const { return shape_.threads; }
  Index3 grid_dim() const { return shape_.grid; }
  std::uintptr_t shared() const { return ctas_[current_->cta].shared; }
  std::string kernel_name() const;

 private:
  // scheduler.cpp
  static void enter(boost::context::detail::transfer_t from);
  void begin_cluster(std::uint32_t cluster);
  void run_cluster();
  void resume(Fiber* fiber);
  void wait(Fiber::State state, std::uintptr_t place);
  void switch_to_scheduler();
  void go_on();
  void make_ready(Fiber& fiber);
  void report(Fault fault, Fiber& fiber, const std::string& what, std::uintptr_t place,
              std::uintptr_t other = 0);
  void report_deadlock();
  void complete(const Meeting& meeting);

  // access.cpp
  void touch(std::uintptr_t address, std::uint32_t bytes, bool write, bool atomic, bool shared,
             std::uintptr_t place);
  void check(const Stamp& before, std::uint32_t bytes, bool write, bool atomic, bool shared,
             bool before_wrote, std::uintptr_t place);
  [[noreturn]] void fail_race(const Stamp& before, bool write, bool shared, bool before_wrote,
                              std::uintptr_t place);
  void write_later(std::uintptr_t to, std::size_t bytes, Stamp::Event event, std::uint32_t number,
                   std::uintptr_t place);
  Stamp stamp(std::uint32_t bytes, bool atomic, std::uintptr_t place) const;
  bool ordered(const Stamp& before, bool shared) const;
  std::string name(std::uint32_t thread) const;

  // cluster.cpp
  std::size_t entry_of_cta(unsigned cta) const { return fibers_.size() + cta; }
  std::size_t entry_of_mbarrier(unsigned m) const { return fibers_.size() + ctas_.size() + m; }
  std::uint32_t knows(const Fiber& fiber, std::size_t entry) const {
    std::uint32_t most = (*ctas_[fiber.cta].known)[entry];
    for (const Learnt& learnt : fiber.learnt) most = std::max(most, (*learnt.clocks)[entry]);
    return most;
  }
  void pass_on(const std::vector<Learnt>& learnt, Clocks& to) const;
  void learn(Fiber& fiber, const Learnt& news) const;
  Release release();
  void join(Clocks& to, const Release& release) const;
  unsigned cta_at(std::uintptr_t address, std::size_t bytes) const;
  unsigned mbarrier_at(const char* what, std::uintptr_t address, std::uintptr_t place);
  bool is_over(unsigned m, unsigned parity) const { return mbarriers_[m].phases % 2 != parity; }
  /// Begins the next phase where this one is over. False where it never can be.
  bool settle(unsigned m);
  std::string state_of(const Mbarrier& m) const;
  void land(std::size_t i);
  void end_thread(Fiber& fiber);

  const void* kernel_;
  Entry entry_;
  void* parameters_;
  Shape shape_;
  unsigned thread_count_;  // of a block
  std::mt19937_64 random_;
  std::uint32_t serial_;
  bool failed_ = false;

  boost::context::detail::fcontext_t scheduler_ = nullptr;
  std::vector<Cta> ctas_;           // of the cluster that runs
  std::vector<Fiber> fibers_;       // CTA by CTA
  std::uint32_t first_thread_ = 0;  // of the cluster, in the launch
  std::vector<Fiber*> ready_;       // the last to be ready, last
  std::size_t window_ = 0;  // of the last of them, of which one is drawn: a warp's lanes, or all
  Fiber* current_ = nullptr;
  unsigned at_cluster_barrier_ = 0, done_ = 0;
  std::vector<Mbarrier> mbarriers_;
  std::vector<Send> sends_;
  std::vector<AsyncWrite> writes_;
  std::uint64_t landing_odds_ = 2;  // of one landing, to one, while threads can run
  std::uint32_t copies_ = 0;
  Counted traffic_;
};

/// Sets blockDim and gridDim; threadIdx and blockIdx, to those of the fiber that is about to run.
void show_shape(const Launch& launch);
void show(const Launch& launch);

/// The launch whose fiber runs on this OS thread; nullptr in host code.
extern thread_local Launch* running;

}  // namespace seqvae::emulation

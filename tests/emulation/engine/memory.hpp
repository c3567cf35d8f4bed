// Device memory of the emulator: registered allocations with guard gaps in one reserved range of
// addresses, what of it was ever written, and the last accesses to every four bytes of it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

namespace seqvae::emulation {

/// Who touched four bytes, when.
struct Stamp {
  /// When it happens: when issued, or later, when an asynchronous operation lands.
  enum Event : std::uint32_t { access, st_async, cp_async };
  std::uint32_t launch;  ///< serial of the launch; 0: nobody
  std::uint32_t thread;  ///< block * threads of a block + thread
  std::uint32_t event : 28;
  std::uint32_t bytes : 4;   ///< which of the four
  std::uint32_t clock : 31;  ///< the thread's own; of an asynchronous operation, its number
  std::uint32_t atomic : 1;
  std::uint32_t place;  ///< of the instruction, relative to the program
};

/// The history of four bytes: the last write, and two reads by different threads. Two suffice:
/// where many threads read and one of them writes, one of the two is another thread.
struct History {
  Stamp write;
  Stamp reads[2];
};

enum class Space { global, shared, parameters };

struct Allocation {
  std::uintptr_t begin = 0, end = 0;
  Space space = Space::global;
  bool live = false;
};

/// All device memory. Addresses are used again only when kReuse more of that size were freed, so
/// that a use after free is seen. Fresh memory holds 0xFF in every byte: NaN as float,
/// double and bfloat16, -1 as an integer.
class Memory {
 public:
  static constexpr std::size_t kBytes = std::size_t{1} << 36;
  static constexpr std::size_t kBlock = 256;  // alignment of an allocation, as CUDA's
  static constexpr std::size_t kGap = 4096;   // guard on either side
  static constexpr std::size_t kReuse = 16;
  static constexpr std::size_t kShared = 227 << 10;  // a block's dynamic shared memory at most
  static constexpr unsigned kCluster = 16;           // blocks at most
  static constexpr std::size_t kParameters = 32764;  // a kernel's parameters at most

  static Memory& instance() {
    static Memory memory;
    return memory;
  }

  /// nullptr where the range is used up.
  void* allocate(std::size_t bytes);
  /// False where the pointer is no live allocation's begin.
  bool release(void* pointer);
  /// The shared memory of a cluster's block, poisoned, with this many bytes of it valid.
  void* open_shared(unsigned block, std::size_t bytes);
  /// The one slot of kernel parameters; written by the host.
  void* open_parameters(std::size_t bytes);

  bool contains(std::uintptr_t address) const { return address - base_ < kBytes; }
  /// What an address of the range belongs to; nullptr in a gap.
  const Allocation* find(std::uintptr_t address) const {
    const std::uint32_t owner = owners_[(address - base_) / kBlock];
    return owner == 0 ? nullptr : &allocations_[owner];
  }
  /// True where [begin, begin + bytes) lies inside one live allocation.
  bool valid(const void* begin, std::size_t bytes) const;
  /// The allocation nearest to an address, for a report.
  std::string nearest(std::uintptr_t address, std::size_t bytes) const;

  std::uint8_t& written(std::uintptr_t address) { return written_[(address - base_) / 4]; }
  History& history(std::uintptr_t address) { return history_[(address - base_) / 4]; }
  /// The host wrote here.
  void mark_written(const void* begin, std::size_t bytes);

 private:
  Memory();
  std::uint32_t add(std::uintptr_t begin, std::size_t bytes, std::size_t extent, Space space);

  std::uintptr_t base_ = 0, next_ = 0;
  std::uint32_t* owners_ = nullptr;  // [kBytes / kBlock]
  std::uint8_t* written_ = nullptr;  // [kBytes / 4] a bit a byte
  History* history_ = nullptr;       // [kBytes / 4]
  std::vector<Allocation> allocations_;
  std::unordered_map<std::size_t, std::deque<std::uint32_t>> freed_;  // by bytes, oldest first
  std::uint32_t shared_[kCluster]{}, parameters_ = 0;
};

}  // namespace seqvae::emulation

// The emulator as tests see it: the seed of its schedule, what it found, what it counted.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace seqvae::emulation {

/// What the emulator can find wrong with a kernel.
enum class Fault {
  out_of_range,     ///< an access outside every allocation, or to one already freed
  uninitialised,    ///< a read of memory that nothing was written to
  race,             ///< two accesses to one place, one a write, with no synchronisation between
  divergence,       ///< a barrier or warp operation that some of its threads never reach
  warp_misuse,      ///< a lane outside its own mask, a value from a lane outside the mask
  misaligned,       ///< an access that is not aligned to its type
  out_of_bounds,    ///< an index beyond a C++ array's extent
  dead_wait,        ///< a phase of an mbarrier that never ends
  mbarrier_misuse,  ///< an mbarrier that is none, or that is given more than it expects
  late_write,       ///< an st_async that its receiver, which may have ended, does not wait for
};

/// The first fault of a launch; it ends the launch.
struct Report {
  Fault fault;
  std::string kernel;  ///< name of the __global__ function
  unsigned block[3];   ///< blockIdx
  unsigned thread[3];  ///< threadIdx
  std::string place;   ///< file:line of the access or call; empty where unknown
  std::string other;   ///< race: file:line of the earlier access
  std::string text;    ///< all of the above in one sentence
};

/// Bytes of global memory that the threads of a launch asked for; shared memory does not count.
struct Traffic {
  std::string kernel;
  std::int64_t bytes_read = 0, bytes_written = 0;
};

/// Seeds the order in which blocks start and threads resume. Same seed, same order.
void set_schedule(std::uint64_t seed);

/// Faults since the last call, oldest first.
std::vector<Report> take_reports();

/// Launches since the last call, oldest first.
std::vector<Traffic> take_traffic();

}  // namespace seqvae::emulation

// Runs of a kernel under many schedules of the emulator.
#pragma once
#if defined(SEQVAE_EMULATED)
#include "tests/emulation/emulation.hpp"
#endif

namespace seqvae::test {

/// Runs `f` under 20 schedules of the emulator; on a GPU, which has its own, twice.
template <class F>
void for_each_schedule(F f) {
#if defined(SEQVAE_EMULATED)
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    emulation::set_schedule(seed);
    f();
  }
#else
  f();
  f();
#endif
}

}  // namespace seqvae::test

// What the emulator keeps between launches: reports, traffic, the schedule's seed.
#pragma once
#include "tests/emulation/emulation.hpp"
#include "tests/emulation/engine/scheduler.hpp"

namespace seqvae::emulation {

void record(const Report& report);
void record(const Counted& counted);
Report make_report(const Launch& launch, Fault fault, const std::string& what, std::uintptr_t place,
                   std::uintptr_t other);

}  // namespace seqvae::emulation

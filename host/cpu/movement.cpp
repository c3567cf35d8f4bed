#include "seqvae/kernels/movement.hpp"

#include "host/cpu/plain/movement.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/movement.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
// The plain loops, compiled for wider vectors.
void sum_over_particles_float(const SumOverParticlesArgs<float>& a) {
  plain::sum_over_particles(a);
}
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(sum_over_particles_float);

template <class Real>
void move_rows(const MoveRowsArgs<Real>& a) {
  check(a);
  if (a.D > 0) plain::move_rows(a);
}
template void move_rows(const MoveRowsArgs<float>&);
template void move_rows(const MoveRowsArgs<double>&);

template <>
void sum_over_particles(const SumOverParticlesArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(sum_over_particles_float)(a);
}
template <>
void sum_over_particles(const SumOverParticlesArgs<double>& a) {
  check(a);
  plain::sum_over_particles(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

#include "seqvae/kernels/optimizer.hpp"

#include "host/cpu/plain/optimizer.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/optimizer.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
// The plain loops, compiled for wider vectors: the same bits.
void adamw_float(const AdamWArgs<float>& a) { plain::adamw(a); }
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(adamw_float);

template <>
void adamw(const AdamWArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(adamw_float)(a);
}
template <>
void adamw(const AdamWArgs<double>& a) {
  check(a);
  plain::adamw(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

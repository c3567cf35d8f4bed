#include "seqvae/kernels/normalization.hpp"

#include "host/cpu/plain/normalization.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/normalization.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_rows-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

/// The mean of a row (rms: 0) and its scale s.
struct RowScale {
  float mean = 0, s = 0;

  RowScale(Normalization kind, float epsilon, const float* x, std::int64_t D) {
    const float n = static_cast<float>(D);
    if (kind == Normalization::layer) {
      mean = sum_columns(D, [&](std::int64_t d, auto lanes) HWY_ATTR { return lanes.load(x + d); });
      mean /= n;
    }
    const float square = sum_columns(D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V centred = hn::Sub(lanes.load(x + d), set(mean));
      return hn::Mul(centred, centred);
    });
    s = 1 / std::sqrt(square / n + epsilon);
  }
  template <class Lanes>
  HWY_INLINE V y(const float* x, Lanes lanes) const {
    return hn::Mul(hn::Sub(lanes.load(x), set(mean)), set(s));
  }
};

void normalize_float(const NormalizeArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x[r];
    float* y = a.y[r];
    const RowScale row(a.kind, a.epsilon, x, a.D);
    for_columns(
        a.D, [&](std::int64_t d, auto lanes) HWY_ATTR { lanes.store(row.y(x + d, lanes), y + d); });
  }
}

void normalize_backward_float(const NormalizeBackwardArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const float *x = a.x[r], *grad_y = a.grad_y[r], n = static_cast<float>(a.D);
    float* grad_x = a.grad_x[r];
    const RowScale row(a.kind, a.epsilon, x, a.D);
    float mean_grad = 0;
    if (a.kind == Normalization::layer) {
      mean_grad = sum_columns(
          a.D, [&](std::int64_t d, auto lanes) HWY_ATTR { return lanes.load(grad_y + d); });
      mean_grad /= n;
    }
    const float mean_grad_y =
        sum_columns(a.D,
                    [&](std::int64_t d, auto lanes)
                        HWY_ATTR { return hn::Mul(lanes.load(grad_y + d), row.y(x + d, lanes)); }) /
        n;
    for_columns(a.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V centred = hn::Sub(lanes.load(grad_y + d), set(mean_grad));
      const V along = hn::NegMulAdd(row.y(x + d, lanes), set(mean_grad_y), centred);
      lanes.store(hn::Mul(set(row.s), along), grad_x + d);
    });
  }
}

#else
void normalize_float(const NormalizeArgs<float>& a) { plain::normalize(a); }
void normalize_backward_float(const NormalizeBackwardArgs<float>& a) {
  plain::normalize_backward(a);
}
#endif
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(normalize_float);
HWY_EXPORT(normalize_backward_float);

template <>
void normalize(const NormalizeArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(normalize_float)(a);
}
template <>
void normalize(const NormalizeArgs<double>& a) {
  check(a);
  plain::normalize(a);
}

template <>
void normalize_backward(const NormalizeBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(normalize_backward_float)(a);
}
template <>
void normalize_backward(const NormalizeBackwardArgs<double>& a) {
  check(a);
  plain::normalize_backward(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

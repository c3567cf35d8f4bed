#include "seqvae/kernels/reduce.hpp"

#include <cmath>

#include "host/cpu/plain/reduce.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/reduce.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_rows-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

void log_mean_exp_float(const LogMeanExpArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.K;
    float largest, sum;
    max_and_sum_of_exp(x, a.K, largest, sum);
    if (std::isfinite(sum)) {
      a.y[r] = largest + std::log(sum / static_cast<float>(a.K));
    } else {  // infinities and NaN
      plain::log_mean_exp(LogMeanExpArgs<float>{1, a.K, x, a.y + r});
    }
  }
}

void log_mean_exp_backward_float(const LogMeanExpBackwardArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.K;
    float* grad_x = a.grad_x + r * a.K;
    float largest, sum;
    max_and_sum_of_exp(x, a.K, largest, sum);
    if (!std::isfinite(sum)) {
      plain::log_mean_exp_backward(LogMeanExpBackwardArgs<float>{1, a.K, x, a.grad_y + r, grad_x});
      continue;
    }
    const V scale = set(a.grad_y[r] / sum), most = set(largest);
    for_columns(a.K, [&](std::int64_t k, auto lanes) HWY_ATTR {
      lanes.store(hn::Mul(exp(hn::Sub(lanes.load(x + k), most)), scale), grad_x + k);
    });
  }
}

#else
void log_mean_exp_float(const LogMeanExpArgs<float>& a) { plain::log_mean_exp(a); }
void log_mean_exp_backward_float(const LogMeanExpBackwardArgs<float>& a) {
  plain::log_mean_exp_backward(a);
}
#endif

// The plain loops, compiled for wider vectors.
void sum_over_time_float(const SumOverTimeArgs<float>& a) { plain::sum_over_time(a); }
void sum_over_rows_float(const SumOverRowsArgs<float>& a) { plain::sum_over_rows(a); }
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(log_mean_exp_float);
HWY_EXPORT(log_mean_exp_backward_float);
HWY_EXPORT(sum_over_time_float);
HWY_EXPORT(sum_over_rows_float);

template <>
void log_mean_exp(const LogMeanExpArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(log_mean_exp_float)(a);
}
template <>
void log_mean_exp(const LogMeanExpArgs<double>& a) {
  check(a);
  plain::log_mean_exp(a);
}

template <>
void log_mean_exp_backward(const LogMeanExpBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(log_mean_exp_backward_float)(a);
}
template <>
void log_mean_exp_backward(const LogMeanExpBackwardArgs<double>& a) {
  check(a);
  plain::log_mean_exp_backward(a);
}

template <>
void sum_over_time(const SumOverTimeArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(sum_over_time_float)(a);
}
template <>
void sum_over_time(const SumOverTimeArgs<double>& a) {
  check(a);
  plain::sum_over_time(a);
}

template <>
void sum_over_rows(const SumOverRowsArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(sum_over_rows_float)(a);
}
template <>
void sum_over_rows(const SumOverRowsArgs<double>& a) {
  check(a);
  plain::sum_over_rows(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

#include "seqvae/kernels/likelihood.hpp"

#include <cmath>

#include "host/cpu/plain/likelihood.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/likelihood.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_rows-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

/// Lanes that are observed; without a mask all are.
template <class Lanes>
HWY_INLINE V seen(const float* mask, std::int64_t d, Lanes lanes, V value) {
  if (mask == nullptr) return value;
  return hn::IfThenElseZero(nonzero(lanes.load(mask + d)), value);
}

bool missing(const Rows<const float>& mask, std::int64_t r) { return mask && mask[r][0] == 0; }

void bernoulli(const LikelihoodArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const float *x = a.x[r], *logits = a.logits[r], *mask = a.mask ? a.mask[r] : nullptr;
    a.log_likelihood[r][0] = sum_columns(a.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V l = lanes.load(logits + d), u = exp_minus_abs(l);
      // x l - max(l, 0) is exact for x in {0, 1}: nothing cancels however large |l|.
      const V linear = hn::MulSub(lanes.load(x + d), l, hn::Max(l, hn::Zero(F())));
      return seen(mask, d, lanes, hn::NegMulAdd(u, log1p_ratio(u), linear));
    });
  }
}

void categorical(const LikelihoodArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    a.log_likelihood[r][0] = 0;
    if (a.D == 0 || missing(a.mask, r)) continue;
    const float *x = a.x[r], *logits = a.logits[r];
    float largest, sum;
    max_and_sum_of_exp(logits, a.D, largest, sum);
    const V most = set(largest), log_sum = set(std::log(sum));
    a.log_likelihood[r][0] = sum_columns(a.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V chosen = lanes.load(x + d), l = lanes.load(logits + d);
      const V log_p = hn::Sub(hn::Sub(l, most), log_sum);
      // An impossible class that was not seen adds 0, not 0 times infinity.
      return hn::IfThenElseZero(nonzero(chosen), hn::Mul(chosen, log_p));
    });
  }
}

void likelihood_float(const LikelihoodArgs<float>& a) {
  switch (a.kind) {
    case Likelihood::bernoulli:
      return bernoulli(a);
    case Likelihood::categorical:
      return categorical(a);
    case Likelihood::poisson:
      return plain::likelihood(a);  // bound by lgamma
  }
}

/// The mean of each component, for one row: what the gradient is taken against, too.
template <class Visit>
HWY_INLINE void for_means(Likelihood kind, const float* logits, std::int64_t D, Visit&& visit) {
  switch (kind) {
    case Likelihood::bernoulli:
      for_columns(D, [&](std::int64_t d, auto lanes)
                         HWY_ATTR { visit(d, lanes, sigmoid(lanes.load(logits + d))); });
      break;
    case Likelihood::categorical:
      for_softmax(logits, D, visit);
      break;
    case Likelihood::poisson:
      for_columns(D, [&](std::int64_t d, auto lanes)
                         HWY_ATTR { visit(d, lanes, exp(lanes.load(logits + d))); });
      break;
  }
}

void likelihood_mean_float(const LikelihoodMeanArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    float* mean = a.mean[r];
    for_means(a.kind, a.logits[r], a.D,
              [&](std::int64_t d, auto lanes, V m) HWY_ATTR { lanes.store(m, mean + d); });
  }
}

void likelihood_backward_float(const LikelihoodBackwardArgs<float>& a) {
  const bool categorical = a.kind == Likelihood::categorical;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x[r];
    const float* mask = a.mask && !categorical ? a.mask[r] : nullptr;
    float* grad_logits = a.grad_logits[r];
    if (categorical && a.D > 0 && missing(a.mask, r)) {
      std::fill(grad_logits, grad_logits + a.D, 0.0f);
      continue;
    }
    const V grad = set(a.grad_log_likelihood[r][0]);
    for_means(a.kind, a.logits[r], a.D, [&](std::int64_t d, auto lanes, V mean) HWY_ATTR {
      const V by_logit = hn::Mul(grad, hn::Sub(lanes.load(x + d), mean));
      lanes.store(seen(mask, d, lanes, by_logit), grad_logits + d);
    });
  }
}

#else
void likelihood_float(const LikelihoodArgs<float>& a) { plain::likelihood(a); }
void likelihood_backward_float(const LikelihoodBackwardArgs<float>& a) {
  plain::likelihood_backward(a);
}
void likelihood_mean_float(const LikelihoodMeanArgs<float>& a) { plain::likelihood_mean(a); }
#endif
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(likelihood_float);
HWY_EXPORT(likelihood_backward_float);
HWY_EXPORT(likelihood_mean_float);

template <>
void likelihood(const LikelihoodArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(likelihood_float)(a);
}
template <>
void likelihood(const LikelihoodArgs<double>& a) {
  check(a);
  plain::likelihood(a);
}

template <>
void likelihood_backward(const LikelihoodBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(likelihood_backward_float)(a);
}
template <>
void likelihood_backward(const LikelihoodBackwardArgs<double>& a) {
  check(a);
  plain::likelihood_backward(a);
}

template <>
void likelihood_mean(const LikelihoodMeanArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(likelihood_mean_float)(a);
}
template <>
void likelihood_mean(const LikelihoodMeanArgs<double>& a) {
  check(a);
  plain::likelihood_mean(a);
}

template <>
void likelihood_sample(const LikelihoodSampleArgs<float>& a) {
  check(a);
  plain::likelihood_sample(a);
}
template <>
void likelihood_sample(const LikelihoodSampleArgs<double>& a) {
  check(a);
  plain::likelihood_sample(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

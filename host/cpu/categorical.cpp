#include "seqvae/kernels/categorical.hpp"

#include "host/cpu/plain/categorical.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/categorical.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_rows-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

void softmax_float(const SoftmaxArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t g = 0; g < a.groups; ++g) {
      float* p = a.p[r] + g * a.C;
      for_softmax(a.logits[r] + g * a.C, a.C,
                  [&](std::int64_t c, auto lanes, V probability)
                      HWY_ATTR { lanes.store(probability, p + c); });
    }
  }
}

void softmax_backward_float(const SoftmaxBackwardArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t g = 0; g < a.groups; ++g) {
      const float *p = a.p[r] + g * a.C, *grad_p = a.grad_p[r] + g * a.C;
      float* grad_logits = a.grad_logits[r] + g * a.C;
      const float mean = sum_columns(a.C, [&](std::int64_t c, auto lanes) HWY_ATTR {
        return hn::Mul(lanes.load(grad_p + c), lanes.load(p + c));
      });
      for_columns(a.C, [&](std::int64_t c, auto lanes) HWY_ATTR {
        const V centred = hn::Sub(lanes.load(grad_p + c), set(mean));
        lanes.store(hn::Mul(lanes.load(p + c), centred), grad_logits + c);
      });
    }
  }
}

/// One group of q and p: log q and log p are l - largest - log sum.
struct Pair {
  const float *q, *p;
  float largest_q, largest_p, sum_q, sum_p, log_sum_q, log_sum_p;

  Pair(const float* logits_q, const float* logits_p, std::int64_t C) : q(logits_q), p(logits_p) {
    max_and_sum_of_exp(q, C, largest_q, sum_q);
    max_and_sum_of_exp(p, C, largest_p, sum_p);
    log_sum_q = std::log(sum_q), log_sum_p = std::log(sum_p);
  }
  template <class Lanes>
  HWY_INLINE V probability_q(std::int64_t c, Lanes lanes) const {
    return hn::Div(exp(hn::Sub(lanes.load(q + c), set(largest_q))), set(sum_q));
  }
  template <class Lanes>
  HWY_INLINE V probability_p(std::int64_t c, Lanes lanes) const {
    return hn::Div(exp(hn::Sub(lanes.load(p + c), set(largest_p))), set(sum_p));
  }
  /// q (log q - log p), which is 0 where q is.
  template <class Lanes>
  HWY_INLINE V term(std::int64_t c, Lanes lanes) const {
    const V probability = probability_q(c, lanes);
    const V log_q = hn::Sub(hn::Sub(lanes.load(q + c), set(largest_q)), set(log_sum_q));
    const V log_p = hn::Sub(hn::Sub(lanes.load(p + c), set(largest_p)), set(log_sum_p));
    return hn::IfThenElseZero(nonzero(probability), hn::Mul(probability, hn::Sub(log_q, log_p)));
  }
  float kl(std::int64_t C) const {
    return sum_columns(C, [&](std::int64_t c, auto lanes) HWY_ATTR { return term(c, lanes); });
  }
};

void categorical_kl_float(const CategoricalKlArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    float sum = 0;
    for (std::int64_t g = 0; g < a.groups; ++g) {
      sum += Pair(a.logits_q[r] + g * a.C, a.logits_p[r] + g * a.C, a.C).kl(a.C);
    }
    a.kl_sum[r][0] = sum;
  }
}

void categorical_kl_backward_float(const CategoricalKlBackwardArgs<float>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t g = 0; g < a.groups; ++g) {
      const Pair pair(a.logits_q[r] + g * a.C, a.logits_p[r] + g * a.C, a.C);
      float* grad_q = a.grad_logits_q ? a.grad_logits_q[r] + g * a.C : nullptr;
      float* grad_p = a.grad_logits_p ? a.grad_logits_p[r] + g * a.C : nullptr;
      const V grad = set(a.grad_kl_sum[r][0]), kl = set(pair.kl(a.C));
      for_columns(a.C, [&](std::int64_t c, auto lanes) HWY_ATTR {
        const V q = pair.probability_q(c, lanes), p = pair.probability_p(c, lanes);
        const V by_q = hn::Mul(grad, hn::NegMulAdd(q, kl, pair.term(c, lanes)));
        if (grad_q != nullptr) lanes.store(by_q, grad_q + c);
        if (grad_p != nullptr) lanes.store(hn::Mul(grad, hn::Sub(p, q)), grad_p + c);
      });
    }
  }
}

#else
void softmax_float(const SoftmaxArgs<float>& a) { plain::softmax(a); }
void softmax_backward_float(const SoftmaxBackwardArgs<float>& a) { plain::softmax_backward(a); }
void categorical_kl_float(const CategoricalKlArgs<float>& a) { plain::categorical_kl(a); }
void categorical_kl_backward_float(const CategoricalKlBackwardArgs<float>& a) {
  plain::categorical_kl_backward(a);
}
#endif
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(softmax_float);
HWY_EXPORT(softmax_backward_float);
HWY_EXPORT(categorical_kl_float);
HWY_EXPORT(categorical_kl_backward_float);

template <>
void softmax(const SoftmaxArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(softmax_float)(a);
}
template <>
void softmax(const SoftmaxArgs<double>& a) {
  check(a);
  plain::softmax(a);
}

template <>
void softmax_backward(const SoftmaxBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(softmax_backward_float)(a);
}
template <>
void softmax_backward(const SoftmaxBackwardArgs<double>& a) {
  check(a);
  plain::softmax_backward(a);
}

template <>
void categorical_kl(const CategoricalKlArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(categorical_kl_float)(a);
}
template <>
void categorical_kl(const CategoricalKlArgs<double>& a) {
  check(a);
  plain::categorical_kl(a);
}

template <>
void categorical_kl_backward(const CategoricalKlBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(categorical_kl_backward_float)(a);
}
template <>
void categorical_kl_backward(const CategoricalKlBackwardArgs<double>& a) {
  check(a);
  plain::categorical_kl_backward(a);
}

template <>
void one_hot_sample(const OneHotSampleArgs<float>& a) {
  check(a);
  plain::one_hot_sample(a);
}
template <>
void one_hot_sample(const OneHotSampleArgs<double>& a) {
  check(a);
  plain::one_hot_sample(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

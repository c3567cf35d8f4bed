#include "seqvae/kernels/activation.hpp"

#include <type_traits>

#include "host/cpu/plain/activation.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/activation.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_rows-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

template <Activation kind>
HWY_INLINE V activate(V x) {
  const V zero = hn::Zero(F());
  switch (kind) {
    case Activation::relu:
      return hn::IfThenElse(hn::Lt(x, zero), zero, x);
    case Activation::tanh:
      return tanh(x);
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::softplus:
      return softplus(x);
    case Activation::exp:
      return exp(x);
    case Activation::elu:
      return hn::IfThenElse(hn::Gt(x, zero), x, expm1(x));
    case Activation::leaky_relu:
      return hn::IfThenElse(hn::Gt(x, zero), x, hn::Mul(x, set(0.01f)));
    case Activation::identity:
      break;
  }
  return x;
}

/// dy / dx as a function of y.
template <Activation kind>
HWY_INLINE V slope(V y) {
  const V one = set(1.0f);
  const auto positive = hn::Gt(y, hn::Zero(F()));
  switch (kind) {
    case Activation::relu:
      return hn::IfThenElseZero(positive, one);
    case Activation::tanh:
      return hn::Mul(hn::Sub(one, y), hn::Add(one, y));
    case Activation::sigmoid:
      return hn::Mul(y, hn::Sub(one, y));
    case Activation::softplus:
      return hn::Neg(expm1(hn::Neg(y)));
    case Activation::exp:
      return y;
    case Activation::elu:
      return hn::IfThenElse(positive, one, hn::Add(one, y));
    case Activation::leaky_relu:
      return hn::IfThenElse(positive, one, set(0.01f));
    case Activation::identity:
      break;
  }
  return one;
}

template <Activation kind>
void forward(const ActivationArgs<float>& a) {
  const Shape shape = flat(a.rows, a.D, a.x, a.y);
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    const float* x = a.x[r];
    float* y = a.y[r];
    for_columns(shape.D, [&](std::int64_t d, auto lanes)
                             HWY_ATTR { lanes.store(activate<kind>(lanes.load(x + d)), y + d); });
  }
}

template <Activation kind>
void backward(const ActivationBackwardArgs<float>& a) {
  const Shape shape = flat(a.rows, a.D, a.y, a.grad_y, a.grad_x);
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    const float *y = a.y[r], *grad_y = a.grad_y[r];
    float* grad_x = a.grad_x[r];
    for_columns(shape.D, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V grad = hn::Mul(slope<kind>(lanes.load(y + d)), lanes.load(grad_y + d));
      lanes.store(grad, grad_x + d);
    });
  }
}

void activation_float(const ActivationArgs<float>& a) {
  switch (a.kind) {
    case Activation::identity:
      return forward<Activation::identity>(a);
    case Activation::relu:
      return forward<Activation::relu>(a);
    case Activation::tanh:
      return forward<Activation::tanh>(a);
    case Activation::sigmoid:
      return forward<Activation::sigmoid>(a);
    case Activation::softplus:
      return forward<Activation::softplus>(a);
    case Activation::exp:
      return forward<Activation::exp>(a);
    case Activation::elu:
      return forward<Activation::elu>(a);
    case Activation::leaky_relu:
      return forward<Activation::leaky_relu>(a);
  }
}

void activation_backward_float(const ActivationBackwardArgs<float>& a) {
  switch (a.kind) {
    case Activation::identity:
      return backward<Activation::identity>(a);
    case Activation::relu:
      return backward<Activation::relu>(a);
    case Activation::tanh:
      return backward<Activation::tanh>(a);
    case Activation::sigmoid:
      return backward<Activation::sigmoid>(a);
    case Activation::softplus:
      return backward<Activation::softplus>(a);
    case Activation::exp:
      return backward<Activation::exp>(a);
    case Activation::elu:
      return backward<Activation::elu>(a);
    case Activation::leaky_relu:
      return backward<Activation::leaky_relu>(a);
  }
}

#else
void activation_float(const ActivationArgs<float>& a) { plain::activation(a); }
void activation_backward_float(const ActivationBackwardArgs<float>& a) {
  plain::activation_backward(a);
}
#endif
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(activation_float);
HWY_EXPORT(activation_backward_float);

template <>
void activation(const ActivationArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(activation_float)(a);
}
template <>
void activation(const ActivationArgs<double>& a) {
  check(a);
  plain::activation(a);
}
template <>
void activation_backward(const ActivationBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(activation_backward_float)(a);
}
template <>
void activation_backward(const ActivationBackwardArgs<double>& a) {
  check(a);
  plain::activation_backward(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

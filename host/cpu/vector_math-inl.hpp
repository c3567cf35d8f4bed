// The non-linear functions on vectors of float: within a few ulp over the whole range, infinities
// and denormals included; NaN stays NaN. All is fma and exact steps, so a lane's bits depend on
// neither its neighbours nor the width of the vector. Polynomials are minimax fits whose
// coefficients were rounded to float one after the other; the errors named are the fits'.
#if defined(SEQVAE_VECTOR_MATH_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQVAE_VECTOR_MATH_INL
#undef SEQVAE_VECTOR_MATH_INL
#else
#define SEQVAE_VECTOR_MATH_INL
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
#if HWY_NATIVE_FMA
namespace seqvae::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::CappedTag<float, 16>;
using I = hn::RebindToSigned<F>;
using U = hn::RebindToUnsigned<F>;
using V = hn::Vec<F>;
using Mask = hn::Mask<F>;

HWY_INLINE V set(float value) { return hn::Set(F(), value); }

/// x != 0 as C has it, true of NaN; hn::Ne is false of NaN.
HWY_INLINE auto nonzero(V x) { return hn::Not(hn::Eq(x, hn::Zero(F()))); }

/// c[0] + c[1] x + ... by Horner's rule.
template <class... Rest>
HWY_INLINE V polynomial(V x, float c0, Rest... rest) {
  if constexpr (sizeof...(rest) == 0) {
    return set(c0);
  } else {
    return hn::MulAdd(polynomial(x, rest...), x, set(c0));
  }
}

/// p 2^n for whole n in [-254, 254], rounded once.
HWY_INLINE V scale(V p, V n) {
#if HWY_TARGET == HWY_AVX3
  return V{_mm512_scalef_ps(p.raw, n.raw)};
#else
  const auto whole = hn::NearestInt(n);
  const auto half = hn::ShiftRight<1>(whole), rest = hn::Sub(whole, half);
  const auto power = [](auto k) HWY_ATTR {
    return hn::BitCast(F(), hn::ShiftLeft<23>(hn::Add(k, hn::Set(I(), 127))));
  };
  return hn::Mul(hn::Mul(p, power(half)), power(rest));
#endif
}

/// x = n log 2 + r with |r| <= log(2) / 2, x clamped to [low, 89], where exp overflows.
struct Reduced {
  V n, r;
};
HWY_INLINE Reduced reduce(V x, float low) {
  x = hn::Max(set(low), hn::Min(set(89.0f), x));  // in this order NaN stays NaN
  const V n = hn::Round(hn::Mul(x, set(0x1.715476p+0f)));
  const V r = hn::NegMulAdd(n, set(0x1.62e430p-1f), x);
  return {n, hn::NegMulAdd(n, set(-0x1.05c610p-29f), r)};
}

/// exp(r) - 1 for |r| <= log(2) / 2, 1.4e-8 relative.
HWY_INLINE V expm1_reduced(V r) {
  const V p =
      polynomial(r, 0x1p-1f, 0x1.5554b2p-3f, 0x1.5554c8p-5f, 0x1.122680p-7f, 0x1.6d722cp-10f);
  return hn::MulAdd(hn::Mul(r, r), p, r);
}

/// exp(x)
HWY_INLINE V exp(V x) {
  const Reduced x_ = reduce(x, -105.0f);  // exp(-105) rounds to 0
  return scale(hn::Add(set(1.0f), expm1_reduced(x_.r)), x_.n);
}

/// 2^n (1 + p) - 1, for n >= -126: with half the power, since 2^128 is no float.
HWY_INLINE V minus_one(V n, V p) {
  const V half = scale(set(0.5f), n);
  const V sum = hn::MulAdd(half, p, hn::Sub(half, set(0.5f)));
  return hn::Add(sum, sum);
}

/// exp(x) - 1
HWY_INLINE V expm1(V x) {
  const Reduced x_ = reduce(x, -87.0f);
  return minus_one(x_.n, expm1_reduced(x_.r));
}

/// exp(x) - 1 - x, which is x^2 / 2 near 0: nothing cancels there.
HWY_INLINE V expm1_minus(V x) {
  const Reduced x_ = reduce(x, -87.0f);
  const V r = x_.r;
  const V square =
      hn::Mul(hn::Mul(r, r), polynomial(r, 0x1p-1f, 0x1.555556p-3f, 0x1.55550cp-5f, 0x1.111054p-7f,
                                        0x1.6d2246p-10f, 0x1.a1848cp-13f));  // 3.9e-9
  const V other = hn::Sub(minus_one(x_.n, hn::Add(r, square)), x);
  return hn::IfThenElse(hn::Eq(x_.n, hn::Zero(F())), square, other);
}

/// log(1 + u) / u for u in [0, 1], 5.3e-9 relative.
HWY_INLINE V log1p_ratio(V u) {
  return polynomial(u, 1.0f, -0x1.ffffd2p-2f, 0x1.554dd4p-2f, -0x1.ff249ep-3f, 0x1.93510cp-3f,
                    -0x1.3a597ap-3f, 0x1.b50b32p-4f, -0x1.d78b46p-5f, 0x1.4a24a0p-6f,
                    -0x1.b1650ep-9f);
}

/// log(x) for normal x > 0, infinity and NaN; the polynomial of log_unit in core/random.hpp.
HWY_INLINE V log_positive(V x) {
  const auto shifted = hn::Sub(hn::BitCast(U(), x), hn::Set(U(), 0x3F3504F3u));
  const V e = hn::ConvertTo(F(), hn::ShiftRight<23>(hn::BitCast(I(), shifted)));
  const auto mantissa =
      hn::Add(hn::And(shifted, hn::Set(U(), 0x007FFFFFu)), hn::Set(U(), 0x3F3504F3u));
  const V f = hn::Sub(hn::BitCast(F(), mantissa), set(1.0f));
  const V p = polynomial(f, 3.3333331174e-1f, -2.4999993993e-1f, 2.0000714765e-1f,
                         -1.6668057665e-1f, 1.4249322787e-1f, -1.2420140846e-1f, 1.1676998740e-1f,
                         -1.1514610310e-1f, 7.0376836292e-2f);
  const V f2 = hn::Mul(f, f);
  V r = hn::MulAdd(e, set(-2.12194440e-4f), hn::Mul(hn::Mul(f, f2), p));
  r = hn::MulAdd(set(-0.5f), f2, r);
  const V log = hn::MulAdd(e, set(0.693359375f), hn::Add(f, r));
  return hn::IfThenElse(hn::Lt(x, set(0x1.fffffep+127f)), log, x);  // infinity and NaN
}

/// What softplus(x) and sigmoid(x) share: u = exp(-|x|).
HWY_INLINE V exp_minus_abs(V x) { return exp(hn::Neg(hn::Abs(x))); }

/// softplus(x) = max(x, 0) + log(1 + u)
HWY_INLINE V softplus(V x) {
  const V u = exp_minus_abs(x);
  return hn::MulAdd(u, log1p_ratio(u), hn::Max(x, hn::Zero(F())));
}

/// 1 / (1 + exp(-x)) = (x < 0 ? u : 1) / (1 + u)
HWY_INLINE V sigmoid_of(V x, V u) {
  const V one = set(1.0f);
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(F())), u, one), hn::Add(one, u));
}
HWY_INLINE V sigmoid(V x) { return sigmoid_of(x, exp_minus_abs(x)); }

/// tanh(x): a polynomial (Cephes' tanhf) below 5/8, 1 - 2 / (exp(2 |x|) + 1) above.
HWY_INLINE V tanh(V x) {
  const V magnitude = hn::Abs(x), y = hn::Mul(x, x);
  const V p = polynomial(y, -3.33332819422e-1f, 1.33314422036e-1f, -5.37397155531e-2f,
                         2.06390887954e-2f, -5.70498872745e-3f);
  const V small = hn::MulAdd(hn::Mul(p, y), x, x);
  const V t = exp(hn::Add(magnitude, magnitude));
  const V large = hn::Sub(set(1.0f), hn::Div(set(2.0f), hn::Add(t, set(1.0f))));
  return hn::IfThenElse(hn::Lt(magnitude, set(0.625f)), small, hn::CopySign(large, x));
}

/// softplus(x) / exp(min(x, 0)), which falls to 1, not to 0, as x falls; u = exp(-|x|).
HWY_INLINE V scaled_softplus(V x, V u) {
  const V p = log1p_ratio(u);
  return hn::IfThenElse(hn::Lt(x, hn::Zero(F())), p, hn::MulAdd(u, p, x));
}

}  // namespace seqvae::cpu::HWY_NAMESPACE
#endif  // HWY_NATIVE_FMA
HWY_AFTER_NAMESPACE();

#endif  // per target

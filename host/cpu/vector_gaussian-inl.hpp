// The terms of diagonal Gaussians on vectors: (mu, logvar) of a row, the KL divergence of one
// component and its gradient.
#if defined(SEQVAE_VECTOR_GAUSSIAN_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQVAE_VECTOR_GAUSSIAN_INL
#undef SEQVAE_VECTOR_GAUSSIAN_INL
#else
#define SEQVAE_VECTOR_GAUSSIAN_INL
#endif

#include "host/cpu/vector_rows-inl.hpp"

HWY_BEFORE_NAMESPACE();
#if HWY_NATIVE_FMA
namespace seqvae::cpu::HWY_NAMESPACE {

struct MuLogvar {
  V mu, logvar;
};

/// One row of a Gaussian, or of its gradient; either may not be given.
template <class Real>
struct Pair {
  Real *mu, *logvar;

  HWY_INLINE Pair(const Rows<Real>& mu_, const Rows<Real>& logvar_, std::int64_t row,
                  std::int64_t d0 = 0)
      : mu(mu_ ? mu_[row] + d0 : nullptr), logvar(logvar_ ? logvar_[row] + d0 : nullptr) {}
  HWY_INLINE bool given() const { return mu != nullptr; }
  /// Zeros where not given.
  template <class Lanes>
  HWY_INLINE MuLogvar load(std::int64_t d, Lanes lanes) const {
    if (!given()) return {hn::Zero(F()), hn::Zero(F())};
    return {lanes.load(mu + d), lanes.load(logvar + d)};
  }
  template <class Lanes>
  HWY_INLINE void store(MuLogvar value, std::int64_t d, Lanes lanes) const {
    if (mu != nullptr) lanes.store(value.mu, mu + d);
    if (logvar != nullptr) lanes.store(value.logvar, logvar + d);
  }
};

/// (mu_q - mu_p) exp(-logvar_p / 2), and the root of the precision; without a prior N(0, I).
struct Scaled {
  V root, difference;
};
HWY_INLINE Scaled scaled(MuLogvar q, MuLogvar p, bool prior) {
  if (!prior) return {set(1.0f), q.mu};
  const V root = exp(hn::Mul(set(-0.5f), p.logvar));
  return {root, hn::Mul(hn::Sub(q.mu, p.mu), root)};
}

/// 1/2 [ exp(x) - 1 - x + scaled^2 ],  x = logvar_q - logvar_p
HWY_INLINE V kl_term(MuLogvar q, MuLogvar p, bool prior) {
  const V x = prior ? hn::Sub(q.logvar, p.logvar) : q.logvar;
  const V difference = scaled(q, p, prior).difference;
  return hn::Mul(set(0.5f), hn::MulAdd(difference, difference, expm1_minus(x)));
}

/// The gradient by mu_p is that by mu_q with the other sign.
struct KlGradient {
  V mu_q, logvar_q, logvar_p;
};
HWY_INLINE KlGradient kl_gradient(MuLogvar q, MuLogvar p, bool prior, V grad) {
  const V excess = expm1(prior ? hn::Sub(q.logvar, p.logvar) : q.logvar);
  const Scaled s = scaled(q, p, prior);
  const V half = hn::Mul(set(0.5f), grad);
  return {hn::Mul(hn::Mul(grad, s.difference), s.root), hn::Mul(half, excess),
          hn::Neg(hn::Mul(half, hn::MulAdd(s.difference, s.difference, excess)))};
}

}  // namespace seqvae::cpu::HWY_NAMESPACE
#endif  // HWY_NATIVE_FMA
HWY_AFTER_NAMESPACE();

#endif  // per target

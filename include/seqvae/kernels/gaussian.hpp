/// \file  Diagonal Gaussians (mu, logvar): heads, reparameterised samples, KL divergence, density.
///
///     head    logvar = clamp(raw, -15, 15)                        exp
///                      log softplus(raw)                          softplus_var
///                      2 log(softplus(raw + shift) + floor)       softplus_std
///     sample  z = mu + exp(logvar / 2) eps,   eps ~ N(0, 1) of core/random.hpp, or given
///     KL      kl[d] = 1/2 [ logvar_p - logvar_q - 1 + exp(logvar_q - logvar_p)
///                           + (mu_q - mu_p)^2 exp(-logvar_p) ]
///     density log p[d] = -1/2 [ log 2 pi + logvar + (x - mu)^2 exp(-logvar) ]
///
/// Kingma & Welling, arXiv:1312.6114. KL sums d in the order of the row, in one fixed way whatever
/// the row's place. Noise is regenerated in backward, never stored.
#pragma once
#include "seqvae/core/random.hpp"
#include "seqvae/core/stream.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae {

enum class ScaleMap { exp, softplus_var, softplus_std };

template <class Real>
struct GaussianHeadArgs {
  ScaleMap map = ScaleMap::exp;
  Real shift = 0, floor = 0;     ///< softplus_std only
  std::int64_t rows = 0, D = 0;  ///< >= 0
  Rows<const Real> raw;          ///< [rows][D]
  Rows<Real> logvar;             ///< out [rows][D]
};

template <class Real>
struct GaussianHeadBackwardArgs {
  ScaleMap map = ScaleMap::exp;
  Real shift = 0, floor = 0;
  std::int64_t rows = 0, D = 0;
  Rows<const Real> raw;          ///< [rows][D]
  Rows<const Real> grad_logvar;  ///< [rows][D]
  Rows<Real> grad_raw;           ///< out [rows][D]; 0 where exp was clamped
};

/// Where a draw's noise comes from.
template <class Real>
struct NoiseArgs {
  RowLayout layout;  ///< gives each row its t, b and k
  NoiseKey key;
  const std::uint32_t* sequence_id = nullptr;  ///< [B]  in the data set
  const std::uint64_t* step = nullptr;         ///< [1]  in memory, so that a replayed graph redraws
  Rows<const Real> eps;                        ///< [rows][D]  given: used in place of a draw
};

template <class Real>
struct GaussianSampleArgs {
  std::int64_t D = 0;  ///< rows are noise.layout's
  NoiseArgs<Real> noise;
  Rows<const Real> mu, logvar;  ///< [rows][D]
  Rows<Real> z;                 ///< out [rows][D]  0 in padding
};

template <class Real>
struct GaussianSampleBackwardArgs {
  std::int64_t D = 0;
  NoiseArgs<Real> noise;    ///< the forward's: the same noise is drawn again
  Rows<const Real> logvar;  ///< [rows][D]
  Rows<const Real> grad_z;  ///< [rows][D]
  Rows<Real> grad_mu;       ///< out [rows][D] = grad_z; optional (0 in padding)
  Rows<Real> grad_logvar;   ///< out [rows][D] = grad_z eps exp(logvar / 2) / 2
};

template <class Real>
struct GaussianKlArgs {
  std::int64_t rows = 0, D = 0;
  Rows<const Real> mu_q, logvar_q;  ///< [rows][D]
  Rows<const Real> mu_p, logvar_p;  ///< [rows][D]  not given: N(0, I)
  Rows<Real> kl;                    ///< out [rows][D]  nats a dimension; optional
  Rows<Real> kl_sum;                ///< out [rows][1]  summed over d; optional
};

template <class Real>
struct GaussianKlBackwardArgs {
  std::int64_t rows = 0, D = 0;
  Rows<const Real> mu_q, logvar_q, mu_p, logvar_p;  ///< as forward
  Rows<const Real> grad_kl;                         ///< [rows][D]  optional
  Rows<const Real> grad_kl_sum;                     ///< [rows][1]  optional; both: added
  Rows<Real> grad_mu_q, grad_logvar_q, grad_mu_p, grad_logvar_p;  ///< out [rows][D]; each optional
};

/// gaussian_sample and the kl_sum of gaussian_kl in one pass over memory: z is the same bits.
template <class Real>
struct GaussianSampleKlArgs {
  std::int64_t D = 0;  ///< rows are noise.layout's
  NoiseArgs<Real> noise;
  Rows<const Real> mu_q, logvar_q;  ///< [rows][D]
  Rows<const Real> mu_p, logvar_p;  ///< [rows][D]  not given: N(0, I)
  Rows<Real> z;                     ///< out [rows][D]  0 in padding
  Rows<Real> kl_sum;                ///< out [rows][1]  nats, summed over d; 0 in padding
};

/// Both backwards in one pass; what they say of a row's mu_q and logvar_q is added up. All 0 in
/// padding.
template <class Real>
struct GaussianSampleKlBackwardArgs {
  std::int64_t D = 0;
  NoiseArgs<Real> noise;  ///< the forward's: the same noise is drawn again
  Rows<const Real> mu_q, logvar_q, mu_p, logvar_p;  ///< as forward
  Rows<const Real> grad_z;                          ///< [rows][D]
  Rows<const Real> grad_kl_sum;                     ///< [rows][1]
  Rows<Real> grad_mu_q, grad_logvar_q;              ///< out [rows][D]
  Rows<Real> grad_mu_p, grad_logvar_p;              ///< out [rows][D]; each optional
};

template <class Real>
struct GaussianLogDensityArgs {
  std::int64_t rows = 0, D = 0;
  Rows<const Real> x;           ///< [rows][D]  finite also where masked out
  Rows<const Real> mask;        ///< [rows][D]  1 observed, 0 missing; not given: all observed
  Rows<const Real> mu, logvar;  ///< [rows][D]
  Rows<Real> log_density;       ///< out [rows][1]  nats, summed over the observed d
};

template <class Real>
struct GaussianLogDensityBackwardArgs {
  std::int64_t rows = 0, D = 0;
  Rows<const Real> x, mask, mu, logvar;
  Rows<const Real> grad_log_density;        ///< [rows][1]
  Rows<Real> grad_x, grad_mu, grad_logvar;  ///< out [rows][D]; each optional
};

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const GaussianHeadArgs<Real>& args);
template <class Real>
void check(const GaussianHeadBackwardArgs<Real>& args);
template <class Real>
void check(const GaussianSampleArgs<Real>& args);
template <class Real>
void check(const GaussianSampleBackwardArgs<Real>& args);
template <class Real>
void check(const GaussianKlArgs<Real>& args);
template <class Real>
void check(const GaussianKlBackwardArgs<Real>& args);
template <class Real>
void check(const GaussianSampleKlArgs<Real>& args);
template <class Real>
void check(const GaussianSampleKlBackwardArgs<Real>& args);
template <class Real>
void check(const GaussianLogDensityArgs<Real>& args);
template <class Real>
void check(const GaussianLogDensityBackwardArgs<Real>& args);

namespace cuda {  ///< Enqueues one kernel on the stream; capturable; the same bits in every run.
void gaussian_head(const GaussianHeadArgs<float>& args, Stream stream);
void gaussian_head_backward(const GaussianHeadBackwardArgs<float>& args, Stream stream);
void gaussian_sample(const GaussianSampleArgs<float>& args, Stream stream);
void gaussian_sample_backward(const GaussianSampleBackwardArgs<float>& args, Stream stream);
void gaussian_kl(const GaussianKlArgs<float>& args, Stream stream);
void gaussian_kl_backward(const GaussianKlBackwardArgs<float>& args, Stream stream);
void gaussian_sample_kl(const GaussianSampleKlArgs<float>& args, Stream stream);
void gaussian_sample_kl_backward(const GaussianSampleKlBackwardArgs<float>& args, Stream stream);
void gaussian_log_density(const GaussianLogDensityArgs<float>& args, Stream stream);
void gaussian_log_density_backward(const GaussianLogDensityBackwardArgs<float>& args,
                                   Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void gaussian_head(const GaussianHeadArgs<Real>& args);
template <class Real>
void gaussian_head_backward(const GaussianHeadBackwardArgs<Real>& args);
template <class Real>
void gaussian_sample(const GaussianSampleArgs<Real>& args);
template <class Real>
void gaussian_sample_backward(const GaussianSampleBackwardArgs<Real>& args);
template <class Real>
void gaussian_kl(const GaussianKlArgs<Real>& args);
template <class Real>
void gaussian_kl_backward(const GaussianKlBackwardArgs<Real>& args);
template <class Real>
void gaussian_sample_kl(const GaussianSampleKlArgs<Real>& args);
template <class Real>
void gaussian_sample_kl_backward(const GaussianSampleKlBackwardArgs<Real>& args);
template <class Real>
void gaussian_log_density(const GaussianLogDensityArgs<Real>& args);
template <class Real>
void gaussian_log_density_backward(const GaussianLogDensityBackwardArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

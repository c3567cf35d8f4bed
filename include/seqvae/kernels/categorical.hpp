/// \file  Categorical latents: `groups` independent ones a row, each of C classes side by side.
///
///     softmax  p[g][c] = exp(l[g][c]) / sum_k exp(l[g][k])
///     draw     one-hot y[g] of p[g], by its cumulative sum and one uniform a group
///     KL       sum_g sum_c q[g][c] (log q[g][c] - log p[g][c]),  q = softmax(l_q), p =
///     softmax(l_p)
///
/// No gradient passes through a draw; the straight-through estimator (Bengio, Leonard, Courville,
/// arXiv:1308.3432) hands grad_y to the probabilities as it is, and needs no kernel. The likelihood
/// of categorical data is in likelihood.hpp. A logit of -infinity is a class that cannot be.
#pragma once
#include "seqvae/kernels/gaussian.hpp"

namespace seqvae {

template <class Real>
struct SoftmaxArgs {
  std::int64_t rows = 0, groups = 1, C = 0;  ///< >= 0
  Rows<const Real> logits;                   ///< [rows][groups C]
  Rows<Real> p;                              ///< out [rows][groups C]; may be logits
};

/// grad_logits = p (g - sum_c g p) in each group, g = grad_p.
template <class Real>
struct SoftmaxBackwardArgs {
  std::int64_t rows = 0, groups = 1, C = 0;
  Rows<const Real> p;       ///< [rows][groups C]  the forward's output
  Rows<const Real> grad_p;  ///< [rows][groups C]
  Rows<Real> grad_logits;   ///< out [rows][groups C]; may be grad_p
};

/// Group g of a row of `groups` draws by the uniform of component g (core/random.hpp). NaN in a
/// group, or no class with any probability: the whole group is NaN.
template <class Real>
struct OneHotSampleArgs {
  std::int64_t groups = 1, C = 0;  ///< rows are noise.layout's
  NoiseArgs<Real> noise;           ///< eps [rows][groups]: uniforms in (0, 1)
  Rows<const Real> p;              ///< [rows][groups C]  >= 0; need not sum to 1
  Rows<Real> y;                    ///< out [rows][groups C]  0 in padding
};

template <class Real>
struct CategoricalKlArgs {
  std::int64_t rows = 0, groups = 1, C = 0;
  Rows<const Real> logits_q, logits_p;  ///< [rows][groups C]
  Rows<Real> kl_sum;                    ///< out [rows][1]  nats, summed over the groups
};

/// grad_logits_q = g q (log q - log p - KL of the group), grad_logits_p = g (p - q),
/// g = grad_kl_sum.
template <class Real>
struct CategoricalKlBackwardArgs {
  std::int64_t rows = 0, groups = 1, C = 0;
  Rows<const Real> logits_q, logits_p;
  Rows<const Real> grad_kl_sum;             ///< [rows][1]
  Rows<Real> grad_logits_q, grad_logits_p;  ///< out [rows][groups C]; each optional
};

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const SoftmaxArgs<Real>& args);
template <class Real>
void check(const SoftmaxBackwardArgs<Real>& args);
template <class Real>
void check(const OneHotSampleArgs<Real>& args);
template <class Real>
void check(const CategoricalKlArgs<Real>& args);
template <class Real>
void check(const CategoricalKlBackwardArgs<Real>& args);

namespace cuda {  ///< Enqueues one kernel on the stream; capturable; the same bits in every run.
void softmax(const SoftmaxArgs<float>& args, Stream stream);
void softmax_backward(const SoftmaxBackwardArgs<float>& args, Stream stream);
void one_hot_sample(const OneHotSampleArgs<float>& args, Stream stream);
void categorical_kl(const CategoricalKlArgs<float>& args, Stream stream);
void categorical_kl_backward(const CategoricalKlBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void softmax(const SoftmaxArgs<Real>& args);
template <class Real>
void softmax_backward(const SoftmaxBackwardArgs<Real>& args);
template <class Real>
void one_hot_sample(const OneHotSampleArgs<Real>& args);
template <class Real>
void categorical_kl(const CategoricalKlArgs<Real>& args);
template <class Real>
void categorical_kl_backward(const CategoricalKlBackwardArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

/// \file  Log-likelihoods of discrete data from a network's output, their gradients and draws.
///
///     bernoulli    logits l:      log p = x l - softplus(l)
///     categorical  logits l[C]:   log p = l[x] - logsumexp(l);  x is one-hot, D = C
///     poisson      log rate l:    log p = x l - exp(l) - lgamma(x + 1)
///
/// summed over the observed components of a row. (The Gaussian's is in gaussian.hpp.) A
/// categorical row is observed where the mask of its first component is 1.
#pragma once
#include "seqvae/kernels/gaussian.hpp"

namespace seqvae {

enum class Likelihood { bernoulli, categorical, poisson };

template <class Real>
struct LikelihoodArgs {
  Likelihood kind = Likelihood::bernoulli;
  std::int64_t rows = 0, D = 0;  ///< >= 0
  Rows<const Real> x;            ///< [rows][D]  finite also where masked out
  Rows<const Real> mask;         ///< [rows][D]  1 observed, 0 missing; not given: all observed
  Rows<const Real> logits;       ///< [rows][D]
  Rows<Real> log_likelihood;     ///< out [rows][1]  nats
};

template <class Real>
struct LikelihoodBackwardArgs {
  Likelihood kind = Likelihood::bernoulli;
  std::int64_t rows = 0, D = 0;
  Rows<const Real> x, mask, logits;
  Rows<const Real> grad_log_likelihood;  ///< [rows][1]
  Rows<Real> grad_logits;                ///< out [rows][D]
};

/// A draw of each row's distribution. Uniforms are the words of core/random.hpp: bernoulli 1 where
/// uniform < sigmoid(l); categorical by the cumulative sum and the row's first uniform; poisson by
/// inversion below rate 64, else by a rounded normal of the same mean and variance.
template <class Real>
struct LikelihoodSampleArgs {
  Likelihood kind = Likelihood::bernoulli;
  std::int64_t D = 0;
  NoiseArgs<Real> noise;    ///< eps is not used
  Rows<const Real> logits;  ///< [rows][D]
  Rows<Real> x;             ///< out [rows][D]
};

/// sigmoid(l), softmax(l) or exp(l): the mean of each component.
template <class Real>
struct LikelihoodMeanArgs {
  Likelihood kind = Likelihood::bernoulli;
  std::int64_t rows = 0, D = 0;
  Rows<const Real> logits;  ///< [rows][D]
  Rows<Real> mean;          ///< out [rows][D]
};

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const LikelihoodArgs<Real>& args);
template <class Real>
void check(const LikelihoodBackwardArgs<Real>& args);
template <class Real>
void check(const LikelihoodSampleArgs<Real>& args);
template <class Real>
void check(const LikelihoodMeanArgs<Real>& args);

namespace cuda {  ///< Enqueues one kernel on the stream; capturable; the same bits in every run.
void likelihood(const LikelihoodArgs<float>& args, Stream stream);
void likelihood_backward(const LikelihoodBackwardArgs<float>& args, Stream stream);
void likelihood_sample(const LikelihoodSampleArgs<float>& args, Stream stream);
void likelihood_mean(const LikelihoodMeanArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void likelihood(const LikelihoodArgs<Real>& args);
template <class Real>
void likelihood_backward(const LikelihoodBackwardArgs<Real>& args);
template <class Real>
void likelihood_sample(const LikelihoodSampleArgs<Real>& args);
template <class Real>
void likelihood_mean(const LikelihoodMeanArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae

/// \file  Maximum likelihood of a linear-Gaussian model: L-BFGS on the exact gradient.
#pragma once
#include "seqvae/models/lbfgs.hpp"
#include "seqvae/models/lgssm_form.hpp"

namespace seqvae {

struct LgssmFitOptions {
  std::int64_t max_iterations = 500;
  double tolerance = 1e-8;     ///< of the largest entry of the gradient, nats a step
  ThreadPool* pool = nullptr;  ///< deals the sequences to threads
  /// After each iteration, with what the fit would go on from; false: stop here.
  std::function<bool(const LbfgsState& state, double log_likelihood, double gradient_norm)>
      on_iteration;
};

struct LgssmFit {
  LbfgsState state;  ///< state.x: the parameters, where a fit may go on
  double log_likelihood = 0;
  bool converged = false;
};

/// The log-likelihood summed over rows that count, and its gradient with respect to the parameters.
/// NaN where a covariance is not positive definite. \throws InvalidArgument as Lgssm does.
double lgssm_log_likelihood(const LgssmForm& form, const data::SequenceSet& set,
                            std::span<const double> parameters, std::span<double> gradient,
                            ThreadPool* pool = nullptr);

/// From form.start(set), or on from `resume`.
LgssmFit fit_lgssm(const LgssmForm& form, const data::SequenceSet& set,
                   const LgssmFitOptions& options = {}, const LbfgsState* resume = nullptr);

/// Standard deviation of each parameter: roots of the diagonal of the inverse of the observed
/// information, by central differences of the gradient. NaN where the log-likelihood is flat.
std::vector<double> lgssm_standard_errors(const LgssmForm& form, const data::SequenceSet& set,
                                          std::span<const double> parameters,
                                          ThreadPool* pool = nullptr);

}  // namespace seqvae

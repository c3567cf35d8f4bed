/// \file  Maximum likelihood of a linear-Gaussian model: L-BFGS on the exact gradient, or EM.
#pragma once
#include "seqvae/models/lbfgs.hpp"
#include "seqvae/models/lgssm_form.hpp"

namespace seqvae {

struct LgssmFitOptions {
  std::int64_t max_iterations = 500;
  double tolerance = 1e-8;     ///< of the largest entry of the gradient, nats a step
  Machine* machine = nullptr;  ///< as Lgssm takes it
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
                            Machine* machine = nullptr);

/// From form.start(set), or on from `resume`.
LgssmFit fit_lgssm(const LgssmForm& form, const data::SequenceSet& set,
                   const LgssmFitOptions& options = {}, const LbfgsState* resume = nullptr);

struct LgssmEmOptions {
  std::int64_t max_iterations = 500;
  double tolerance = 1e-9;     ///< of an iteration's gain, nats a step
  Machine* machine = nullptr;  ///< as Lgssm takes it
  /// After each iteration, with what EM would go on from and the log-likelihood of the parameters
  /// that it began with; false: stop here.
  std::function<bool(const LbfgsState& state, double log_likelihood)> on_iteration;
};

/// Expectation maximisation (Dempster, Laird, Rubin, 1977): exact smoothed moments, then the form's
/// closed maximum. The log-likelihood never falls. From form.start(set), or on from `resume`, of
/// whose state x, iteration and value (of the parameters before x) count. \throws InvalidArgument
/// where the form has no closed maximum, or where rows of the set do not count.
LgssmFit fit_lgssm_em(const LgssmForm& form, const data::SequenceSet& set,
                      const LgssmEmOptions& options = {}, const LbfgsState* resume = nullptr);

/// Standard deviation of each parameter: roots of the diagonal of the inverse of the observed
/// information, by central differences of the gradient. NaN where the log-likelihood is flat.
std::vector<double> lgssm_standard_errors(const LgssmForm& form, const data::SequenceSet& set,
                                          std::span<const double> parameters,
                                          Machine* machine = nullptr);

}  // namespace seqvae

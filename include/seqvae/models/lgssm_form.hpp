/// \file  Where a linear-Gaussian model's matrices come from: given, structural, or learned freely.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "seqvae/models/lgssm.hpp"

namespace seqvae {

/// A map from a flat parameter vector to matrices, with its reverse.
class LgssmForm {
 public:
  virtual ~LgssmForm() = default;

  /// One name a parameter, as "log_variance.level" or "A[0,1]".
  virtual std::vector<std::string> names() const = 0;
  /// Where a fit starts. \throws InvalidArgument where the set has no observed value.
  virtual std::vector<double> start(const data::SequenceSet& set) const = 0;
  virtual LgssmMatrices build(std::span<const double> parameters) const = 0;
  /// Chain rule: `grad` has the gradient with respect to each matrix in that matrix' place.
  virtual std::vector<double> reverse(std::span<const double> parameters,
                                      const LgssmMatrices& grad) const = 0;
};

/// The form that a configuration asks for, by its keys:
///
///     {"A": ..., "C": ..., "Q": ..., "R": ..., ...}    given: no parameters (LgssmMatrices)
///     {"structural": {"level": true, "trend": true, "seasonal": {"period": s, "harmonics": k},
///                     "cycle": true, "autoregressive": p, "irregular": true}}
///     {"states": n}                                    learned: A, C free; Q, R diagonal; P0 = I
///
/// Structural (Harvey, Forecasting, Structural Time Series Models and the Kalman Filter, 1989):
/// components of one series, each with a free log variance, or none where it is "fixed". Level,
/// trend and seasonal start diffuse; cycle and autoregressive from their stationary law. Controls
/// enter by D.
///
/// With P0 = I and a diagonal Q the learned form is general: any other can be turned into it by a
/// change of the state's basis.
/// \throws InputError naming key and rule.
std::unique_ptr<LgssmForm> make_lgssm_form(const io::JsonView& configuration, std::int64_t m,
                                           std::int64_t U);

}  // namespace seqvae

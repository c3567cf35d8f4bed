/// \file  Where a linear-Gaussian model's matrices come from: given, structural, or learned freely.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "seqvae/models/lgssm.hpp"

namespace seqvae {

/// Expected sums of products given the data, of all sequences: what expectation maximisation keeps
/// of their states. Row-major.
struct LgssmMoments {
  std::int64_t n = 0, m = 0, U = 0;
  /// Over transitions, x_t = [z_{t-1} | u_t]: z_t z_t^T [n][n], z_t x_t^T [n][n + U], x_t x_t^T.
  double transitions = 0;
  std::vector<double> zz, zx, xx;
  /// Over the observed values of each column, w_t = [z_t | u_t | 1], k = n + U + 1: their number
  /// [m], y^2 [m], y w [m][k], w w^T [m][k][k].
  std::vector<double> seen, yy, yw, ww;
  /// Over sequences, z_0 [n].
  double sequences = 0;
  std::vector<double> z0;
};

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
  /// The parameters of the largest expected log-likelihood of states and data. \throws
  /// InvalidArgument where the form has no closed maximum.
  virtual std::vector<double> maximise(const LgssmMoments& moments) const;
};

/// The form that a configuration asks for, by its keys:
///
///     {"A": ..., "C": ..., "Q": ..., "R": ..., ...}    given: no parameters (LgssmMatrices)
///     {"structural": {"level": true, "trend": true, "seasonal": {"period": s, "harmonics": k},
///                     "cycle": true, "autoregressive": p, "irregular": true}}
///     {"states": n, "fixed": {"A": [[1, null], ...], ...}, "A": "full" | "diagonal",
///      "Q": "diagonal" | "full" | {"rank": r}, "R": "diagonal" | "full"}
///                                                      learned: A, C free; Q, R diagonal; P0 = I
///
/// Structural (Harvey, Forecasting, Structural Time Series Models and the Kalman Filter, 1989):
/// components of one series, each with a free log variance, or none where it is "fixed". Level,
/// trend and seasonal start diffuse; cycle and autoregressive from their stationary law. Controls
/// enter by D.
///
/// With P0 = I and a diagonal Q the learned form without bounds is general: any other can be turned
/// into it by a change of the state's basis.
/// \throws InputError naming key and rule.
std::unique_ptr<LgssmForm> make_lgssm_form(const io::JsonView& configuration, std::int64_t m,
                                           std::int64_t U);

}  // namespace seqvae

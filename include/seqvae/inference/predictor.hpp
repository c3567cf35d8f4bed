/// \file  What is done with a model that has its parameters, exact or deep, behind one interface.
///
/// Everything is in the units of the sequences given (scaled, where they were scaled) and in
/// float64, in the order of the set: rows sequence after sequence.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "seqvae/data/sequence_set.hpp"
#include "seqvae/models/lgssm_diagnostics.hpp"

namespace seqvae {

/// Called after each batch with the number of sequences done so far and in all. It may throw to
/// stop the work.
using Progress = std::function<void(std::int64_t done, std::int64_t all)>;

/// A bound on the log-likelihood of a set; nats, summed over the rows that count.
struct Evaluation {
  std::string bound;                  ///< exact, elbo or iwae
  std::int64_t samples = 0;           ///< a sequence; 0: none were drawn
  double log_likelihood = 0;          ///< total
  double standard_error = 0;          ///< of the total, over the draws' randomness; 0 where exact
  double reconstruction = 0, kl = 0;  ///< elbo: log_likelihood = reconstruction - kl
  std::int64_t steps = 0, sequences = 0, observed = 0;
  std::vector<double> per_sequence;           ///< [N]
  std::optional<LgssmDiagnostics> residuals;  ///< exact: tests of the prediction errors
  double nats_per_step() const { return -log_likelihood / static_cast<double>(steps); }
};

/// Moments or draws of the states.
struct States {
  std::int64_t n = 0, S = 0;
  std::vector<double> filtered_mean, filtered_covariance;  ///< exact: [R][n], [R][n][n]
  std::vector<double> smoothed_mean, smoothed_covariance;
  std::vector<double> samples;  ///< deep: [S][R][n]  draws of the model's own posterior
};

/// Draws of what comes after each sequence of a set.
struct Forecast {
  std::int64_t N = 0, H = 0, D = 0, S = 0;
  std::vector<double> samples;    ///< [S][N][H][D]
  std::vector<double> mean, std;  ///< [N][H][D]  exact where the model is, else of the samples
  bool gaussian = false;          ///< mean and std are exact, and quantiles follow from them
  /// [L][N][H][D]: of the Gaussian, or of the samples by numpy's linear rule.
  std::vector<double> quantiles(std::span<const double> levels) const;
};

/// What stood where values are missing.
struct Imputation {
  std::int64_t S = 0;
  std::vector<double> mean, std;  ///< [R][D]  seen entries: the data, std 0
  std::vector<double> samples;    ///< [S][R][D]  of equal weight; seen entries are the data
  std::vector<double> ess;        ///< [N]  effective sample size of each sequence's weights
};

class Predictor {
 public:
  virtual ~Predictor() = default;

  /// Bounds this model has, the default first: {"exact"} or {"elbo", "iwae"}.
  virtual std::vector<std::string> bounds() const = 0;
  /// "exact", "filter" or "smooth": what infer gives.
  virtual std::string posterior() const = 0;

  /// \throws InvalidArgument where the model has no such bound.
  virtual Evaluation evaluate(const data::SequenceSet& set, const std::string& bound,
                              std::int64_t samples, std::uint64_t seed,
                              const Progress& progress) = 0;
  virtual States infer(const data::SequenceSet& set, std::int64_t samples, std::uint64_t seed,
                       const Progress& progress) = 0;
  /// After each sequence's end. controls: [N * horizon][U] of the steps to come, empty where U = 0.
  virtual Forecast forecast(const data::SequenceSet& context, std::int64_t horizon,
                            std::span<const double> controls, std::int64_t samples,
                            std::uint64_t seed, const Progress& progress) = 0;
  virtual Imputation impute(const data::SequenceSet& set, std::int64_t samples, std::uint64_t seed,
                            const Progress& progress) = 0;
  /// `count` sequences from the prior, [count * steps][D]. controls: [count * steps][U].
  virtual std::vector<double> generate(std::int64_t steps, std::int64_t count,
                                       std::span<const double> controls, std::uint64_t seed) = 0;
};

}  // namespace seqvae

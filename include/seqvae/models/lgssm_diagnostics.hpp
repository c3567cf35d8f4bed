/// \file  Whether a linear-Gaussian model's prediction errors are what it says of them.
#pragma once
#include "seqvae/models/lgssm.hpp"

namespace seqvae {

/// Tests of the standardised innovations of the rows that count. Where the model holds a p-value
/// is uniform on (0, 1); parameters that were fitted to the same data make it larger.
struct LgssmDiagnostics {
  std::int64_t count = 0;  ///< innovations
  double nis = 0;          ///< normalised innovation squared, a mean over all; 1 is expected
  double nis_p = 0;        ///< of count nis ~ chi2(count), two-sided
  std::int64_t lags = 0;
  /// Of each column, [m]: Ljung and Box (Biometrika 65, 1978), N (N + 2) sum_k rho_k^2 / (N - k)
  /// over the lags, ~ chi2(lags) where innovations are not correlated in time. Pairs are those of
  /// one sequence that are both seen, about the column's mean.
  std::vector<double> ljung_box, ljung_box_p;
};

/// `innovations` as Lgssm::innovations gives them. \throws InvalidArgument where lags < 1 or no
/// innovation counts.
LgssmDiagnostics diagnose(std::span<const double> innovations, const data::SequenceSet& set,
                          std::int64_t lags = 10);

}  // namespace seqvae

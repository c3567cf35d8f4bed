/// \file  Forecasts from rolling origins, and how good they were.
#pragma once
#include "seqvae/inference/predictor.hpp"

namespace seqvae {

struct ForecastOptions {
  std::int64_t context = 0;  ///< N steps before each origin; 0: all steps before
  std::int64_t horizon = 1;
  std::int64_t stride = 1;
  std::int64_t samples = 100;
  std::uint64_t seed = 0;
};

/// Averages over all windows, steps and observed components.
///
///     mse, mae   of the mean forecast
///     crps       mean |X - x| - 1/2 mean |X - X'| over draws X, X' (Gneiting & Raftery 2007), the
///                second mean over distinct pairs; closed form where the forecast is Gaussian
///     coverage   share of values inside the central 50, 80 and 95 % bands
struct ForecastScores {
  std::int64_t horizon = 0, windows = 0;
  std::int64_t too_short = 0;  ///< sequences that give no window
  double mse = 0, mae = 0, crps = 0;
  double coverage_50 = 0, coverage_80 = 0, coverage_95 = 0;
};

/// Origins context, context + stride, ... up to length - horizon of each sequence that count.
/// `unscale` (optional) brings rows of D values to the units of the scores.
ForecastScores score_forecasts(Predictor& predictor, const data::SequenceSet& set,
                               const ForecastOptions& options,
                               const std::function<void(std::span<double>)>& unscale,
                               const Progress& progress);

/// The same windows forecast by the value one season before (Hyndman & Athanasopoulos,
/// "Forecasting: Principles and Practice", 5.2), bands from the spread of the context's own
/// seasonal differences.
ForecastScores score_seasonal_naive(const data::SequenceSet& set, const ForecastOptions& options,
                                    std::int64_t season,
                                    const std::function<void(std::span<double>)>& unscale);

}  // namespace seqvae

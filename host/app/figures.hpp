// The pictures of the commands. Values are in the file's units; rows sequence after sequence.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "seqvae/data/sequence_set.hpp"
#include "seqvae/inference/predictor.hpp"

namespace seqvae::app {

/// nats a step by step, from a metrics.jsonl.
void plot_training(const std::filesystem::path& picture, const std::filesystem::path& metrics);

/// The end of each context, and 50, 80, 95 % bands of what follows with the truth where it is
/// known. quantiles [7][N][H][D] at the levels of a forecast.
struct ForecastFigure {
  const data::SequenceSet* set;
  const std::vector<std::int64_t>* origins;  ///< [N]  rows of each sequence before the forecast
  const std::vector<double>* quantiles;
  const std::vector<double>* mean;   ///< [N][H][D]
  const std::vector<double>* truth;  ///< [N][H][D]  NaN where unknown
  std::int64_t H = 0;
  std::vector<std::string> columns;
  bool roll = false;  ///< many binary columns: an image of probabilities
};
void plot_forecast(const std::filesystem::path& picture, const ForecastFigure& figure);

/// The states of the first sequence: mean and two deviations of each dimension, largest first.
void plot_states(const std::filesystem::path& picture, const std::vector<double>& mean,
                 const std::vector<double>& deviation, std::int64_t n, std::int64_t steps);

/// The first sequence with gaps: what was observed, and the filled values with their deviations.
void plot_imputation(const std::filesystem::path& picture, const std::vector<double>& mean,
                     const std::vector<double>& deviation, const std::vector<double>& observed,
                     const std::vector<std::string>& columns);

/// Sequences drawn from the prior, values [count][steps][D].
void plot_samples(const std::filesystem::path& picture, const std::vector<double>& values,
                  std::int64_t count, std::int64_t steps, const std::vector<std::string>& columns,
                  bool roll);

}  // namespace seqvae::app

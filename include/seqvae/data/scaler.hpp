/// \file  Columns scaled to mean 0 and standard deviation 1, and back.
///
///     scaled = (value - mean) / deviation,   log |d scaled / d value| = -log deviation
///
/// so that a log-likelihood of scaled values plus log_jacobian is one in the file's units.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "seqvae/data/sequence_set.hpp"
#include "seqvae/io/json.hpp"

namespace seqvae::data {

struct Scaler {
  std::vector<std::string> columns;  ///< [D] names
  std::vector<double> mean;          ///< [D]
  std::vector<double> deviation;     ///< [D]  > 0; population's (1/n); 1 for a constant column

  /// Of the rows that count, without what is missing. \throws InputError "file: column 'x': has no
  /// observed value".
  static Scaler fit(const SequenceSet& set, const std::vector<std::string>& columns,
                    const std::string& file);
  /// Both ways, rows of D values; NaN stays NaN.
  void scale(std::span<double> rows) const;
  void unscale(std::span<double> rows) const;
  /// Sum over the set's observed values that count of -log deviation; nats.
  double log_jacobian(const SequenceSet& set) const;

  io::Json to_json() const;
  static Scaler from_json(const io::JsonView& json);
};

}  // namespace seqvae::data

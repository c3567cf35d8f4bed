/// \file  A data file in memory: its parts, what its columns are called, how it was scaled.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "seqvae/data/scaler.hpp"
#include "seqvae/data/sequence_set.hpp"
#include "seqvae/io/file.hpp"

namespace seqvae::data {

struct Dataset {
  std::string file;                          ///< as it stands in messages
  std::vector<std::string> columns;          ///< [D]  of a CSV; else "0", "1", ...
  std::map<std::string, SequenceSet> parts;  ///< "all", or some of "train", "valid", "test"
  std::vector<std::string> time_labels;      ///< of a CSV with a time column: [rows of the series]
  std::optional<Scaler> scaler;              ///< given: parts hold scaled values
  std::vector<std::string> unused;           ///< arrays of an .npz that are no part of a data set

  std::int64_t D() const { return static_cast<std::int64_t>(columns.size()); }
  std::int64_t U() const { return parts.begin()->second.U; }
  bool has(std::string_view part) const { return parts.contains(std::string(part)); }
  /// \throws InputError naming the parts there are.
  const SequenceSet& part(std::string_view name) const;
  /// What commands other than train look at: "test" where there is one, else "all", else what is.
  const SequenceSet& default_part() const { return part(default_part_name()); }
  std::string default_part_name() const;
  /// What is learned from: "train" where there is one, else "all". \throws InputError.
  const SequenceSet& training_part() const;
  /// \throws InputError "file: column 'x': has no observed value in PART".
  void require_observed_columns(std::string_view part) const;
};

struct LoadOptions {
  std::vector<std::string> columns = {};  ///< CSV: which; empty: all
  std::string time = {};                  ///< CSV: the time column
  std::int64_t window = 0, stride = 0;    ///< cut into sequences of `window` rows, one every
                                        ///<   `stride` (0: window); parts that keep a past are not
  std::vector<std::string> split_at = {};  ///< A[,B[,C]] as dates, rows or fractions of one series
  bool standardize = false;                ///< by the scaler of the training part,
  std::optional<Scaler> scaler = {};       ///<   or by this one
};

/// .npz, .npy or .csv by its ending; docs/data.md has the formats.
/// \throws InputError "file: place: rule"; InvalidArgument for options that contradict each other.
Dataset load(const io::Path& path, const LoadOptions& options = {});

/// Writes an .npz data set that load reads back, in the file's units.
void save_npz(const io::Path& path, const Dataset& dataset);

/// Rewrites a data file in another of the three formats, by its ending. An .npy and a .csv hold one
/// part, a .csv one series. \throws InputError where OUT cannot hold what IN has.
void convert(const io::Path& in, const io::Path& out, const LoadOptions& options = {});

/// [rows][U] of a controls file for `generate` and `forecast` (.npz, .npy or .csv: as `values`),
/// with lengths. \throws InputError where a value is missing.
SequenceSet load_controls(const io::Path& path, std::int64_t U);

}  // namespace seqvae::data

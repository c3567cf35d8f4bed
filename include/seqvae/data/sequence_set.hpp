/// \file  Sequences of rows, one after the other, as a data file holds them.
#pragma once
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace seqvae::data {

/// N sequences, R = sum of lengths rows. Sequence i owns the rows starts()[i] .. + lengths[i].
///
/// Rows of sequence i count (in a bound, in a mean) from begin[i] on; the rows before it are its
/// past, which a model scans and sees: so a part of one series keeps what came before it.
struct SequenceSet {
  std::int64_t D = 0;                 ///< observed components a row; >= 1
  std::int64_t U = 0;                 ///< controls a row; 0: none
  std::vector<std::int32_t> lengths;  ///< [N]  >= 1
  std::vector<std::int32_t> begin;    ///< [N]  0 <= begin < length
  std::vector<std::uint32_t> ids;     ///< [N]  place in the file: what a draw's noise follows
  std::vector<double> values;         ///< [R][D]  NaN is missing; never infinite
  std::vector<double> controls;       ///< [R][U]  finite
  std::vector<double> times;          ///< [R]  elapsed time, as models are to see it; or empty

  std::int64_t count() const { return static_cast<std::int64_t>(lengths.size()); }
  std::int64_t rows() const;                 ///< R
  std::int64_t steps() const;                ///< rows that count
  std::int64_t observed() const;             ///< values that count and are there
  std::vector<std::int64_t> starts() const;  ///< [N + 1]  first row of each sequence, then R
  bool has_missing() const;                  ///< in any row, the past included

  /// Appends a sequence: rows first .. last of a set with the same D, U and times or none; those
  /// before row `counted` are its past.
  void append(const SequenceSet& from, std::int64_t first, std::int64_t last, std::int64_t counted,
              std::uint32_t id);
};

/// `auto` of an emission: "bernoulli" where every value that is there is 0 or 1, else "gaussian".
std::string choose_emission(const SequenceSet& set);

}  // namespace seqvae::data

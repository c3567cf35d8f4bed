// A file's arrays as sequence sets, before windows, splits and scaling.
#pragma once
#include <map>
#include <string>
#include <string_view>

#include "seqvae/data/dataset.hpp"
#include "seqvae/io/array.hpp"

namespace seqvae::data {

/// values, lengths, mask, controls, times, reset with this prefix ("", "train_", ...).
SequenceSet set_from_arrays(const io::NamedArrays& arrays, const std::string& prefix,
                            const std::string& file);
/// [T] or [T, D] is one sequence, [N, T, D] is N.
SequenceSet set_from_array(const io::Array& array, const std::string& file);
/// All parts that an .npz may hold.
Dataset dataset_from_arrays(const io::NamedArrays& arrays, const std::string& file);

/// Cuts each sequence into windows of `window` rows, one every `stride`, the last ones shorter; no
/// window lies within the one before it.
SequenceSet windows_of(const SequenceSet& set, std::int64_t window, std::int64_t stride);
/// Parts train | test or train | valid | test of the one series of "all"; see LoadOptions.
void split_series(Dataset& dataset, const std::vector<std::string>& split_at);

}  // namespace seqvae::data

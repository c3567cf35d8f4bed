/// \file  What is in a data set, for a program (JSON) and for a reader (text).
#pragma once
#include <string>

#include "seqvae/data/dataset.hpp"

namespace seqvae::data {

/// {"file", "columns": D, "controls": U, "emission", "parts": {NAME: {"sequences", "steps",
///   "length": {"min", "mean", "max"}, "observed", "missing", "columns": [{"name", "mean",
///   "deviation", "min", "max", "missing"}, ...]}}, "unused": [...]}; over the steps that count,
/// null where a column has no value. deviation is the population's.
io::Json describe(const Dataset& dataset);

/// The same as a table; a part with more than `most` columns shows that many of them.
std::string describe_text(const io::Json& description, int most = 20);

}  // namespace seqvae::data

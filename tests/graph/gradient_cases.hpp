// The steps whose gradients are checked, a row each: together they hold every op of graph.hpp.
#pragma once
#include <vector>

#include "tests/graph/small_scan.hpp"

namespace seqvae::test {

std::vector<SmallScan> gradient_cases();

/// Parts of the table, a file each.
std::vector<SmallScan> elementwise_cases();
std::vector<SmallScan> recurrent_cases();
std::vector<SmallScan> probabilistic_cases();
std::vector<SmallScan> linear_gaussian_cases();
std::vector<SmallScan> built_cases();

/// A linear-Gaussian model of x whose paths are drawn: given x with gaps, and generated.
std::vector<SmallScan> linear_gaussian_draws();

/// Scores x as a Gaussian around y.
void score(Step& s, const Var& y);
/// The printing of a case in a test's failure.
std::ostream& operator<<(std::ostream& out, const SmallScan& small);

}  // namespace seqvae::test

// The row-wise contracts as one table: what each reads and writes, so that every test of a property
// (accuracy, bits, strides, aliasing) runs over all of them.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "seqvae/kernels/gaussian.hpp"
#include "tests/kernels/matrix.hpp"

namespace seqvae::test {

/// What an input holds, by its place (row, column) alone: float values, also in double.
enum class Filling { normal, wide, unit, signed_unit, binary, one_hot, counts };

struct Input {
  Filling values;
  int factor = 1;  ///< width: factor * D; 0: one column
};

template <class Real>
using Run =
    std::function<void(std::int64_t rows, std::int64_t D, std::int64_t first_row,
                       const std::vector<Rows<const Real>>&, const std::vector<Rows<Real>>&)>;

/// As Run, on device memory, the noise's pointers included.
using RunCuda = std::function<void(std::int64_t rows, std::int64_t D, const NoiseArgs<float>& noise,
                                   const std::vector<Rows<const float>>&,
                                   const std::vector<Rows<float>>&, Stream)>;

/// Noise of row r as sequence 100 + r, so that a row draws the same wherever it stands.
struct RowNoise {
  explicit RowNoise(std::int64_t rows, std::int64_t first_row = 0) {
    for (std::int64_t r = 0; r < rows; ++r) {
      sequence_id.push_back(static_cast<std::uint32_t>(100 + first_row + r));
    }
  }
  /// With the ids and the step where they are read.
  template <class Real>
  NoiseArgs<Real> args(const std::uint32_t* ids, const std::uint64_t* at_step) const {
    NoiseArgs<Real> noise;
    noise.layout.T = 1, noise.layout.B = static_cast<std::int64_t>(sequence_id.size());
    noise.layout.t0 = 3;
    noise.key = {77, 5}, noise.sequence_id = ids, noise.step = at_step;
    return noise;
  }
  std::vector<std::uint32_t> sequence_id;
  std::uint64_t step = 12;
};

struct Contract {
  std::string name;
  std::vector<Input> inputs;
  std::vector<int> outputs;  ///< factors of width
  Run<float> run_float;
  Run<double> run_double;
  RunCuda run_cuda;  ///< empty where the tests are not linked with the kernels
};

const std::vector<Contract>& row_contracts();

/// Width of a column block of factor times D.
inline std::int64_t width(int factor, std::int64_t D) { return factor == 0 ? 1 : factor * D; }

/// The value of input number `input` at (row, column).
double value_at(Filling values, int input, std::int64_t row, std::int64_t column, std::int64_t D);

/// Inputs of a contract from first_row on, each placed alike.
template <class Real>
std::vector<Matrix<Real>> inputs_of(const Contract& contract, std::int64_t rows, std::int64_t D,
                                    std::int64_t first_row = 0, Placement place = {}) {
  std::vector<Matrix<Real>> inputs;
  for (std::size_t i = 0; i < contract.inputs.size(); ++i) {
    inputs.emplace_back(rows, width(contract.inputs[i].factor, D), place);
    inputs.back().fill([&](auto r, auto c) {
      return value_at(contract.inputs[i].values, static_cast<int>(i), first_row + r, c, D);
    });
  }
  return inputs;
}

template <class Real>
std::vector<Matrix<Real>> outputs_of(const Contract& contract, std::int64_t rows, std::int64_t D,
                                     Placement place = {}) {
  std::vector<Matrix<Real>> outputs;
  for (const int factor : contract.outputs) outputs.emplace_back(rows, width(factor, D), place);
  return outputs;
}

template <class Real>
void run(const Contract& contract, std::int64_t rows, std::int64_t D, std::int64_t first_row,
         const std::vector<Matrix<Real>>& inputs, std::vector<Matrix<Real>>& outputs) {
  std::vector<Rows<const Real>> in;
  std::vector<Rows<Real>> out;
  for (const auto& m : inputs) in.push_back(m.view());
  for (auto& m : outputs) out.push_back(m.view());
  if constexpr (std::is_same_v<Real, float>) {
    contract.run_float(rows, D, first_row, in, out);
  } else {
    contract.run_double(rows, D, first_row, in, out);
  }
}

}  // namespace seqvae::test

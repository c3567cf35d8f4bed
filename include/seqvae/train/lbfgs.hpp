/// \file  Maximisation of a smooth function of few parameters: limited-memory BFGS.
#pragma once
#include <functional>
#include <vector>

#include "seqvae/io/json.hpp"

namespace seqvae {

/// Nocedal & Wright, Numerical Optimization, 2nd ed., algorithm 7.5, with a backtracking line
/// search to Armijo's condition and updates only where the curvature is positive. All of its state
/// can be written and read back, so that a run goes on in the same bits.
class Lbfgs {
 public:
  /// Value and gradient of the function to be minimised; a value that is not finite is stepped back
  /// from.
  using Function =
      std::function<double(const std::vector<double>& x, std::vector<double>& gradient)>;

  explicit Lbfgs(std::vector<double> x) : x_(std::move(x)) {}

  /// One iteration. False: converged (the gradient's largest entry is below 1e-6 of the value's
  /// scale, or no step improves).
  bool iterate(const Function& function);

  const std::vector<double>& x() const { return x_; }
  double value() const { return value_; }
  double gradient_norm() const;

  io::Json to_json() const;
  static Lbfgs from_json(const io::JsonView& json);

 private:
  std::vector<double> direction() const;

  std::vector<double> x_, gradient_;
  double value_ = 0;
  std::vector<std::vector<double>> steps_, changes_;  // the last ten
};

}  // namespace seqvae

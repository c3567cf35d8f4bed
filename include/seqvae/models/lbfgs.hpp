/// \file  Limited-memory BFGS (Liu and Nocedal, Mathematical Programming 45, 1989) with a line
///        search for the weak Wolfe conditions by bisection (Lewis and Overton, 2013).
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace seqvae {

/// All that an iteration hangs on: kept aside and given back, the run goes on with the same bits.
struct LbfgsState {
  std::vector<double> x, gradient;
  double value = 0;
  std::int64_t iteration = 0;
  std::vector<std::vector<double>> steps, changes;  ///< of x and of the gradient, oldest first
  std::int64_t stalled = 0;                         ///< iterations in a row without a gain
};

class Lbfgs {
 public:
  /// Value at x, its gradient written; a value that is not finite is a point out of bounds.
  using Function = std::function<double(std::span<const double> x, std::span<double> gradient)>;

  /// Evaluates at `start`. \throws Error where the value is not finite there.
  Lbfgs(Function function, std::vector<double> start);
  Lbfgs(Function function, LbfgsState state)
      : function_(std::move(function)), state_(std::move(state)) {}

  /// One iteration. False where there is nothing to gain: the largest entry of the gradient is at
  /// most `tolerance`, or three iterations changed the value by less than 1e-13 of itself.
  bool step(double tolerance);

  const LbfgsState& state() const { return state_; }
  double gradient_norm() const;  ///< largest absolute entry

 private:
  std::vector<double> direction() const;

  Function function_;
  LbfgsState state_;
};

}  // namespace seqvae

#include "seqvae/models/lbfgs.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "seqvae/core/error.hpp"

namespace seqvae {
namespace {

constexpr std::size_t kMemory = 12;  // pairs kept
constexpr int kTrials = 50;          // of a line search
constexpr double kDecrease = 1e-4;   // of the value, as a share of what the slope promises
constexpr double kSlope = 0.9;       // of the slope that may remain

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

}  // namespace

Lbfgs::Lbfgs(Function function, std::vector<double> start) : function_(std::move(function)) {
  state_.x = std::move(start);
  state_.gradient.resize(state_.x.size());
  state_.value = function_(state_.x, state_.gradient);
  if (!std::isfinite(state_.value)) throw Error("the fit's starting point has no finite value");
}

double Lbfgs::gradient_norm() const {
  double most = 0;
  for (double g : state_.gradient) most = std::max(most, std::abs(g));
  return most;
}

// The two-loop recursion: minus the approximate inverse Hessian times the gradient.
std::vector<double> Lbfgs::direction() const {
  std::vector<double> q = state_.gradient;
  const std::size_t pairs = state_.steps.size();
  std::vector<double> alpha(pairs);
  for (std::size_t i = pairs; i-- > 0;) {
    alpha[i] = dot(state_.steps[i], q) / dot(state_.steps[i], state_.changes[i]);
    for (std::size_t j = 0; j < q.size(); ++j) q[j] -= alpha[i] * state_.changes[i][j];
  }
  double scale = 1 / std::max(1.0, gradient_norm());
  if (pairs > 0) {
    scale = dot(state_.steps.back(), state_.changes.back()) /
            dot(state_.changes.back(), state_.changes.back());
  }
  for (double& x : q) x *= scale;
  for (std::size_t i = 0; i < pairs; ++i) {
    const double beta = dot(state_.changes[i], q) / dot(state_.steps[i], state_.changes[i]);
    for (std::size_t j = 0; j < q.size(); ++j) q[j] += (alpha[i] - beta) * state_.steps[i][j];
  }
  for (double& x : q) x = -x;
  return q;
}

bool Lbfgs::step(double tolerance) {
  if (gradient_norm() <= tolerance || state_.stalled >= 3) return false;
  std::vector<double> p = direction();
  double slope = dot(p, state_.gradient);
  if (!(slope < 0)) {  // rounding has spoilt the pairs
    state_.steps.clear(), state_.changes.clear();
    p = direction();
    slope = dot(p, state_.gradient);
  }
  double step = 1, low = 0, high = std::numeric_limits<double>::infinity(), value = 0;
  std::vector<double> x(p.size()), gradient(p.size());
  bool found = false;
  for (int trial = 0; trial < kTrials && !found; ++trial) {
    for (std::size_t j = 0; j < p.size(); ++j) x[j] = state_.x[j] + step * p[j];
    value = function_(x, gradient);
    if (!std::isfinite(value) || value > state_.value + kDecrease * step * slope) {
      high = step;
    } else if (dot(p, gradient) < kSlope * slope) {
      low = step;
    } else {
      found = true;
    }
    if (!found) step = std::isinf(high) ? 2 * step : (low + high) / 2;
  }
  if (!found && !(value < state_.value)) {  // at the limit of what the value resolves
    state_.stalled = 3;
    return false;
  }
  std::vector<double> moved(p.size()), changed(p.size());
  for (std::size_t j = 0; j < p.size(); ++j) {
    moved[j] = x[j] - state_.x[j];
    changed[j] = gradient[j] - state_.gradient[j];
  }
  if (dot(moved, changed) > 0) {
    if (state_.steps.size() == kMemory) {
      state_.steps.erase(state_.steps.begin());
      state_.changes.erase(state_.changes.begin());
    }
    state_.steps.push_back(std::move(moved));
    state_.changes.push_back(std::move(changed));
  }
  const bool gained = state_.value - value > 1e-13 * std::max(1.0, std::abs(value));
  state_.stalled = gained ? 0 : state_.stalled + 1;
  state_.x = std::move(x);
  state_.gradient = std::move(gradient);
  state_.value = value;
  ++state_.iteration;
  return true;
}

}  // namespace seqvae

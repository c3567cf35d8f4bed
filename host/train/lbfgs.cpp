#include "seqvae/train/lbfgs.hpp"

#include <cmath>

namespace seqvae {
namespace {

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

std::vector<std::vector<double>> rows_of(const io::JsonView& json) {
  std::vector<std::vector<double>> rows;
  for (const io::JsonView& row : json.elements()) rows.push_back(row.numbers());
  return rows;
}

}  // namespace

double Lbfgs::gradient_norm() const { return std::sqrt(dot(gradient_, gradient_)); }

std::vector<double> Lbfgs::direction() const {
  std::vector<double> q = gradient_, alpha(steps_.size());
  for (std::size_t i = steps_.size(); i-- > 0;) {
    alpha[i] = dot(steps_[i], q) / dot(changes_[i], steps_[i]);
    for (std::size_t k = 0; k < q.size(); ++k) q[k] -= alpha[i] * changes_[i][k];
  }
  // Without curvature yet: a step of length 1/2 at most.
  double scale = 0.5 / std::max(0.5, gradient_norm());
  if (!steps_.empty())
    scale = dot(steps_.back(), changes_.back()) / dot(changes_.back(), changes_.back());
  for (double& x : q) x *= scale;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const double beta = dot(changes_[i], q) / dot(changes_[i], steps_[i]);
    for (std::size_t k = 0; k < q.size(); ++k) q[k] += (alpha[i] - beta) * steps_[i][k];
  }
  for (double& x : q) x = -x;
  return q;
}

bool Lbfgs::iterate(const Function& function) {
  if (gradient_.empty()) value_ = function(x_, gradient_);
  double largest = 0;
  for (double g : gradient_) largest = std::max(largest, std::abs(g));
  if (!(largest > 1e-6 * std::max(1.0, std::abs(value_)))) return false;

  std::vector<double> d = direction();
  double slope = dot(d, gradient_);
  if (!(slope < 0)) {  // no descent: the history misleads
    steps_.clear(), changes_.clear();
    d = direction(), slope = dot(d, gradient_);
  }
  std::vector<double> next(x_.size()), gradient;
  for (double length = 1; length > 1e-12; length /= 2) {
    for (std::size_t k = 0; k < x_.size(); ++k) next[k] = x_[k] + length * d[k];
    const double value = function(next, gradient);
    if (!(value <= value_ + 1e-4 * length * slope)) continue;  // NaN steps back too
    std::vector<double> step(x_.size()), change(x_.size());
    for (std::size_t k = 0; k < x_.size(); ++k) {
      step[k] = next[k] - x_[k], change[k] = gradient[k] - gradient_[k];
    }
    if (dot(step, change) > 1e-12 * std::sqrt(dot(step, step) * dot(change, change))) {
      steps_.push_back(step), changes_.push_back(change);
      if (steps_.size() > 10) steps_.erase(steps_.begin()), changes_.erase(changes_.begin());
    }
    const bool moved = value_ - value > 1e-12 * std::max(1.0, std::abs(value_));
    x_ = next, gradient_ = gradient, value_ = value;
    return moved;
  }
  return false;
}

io::Json Lbfgs::to_json() const {
  return {{"x", x_},
          {"gradient", gradient_},
          {"value", value_},
          {"steps", steps_},
          {"changes", changes_}};
}

Lbfgs Lbfgs::from_json(const io::JsonView& json) {
  Lbfgs state(json.at("x").numbers());
  state.gradient_ = json.at("gradient").numbers();
  state.value_ = json.at("value").number();
  state.steps_ = rows_of(json.at("steps")), state.changes_ = rows_of(json.at("changes"));
  return state;
}

}  // namespace seqvae

// The gradient of the log-likelihood over a set, chained to the parameters, and its maximum.
#include "seqvae/models/lgssm_fit.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "host/models/lgssm_runs.hpp"
#include "host/models/symmetric.hpp"

namespace seqvae {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

using lgssm::Member;

LgssmMatrices zeros_like(LgssmMatrices x) {
  for (std::vector<double>* array : lgssm::arrays(x)) std::fill(array->begin(), array->end(), 0.0);
  return x;
}

/// The gradient summed over a share of the sequences.
class GradientRun : public lgssm::FilterRun {
 public:
  GradientRun(const Queue& queue, const LgssmMatrices& x, const lgssm::Observations& observations)
      : FilterRun(queue, x, observations), grad(queue, zeros_like(x)), weight_(queue) {}

  lgssm::MatrixBlock grad;
  bool sound = true;  ///< all covariances were positive definite

  /// Adds that of sum weight * log-likelihood. weight: [R], of the set's rows
  void add(std::vector<Member> members, const std::vector<double>& weight) {
    filter(std::move(members));
    sound = sound && is_sound();
    if (!sound) return;
    require_sound();
    packing.bring(weight.data(), 1, lgssm::room(weight_, packing.rows()));
    KalmanBackwardArgs<double> args;
    args.model = model(), args.data = data(), args.filtered = filtered();
    args.grad_log_likelihood = {weight_.data(), 1};
    args.grad = grad.gradient();
    args.accumulate = true;
    run(args);
  }

 private:
  Buffer<double> weight_;
};

}  // namespace

double lgssm_log_likelihood(const LgssmForm& form, const data::SequenceSet& set,
                            std::span<const double> parameters, std::span<double> gradient,
                            Machine* machine) {
  for (double x : parameters) {
    if (!std::isfinite(x)) return kNaN;
  }
  const LgssmMatrices x = form.build(parameters);
  const lgssm::Observations observations(set, x, "fit");
  const std::vector<double> counted = observations.counted();
  // With diffuse states the gradient is of whole sequences: all rows, less those before begin.
  const bool whole = !x.diffuse.empty();
  const std::vector<double> once(counted.size(), 1), less(counted.size(), -1);
  std::vector<double> rows(counted.size());
  const auto runs = lgssm::for_each_batch<GradientRun>(
      machine, x, observations, {}, [&](GradientRun& run, std::vector<Member> members) {
        run.add(members, whole ? once : counted);
        run.packing.fetch(run.log_likelihood.data(), 1, rows.data());
        if (!whole) return;
        for (Member& member : members) member.length = observations.begin(member.sequence);
        std::erase_if(members, [](const Member& member) { return member.length == 0; });
        if (!members.empty()) run.add(std::move(members), less);
      });
  LgssmMatrices grad = zeros_like(x);
  for (const auto& run : runs) {
    if (!run->sound) return kNaN;
    run->grad.add_to(grad);
  }
  const std::vector<double> chained = form.reverse(parameters, grad);
  std::copy(chained.begin(), chained.end(), gradient.begin());
  return std::inner_product(rows.begin(), rows.end(), counted.begin(), 0.0);
}

LgssmFit fit_lgssm(const LgssmForm& form, const data::SequenceSet& set,
                   const LgssmFitOptions& options, const LbfgsState* resume) {
  const double steps = static_cast<double>(set.steps());
  const auto minimised = [&](std::span<const double> x, std::span<double> gradient) {
    const double value = lgssm_log_likelihood(form, set, x, gradient, options.machine);
    for (double& g : gradient) g = -g / steps;
    return -value / steps;
  };
  Lbfgs optimizer =
      resume != nullptr ? Lbfgs(minimised, *resume) : Lbfgs(minimised, form.start(set));
  LgssmFit fit;
  bool go_on = true;
  while (go_on && optimizer.state().iteration < options.max_iterations) {
    if (!optimizer.step(options.tolerance)) {
      fit.converged = true;
      break;
    }
    if (options.on_iteration) {
      go_on = options.on_iteration(optimizer.state(), -optimizer.state().value * steps,
                                   optimizer.gradient_norm());
    }
  }
  fit.state = optimizer.state();
  fit.log_likelihood = -fit.state.value * steps;
  return fit;
}

std::vector<double> lgssm_standard_errors(const LgssmForm& form, const data::SequenceSet& set,
                                          std::span<const double> parameters, Machine* machine) {
  const auto count = static_cast<std::int64_t>(parameters.size());
  std::vector<double> x(parameters.begin(), parameters.end()), above(x), below(x);
  lgssm::Matrix information(count, count);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto place = static_cast<std::size_t>(i);
    const double h = 1e-4 * std::max(1.0, std::abs(parameters[place]));
    x[place] = parameters[place] + h;
    lgssm_log_likelihood(form, set, x, above, machine);
    x[place] = parameters[place] - h;
    lgssm_log_likelihood(form, set, x, below, machine);
    x[place] = parameters[place];
    for (std::int64_t j = 0; j < count; ++j) {
      information(i, j) = (below[std::size_t(j)] - above[std::size_t(j)]) / (2 * h);
    }
  }
  information = (information + information.transpose()).eval() / 2;
  const lgssm::Matrix inverse = lgssm::solve(information, lgssm::Matrix::Identity(count, count));
  std::vector<double> errors;
  for (std::int64_t i = 0; i < count; ++i) {
    errors.push_back(inverse(i, i) > 0 ? std::sqrt(inverse(i, i)) : kNaN);
  }
  return errors;
}

}  // namespace seqvae

// The gradient of the log-likelihood over a set, chained to the parameters, and its maximum.
#include "seqvae/models/lgssm_fit.hpp"

#include <Eigen/Dense>
#include <cmath>

#include "host/models/lgssm_runs.hpp"

namespace seqvae {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// What a thread sums over its sequences.
struct Share {
  lgssm::FilterRun filter;
  LgssmMatrices grad;
  std::vector<double> row_log_likelihood, weight;
  double log_likelihood = 0;

  explicit Share(const LgssmMatrices& x) : grad(x) {
    for (auto* M : matrices(grad)) std::fill(M->begin(), M->end(), 0.0);
  }
  static std::vector<std::vector<double>*> matrices(LgssmMatrices& x) {
    return {&x.A, &x.B, &x.b, &x.C, &x.D, &x.d, &x.Q, &x.R, &x.m0, &x.P0};
  }

  /// The rows from begin on. With diffuse states, whose gradient takes whole sequences: all rows
  /// less those before begin.
  void add(const LgssmMatrices& x, const lgssm::Sequences& sequences, std::int64_t i) {
    const std::int64_t length = sequences.length(i), begin = sequences.begin(i);
    KalmanData<double> data = sequences.data(i);
    const bool twice = begin > 0 && !x.diffuse.empty();
    weight.assign(static_cast<std::size_t>(length), 1);
    if (!twice) std::fill_n(weight.begin(), begin, 0.0);
    add_weighted(x, data, i);
    if (!twice) return;
    data.layout.T = begin;
    weight.assign(static_cast<std::size_t>(begin), -1);
    add_weighted(x, data, i);
  }

  void add_weighted(const LgssmMatrices& x, const KalmanData<double>& data, std::int64_t i) {
    const auto steps = static_cast<std::size_t>(data.layout.T);
    row_log_likelihood.resize(std::max(row_log_likelihood.size(), steps));
    filter.run(x, data, row_log_likelihood.data());
    if (filter.status != 0) {
      log_likelihood = kNaN;
      return;
    }
    filter.require_sound(i, data.layout.T);
    for (std::size_t t = 0; t < steps; ++t) log_likelihood += weight[t] * row_log_likelihood[t];
    KalmanBackwardArgs<double> args;
    args.model = x.view();
    args.data = data;
    args.filtered = filter.view(x);
    args.grad_log_likelihood = {weight.data(), 1};
    const auto array = [](std::vector<double>& values) {
      return StepArray<double>(values.empty() ? nullptr : values.data());
    };
    args.grad.A = array(grad.A), args.grad.B = array(grad.B);
    args.grad.state_offset = array(grad.b), args.grad.Q = array(grad.Q);
    args.grad.C = array(grad.C), args.grad.D = array(grad.D);
    args.grad.observation_offset = array(grad.d), args.grad.R = array(grad.R);
    args.grad.m0 = array(grad.m0), args.grad.P0 = array(grad.P0);
    args.accumulate = true;
    filter.workspace.lend(args);
    cpu::kalman_backward(args);
  }
};

}  // namespace

double lgssm_log_likelihood(const LgssmForm& form, const data::SequenceSet& set,
                            std::span<const double> parameters, std::span<double> gradient,
                            ThreadPool* pool) {
  for (double x : parameters) {
    if (!std::isfinite(x)) return kNaN;
  }
  const LgssmMatrices x = form.build(parameters);
  const lgssm::Sequences sequences(set, x, "fit");
  const auto threads =
      static_cast<int>(std::min<std::int64_t>(set.count(), pool != nullptr ? pool->count() : 1));
  std::vector<Share> shares;
  for (int share = 0; share < threads; ++share) shares.emplace_back(x);
  run_shares(pool, threads, [&](int share) {
    for (std::int64_t i = share; i < set.count(); i += threads) {
      shares[static_cast<std::size_t>(share)].add(x, sequences, i);
    }
  });
  Share total(x);
  for (Share& share : shares) {
    total.log_likelihood += share.log_likelihood;
    const auto from = Share::matrices(share.grad), to = Share::matrices(total.grad);
    for (std::size_t k = 0; k < to.size(); ++k) {
      for (std::size_t j = 0; j < to[k]->size(); ++j) (*to[k])[j] += (*from[k])[j];
    }
  }
  const std::vector<double> chained = form.reverse(parameters, total.grad);
  std::copy(chained.begin(), chained.end(), gradient.begin());
  return total.log_likelihood;
}

LgssmFit fit_lgssm(const LgssmForm& form, const data::SequenceSet& set,
                   const LgssmFitOptions& options, const LbfgsState* resume) {
  const double steps = static_cast<double>(set.steps());
  const auto minimised = [&](std::span<const double> x, std::span<double> gradient) {
    const double value = lgssm_log_likelihood(form, set, x, gradient, options.pool);
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
                                          std::span<const double> parameters, ThreadPool* pool) {
  const auto count = static_cast<std::int64_t>(parameters.size());
  std::vector<double> x(parameters.begin(), parameters.end()), above(x), below(x);
  Eigen::MatrixXd information(count, count);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto place = static_cast<std::size_t>(i);
    const double h = 1e-4 * std::max(1.0, std::abs(parameters[place]));
    x[place] = parameters[place] + h;
    lgssm_log_likelihood(form, set, x, above, pool);
    x[place] = parameters[place] - h;
    lgssm_log_likelihood(form, set, x, below, pool);
    x[place] = parameters[place];
    for (std::int64_t j = 0; j < count; ++j) {
      information(i, j) = (below[std::size_t(j)] - above[std::size_t(j)]) / (2 * h);
    }
  }
  information = (information + information.transpose()).eval() / 2;
  const Eigen::MatrixXd inverse = information.ldlt().solve(Eigen::MatrixXd::Identity(count, count));
  std::vector<double> errors;
  for (std::int64_t i = 0; i < count; ++i) {
    errors.push_back(inverse(i, i) > 0 ? std::sqrt(inverse(i, i)) : kNaN);
  }
  return errors;
}

}  // namespace seqvae

// Expectation maximisation: sums of the smoothed moments of all sequences, then the form's maximum.
#include <Eigen/Dense>
#include <cmath>

#include "host/models/lgssm_runs.hpp"
#include "seqvae/models/lgssm_fit.hpp"

namespace seqvae {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

LgssmMoments zeros(const LgssmMatrices& x) {
  LgssmMoments e;
  e.n = x.n, e.m = x.m, e.U = x.U;
  const auto size = [](std::int64_t count) { return static_cast<std::size_t>(count); };
  const std::int64_t n = x.n, m = x.m, p = n + x.U, k = p + 1;
  e.zz.assign(size(n * n), 0), e.zx.assign(size(n * p), 0), e.xx.assign(size(p * p), 0);
  e.seen.assign(size(m), 0), e.yy.assign(size(m), 0);
  e.yw.assign(size(m * k), 0), e.ww.assign(size(m * k * k), 0);
  e.z0.assign(size(n), 0);
  return e;
}

void add(LgssmMoments& to, const LgssmMoments& from) {
  for (auto part : {&LgssmMoments::zz, &LgssmMoments::zx, &LgssmMoments::xx, &LgssmMoments::seen,
                    &LgssmMoments::yy, &LgssmMoments::yw, &LgssmMoments::ww, &LgssmMoments::z0}) {
    for (std::size_t i = 0; i < (to.*part).size(); ++i) (to.*part)[i] += (from.*part)[i];
  }
  to.transitions += from.transitions, to.sequences += from.sequences;
}

/// What a thread sums over its sequences.
struct Share {
  lgssm::FilterRun filter;
  lgssm::Workspace workspace;
  std::vector<double> mean, covariance, lag_one, row_log_likelihood;
  LgssmMoments sums;
  double log_likelihood = 0;

  void smooth(const LgssmMatrices& x, const KalmanData<double>& data, std::int64_t i) {
    const auto steps = static_cast<std::size_t>(data.layout.T), n = static_cast<std::size_t>(x.n);
    row_log_likelihood.resize(steps);
    filter.run(x, data, row_log_likelihood.data());
    filter.require_sound(i, data.layout.T);
    for (const double l : row_log_likelihood) log_likelihood += l;
    mean.resize(steps * n), covariance.resize(steps * n * n), lag_one.resize(steps * n * n);
    KalmanSmootherArgs<double> args;
    args.model = x.view(), args.data = data, args.filtered = filter.view(x);
    args.mean = {mean.data(), x.n}, args.covariance = {covariance.data(), x.n * x.n};
    args.lag_one = {lag_one.data(), x.n * x.n};
    workspace.lend(args);
    cpu::kalman_smoother(args);
  }

  void add_sequence(const LgssmMatrices& x, const lgssm::Sequences& sequences, std::int64_t i) {
    const std::int64_t n = x.n, U = x.U, p = n + U, k = p + 1, length = sequences.length(i);
    if (length == 0) return;
    const KalmanData<double> data = sequences.data(i);
    smooth(x, data, i);
    Eigen::Map<Matrix> zz(sums.zz.data(), n, n), zx(sums.zx.data(), n, p), xx(sums.xx.data(), p, p);
    Eigen::Map<Vector>(sums.z0.data(), n) += Eigen::Map<const Vector>(mean.data(), n);
    sums.sequences += 1;
    Matrix product = Matrix::Zero(k, k), previous, cross(n, p);
    for (std::int64_t t = 0; t < length; ++t) {
      const Eigen::Map<const Vector> z(mean.data() + t * n, n), u(data.u[t], U);
      const Eigen::Map<const Matrix> P(covariance.data() + t * n * n, n, n);
      Vector w(k);
      w << z, u, 1;
      product = w * w.transpose();
      product.topLeftCorner(n, n) += P;
      if (t > 0) {
        const Eigen::Map<const Vector> before(mean.data() + (t - 1) * n, n);
        const Eigen::Map<const Matrix> lag(lag_one.data() + t * n * n, n, n);
        const Eigen::Map<const Matrix> P_before(covariance.data() + (t - 1) * n * n, n, n);
        Vector regressor(p);
        regressor << before, u;
        zz += product.topLeftCorner(n, n);
        zx += z * regressor.transpose();
        zx.leftCols(n) += lag;
        xx += regressor * regressor.transpose();
        xx.topLeftCorner(n, n) += P_before;
        sums.transitions += 1;
      }
      for (std::int64_t j = 0; j < x.m; ++j) {
        if (!sequences.observed(sequences.first_row(i) + t, j)) continue;
        const double y = data.y[t][j];
        const auto column = static_cast<std::size_t>(j);
        sums.seen[column] += 1, sums.yy[column] += y * y;
        Eigen::Map<Vector>(sums.yw.data() + j * k, k) += y * w;
        Eigen::Map<Matrix>(sums.ww.data() + j * k * k, k, k) += product;
      }
    }
  }
};

}  // namespace

LgssmFit fit_lgssm_em(const LgssmForm& form, const data::SequenceSet& set,
                      const LgssmEmOptions& options, const LbfgsState* resume) {
  for (const std::int64_t begin : set.begin) {
    require(begin == 0, "em", "rows of a sequence that do not count", begin, "none");
  }
  LgssmFit fit;
  if (resume != nullptr) {
    fit.state = *resume;
  } else {
    fit.state.x = form.start(set);
    fit.state.value = std::numeric_limits<double>::infinity();
  }
  const double steps = static_cast<double>(set.steps());
  const auto threads = static_cast<int>(
      std::min<std::int64_t>(set.count(), options.pool != nullptr ? options.pool->count() : 1));
  while (fit.state.iteration < options.max_iterations) {
    const LgssmMatrices x = form.build(fit.state.x);
    const lgssm::Sequences sequences(set, x, "em");
    std::vector<Share> shares(static_cast<std::size_t>(threads));
    run_shares(options.pool, threads, [&](int share) {
      Share& mine = shares[static_cast<std::size_t>(share)];
      mine.sums = zeros(x);
      for (std::int64_t i = share; i < set.count(); i += threads) {
        mine.add_sequence(x, sequences, i);
      }
    });
    LgssmMoments sums = zeros(x);
    fit.log_likelihood = 0;
    for (const Share& share : shares) {
      add(sums, share.sums);
      fit.log_likelihood += share.log_likelihood;
    }
    const double value = -fit.log_likelihood / steps;
    fit.converged = fit.state.value - value <= options.tolerance;
    fit.state.value = value;
    if (fit.converged) break;
    fit.state.x = form.maximise(sums);
    ++fit.state.iteration;
    if (options.on_iteration && !options.on_iteration(fit.state, fit.log_likelihood)) break;
  }
  return fit;
}

}  // namespace seqvae

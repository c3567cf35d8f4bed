// Expectation maximisation: sums of the smoothed moments of all sequences, then the form's maximum.
#include <cmath>

#include "host/models/lgssm_runs.hpp"
#include "host/models/symmetric.hpp"
#include "seqvae/models/lgssm_fit.hpp"

namespace seqvae {
namespace {

using lgssm::Matrix;
using lgssm::Vector;

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

/// The moments summed over a share of the sequences.
class MomentsRun : public lgssm::FilterRun {
 public:
  MomentsRun(const Queue& queue, const LgssmMatrices& x, const lgssm::Observations& observations)
      : FilterRun(queue, x, observations),
        sums(zeros(x)),
        x_(x),
        observations_(observations),
        set_(observations.set()) {}

  LgssmMoments sums;
  double log_likelihood_sum = 0;

  void add(std::vector<lgssm::Member> members) {
    filter(std::move(members));
    require_sound();
    smooth(true);
    const std::int64_t rows = packing.rows(), n = x_.n;
    for (const double l : values(log_likelihood, rows)) log_likelihood_sum += l;
    means_ = values(smoothed_mean, rows * n);
    covariances_ = values(smoothed_covariance, rows * n * n);
    lags_ = values(lag_one, rows * n * n);
    for (std::int64_t b = 0; b < packing.count(); ++b) add_sequence(b);
  }

 private:
  Eigen::Map<const Vector> mean_of(std::int64_t row) const {
    return {means_.data() + row * x_.n, x_.n};
  }
  Eigen::Map<const Matrix> matrix_of(const std::vector<double>& rows, std::int64_t row) const {
    return {rows.data() + row * x_.n * x_.n, x_.n, x_.n};
  }

  void add_sequence(std::int64_t b) {
    const lgssm::Member& member = packing.members()[static_cast<std::size_t>(b)];
    const std::int64_t n = x_.n, U = x_.U, p = n + U, k = p + 1;
    if (member.length == 0) return;
    Eigen::Map<Matrix> zz(sums.zz.data(), n, n), zx(sums.zx.data(), n, p), xx(sums.xx.data(), p, p);
    Eigen::Map<Vector>(sums.z0.data(), n) += mean_of(packing.row(0, b));
    sums.sequences += 1;
    Matrix product = Matrix::Zero(k, k);
    for (std::int64_t t = 0; t < member.length; ++t) {
      const std::int64_t row = packing.row(t, b), row_of_set = member.first_row + t;
      const Eigen::Map<const Vector> z = mean_of(row), u(set_.controls.data() + row_of_set * U, U);
      Vector w(k);
      w << z, u, 1;
      product = w * w.transpose();
      product.topLeftCorner(n, n) += matrix_of(covariances_, row);
      if (t > 0) {
        const std::int64_t before = packing.row(t - 1, b);
        Vector regressor(p);
        regressor << mean_of(before), u;
        zz += product.topLeftCorner(n, n);
        zx += z * regressor.transpose();
        zx.leftCols(n) += matrix_of(lags_, row);
        xx += regressor * regressor.transpose();
        xx.topLeftCorner(n, n) += matrix_of(covariances_, before);
        sums.transitions += 1;
      }
      for (std::int64_t j = 0; j < x_.m; ++j) {
        if (!observations_.observed(row_of_set, j)) continue;
        const auto column = static_cast<std::size_t>(j);
        const double y = set_.values[static_cast<std::size_t>(row_of_set * x_.m + j)];
        sums.seen[column] += 1, sums.yy[column] += y * y;
        Eigen::Map<Vector>(sums.yw.data() + j * k, k) += y * w;
        Eigen::Map<Matrix>(sums.ww.data() + j * k * k, k, k) += product;
      }
    }
  }

  const LgssmMatrices& x_;
  const lgssm::Observations& observations_;
  const data::SequenceSet& set_;
  std::vector<double> means_, covariances_, lags_;
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
  while (fit.state.iteration < options.max_iterations) {
    const LgssmMatrices x = form.build(fit.state.x);
    const lgssm::Observations observations(set, x, "em");
    const auto runs = lgssm::for_each_batch<MomentsRun>(
        options.machine, x, observations, {},
        [](MomentsRun& run, std::vector<lgssm::Member> members) { run.add(std::move(members)); });
    LgssmMoments sums = zeros(x);
    fit.log_likelihood = 0;
    for (const auto& run : runs) {
      add(sums, run->sums);
      fit.log_likelihood += run->log_likelihood_sum;
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

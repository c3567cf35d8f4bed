// The forms with given and with freely learned matrices, and the choice by a configuration's keys.
#include "seqvae/models/lgssm_form.hpp"

#include <Eigen/Dense>

#include "host/models/lgssm_structural.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/core/random.hpp"

namespace seqvae {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

class GivenForm : public LgssmForm {
 public:
  explicit GivenForm(LgssmMatrices matrices) : matrices_(std::move(matrices)) {}
  std::vector<std::string> names() const override { return {}; }
  std::vector<double> start(const data::SequenceSet&) const override { return {}; }
  LgssmMatrices build(std::span<const double>) const override { return matrices_; }
  std::vector<double> reverse(std::span<const double>, const LgssmMatrices&) const override {
    return {};
  }

 private:
  LgssmMatrices matrices_;
};

using Map = Eigen::Map<const Matrix>;

/// N X^-1 for symmetric positive definite X, the least squares of products N by products X.
Matrix regression(const Matrix& N, const Matrix& X) {
  return X.ldlt().solve(N.transpose()).transpose();
}

/// Parameters in the order A, C, B, D, d, m0, log of Q's diagonal, log of R's diagonal.
class LearnedForm : public LgssmForm {
 public:
  LearnedForm(std::int64_t n, std::int64_t m, std::int64_t U) : n_(n), m_(m), U_(U) {}

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    const auto matrix = [&](const char* name, std::int64_t rows, std::int64_t columns) {
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < columns; ++j) {
          names.push_back(fmt::format("{}[{},{}]", name, i, j));
        }
      }
    };
    const auto vector = [&](const char* name, std::int64_t size) {
      for (std::int64_t i = 0; i < size; ++i) names.push_back(fmt::format("{}[{}]", name, i));
    };
    matrix("A", n_, n_), matrix("C", m_, n_), matrix("B", n_, U_), matrix("D", m_, U_);
    vector("d", m_), vector("m0", n_), vector("log_variance.Q", n_), vector("log_variance.R", m_);
    return names;
  }

  /// A = 0.9 I; C from the principal components of the observed values, what they leave is R; Q so
  /// that a state keeps variance 1. Columns of C beyond m are small noise, which breaks the tie.
  std::vector<double> start(const data::SequenceSet& set) const override {
    const std::int64_t rows = set.rows();
    Matrix centred(rows, m_);
    Vector mean = Vector::Zero(m_);
    for (std::int64_t j = 0; j < m_; ++j) {
      double count = 0;
      for (std::int64_t r = 0; r < rows; ++r) {
        const double y = set.values[std::size_t(r * m_ + j)];
        if (!std::isnan(y)) mean[j] += y, ++count;
      }
      require(count > 0, "fit", "observed values of a column", 0, "at least 1");
      mean[j] /= count;
      for (std::int64_t r = 0; r < rows; ++r) {
        const double y = set.values[std::size_t(r * m_ + j)];
        centred(r, j) = std::isnan(y) ? 0 : y - mean[j];
      }
    }
    const Matrix covariance = centred.transpose() * centred / static_cast<double>(rows);
    const Eigen::SelfAdjointEigenSolver<Matrix> spectrum(covariance);
    Matrix C(m_, n_);
    for (std::int64_t j = 0; j < n_; ++j) {
      if (j < m_) {  // eigenvalues ascend
        const std::int64_t k = m_ - 1 - j;
        C.col(j) = spectrum.eigenvectors().col(k) *
                   std::sqrt(std::max(0.0, spectrum.eigenvalues()[k]) * 0.8);
        continue;
      }
      for (std::int64_t i = 0; i < m_; ++i) {
        C(i, j) = 0.1 * std::sqrt(covariance(i, i)) *
                  normal(philox(noise_counter(0, 0, std::uint32_t(i), 0, j, 1, 0), 0), 0);
      }
    }
    std::vector<double> start;
    for (std::int64_t i = 0; i < n_ * n_; ++i) start.push_back(i % (n_ + 1) == 0 ? 0.9 : 0);
    start.insert(start.end(), C.data(), C.data() + m_ * n_);
    start.resize(start.size() + std::size_t((n_ + m_) * U_), 0);
    start.insert(start.end(), mean.data(), mean.data() + m_);
    start.resize(start.size() + std::size_t(n_), 0);
    start.resize(start.size() + std::size_t(n_), std::log(1 - 0.81));
    const Matrix explained = C * C.transpose();
    for (std::int64_t i = 0; i < m_; ++i) {
      const double whole = std::max(covariance(i, i), 1e-12);
      start.push_back(std::log(std::max(whole - explained(i, i), 0.05 * whole)));
    }
    return start;
  }

  LgssmMatrices build(std::span<const double> parameters) const override {
    LgssmMatrices x;
    x.n = n_, x.m = m_, x.U = U_;
    const double* next = parameters.data();
    for (auto [M, size] : free_matrices(x)) {
      M->assign(next, next + size);
      next += size;
    }
    x.Q.assign(std::size_t(n_ * n_), 0);
    x.R.assign(std::size_t(m_ * m_), 0);
    x.P0.assign(std::size_t(n_ * n_), 0);
    for (std::int64_t i = 0; i < n_; ++i) {
      x.P0[std::size_t(i * n_ + i)] = 1;
      x.Q[std::size_t(i * n_ + i)] = std::exp(*next++);
    }
    for (std::int64_t i = 0; i < m_; ++i) x.R[std::size_t(i * m_ + i)] = std::exp(*next++);
    return x;
  }

  /// Shumway and Stoffer, Journal of Time Series Analysis 3, 1982: two regressions and what they
  /// leave; of a column over the steps where it is seen.
  std::vector<double> maximise(const LgssmMoments& e) const override {
    const std::int64_t k = n_ + U_ + 1;
    const Map zx(e.zx.data(), n_, n_ + U_);
    const Matrix AB = regression(zx, Map(e.xx.data(), n_ + U_, n_ + U_));
    LgssmMatrices x;
    x.n = n_, x.m = m_, x.U = U_;
    const auto rows = [](const Matrix& M) {
      return std::vector<double>(M.data(), M.data() + M.size());
    };
    Matrix CDd(m_, k);
    std::vector<double> log_Q, log_R;
    for (std::int64_t i = 0; i < n_; ++i) {
      const double left = e.zz[std::size_t(i * (n_ + 1))] - AB.row(i).dot(zx.row(i));
      log_Q.push_back(std::log(left / e.transitions));
    }
    for (std::int64_t j = 0; j < m_; ++j) {
      const Map yw(e.yw.data() + j * k, 1, k), ww(e.ww.data() + j * k * k, k, k);
      CDd.row(j) = regression(yw, ww);
      const double left = e.yy[std::size_t(j)] - CDd.row(j).dot(yw.row(0));
      log_R.push_back(std::log(left / e.seen[std::size_t(j)]));
    }
    x.A = rows(AB.leftCols(n_)), x.B = rows(AB.rightCols(U_));
    x.C = rows(CDd.leftCols(n_)), x.D = rows(CDd.middleCols(n_, U_)), x.d = rows(CDd.rightCols(1));
    for (const double z : e.z0) x.m0.push_back(z / e.sequences);
    std::vector<double> out;
    for (auto [M, size] : free_matrices(x)) out.insert(out.end(), M->begin(), M->end());
    out.insert(out.end(), log_Q.begin(), log_Q.end());
    out.insert(out.end(), log_R.begin(), log_R.end());
    return out;
  }

  std::vector<double> reverse(std::span<const double> parameters,
                              const LgssmMatrices& grad) const override {
    std::vector<double> out;
    LgssmMatrices copy = grad;
    for (auto [M, size] : free_matrices(copy)) out.insert(out.end(), M->begin(), M->end());
    for (std::int64_t i = 0; i < n_; ++i) {
      out.push_back(grad.Q[std::size_t(i * n_ + i)] * std::exp(parameters[out.size()]));
    }
    for (std::int64_t i = 0; i < m_; ++i) {
      out.push_back(grad.R[std::size_t(i * m_ + i)] * std::exp(parameters[out.size()]));
    }
    return out;
  }

 private:
  std::vector<std::pair<std::vector<double>*, std::int64_t>> free_matrices(LgssmMatrices& x) const {
    return {{&x.A, n_ * n_}, {&x.C, m_ * n_}, {&x.B, n_ * U_},
            {&x.D, m_ * U_}, {&x.d, m_},      {&x.m0, n_}};
  }

  std::int64_t n_, m_, U_;
};

}  // namespace

std::vector<double> LgssmForm::maximise(const LgssmMoments&) const {
  throw InvalidArgument("em: this form has no closed maximum; it is fitted by its gradient");
}

std::unique_ptr<LgssmForm> make_lgssm_form(const io::JsonView& configuration, std::int64_t m,
                                           std::int64_t U) {
  if (const auto structural = configuration.get("structural")) {
    configuration.allow_only({"structural"});
    return make_structural_form(*structural, m, U);
  }
  if (const auto states = configuration.get("states")) {
    configuration.allow_only({"states"});
    return std::make_unique<LearnedForm>(states->integer(1, 512), m, U);
  }
  if (!configuration.get("A")) {
    configuration.fail("must have \"A\" (matrices given), \"structural\" or \"states\"");
  }
  LgssmMatrices matrices = LgssmMatrices::from_json(configuration);
  if (matrices.m != m) {
    configuration.at("C").fail(fmt::format("has {} rows, the data has {} columns", matrices.m, m));
  }
  if (matrices.U != U) {
    configuration.fail(fmt::format("has B or D for {} controls, the data has {}", matrices.U, U));
  }
  return std::make_unique<GivenForm>(std::move(matrices));
}

}  // namespace seqvae

// A, C, B, D, d and m0 free but for the entries that are fixed; Q and R diagonal with free log
// variances, or G G^T with G [k][rank] lower trapezoidal, its diagonal by its logarithm (Pinheiro
// and Bates, Statistics and Computing 6, 1996).
#include "host/models/lgssm_learned.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "host/models/symmetric.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/core/random.hpp"

namespace seqvae {
namespace {

using lgssm::Matrix;
using lgssm::Vector;
using Map = Eigen::Map<const Matrix>;

constexpr double kFree = std::numeric_limits<double>::quiet_NaN();

/// A matrix or, of one column that is not named, a vector.
struct FreeMatrix {
  const char* name;
  std::int64_t rows, columns;
  bool is_vector;
  std::vector<double> LgssmMatrices::*place;
  std::vector<double> fixed{};  ///< [rows][columns]  kFree where it is free

  std::int64_t size() const { return rows * columns; }
  bool all_free() const {
    return std::all_of(fixed.begin(), fixed.end(), [](double x) { return std::isnan(x); });
  }
  template <class F>
  void for_each_free(F f) const {
    for (std::size_t i = 0; i < fixed.size(); ++i) {
      if (std::isnan(fixed[i])) f(i);
    }
  }
};

/// A covariance of k: its diagonal, or, of rank > 0, a factor times its transpose.
struct FreeCovariance {
  const char* name;
  std::int64_t k, rank;

  template <class F>
  void for_each_entry(F f) const {
    for (std::int64_t i = 0; i < k; ++i) {
      for (std::int64_t j = 0; j < std::min(i + 1, rank); ++j) f(i, j);
    }
  }
  void name_all(std::vector<std::string>& names) const {
    for (std::int64_t i = 0; rank == 0 && i < k; ++i) {
      names.push_back(fmt::format("log_variance.{}[{}]", name, i));
    }
    for_each_entry([&](std::int64_t i, std::int64_t j) {
      names.push_back(fmt::format("{}factor.{}[{},{}]", i == j ? "log_" : "", name, i, j));
    });
  }
  void start_at(const Vector& variances, std::vector<double>& start) const {
    for (std::int64_t i = 0; rank == 0 && i < k; ++i) start.push_back(std::log(variances[i]));
    for_each_entry([&](std::int64_t i, std::int64_t j) {
      start.push_back(i == j ? std::log(variances[i]) / 2 : 0);
    });
  }
  /// The factor from the parameters at `next`, which moves on.
  Matrix factor(const double*& next) const {
    Matrix G = Matrix::Zero(k, rank);
    for_each_entry([&](std::int64_t i, std::int64_t j) {
      const double x = *next++;
      G(i, j) = i == j ? std::exp(x) : x;
    });
    return G;
  }
  std::vector<double> build(const double*& next) const {
    Matrix S = Matrix::Zero(k, k);
    if (rank == 0) {
      for (std::int64_t i = 0; i < k; ++i) S(i, i) = std::exp(*next++);
    } else {
      const Matrix G = factor(next);
      S = G * G.transpose();
    }
    return {S.data(), S.data() + S.size()};
  }
  /// df = sum grad_ij dS_ij with a symmetric grad: 2 grad G of the factor.
  void reverse(const std::vector<double>& grad, const double*& next,
               std::vector<double>& out) const {
    const Map g(grad.data(), k, k);
    if (rank == 0) {
      for (std::int64_t i = 0; i < k; ++i) out.push_back(g(i, i) * std::exp(*next++));
      return;
    }
    const Matrix G = factor(next), of_G = 2 * g * G;
    for_each_entry([&](std::int64_t i, std::int64_t j) {
      out.push_back(of_G(i, j) * (i == j ? G(i, j) : 1));
    });
  }
};

/// N X^-1 for symmetric positive definite X, the least squares of products N by products X.
Matrix regression(const Matrix& N, const Matrix& X) {
  return lgssm::solve(X, N.transpose()).transpose();
}

/// Parameters in the order A, C, B, D, d, m0, those of Q, those of R.
class LearnedForm : public LgssmForm {
 public:
  LearnedForm(std::int64_t n, std::int64_t m, std::int64_t U)
      : n_(n),
        m_(m),
        U_(U),
        free_{{{"A", n, n, false, &LgssmMatrices::A},
               {"C", m, n, false, &LgssmMatrices::C},
               {"B", n, U, false, &LgssmMatrices::B},
               {"D", m, U, false, &LgssmMatrices::D},
               {"d", m, 1, true, &LgssmMatrices::d},
               {"m0", n, 1, true, &LgssmMatrices::m0}}},
        Q_{"Q", n, 0},
        R_{"R", m, 0} {
    for (FreeMatrix& M : free_) M.fixed.assign(static_cast<std::size_t>(M.size()), kFree);
  }

  /// What a configuration says beside "states".
  void bind(const io::JsonView& json) {
    if (const auto fixed = json.get("fixed")) {
      std::vector<std::string> known;
      for (const FreeMatrix& M : free_) known.push_back(M.name);
      fixed->allow_only(known);
      for (FreeMatrix& M : free_) {
        if (const auto given = fixed->get(M.name)) fix(M, *given);
      }
    }
    if (const auto A = json.get("A")) {
      if (A->choice({"full", "diagonal"}) == "diagonal") make_diagonal(json);
    }
    if (const auto Q = json.get("Q")) Q_.rank = rank_of(*Q, n_);
    if (const auto R = json.get("R")) R_.rank = R->choice({"diagonal", "full"}) == "full" ? m_ : 0;
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const FreeMatrix& M : free_) {
      M.for_each_free([&](std::size_t i) {
        const auto place = static_cast<std::int64_t>(i);
        names.push_back(
            M.is_vector ? fmt::format("{}[{}]", M.name, place)
                        : fmt::format("{}[{},{}]", M.name, place / M.columns, place % M.columns));
      });
    }
    Q_.name_all(names), R_.name_all(names);
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
    const lgssm::Spectrum spectrum = lgssm::spectrum(covariance);
    Matrix C(m_, n_);
    for (std::int64_t j = 0; j < n_; ++j) {
      if (j < m_) {  // eigenvalues ascend
        const std::int64_t k = m_ - 1 - j;
        C.col(j) = spectrum.vectors.col(k) * std::sqrt(std::max(0.0, spectrum.values[k]) * 0.8);
        continue;
      }
      for (std::int64_t i = 0; i < m_; ++i) {
        C(i, j) = 0.1 * std::sqrt(covariance(i, i)) *
                  normal(philox(noise_counter(0, 0, std::uint32_t(i), 0, j, 1, 0), 0), 0);
      }
    }
    LgssmMatrices x;
    x.A.assign(std::size_t(n_ * n_), 0);
    for (std::int64_t i = 0; i < n_; ++i) x.A[std::size_t(i * (n_ + 1))] = 0.9;
    x.C.assign(C.data(), C.data() + m_ * n_);
    x.B.assign(std::size_t(n_ * U_), 0), x.D.assign(std::size_t(m_ * U_), 0);
    x.d.assign(mean.data(), mean.data() + m_), x.m0.assign(std::size_t(n_), 0);
    std::vector<double> start = free_entries(x);
    Q_.start_at(Vector::Constant(n_, 1 - 0.81), start);
    const Matrix explained = C * C.transpose();
    Vector left(m_);
    for (std::int64_t i = 0; i < m_; ++i) {
      const double whole = std::max(covariance(i, i), 1e-12);
      left[i] = std::max(whole - explained(i, i), 0.05 * whole);
    }
    R_.start_at(left, start);
    return start;
  }

  LgssmMatrices build(std::span<const double> parameters) const override {
    LgssmMatrices x;
    x.n = n_, x.m = m_, x.U = U_;
    const double* next = parameters.data();
    for (const FreeMatrix& M : free_) {
      std::vector<double>& values = x.*M.place = M.fixed;
      M.for_each_free([&](std::size_t i) { values[i] = *next++; });
    }
    x.Q = Q_.build(next), x.R = R_.build(next);
    x.P0.assign(std::size_t(n_ * n_), 0);
    for (std::int64_t i = 0; i < n_; ++i) x.P0[std::size_t(i * n_ + i)] = 1;
    return x;
  }

  /// Shumway and Stoffer, Journal of Time Series Analysis 3, 1982: two regressions and what they
  /// leave; of a column over the steps where it is seen.
  std::vector<double> maximise(const LgssmMoments& e) const override {
    const bool free =
        std::all_of(free_.begin(), free_.end(), [](const auto& M) { return M.all_free(); });
    if (!free || Q_.rank > 0 || R_.rank > 0) return LgssmForm::maximise(e);
    const std::int64_t k = n_ + U_ + 1;
    const Map zx(e.zx.data(), n_, n_ + U_);
    const Matrix AB = regression(zx, Map(e.xx.data(), n_ + U_, n_ + U_));
    LgssmMatrices x;
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
    std::vector<double> out = free_entries(x);
    out.insert(out.end(), log_Q.begin(), log_Q.end());
    out.insert(out.end(), log_R.begin(), log_R.end());
    return out;
  }

  std::vector<double> reverse(std::span<const double> parameters,
                              const LgssmMatrices& grad) const override {
    std::vector<double> out = free_entries(grad);
    const double* next = parameters.data() + out.size();
    Q_.reverse(grad.Q, next, out), R_.reverse(grad.R, next, out);
    return out;
  }

 private:
  std::vector<double> free_entries(const LgssmMatrices& x) const {
    std::vector<double> out;
    for (const FreeMatrix& M : free_) {
      M.for_each_free([&](std::size_t i) { out.push_back((x.*M.place)[i]); });
    }
    return out;
  }

  /// Numbers are fixed, null is free.
  static void fix(FreeMatrix& M, const io::JsonView& json) {
    const auto entries = [&](const io::JsonView& row, std::int64_t count, double* to) {
      const std::vector<io::JsonView> given = row.elements();
      if (static_cast<std::int64_t>(given.size()) != count) {
        row.fail(fmt::format("has {} entries, must have {}", given.size(), count));
      }
      for (const io::JsonView& entry : given) {
        *to++ = entry.value().is_null() ? kFree : entry.number();
      }
    };
    if (M.is_vector) return entries(json, M.rows, M.fixed.data());
    const std::vector<io::JsonView> rows = json.elements();
    if (static_cast<std::int64_t>(rows.size()) != M.rows) {
      json.fail(fmt::format("has {} rows, must have {}", rows.size(), M.rows));
    }
    for (std::size_t i = 0; i < rows.size(); ++i) {
      entries(rows[i], M.columns, M.fixed.data() + static_cast<std::int64_t>(i) * M.columns);
    }
  }

  void make_diagonal(const io::JsonView& json) {
    std::vector<double>& A = free_[0].fixed;
    for (std::int64_t i = 0; i < n_ * n_; ++i) {
      if (i % (n_ + 1) == 0) continue;
      double& entry = A[static_cast<std::size_t>(i)];
      if (!std::isnan(entry) && entry != 0) {
        json.at("fixed").at("A").fail(
            fmt::format("fixes entry [{},{}] at {}, must be null or 0 where A is diagonal", i / n_,
                        i % n_, entry));
      }
      entry = 0;
    }
  }

  /// Of "diagonal", "full" or {"rank": r}; 0: diagonal.
  static std::int64_t rank_of(const io::JsonView& json, std::int64_t most) {
    if (!json.value().is_object()) return json.choice({"diagonal", "full"}) == "full" ? most : 0;
    json.allow_only({"rank"});
    return json.at("rank").integer(1, most);
  }

  std::int64_t n_, m_, U_;
  std::array<FreeMatrix, 6> free_;
  FreeCovariance Q_, R_;
};

}  // namespace

std::unique_ptr<LgssmForm> make_learned_form(const io::JsonView& json, std::int64_t m,
                                             std::int64_t U) {
  json.allow_only({"states", "fixed", "A", "Q", "R"});
  auto form = std::make_unique<LearnedForm>(json.at("states").integer(1, 512), m, U);
  form->bind(json);
  return form;
}

}  // namespace seqvae

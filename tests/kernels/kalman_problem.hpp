// Random linear-Gaussian systems, runs of the contracts on them, and the dense normal distribution
// of all states and observations as their oracle.
#pragma once
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numbers>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "seqvae/kernels/kalman.hpp"

namespace seqvae::test {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

struct KalmanShape {
  std::int64_t T, B, n, m, U;
  bool masked, full_R, varying, ragged, packed;
  std::int64_t diffuse;  // leading components of the state

  friend void PrintTo(const KalmanShape& s, std::ostream* out) {
    *out << "T" << s.T << "_B" << s.B << "_n" << s.n << "_m" << s.m << "_U" << s.U
         << (s.masked ? "_masked" : "") << (s.full_R ? "_fullR" : "")
         << (s.varying ? "_varying" : "") << (s.ragged ? "_ragged" : "")
         << (s.packed ? "_packed" : "") << "_diffuse" << s.diffuse;
  }
};

inline constexpr double kPoison = std::numeric_limits<double>::quiet_NaN();

/// An array of the model, with its strides.
struct Array {
  std::vector<double> values;
  std::int64_t entries = 0, step = 0, sequence = 0;
  StepArray<double> view() { return {values.data(), step, sequence}; }
};

class KalmanProblem {
 public:
  KalmanShape shape;
  Array A, B, b, Q, C, D, d, R, m0, P0;
  std::vector<double> y, mask, u;
  std::vector<std::uint8_t> diffuse;
  std::vector<std::int32_t> lengths, offsets;
  std::vector<std::uint32_t> ids;

  explicit KalmanProblem(const KalmanShape& s, unsigned seed = 1) : shape(s), random_(seed) {
    for (std::int64_t i = 0; i < s.B; ++i) {
      lengths.push_back(static_cast<std::int32_t>(
          s.ragged ? std::max<std::int64_t>(0, s.T - (s.T + 1) * i / s.B) : s.T));
      ids.push_back(static_cast<std::uint32_t>(7 * i + 3));
    }
    if (s.ragged) lengths.back() = 0;
    offsets.push_back(0);
    for (std::int64_t t = 0; t < s.T; ++t) {
      const auto active = std::count_if(lengths.begin(), lengths.end(),
                                        [&](std::int32_t length) { return length > t; });
      offsets.push_back(offsets.back() + static_cast<std::int32_t>(active));
    }
    const auto add = [&](Array& a, std::int64_t entries, auto draw) {
      a.entries = entries;
      const std::int64_t count = s.varying ? rows() : 1;
      if (s.varying) a.step = s.B * entries, a.sequence = entries;
      for (std::int64_t i = 0; i < std::max<std::int64_t>(count, 1); ++i) draw(a.values);
    };
    const auto normal = [&](std::int64_t entries, double scale) {
      return [this, entries, scale](std::vector<double>& out) {
        for (std::int64_t i = 0; i < entries; ++i) out.push_back(scale * draw());
      };
    };
    const auto covariance = [&](std::int64_t k, double floor) {
      return [this, k, floor](std::vector<double>& out) {
        Matrix L(k, k);
        for (auto& x : L.reshaped()) x = draw() / std::sqrt(double(k));
        const Matrix S = L * L.transpose() + floor * Matrix::Identity(k, k);
        out.insert(out.end(), S.data(), S.data() + k * k);
      };
    };
    add(A, s.n * s.n, [&](std::vector<double>& out) {
      for (std::int64_t i = 0; i < s.n * s.n; ++i) {
        out.push_back((i % (s.n + 1) == 0 ? 0.8 : 0.0) + 0.25 * draw());
      }
    });
    add(B, s.n * s.U, normal(s.n * s.U, 0.5));
    add(b, s.n, normal(s.n, 0.3));
    add(Q, s.n * s.n, covariance(s.n, 0.05));
    add(C, s.m * s.n, normal(s.m * s.n, 1));
    add(D, s.m * s.U, normal(s.m * s.U, 0.5));
    add(d, s.m, normal(s.m, 0.3));
    if (s.full_R) {
      add(R, s.m * s.m, covariance(s.m, 0.2));
    } else {
      add(R, s.m, [&](std::vector<double>& out) {
        for (std::int64_t i = 0; i < s.m; ++i) out.push_back(0.2 + std::pow(draw(), 2));
      });
    }
    m0.entries = s.n, m0.sequence = s.n;  // one a sequence
    P0.entries = s.n * s.n;
    for (std::int64_t i = 0; i < s.B; ++i) normal(s.n, 1)(m0.values);
    covariance(s.n, 0.3)(P0.values);
    diffuse.assign(static_cast<std::size_t>(s.n), 0);
    for (std::int64_t i = 0; i < s.diffuse; ++i) diffuse[static_cast<std::size_t>(i)] = 1;
    normal(rows() * s.m, 2)(y);
    normal(rows() * s.U, 1)(u);
    mask.assign(y.size(), 1);
    if (s.masked) {
      for (double& x : mask) x = std::uniform_real_distribution<>()(random_) < 0.4 ? 0 : 1;
      for (std::int64_t i = 0; i < s.B * s.m && i < std::int64_t(y.size()); ++i) {
        mask[static_cast<std::size_t>(i)] = 0;  // all of the first step
      }
    }
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (mask[i] == 0) y[i] = kPoison;
    }
    if (!s.packed) {  // padding is poison
      for (std::int64_t t = 0; t < s.T; ++t) {
        for (std::int64_t i = 0; i < s.B; ++i) {
          if (t < lengths[std::size_t(i)]) continue;
          for (std::int64_t j = 0; j < s.m; ++j) y[std::size_t((t * s.B + i) * s.m + j)] = kPoison;
        }
      }
    }
  }

  double draw() { return std::normal_distribution<>()(random_); }
  std::int64_t rows() const { return shape.packed ? offsets.back() : shape.T * shape.B; }
  std::int64_t row(std::int64_t t, std::int64_t i) const {
    return shape.packed ? offsets[std::size_t(t)] + i : t * shape.B + i;
  }
  RowLayout layout() const {
    RowLayout layout;
    layout.T = shape.T, layout.B = shape.B;
    (shape.packed ? layout.offsets : layout.lengths) =
        shape.packed ? offsets.data() : lengths.data();
    return layout;
  }
  KalmanModel<double> model() {
    KalmanModel<double> model;
    model.n = shape.n, model.m = shape.m, model.U = shape.U;
    model.A = A.view(), model.state_offset = b.view(), model.Q = Q.view();
    model.C = C.view(), model.observation_offset = d.view(), model.R = R.view();
    if (shape.U > 0) model.B = B.view(), model.D = D.view();
    model.diagonal_R = !shape.full_R;
    model.m0 = m0.view(), model.P0 = P0.view();
    if (shape.diffuse > 0) model.diffuse = diffuse.data();
    return model;
  }
  KalmanData<double> data() {
    KalmanData<double> data;
    data.layout = layout();
    data.y = {y.data(), shape.m};
    if (shape.masked) data.mask = {mask.data(), shape.m};
    data.u = {u.data(), shape.U};
    return data;
  }
  Matrix matrix(Array& a, std::int64_t t, std::int64_t i, std::int64_t columns) const {
    const double* place =
        a.values.data() +
        (shape.packed && a.step != 0 ? row(t, i) * a.sequence : t * a.step + i * a.sequence);
    return Eigen::Map<const Matrix>(place, a.entries / std::max<std::int64_t>(columns, 1), columns);
  }
  Matrix observation_noise(std::int64_t t, std::int64_t i) {
    if (shape.full_R) return matrix(R, t, i, shape.m);
    return matrix(R, t, i, 1).col(0).asDiagonal();
  }

 private:
  std::mt19937_64 random_;
};

/// Calls a contract with a workspace of the size it asks for.
template <class Args, class Function>
void with_workspace(Args& args, Function function) {
  std::vector<double> workspace(kalman_workspace_bytes(args) / sizeof(double) + 2, kPoison);
  void* place = workspace.data();
  std::size_t space = workspace.size() * sizeof(double);
  args.workspace = std::align(16, kalman_workspace_bytes(args), place, space);
  args.workspace_bytes = kalman_workspace_bytes(args);
  function(args);
}

/// Within tolerance of the largest entry; NaN where there is NaN.
inline void expect_near(const std::vector<double>& actual, const std::vector<double>& expected,
                        double tolerance, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double scale = 0;
  for (const double x : expected) scale = std::max(scale, std::isnan(x) ? 0 : std::abs(x));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i]) && std::isnan(actual[i])) continue;
    ASSERT_LE(std::abs(actual[i] - expected[i]), tolerance * scale)
        << what << "[" << i << "]: " << actual[i] << " against " << expected[i];
  }
}

struct Filtered {
  std::vector<double> mean, covariance, predicted_mean, predicted_covariance, log_likelihood;
  std::vector<double> given_mean, given_covariance, factor, delta, spread;
  std::vector<std::int32_t> status, merge_step, diffuse_steps;

  explicit Filtered(KalmanProblem& problem, KalmanForm form = KalmanForm::joseph,
                    std::int64_t chunk = 0, ThreadPool* pool = nullptr) {
    const auto rows = std::size_t(problem.rows()), n = std::size_t(problem.shape.n);
    const auto B = std::size_t(problem.shape.B);
    for (auto* v : {&mean, &predicted_mean, &given_mean}) v->assign(rows * n + 1, kPoison);
    for (auto* v : {&covariance, &predicted_covariance, &given_covariance, &factor}) {
      v->assign(rows * n * n + 1, kPoison);
    }
    delta.assign(B * n, kPoison);
    spread.assign(B * n * n, kPoison);
    log_likelihood.assign(rows + 1, kPoison);
    for (auto* v : {&status, &merge_step, &diffuse_steps}) v->assign(B, -1);
    const auto width = problem.shape.n, square = width * width;
    KalmanFilterArgs<double> args;
    args.model = problem.model();
    args.data = problem.data();
    args.form = form, args.chunk = chunk, args.pool = pool;
    args.mean = {mean.data(), width};
    args.covariance = {covariance.data(), square};
    args.predicted_mean = {predicted_mean.data(), width};
    args.predicted_covariance = {predicted_covariance.data(), square};
    args.log_likelihood = {log_likelihood.data(), 1};
    args.status = status.data();
    args.diffuse = {{given_mean.data(), width},
                    {given_covariance.data(), square},
                    {factor.data(), square},
                    {delta.data(), width},
                    {spread.data(), square}};
    args.merge_step = merge_step.data();
    args.diffuse_steps = diffuse_steps.data();
    with_workspace(args, [](const auto& a) { cpu::kalman_filter(a); });
  }
  void expect_near(const Filtered& other, double tolerance, const std::string& what) const {
    EXPECT_EQ(status, other.status) << what;
    EXPECT_EQ(merge_step, other.merge_step) << what;
    test::expect_near(mean, other.mean, tolerance, what + "mean");
    test::expect_near(covariance, other.covariance, tolerance, what + "covariance");
    test::expect_near(predicted_mean, other.predicted_mean, tolerance, what + "predicted mean");
    test::expect_near(predicted_covariance, other.predicted_covariance, tolerance,
                      what + "predicted covariance");
    test::expect_near(log_likelihood, other.log_likelihood, tolerance, what + "log-likelihood");
  }
  KalmanFiltered<double> view(const KalmanProblem& problem) const {
    const auto n = problem.shape.n, square = n * n;
    return {{mean.data(), n},
            {covariance.data(), square},
            {{given_mean.data(), n},
             {given_covariance.data(), square},
             {factor.data(), square},
             {delta.data(), n},
             {spread.data(), square}},
            merge_step.data()};
  }
};

/// The joint normal distribution of a sequence's states given its observations before `end`.
/// Diffuse components are regression coefficients delta with a flat prior.
/// In 64 bits of mantissa: a diffuse start on few observations is ill conditioned.
struct DenseOracle {
  using Wide = long double;
  using WideMatrix = Eigen::Matrix<Wide, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using WideVector = Eigen::Matrix<Wide, Eigen::Dynamic, 1>;
  double log_likelihood = 0;
  Vector mean;  // [length * n]
  Matrix covariance;
  bool proper = true;  // the observations determine delta

  DenseOracle(KalmanProblem& p, std::int64_t i, std::int64_t end) {
    const std::int64_t n = p.shape.n, m = p.shape.m, q = p.shape.diffuse;
    const std::int64_t length = p.lengths[std::size_t(i)];
    WideVector mu = WideVector::Zero(length * n);
    WideMatrix V = WideMatrix::Zero(length * n, length * n), W = WideMatrix::Zero(length * n, q);
    for (std::int64_t t = 0; t < length; ++t) {
      const auto block = [&](auto& x) { return x.middleRows(t * n, n); };
      if (t == 0) {
        WideVector start = p.matrix(p.m0, 0, i, 1).cast<Wide>();
        WideMatrix P0 = p.matrix(p.P0, 0, i, n).cast<Wide>();
        start.head(q).setZero();
        P0.topRows(q).setZero(), P0.leftCols(q).setZero();
        mu.head(n) = start;
        V.topLeftCorner(n, n) = P0;
        W.topRows(q).setIdentity();
        continue;
      }
      const WideMatrix A = p.matrix(p.A, t, i, n).cast<Wide>();
      mu.segment(t * n, n) = A * mu.segment((t - 1) * n, n) + p.matrix(p.b, t, i, 1).cast<Wide>();
      if (p.shape.U > 0)
        mu.segment(t * n, n) += (p.matrix(p.B, t, i, p.shape.U) * control(p, t, i)).cast<Wide>();
      block(W) = A * W.middleRows((t - 1) * n, n);
      V.block(t * n, 0, n, t * n) = A * V.block((t - 1) * n, 0, n, t * n);
      V.block(0, t * n, t * n, n) = V.block(t * n, 0, n, t * n).transpose();
      V.block(t * n, t * n, n, n) = A * V.block((t - 1) * n, (t - 1) * n, n, n) * A.transpose() +
                                    p.matrix(p.Q, t, i, n).cast<Wide>();
    }
    std::vector<std::pair<std::int64_t, std::int64_t>> seen;
    for (std::int64_t t = 0; t < end; ++t) {
      for (std::int64_t j = 0; j < m; ++j) {
        if (p.mask[std::size_t(p.row(t, i) * m + j)] != 0) seen.emplace_back(t, j);
      }
    }
    const auto N = std::int64_t(seen.size());
    if (N == 0) {
      mean = mu.cast<double>(), covariance = V.cast<double>();
      proper = q == 0;
      return;
    }
    WideMatrix H = WideMatrix::Zero(N, length * n), noise = WideMatrix::Zero(N, N);
    WideVector e(N);
    for (std::int64_t a = 0; a < N; ++a) {
      const auto [t, j] = seen[std::size_t(a)];
      H.block(a, t * n, 1, n) = p.matrix(p.C, t, i, n).row(j).cast<Wide>();
      e[a] = p.y[std::size_t(p.row(t, i) * m + j)] - p.matrix(p.d, t, i, 1)(j, 0);
      if (p.shape.U > 0) e[a] -= p.matrix(p.D, t, i, p.shape.U).row(j).dot(control(p, t, i));
      for (std::int64_t c = 0; c < N; ++c) {
        if (seen[std::size_t(c)].first == t) {
          noise(a, c) = p.observation_noise(t, i)(j, seen[std::size_t(c)].second);
        }
      }
    }
    e -= H * mu;
    const Eigen::LLT<WideMatrix> S(H * V * H.transpose() + noise);
    const WideMatrix K = S.solve(H * V).transpose();
    WideVector mean_given = mu;
    WideMatrix covariance_given = V - K * H * V;
    Wide log_determinant = 0;
    for (std::int64_t a = 0; a < N; ++a) log_determinant += 2 * std::log(S.matrixLLT()(a, a));
    if (q > 0) {
      const WideMatrix X = H * W, information = X.transpose() * S.solve(X);
      const Eigen::SelfAdjointEigenSolver<WideMatrix> spectrum(information);
      proper = N >= q && spectrum.eigenvalues().minCoeff() > 1e-9;
      if (!proper) return;
      const WideMatrix inverse = information.inverse(), rest = W - K * X;
      const WideVector delta = inverse * (X.transpose() * S.solve(e));
      e -= X * delta;
      mean_given += W * delta;
      covariance_given += rest * inverse * rest.transpose();
      log_determinant += std::log(information.determinant());
    }
    mean_given += K * e;
    mean = mean_given.cast<double>(), covariance = covariance_given.cast<double>();
    log_likelihood = double(-0.5L * (Wide(N) * std::log(2 * std::numbers::pi_v<Wide>) +
                                     log_determinant + e.dot(S.solve(e))));
  }
  static Vector control(KalmanProblem& p, std::int64_t t, std::int64_t i) {
    return Eigen::Map<const Vector>(p.u.data() + p.row(t, i) * p.shape.U, p.shape.U);
  }
};

}  // namespace seqvae::test

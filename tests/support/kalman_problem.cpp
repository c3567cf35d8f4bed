#include "tests/support/kalman_problem.hpp"

#include <gtest/gtest.h>

#include <Eigen/Cholesky>
#include <cmath>
#include <numbers>

namespace seqvae::test {
namespace {

using Wide = long double;
using WideMatrix = Eigen::Matrix<Wide, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Of matrices alone: each pair of Eigen's expressions would be compiled apart.
WideMatrix product(const WideMatrix& A, const WideMatrix& B) { return A.lazyProduct(B); }

WideMatrix control(const KalmanProblem& p, std::int64_t t, std::int64_t i) {
  const std::int64_t U = p.shape.U;
  return Eigen::Map<const EigenMatrix>(p.u.data() + p.row(t, i) * U, U, 1).cast<Wide>();
}

}  // namespace

std::vector<KalmanShape> kalman_shapes() {
  return {// T, B, n, m, U, masked, full_R, varying, ragged, packed, diffuse
          {1, 1, 1, 1, 0, false, false, false, false, false, 0},
          {6, 2, 3, 2, 0, false, true, false, false, false, 0},
          {7, 3, 2, 4, 2, true, true, true, true, false, 0},
          {7, 3, 4, 2, 1, true, false, true, true, true, 0},
          {9, 2, 3, 1, 0, true, true, false, false, false, 3},
          {5, 2, 3, 2, 2, true, true, true, false, false, 2},
          {6, 3, 4, 3, 1, false, true, false, false, false, 4},
          {8, 1, 4, 2, 0, true, false, true, false, true, 1}};
}

KalmanProblem::KalmanProblem(const KalmanShape& s, unsigned seed) : shape(s), random_(seed) {
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
      EigenMatrix L(k, k);
      for (auto& x : L.reshaped()) x = draw() / std::sqrt(double(k));
      const EigenMatrix S = L * L.transpose() + floor * EigenMatrix::Identity(k, k);
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

void expect_near(const std::vector<double>& actual, const std::vector<double>& expected,
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

void expect_close(const EigenMatrix& actual, const EigenMatrix& expected, double tolerance,
                  const std::string& what) {
  const double scale = expected.cwiseAbs().maxCoeff();
  const double error = (actual - expected).cwiseAbs().maxCoeff<Eigen::PropagateNaN>();
  EXPECT_TRUE(error <= tolerance * scale) << what << ": error " << error << ", scale " << scale;
}

EigenMatrix inverse(const EigenMatrix& A) {
  return Eigen::LLT<EigenMatrix>(A).solve(EigenMatrix::Identity(A.rows(), A.rows()));
}

double log_normal(const Vector& x, const EigenMatrix& S) {
  const Eigen::LLT<EigenMatrix> L(S);
  return -0.5 * (double(x.size()) * std::log(2 * std::numbers::pi) + x.dot(L.solve(x))) -
         EigenMatrix(L.matrixL()).diagonal().array().log().sum();
}

Filtered::Filtered(KalmanProblem& problem, KalmanForm form, std::int64_t chunk, ThreadPool* pool) {
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

void Filtered::expect_near(const Filtered& other, double tolerance, const std::string& what) const {
  EXPECT_EQ(status, other.status) << what;
  EXPECT_EQ(merge_step, other.merge_step) << what;
  test::expect_near(mean, other.mean, tolerance, what + "mean");
  test::expect_near(covariance, other.covariance, tolerance, what + "covariance");
  test::expect_near(predicted_mean, other.predicted_mean, tolerance, what + "predicted mean");
  test::expect_near(predicted_covariance, other.predicted_covariance, tolerance,
                    what + "predicted covariance");
  test::expect_near(log_likelihood, other.log_likelihood, tolerance, what + "log-likelihood");
}

Smoothed::Smoothed(KalmanProblem& p, const KalmanFiltered<double>& filtered, ThreadPool* pool,
                   std::int64_t chunk) {
  const std::int64_t n = p.shape.n;
  mean.assign(std::size_t(p.rows() * n), kPoison);
  covariance.assign(std::size_t(p.rows() * n * n), kPoison);
  lag_one = covariance;
  KalmanSmootherArgs<double> args;
  args.model = p.model();
  args.data = p.data();
  args.filtered = filtered;
  args.pool = pool, args.chunk = chunk;
  args.mean = {mean.data(), n};
  args.covariance = {covariance.data(), n * n};
  args.lag_one = {lag_one.data(), n * n};
  with_workspace(args, [](const auto& a) { cpu::kalman_smoother(a); });
}

std::map<std::string, std::vector<double>> gradients_of(KalmanProblem& p,
                                                        const KalmanFiltered<double>& filtered,
                                                        ThreadPool* pool, std::int64_t chunk,
                                                        double weight) {
  std::map<std::string, Array> g = {{"A", p.A}, {"B", p.B}, {"b", p.b}, {"Q", p.Q},   {"C", p.C},
                                    {"D", p.D}, {"d", p.d}, {"R", p.R}, {"m0", p.m0}, {"P0", p.P0}};
  for (auto& [name, array] : g) array.values.assign(array.values.size(), kPoison);
  std::map<std::string, std::vector<double>> result;
  result["y"].assign(p.y.size(), kPoison);
  KalmanBackwardArgs<double> args;
  args.model = p.model(), args.data = p.data(), args.filtered = filtered;
  args.pool = pool, args.chunk = chunk;
  args.grad.A = g["A"].view(), args.grad.state_offset = g["b"].view(), args.grad.Q = g["Q"].view();
  args.grad.C = g["C"].view(), args.grad.observation_offset = g["d"].view();
  args.grad.R = g["R"].view(), args.grad.m0 = g["m0"].view(), args.grad.P0 = g["P0"].view();
  if (p.shape.U > 0) args.grad.B = g["B"].view(), args.grad.D = g["D"].view();
  args.grad.y = {result["y"].data(), p.shape.m};
  const std::vector<double> weights(std::size_t(p.rows()), weight);
  if (weight != 1) args.grad_log_likelihood = {weights.data(), 1};
  with_workspace(args, [](const auto& a) { cpu::kalman_backward(a); });
  for (auto& [name, array] : g) {
    std::vector<double>& sum = result[name];
    if (array.step == 0 || array.sequence != 0) {
      sum = array.values;
      continue;
    }
    sum.assign(std::size_t(array.step), 0);
    for (std::size_t i = 0; i < array.values.size(); ++i) sum[i % sum.size()] += array.values[i];
  }
  return result;
}

DenseOracle::DenseOracle(KalmanProblem& p, std::int64_t i, std::int64_t end) {
  const std::int64_t n = p.shape.n, m = p.shape.m, q = p.shape.diffuse;
  const std::int64_t length = p.lengths[std::size_t(i)];
  WideMatrix mu = WideMatrix::Zero(length * n, 1);
  WideMatrix V = WideMatrix::Zero(length * n, length * n), W = WideMatrix::Zero(length * n, q);
  for (std::int64_t t = 0; t < length; ++t) {
    const auto wide = [&](Array& a, std::int64_t columns) -> WideMatrix {
      return p.matrix(a, t, i, columns).cast<Wide>();
    };
    if (t == 0) {
      WideMatrix start = wide(p.m0, 1), P0 = wide(p.P0, n);
      start.topRows(q).setZero(), P0.topRows(q).setZero(), P0.leftCols(q).setZero();
      mu.topRows(n) = start;
      V.topLeftCorner(n, n) = P0;
      W.topRows(q).setIdentity();
      continue;
    }
    const WideMatrix A = wide(p.A, n), before = V.middleRows((t - 1) * n, n).leftCols(t * n);
    WideMatrix mean = product(A, mu.middleRows((t - 1) * n, n)) + wide(p.b, 1);
    if (p.shape.U > 0) mean += product(wide(p.B, p.shape.U), control(p, t, i));
    mu.middleRows(t * n, n) = mean;
    W.middleRows(t * n, n) = product(A, W.middleRows((t - 1) * n, n));
    const WideMatrix cross = product(A, before);
    V.block(t * n, 0, n, t * n) = cross;
    V.block(0, t * n, t * n, n) = cross.transpose();
    V.block(t * n, t * n, n, n) = product(cross.rightCols(n), A.transpose()) + wide(p.Q, n);
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
  WideMatrix H = WideMatrix::Zero(N, length * n), noise = WideMatrix::Zero(N, N), e(N, 1);
  for (std::int64_t a = 0; a < N; ++a) {
    const auto [t, j] = seen[std::size_t(a)];
    const EigenMatrix C = p.matrix(p.C, t, i, n), R = p.observation_noise(t, i);
    for (std::int64_t k = 0; k < n; ++k) H(a, t * n + k) = C(j, k);
    e(a, 0) = p.y[std::size_t(p.row(t, i) * m + j)] - p.matrix(p.d, t, i, 1)(j, 0);
    if (p.shape.U > 0) {
      const EigenMatrix D = p.matrix(p.D, t, i, p.shape.U);
      for (std::int64_t k = 0; k < p.shape.U; ++k) e(a, 0) -= D(j, k) * control(p, t, i)(k, 0);
    }
    for (std::int64_t c = 0; c < N; ++c) {
      if (seen[std::size_t(c)].first == t) noise(a, c) = R(j, seen[std::size_t(c)].second);
    }
  }
  e -= product(H, mu);
  const WideMatrix HV = product(H, V);
  const Eigen::LLT<WideMatrix> S(product(HV, H.transpose()) + noise);
  const auto solve = [&](const WideMatrix& x) -> WideMatrix { return S.solve(x); };
  const WideMatrix K = solve(HV).transpose();
  WideMatrix mean_given = mu, covariance_given = V - product(K, HV);
  Wide log_determinant = 0;
  for (std::int64_t a = 0; a < N; ++a) log_determinant += 2 * std::log(S.matrixLLT()(a, a));
  if (q > 0) {
    const WideMatrix X = product(H, W), SX = solve(X);
    const WideMatrix information = product(X.transpose(), SX);
    const Eigen::LLT<WideMatrix> root(information);
    const WideMatrix pivots = root.matrixLLT().diagonal();
    proper = N >= q && root.info() == Eigen::Success && pivots.minCoeff() > 3e-5L;
    if (!proper) return;
    const WideMatrix inverse = root.solve(WideMatrix::Identity(q, q)), rest = W - product(K, X);
    const WideMatrix delta = product(inverse, product(SX.transpose(), e));
    e -= product(X, delta);
    mean_given += product(W, delta);
    covariance_given += product(product(rest, inverse), rest.transpose());
    for (std::int64_t a = 0; a < q; ++a) log_determinant += 2 * std::log(pivots(a, 0));
  }
  mean_given += product(K, e);
  mean = mean_given.cast<double>(), covariance = covariance_given.cast<double>();
  log_likelihood = double(-0.5L * (Wide(N) * std::log(2 * std::numbers::pi_v<Wide>) +
                                   log_determinant + product(e.transpose(), solve(e))(0, 0)));
}

}  // namespace seqvae::test

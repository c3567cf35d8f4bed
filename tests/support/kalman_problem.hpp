// Random linear-Gaussian systems, runs of the contracts on them, and the dense normal distribution
// of all states and observations as their oracle.
#pragma once
#include <Eigen/Core>
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "seqvae/kernels/kalman.hpp"

namespace seqvae::test {

using EigenMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
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

/// With masks, ragged and packed layouts, controls, full R, diffuse components, and without.
std::vector<KalmanShape> kalman_shapes();

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

  explicit KalmanProblem(const KalmanShape& shape, unsigned seed = 1);

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
  EigenMatrix matrix(Array& a, std::int64_t t, std::int64_t i, std::int64_t columns) const {
    const double* place =
        a.values.data() +
        (shape.packed && a.step != 0 ? row(t, i) * a.sequence : t * a.step + i * a.sequence);
    return Eigen::Map<const EigenMatrix>(place, a.entries / std::max<std::int64_t>(columns, 1),
                                         columns);
  }
  EigenMatrix observation_noise(std::int64_t t, std::int64_t i) {
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
void expect_near(const std::vector<double>& actual, const std::vector<double>& expected,
                 double tolerance, const std::string& what);

/// The largest difference within tolerance of the largest expected entry.
void expect_close(const EigenMatrix& actual, const EigenMatrix& expected, double tolerance,
                  const std::string& what);

/// Of a positive definite matrix.
EigenMatrix inverse(const EigenMatrix& A);
/// log N(x; 0, S)
double log_normal(const Vector& x, const EigenMatrix& S);

struct Filtered {
  std::vector<double> mean, covariance, predicted_mean, predicted_covariance, log_likelihood;
  std::vector<double> given_mean, given_covariance, factor, delta, spread;
  std::vector<std::int32_t> status, merge_step, diffuse_steps;

  explicit Filtered(KalmanProblem& problem, KalmanForm form = KalmanForm::joseph,
                    std::int64_t chunk = 0, ThreadPool* pool = nullptr);
  void expect_near(const Filtered& other, double tolerance, const std::string& what) const;
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

struct Smoothed {
  std::vector<double> mean, covariance, lag_one;
  Smoothed(KalmanProblem& problem, const KalmanFiltered<double>& filtered,
           ThreadPool* pool = nullptr, std::int64_t chunk = 0);
  Smoothed(KalmanProblem& problem, const Filtered& filtered)
      : Smoothed(problem, filtered.view(problem)) {}
};

/// Gradients of `weight` times the sum of all log-likelihoods by the name of each array of the
/// model and y. Those of arrays that vary in time but not with the sequence are summed over their
/// steps.
std::map<std::string, std::vector<double>> gradients_of(KalmanProblem& problem,
                                                        const KalmanFiltered<double>& filtered,
                                                        ThreadPool* pool = nullptr,
                                                        std::int64_t chunk = 0, double weight = 1);

/// The joint normal distribution of a sequence's states given its observations before `end`.
/// Diffuse components are regression coefficients delta with a flat prior.
/// In 64 bits of mantissa: a diffuse start on few observations is ill conditioned.
struct DenseOracle {
  double log_likelihood = 0;
  Vector mean;  // [length * n]
  EigenMatrix covariance;
  bool proper = true;  // the observations determine delta

  /// Of sequence i, given its observations before `end`.
  DenseOracle(KalmanProblem& problem, std::int64_t i, std::int64_t end);
};

}  // namespace seqvae::test

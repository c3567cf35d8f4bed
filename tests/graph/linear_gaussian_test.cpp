// A linear-Gaussian model as a word of a step, against the joint Gaussian of a whole sequence
// written out: its density, its states given the data, what it generates and forecasts.
#include <gmock/gmock.h>

#include <Eigen/Dense>
#include <numbers>

#include "seqvae/core/error.hpp"
#include "tests/graph/small_scan.hpp"

namespace seqvae::test {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr std::int64_t n = 2, m = kX, kSteps = 5, kAhead = 3;

/// Parameters by name; A turns and shrinks.
struct Truth {
  MatrixXd A{{0.8, 0.3}, {-0.2, 0.7}}, Q{{0.5, 0.1}, {0.1, 0.3}}, C{{1, 0}, {0.5, -1}, {0, 0.4}},
      R = VectorXd{{0.2, 0.1, 0.6}}.asDiagonal(), P0{{1.5, -0.4}, {-0.4, 0.8}};
  VectorXd b{{0.1, -0.3}}, d{{0.5, 0, -0.2}}, m0{{1, -1}};

  /// In the places that the table has for the parameters of step_of.
  std::vector<double> values(const ParameterTable& table) const {
    const std::vector<MatrixXd> in_order = {A, Q, C, R, P0, b, d, m0};
    std::vector<double> all(static_cast<std::size_t>(table.size()));
    for (std::size_t p = 0; p < in_order.size(); ++p) {
      const MatrixXd& x = in_order[p];
      auto to = all.begin() + table[static_cast<std::int32_t>(p)].offset;
      for (Eigen::Index i = 0; i < x.rows(); ++i) {
        for (Eigen::Index j = 0; j < x.cols(); ++j) *to++ = x(i, j);
      }
    }
    return all;
  }
};

StepFunction step_of(ParameterTable& p) {
  const std::int32_t A = p.add_vector("A", n * n, {}), Q = p.add_vector("Q", n * n, {}),
                     C = p.add_vector("C", m * n, {}), R = p.add_vector("R", m * m, {}),
                     P0 = p.add_vector("P0", n * n, {}), b = p.add_vector("b", n, {}),
                     d = p.add_vector("d", m, {}), m0 = p.add_vector("m0", n, {});
  return [=](Step& s) {
    s.linear_gaussian("states", {.A = parameter(s, A),
                                 .Q = parameter(s, Q),
                                 .C = parameter(s, C),
                                 .R = parameter(s, R),
                                 .m0 = parameter(s, m0),
                                 .P0 = parameter(s, P0),
                                 .b = parameter(s, b),
                                 .d = parameter(s, d)});
  };
}

/// All states and observations of T steps as one Gaussian: z_1 .. z_T, then y_1 .. y_T.
struct Joint {
  VectorXd mean;
  MatrixXd covariance;

  explicit Joint(const Truth& p, std::int64_t T) {
    const Eigen::Index Z = n * T, Y = m * T;
    mean = VectorXd::Zero(Z + Y), covariance = MatrixXd::Zero(Z + Y, Z + Y);
    MatrixXd C = MatrixXd::Zero(Y, Z);
    for (Eigen::Index t = 0; t < T; ++t) {
      const auto at = [&](Eigen::Index s, Eigen::Index u) {
        return covariance.block(s * n, u * n, n, n);
      };
      mean.segment(t * n, n) = t == 0 ? p.m0 : VectorXd(p.A * mean.segment((t - 1) * n, n) + p.b);
      at(t, t) = t == 0 ? p.P0 : MatrixXd(p.A * at(t - 1, t - 1) * p.A.transpose() + p.Q);
      for (Eigen::Index s = 0; s < t; ++s) {
        at(t, s) = p.A * at(t - 1, s);
        at(s, t) = at(t, s).transpose();
      }
      C.block(t * m, t * n, m, n) = p.C;
    }
    for (Eigen::Index t = 0; t < T; ++t) {
      mean.segment(Z + t * m, m) = p.C * mean.segment(t * n, n) + p.d;
      covariance.block(Z + t * m, Z + t * m, m, m) = p.R;
    }
    const MatrixXd S = covariance.topLeftCorner(Z, Z);
    covariance.bottomLeftCorner(Y, Z) = C * S;
    covariance.topRightCorner(Z, Y) = S * C.transpose();
    covariance.bottomRightCorner(Y, Y) += C * S * C.transpose();
  }

  /// Of the components `wanted`, given that those of `seen` have `values`.
  void condition(const std::vector<Eigen::Index>& wanted, const std::vector<Eigen::Index>& seen,
                 const VectorXd& values, VectorXd& m_out, MatrixXd& S_out) const {
    const MatrixXd gain =
        covariance(seen, seen).llt().solve(MatrixXd(covariance(seen, wanted))).transpose();
    m_out = mean(wanted) + gain * (values - mean(seen));
    S_out = covariance(wanted, wanted) - gain * covariance(seen, wanted);
  }
  double log_density(const std::vector<Eigen::Index>& seen, const VectorXd& values) const {
    if (seen.empty()) return 0;
    const Eigen::LLT<MatrixXd> llt(MatrixXd(covariance(seen, seen)));
    const VectorXd e = values - mean(seen);
    const VectorXd w = llt.matrixL().solve(e);
    const double half_log_det = llt.matrixLLT().diagonal().array().log().sum();
    return -w.squaredNorm() / 2 - half_log_det -
           static_cast<double>(seen.size()) / 2 * std::log(2 * std::numbers::pi);
  }
};

std::vector<Eigen::Index> range(Eigen::Index begin, Eigen::Index count) {
  std::vector<Eigen::Index> all;
  for (Eigen::Index i = 0; i < count; ++i) all.push_back(begin + i);
  return all;
}

/// The observed entries of sequence b: their places in the joint Gaussian, and their values.
void observed(const SmallBatch<double>& batch, std::size_t b, bool gaps,
              std::vector<Eigen::Index>& seen, VectorXd& values) {
  seen.clear();
  std::vector<double> found;
  const Eigen::Index T = batch.lengths[b], begin = batch.first_row[b] * m;
  for (Eigen::Index i = 0; i < T * m; ++i) {
    const std::size_t at = static_cast<std::size_t>(begin + i);
    if (gaps && batch.mask[at] == 0) continue;
    seen.push_back(T * n + i), found.push_back(batch.x[at]);
  }
  values = Eigen::Map<VectorXd>(found.data(), static_cast<Eigen::Index>(found.size()));
}

/// Rows [count][D] of draws have the mean and covariance, by their own errors.
void expect_moments(const std::vector<double>& draws, const VectorXd& mean, const MatrixXd& S) {
  const Eigen::Index D = mean.size(), count = static_cast<Eigen::Index>(draws.size()) / D;
  const Eigen::Map<const Eigen::Matrix<double, -1, -1, Eigen::RowMajor>> x(draws.data(), count, D);
  const VectorXd average = x.colwise().mean();
  const MatrixXd centered = x.rowwise() - average.transpose();
  const MatrixXd found = centered.transpose() * centered / static_cast<double>(count - 1);
  const double N = static_cast<double>(count);
  for (Eigen::Index i = 0; i < D; ++i) {
    EXPECT_LE(std::abs(average(i) - mean(i)), 4.5 * std::sqrt(S(i, i) / N)) << "mean " << i;
    for (Eigen::Index j = 0; j <= i; ++j) {
      const double error = std::sqrt((S(i, i) * S(j, j) + S(i, j) * S(i, j)) / N);
      EXPECT_LE(std::abs(found(i, j) - S(i, j)), 4.5 * error) << "covariance " << i << ", " << j;
    }
  }
}

ScanOptions options_of(Mode mode, bool particles) {
  ScanOptions options;
  options.trace.mode = mode, options.trace.x_width = kX, options.trace.particles = particles;
  return options;
}

/// Every particle's values of sequence b over all steps, a row a particle.
std::vector<double> paths(const Executor<double>& executor, const std::string& output,
                          const std::vector<std::int32_t>& lengths, std::size_t b) {
  const std::vector<double> all = executor.output(output);
  const std::int64_t K = executor.particles(), D = executor.width(output);
  std::int64_t first = 0;
  for (std::size_t i = 0; i < b; ++i) first += lengths[i];
  std::vector<double> rows;
  for (std::int64_t k = 0; k < K; ++k) {
    for (std::int64_t t = 0; t < lengths[b]; ++t) {
      const auto row = all.begin() + ((first + t) * K + k) * D;
      rows.insert(rows.end(), row, row + D);
    }
  }
  return rows;
}

class LinearGaussianStep : public testing::Test {
 protected:
  Executor<double> executor(ScanOptions options, std::int64_t particles = 1, int threads = 2) {
    kept_.push_back(std::make_unique<Kept>(threads));
    Kept& kept = *kept_.back();
    const StepFunction step = step_of(kept.table);
    Executor<double> made(trace_scan(step, kept.table, options), kept.table, kept.pool, particles);
    kept.values = truth_.values(kept.table);
    made.set_parameters(kept.values.data());
    return made;
  }

  /// What an executor looks at for as long as it lives.
  struct Kept {
    explicit Kept(int threads) : pool(threads) {}
    ThreadPool pool;
    ParameterTable table;
    std::vector<double> values;
  };
  Truth truth_;
  std::vector<std::unique_ptr<Kept>> kept_;
};

TEST_F(LinearGaussianStep, GivesTheDensityOfTheObservedEntries) {
  for (const bool gaps : {false, true}) {
    ScanOptions options = options_of(Mode::infer, false);
    options.trace.missing = gaps;
    Executor<double> run = executor(options);
    SmallBatch<double> batch({kSteps, 1, 4, 0, kSteps});
    run.run(batch.batch);
    const std::vector<double> found = run.output("bound");
    for (std::size_t b = 0; b < batch.lengths.size(); ++b) {
      std::vector<Eigen::Index> seen;
      VectorXd values;
      observed(batch, b, gaps, seen, values);
      const double expected = Joint(truth_, batch.lengths[b]).log_density(seen, values);
      EXPECT_NEAR(found[b], expected, 1e-11) << "sequence " << b << ", gaps " << gaps;
    }
  }
}

TEST_F(LinearGaussianStep, DrawsStatesAndGapsJointlyGivenTheData) {
  ScanOptions options = options_of(Mode::infer, true);
  options.trace.missing = true, options.paths = true;
  Executor<double> run = executor(options, 20000);
  SmallBatch<double> batch({kSteps, 2}, 20000);
  run.run(batch.batch);
  for (std::size_t b = 0; b < 2; ++b) {
    std::vector<Eigen::Index> seen;
    VectorXd values, mean;
    MatrixXd S;
    observed(batch, b, true, seen, values);
    const Joint joint(truth_, batch.lengths[b]);
    joint.condition(range(0, n * batch.lengths[b]), seen, values, mean, S);
    expect_moments(paths(run, "latent:states", batch.lengths, b), mean, S);
    // An observation drawn anew: C z + d + r.
    const MatrixXd C = truth_.C;
    std::vector<double> first = paths(run, "draw:x", batch.lengths, b), rows;
    const std::size_t width = static_cast<std::size_t>(m * batch.lengths[b]);
    for (std::size_t k = 0; k < 20000; ++k)
      rows.insert(rows.end(), first.begin() + static_cast<std::ptrdiff_t>(k * width),
                  first.begin() + static_cast<std::ptrdiff_t>(k * width + m));
    expect_moments(rows, C * mean.head(n) + truth_.d,
                   C * S.topLeftCorner(n, n) * C.transpose() + truth_.R);
  }
}

TEST_F(LinearGaussianStep, GeneratesFromTheJointGaussian) {
  Executor<double> run = executor(options_of(Mode::generate, true), 20000);
  SmallBatch<double> batch({kSteps, 3}, 20000);
  run.run(batch.batch);
  for (std::size_t b = 0; b < 2; ++b) {
    const Eigen::Index T = batch.lengths[b];
    const Joint joint(truth_, T);
    expect_moments(paths(run, "draw:x", batch.lengths, b), joint.mean.tail(m * T),
                   joint.covariance.bottomRightCorner(m * T, m * T));
    expect_moments(paths(run, "latent:states", batch.lengths, b), joint.mean.head(n * T),
                   joint.covariance.topLeftCorner(n * T, n * T));
  }
}

TEST_F(LinearGaussianStep, ForecastsFromTheContextsLastState) {
  constexpr std::int64_t K = 20000;
  ScanOptions past = options_of(Mode::infer, true);
  past.states = true;
  Executor<double> context = executor(past, K);
  SmallBatch<double> batch({kSteps, 2}, K);
  context.run(batch.batch);
  ScanOptions ahead = options_of(Mode::generate, true);
  ahead.trace.continued = true;
  Executor<double> future = executor(ahead, K);
  SmallBatch<double> next({kAhead, kAhead}, K);
  const std::vector<std::int32_t> origin = batch.lengths;
  next.batch.origin = origin;
  const std::vector<double> start = context.output("start:states");
  next.batch.bindings.push_back({"start:states", start.data()});
  future.run(next.batch);
  for (std::size_t b = 0; b < 2; ++b) {
    const Eigen::Index T = batch.lengths[b], all = T + kAhead;
    const Joint joint(truth_, all);
    std::vector<Eigen::Index> seen;
    VectorXd values, mean;
    MatrixXd S;
    observed(batch, b, false, seen, values);
    for (Eigen::Index& i : seen) i += n * kAhead;  // the states ahead stand before
    joint.condition(range(n * all + m * T, m * kAhead), seen, values, mean, S);
    expect_moments(paths(future, "draw:x", next.lengths, b), mean, S);
  }
}

TEST_F(LinearGaussianStep, IsNaNWhereACovarianceIsNotPositive) {
  truth_.R.diagonal().setConstant(-9);
  ScanOptions options = options_of(Mode::infer, false);
  options.gradient = true;
  Executor<double> run = executor(options);
  SmallBatch<double> batch;
  std::vector<double> gradients(static_cast<std::size_t>(kept_[0]->table.size()));
  run.run(batch.batch, gradients.data());
  EXPECT_THAT(run.output("bound"), testing::Each(testing::IsNan()));
  for (const Parameter& p : kept_[0]->table.all()) {
    EXPECT_THAT(
        std::vector<double>(gradients.begin() + p.offset, gradients.begin() + p.offset + p.count()),
        testing::Each(testing::IsNan()))
        << p.name;
  }
}

std::string refusal(const StepMaker& make) {
  try {
    ParameterTable table;
    small_step("refused", make).build(table, false);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "";
}

LinearGaussian unit_model(Step& s, std::int64_t states, std::int64_t width) {
  return {.A = zeros(s, states * states),
          .Q = zeros(s, states * states),
          .C = zeros(s, width * states),
          .R = zeros(s, width),
          .m0 = zeros(s, states),
          .P0 = zeros(s, states * states)};
}

/// What a model of the data is refused with once `change` has been made to it.
std::string refusal_of(const std::function<void(Step&, LinearGaussian&)>& change) {
  return refusal([&](ParameterTable&) {
    return [&](Step& s) {
      LinearGaussian model = unit_model(s, 2, kX);
      change(s, model);
      s.linear_gaussian("states", model);
    };
  });
}

TEST(LinearGaussianRules, AreRefusedByName) {
  EXPECT_EQ(refusal_of([](Step& s, LinearGaussian& model) { model.Q = zeros(s, 3); }),
            "linear_gaussian: columns of Q = 3, must be 4");
  EXPECT_EQ(refusal_of([](Step& s, LinearGaussian& model) { model.R = zeros(s, 2); }),
            "linear_gaussian: columns of R = 2, must be 9");
  // States are drawn given all of the data: the model may not hang on them.
  EXPECT_EQ(refusal([](ParameterTable&) {
              return [](Step& s) {
                const Var before = s.carry("before", 2);
                LinearGaussian model = unit_model(s, 2, kX);
                model.b = before;
                s.next("before", s.linear_gaussian("states", model).z);
              };
            }),
            "graph: kalman_filter takes a whole sequence, yet lies on the cycle of the carries: "
            "before");
}

}  // namespace
}  // namespace seqvae::test

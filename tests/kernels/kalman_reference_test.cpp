// The Kalman contracts against tests/reference/kalman.json: textbook recursions in JAX float64 with
// autodiff, and where the problem is ill conditioned in 50 digits, beside the error of float64.
#include <gmock/gmock.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/support/files.hpp"
#include "tests/support/kalman_problem.hpp"

namespace seqvae::test {
namespace {

using Json = nlohmann::json;
using Values = std::vector<double>;

constexpr double kMomentTolerance = 1e-12;  // of the largest entry; 2e-14 is what was seen

const Json& stored_moments() {
  static const Json json = Json::parse(std::ifstream(reference("kalman.json")));
  return json;
}

/// Observations of the long case: a random walk in noise, in 64ths.
Values walk(std::int64_t T) {
  std::int64_t x = 1, position = 0;
  const auto draw = [&x] {
    x = (1103515245 * x + 12345) % (std::int64_t(1) << 31);
    return (x >> 16) % 65 - 32;
  };
  Values y;
  for (std::int64_t t = 0; t < T; ++t) {
    position += draw();
    y.push_back(double(position + 4 * draw()) / 64);
  }
  return y;
}

/// A case of the file: the contracts run on it, and comparisons with what stands there.
class KalmanReference : public testing::TestWithParam<std::size_t> {
 protected:
  const Json& json_ = stored_moments()["cases"][GetParam()];
  const std::int64_t n_ = json_["n"], m_ = json_["m"], T_ = json_["T"], B_ = json_["B"],
                     U_ = json_["U"], rows_ = T_ * B_;
  const bool sketch_ = json_["sketch"];
  std::vector<std::int32_t> lengths_ = json_["lengths"], status_;
  std::map<std::string, Array> arrays_, gradients_;
  Values y_, u_ = json_["u"], mask_, grad_y_;
  std::map<std::string, Values> moments_;

  KalmanReference() : status_(std::size_t(B_), -1) {
    for (const auto& [name, array] : json_["arrays"].items()) {
      Array& a = arrays_[name];
      a.values = array["values"].get<Values>();
      a.step = array["step"], a.sequence = array["sequence"];
    }
    y_ = json_["y"].is_null() ? walk(T_) : json_["y"].get<Values>();
    if (!json_["mask"].is_null()) mask_ = json_["mask"].get<Values>();
    for (std::size_t i = 0; i < y_.size(); ++i) {
      const bool padding =
          std::int64_t(i) / m_ / B_ >= lengths_[i / std::size_t(m_) % lengths_.size()];
      if (padding || (!mask_.empty() && mask_[i] == 0)) y_[i] = kPoison;
    }
    for (const char* name : {"mean", "predicted_mean", "smoothed_mean"}) out(name, n_);
    for (const char* name :
         {"covariance", "predicted_covariance", "smoothed_covariance", "lag_one"})
      out(name, n_ * n_);
    out("log_likelihood", 1);
  }

  Rows<double> out(const std::string& name, std::int64_t width) {
    Values& values = moments_[name];
    values.resize(std::size_t(rows_ * width), kPoison);
    return {values.data(), width};
  }
  template <class Result>
  Result views(std::map<std::string, Array>& arrays) {
    Result r;
    const auto view = [&](const char* name) {
      return arrays.contains(name) ? arrays.at(name).view() : StepArray<double>();
    };
    r.A = view("A"), r.B = view("B"), r.state_offset = view("b"), r.Q = view("Q");
    r.C = view("C"), r.D = view("D"), r.observation_offset = view("d"), r.R = view("R");
    r.m0 = view("m0"), r.P0 = view("P0");
    return r;
  }
  KalmanModel<double> model() {
    auto model = views<KalmanModel<double>>(arrays_);
    model.n = n_, model.m = m_, model.U = U_, model.diagonal_R = json_["diagonal_R"];
    return model;
  }
  KalmanData<double> data() {
    KalmanData<double> data;
    data.layout.T = T_, data.layout.B = B_, data.layout.lengths = lengths_.data();
    data.y = {y_.data(), m_}, data.u = {u_.data(), U_};
    if (!mask_.empty()) data.mask = {mask_.data(), m_};
    return data;
  }
  KalmanFiltered<double> filtered() {
    return {out("mean", n_), out("covariance", n_ * n_), {}, nullptr};
  }
  void filter() {
    KalmanFilterArgs<double> args;
    args.model = model(), args.data = data(), args.status = status_.data();
    args.mean = out("mean", n_), args.covariance = out("covariance", n_ * n_);
    args.predicted_mean = out("predicted_mean", n_);
    args.predicted_covariance = out("predicted_covariance", n_ * n_);
    args.log_likelihood = out("log_likelihood", 1);
    with_workspace(args, [](const auto& a) { cpu::kalman_filter(a); });
    ASSERT_THAT(status_, testing::Each(0));
  }
  void smooth() {
    KalmanSmootherArgs<double> args;
    args.model = model(), args.data = data(), args.filtered = filtered();
    args.mean = out("smoothed_mean", n_), args.covariance = out("smoothed_covariance", n_ * n_);
    args.lag_one = out("lag_one", n_ * n_);
    with_workspace(args, [](const auto& a) { cpu::kalman_smoother(a); });
  }
  /// Weights of the rows' likelihoods and moments; null: the sum of the log-likelihoods.
  void differentiate(const Json& weights) {
    std::map<std::string, Values> w;
    if (!weights.is_null()) w = weights;
    gradients_ = arrays_;
    for (auto& [name, array] : gradients_) {
      std::fill(array.values.begin(), array.values.end(), kPoison);
    }
    grad_y_.assign(y_.size(), kPoison);
    KalmanBackwardArgs<double> args;
    args.model = model(), args.data = data(), args.filtered = filtered();
    if (!w.empty()) {
      args.grad_log_likelihood = {w["log_likelihood"].data(), 1};
      args.grad_mean = {w["mean"].data(), n_};
      args.grad_covariance = {w["covariance"].data(), n_ * n_};
    }
    args.grad = views<KalmanGradient<double>>(gradients_);
    args.grad.y = {grad_y_.data(), m_};
    with_workspace(args, [](const auto& a) { cpu::kalman_backward(a); });
  }

  /// A matrix with `columns` as the file holds it.
  Values as_stored(const Values& values, std::int64_t columns) const {
    if (!sketch_) return values;
    EigenMatrix V(columns, 2);
    for (std::int64_t i = 0; i < columns; ++i) {
      for (std::int64_t k = 0; k < 2; ++k) V(i, k) = double((5 * i + 3 * k) % 11 - 5) / 8;
    }
    const Eigen::Map<const EigenMatrix> M(values.data(), std::int64_t(values.size()) / columns,
                                          columns);
    const EigenMatrix product = M * V;
    return {product.data(), product.data() + product.size()};
  }
  Values at_steps(const Values& values) const {
    Values chosen;
    const auto width = std::int64_t(values.size()) / T_;
    for (const std::int64_t t : json_["steps"]) {
      chosen.insert(chosen.end(), values.begin() + t * width, values.begin() + (t + 1) * width);
    }
    return chosen;
  }
  /// Where the exact values are known: ten times the error of the float64 program, which in a well
  /// conditioned quantity is taken for 1e-14 at least.
  double bound(const std::string& what, double otherwise) const {
    if (!json_.contains("float64_error")) return otherwise;
    return 10 * std::max(json_["float64_error"].at(what).get<double>(), 1e-14);
  }
  /// Within `tolerance` of the largest entry (or of `least`), apart in each of `groups`.
  static void expect_close(const Values& actual, const Values& expected, std::size_t groups,
                           double tolerance, double least, const std::string& what) {
    ASSERT_EQ(actual.size(), expected.size()) << what;
    const std::size_t width = expected.size() / groups;
    for (std::size_t g = 0; g < groups; ++g) {
      double scale = least;
      for (std::size_t j = g * width; j < (g + 1) * width; ++j) {
        scale = std::max(scale, std::abs(expected[j]));
      }
      for (std::size_t j = g * width; j < (g + 1) * width; ++j) {
        const double error = std::abs(actual[j] - expected[j]);
        EXPECT_TRUE(error <= tolerance * scale)
            << what << "[" << j << "]: " << actual[j] << ", expected " << expected[j] << ": error "
            << error << ", at most " << tolerance << " of " << scale;
      }
    }
  }
  void compare_gradients(const Json& expected, const std::string& prefix) {
    for (const auto& [name, values] : expected.items()) {
      Values actual;
      if (name == "y") {
        actual = at_steps(grad_y_);
      } else {
        const bool matrix =
            name == "A" || name == "Q" || name == "C" || name == "P0" || name == "R";
        const std::int64_t columns = name == "R" ? m_ : n_;
        actual =
            matrix ? as_stored(gradients_.at(name).values, columns) : gradients_.at(name).values;
      }
      const double tolerance =
          prefix.empty() ? bound("grad_" + name, kMomentTolerance) : kMomentTolerance;
      expect_close(actual, values.get<Values>(), 1, tolerance, 0, prefix + "gradient of " + name);
    }
  }
};

TEST_P(KalmanReference, FilterAndSmoother) {
  filter();
  smooth();
  double total = 0;
  for (const double l : moments_["log_likelihood"]) total += l;
  expect_close({total}, {json_["total"].get<double>()}, 1, bound("total", kMomentTolerance), 0,
               "total");
  const auto steps = json_["steps"].size();
  for (const auto& [name, values] : json_["rows"].items()) {
    const Values chosen = at_steps(moments_.at(name));
    const bool matrix = name.ends_with("covariance") || name == "lag_one";
    const bool likelihood = name == "log_likelihood";
    expect_close(matrix ? as_stored(chosen, n_) : chosen, values.get<Values>(),
                 likelihood ? steps : steps * std::size_t(B_), bound(name, kMomentTolerance),
                 likelihood ? 1 : 0, name);
  }
}

TEST_P(KalmanReference, Gradients) {
  filter();
  differentiate({});
  compare_gradients(json_["gradients"], "");
  if (!json_.contains("weights")) return;
  differentiate(json_["weights"]);
  compare_gradients(json_["weighted_gradients"], "weighted ");
}

INSTANTIATE_TEST_SUITE_P(Cases, KalmanReference,
                         testing::Range(std::size_t(0), stored_moments()["cases"].size()),
                         [](const auto& info) {
                           std::string name = stored_moments()["cases"][info.param]["name"];
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace seqvae::test

// y_t = mu_t + gamma_t + psi_t + phi_t + D u_t + eps_t, the sum of the components asked for:
//
//   level, trend   mu_t = mu_{t-1} + nu_{t-1} + q,  nu_t = nu_{t-1} + q              diffuse
//   seasonal       gamma_t = sum over harmonics of (gamma_j, gamma*_j), each turned   diffuse
//                  by 2 pi j / period a step (one state, turned by -1, where that is pi)
//   cycle          (psi, psi*) turned by a frequency and damped by rho a step         stationary
//   autoregressive phi_t = sum_k a_k phi_{t-k} + q, the a_k by partial                stationary
//                  autocorrelations tanh(theta_k) (Durbin and Levinson)
//
// Harvey, Forecasting, Structural Time Series Models and the Kalman Filter, 1989. The map from the
// parameters is written once for double and Dual: its reverse is one pass a parameter.
#include "host/models/lgssm_structural.hpp"

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "host/models/dual.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae {
namespace {

enum class Component { none, fixed, free };  // fixed: its variance is zero

struct Structure {
  Component level = Component::none, trend = Component::none, seasonal = Component::none;
  double period = 0;
  std::int64_t harmonics = 0;
  bool cycle = false, irregular = false;
  double cycle_period = 10;  // where a fit starts
  std::int64_t autoregressive = 0;
  std::int64_t U = 0;

  bool half_turn() const { return static_cast<double>(2 * harmonics) == period; }
  std::int64_t states() const {
    return (level != Component::none) + (trend != Component::none) +
           (seasonal != Component::none ? 2 * harmonics - half_turn() : 0) + (cycle ? 2 : 0) +
           autoregressive;
  }
};

/// The matrices that hang on parameters, and the counter of the parameters read so far.
template <class Real>
struct Build {
  using std_vector = std::vector<Real>;
  std::int64_t n;
  std_vector A, Q, R, P0, D;
  std::vector<double> C;
  std::vector<std::uint8_t> diffuse;
  std::span<const Real> parameters;
  std::size_t next = 0;

  Build(const Structure& s, std::span<const Real> parameters_)
      : n(s.states()), parameters(parameters_) {
    const auto size = static_cast<std::size_t>(n);
    for (auto* M : {&A, &Q, &P0}) M->assign(size * size, Real(0));
    R.assign(1, Real(0));
    C.assign(size, 0);
    diffuse.assign(size, 0);
    using std::exp, std::sin, std::cos, std::tanh;
    if (s.irregular) R[0] = exp(read());
    std::int64_t i = 0;
    if (s.level != Component::none) {
      entry(A, i, i) = 1;
      if (s.trend != Component::none) entry(A, i, i + 1) = 1;
      noise(i, 1, s.level);
      C[0] = 1;
      ++i;
    }
    if (s.trend != Component::none) {
      entry(A, i, i) = 1;
      noise(i, 1, s.trend);
      ++i;
    }
    if (s.seasonal != Component::none) {
      const Real variance = s.seasonal == Component::free ? exp(read()) : Real(0);
      for (std::int64_t j = 1; j <= s.harmonics; ++j) {
        const bool half = j == s.harmonics && s.half_turn();
        const double angle = 2 * std::numbers::pi * static_cast<double>(j) / s.period;
        if (half) {
          entry(A, i, i) = -1;
        } else {
          turn(i, Real(std::cos(angle)), Real(std::sin(angle)));
        }
        C[static_cast<std::size_t>(i)] = 1;
        for (std::int64_t last = i + (half ? 1 : 2); i < last; ++i) {
          entry(Q, i, i) = variance;
          diffuse[static_cast<std::size_t>(i)] = 1;
        }
      }
    }
    if (s.cycle) {
      const Real variance = exp(read());
      const Real frequency = Real(std::numbers::pi / 2) * (Real(1) + tanh(read()));
      const Real damping = Real(0.5) * (Real(1) + tanh(read()));
      turn(i, damping * cos(frequency), damping * sin(frequency));
      C[static_cast<std::size_t>(i)] = 1;
      for (std::int64_t last = i + 2; i < last; ++i) {
        entry(Q, i, i) = variance;
        entry(P0, i, i) = variance / (Real(1) - damping * damping);
      }
    }
    if (s.autoregressive > 0) add_autoregression(i, s.autoregressive);
    for (std::int64_t j = 0; j < s.U; ++j) D.push_back(read());
  }

  Real read() { return parameters[next++]; }
  Real& entry(std_vector& M, std::int64_t i, std::int64_t j) {
    return M[static_cast<std::size_t>(i * n + j)];
  }
  void noise(std::int64_t i, std::int64_t count, Component kind) {
    using std::exp;
    const Real variance = kind == Component::free ? exp(read()) : Real(0);
    for (std::int64_t last = i + count; i < last; ++i) {
      entry(Q, i, i) = variance;
      diffuse[static_cast<std::size_t>(i)] = 1;
    }
  }
  void turn(std::int64_t i, Real cosine, Real sine) {
    entry(A, i, i) = entry(A, i + 1, i + 1) = cosine;
    entry(A, i, i + 1) = sine;
    entry(A, i + 1, i) = Real(0) - sine;
  }
  void add_autoregression(std::int64_t i, std::int64_t p) {
    using std::exp, std::tanh;
    const Real variance = exp(read());
    std_vector phi;
    for (std::int64_t k = 0; k < p; ++k) {
      const Real partial = tanh(read());
      const std_vector before = phi;
      for (std::size_t j = 0; j < before.size(); ++j) {
        phi[j] = before[j] - partial * before[before.size() - 1 - j];
      }
      phi.push_back(partial);
    }
    for (std::int64_t k = 0; k < p; ++k) entry(A, i, i + k) = phi[static_cast<std::size_t>(k)];
    for (std::int64_t k = 1; k < p; ++k) entry(A, i + k, i + k - 1) = 1;
    entry(Q, i, i) = variance;
    C[static_cast<std::size_t>(i)] = 1;
    // P = sum_k F^k Q F^k^T by doubling: P += F P F^T, F = F F.
    const auto size = static_cast<std::size_t>(p);
    std_vector F(size * size, Real(0)), P(size * size, Real(0));
    for (std::size_t r = 0; r < size; ++r) {
      for (std::size_t c = 0; c < size; ++c) {
        F[r * size + c] =
            entry(A, i + static_cast<std::int64_t>(r), i + static_cast<std::int64_t>(c));
      }
    }
    P[0] = variance;
    for (int doubling = 0; doubling < 40; ++doubling) {
      const std_vector FP = product(F, P, size, false), FPF = product(FP, F, size, true);
      for (std::size_t j = 0; j < P.size(); ++j) P[j] = P[j] + FPF[j];
      F = product(F, F, size, false);
    }
    for (std::size_t r = 0; r < size; ++r) {
      for (std::size_t c = 0; c < size; ++c) {
        entry(P0, i + static_cast<std::int64_t>(r), i + static_cast<std::int64_t>(c)) =
            P[r * size + c];
      }
    }
  }
  static std_vector product(const std_vector& x, const std_vector& y, std::size_t size,
                            bool turned) {
    std_vector out(size * size, Real(0));
    for (std::size_t r = 0; r < size; ++r) {
      for (std::size_t c = 0; c < size; ++c) {
        for (std::size_t k = 0; k < size; ++k) {
          out[r * size + c] =
              out[r * size + c] + x[r * size + k] * (turned ? y[c * size + k] : y[k * size + c]);
        }
      }
    }
    return out;
  }
};

class StructuralForm : public LgssmForm {
 public:
  explicit StructuralForm(const Structure& structure) : structure_(structure) {}

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    const Structure& s = structure_;
    if (s.irregular) names.push_back("log_variance.irregular");
    if (s.level == Component::free) names.push_back("log_variance.level");
    if (s.trend == Component::free) names.push_back("log_variance.trend");
    if (s.seasonal == Component::free) names.push_back("log_variance.seasonal");
    if (s.cycle) {
      names.insert(names.end(), {"log_variance.cycle", "cycle.frequency", "cycle.damping"});
    }
    if (s.autoregressive > 0) names.push_back("log_variance.autoregressive");
    for (std::int64_t k = 1; k <= s.autoregressive; ++k) {
      names.push_back(fmt::format("autoregressive.partial.{}", k));
    }
    for (std::int64_t j = 0; j < s.U; ++j) names.push_back(fmt::format("D[0,{}]", j));
    return names;
  }

  /// Shares of the mean square of one step's change.
  std::vector<double> start(const data::SequenceSet& set) const override {
    double sum = 0, count = 0;
    const std::vector<std::int64_t> starts = set.starts();
    for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
      for (std::int64_t r = starts[i] + 1; r < starts[i + 1]; ++r) {
        const double change = set.values[std::size_t(r)] - set.values[std::size_t(r - 1)];
        if (!std::isnan(change)) sum += change * change, ++count;
      }
    }
    require(count > 0, "fit", "pairs of neighbouring observed values", 0, "at least 1");
    const double change = sum > 0 ? sum / count : 1e-6;
    const Structure& s = structure_;
    std::vector<double> start;
    const auto variance = [&](double share) { start.push_back(std::log(share * change)); };
    if (s.irregular) variance(0.25);
    if (s.level == Component::free) variance(0.25);
    if (s.trend == Component::free) variance(1e-4);
    if (s.seasonal == Component::free) variance(1e-3);
    if (s.cycle) {
      variance(0.1);
      start.push_back(std::atanh(4 / s.cycle_period - 1));
      start.push_back(std::atanh(2 * 0.9 - 1));
    }
    if (s.autoregressive > 0) variance(0.25);
    for (std::int64_t k = 0; k < s.autoregressive; ++k) start.push_back(k == 0 ? 0.5 : 0);
    start.resize(start.size() + static_cast<std::size_t>(s.U), 0);
    return start;
  }

  LgssmMatrices build(std::span<const double> parameters) const override {
    Build<double> built(structure_, parameters);
    LgssmMatrices x;
    x.n = built.n, x.m = 1, x.U = structure_.U;
    x.A = std::move(built.A), x.C = std::move(built.C), x.Q = std::move(built.Q);
    x.R = std::move(built.R), x.D = std::move(built.D), x.P0 = std::move(built.P0);
    x.m0.assign(static_cast<std::size_t>(x.n), 0);
    for (std::uint8_t flag : built.diffuse) {
      if (flag != 0) x.diffuse = built.diffuse;
    }
    return x;
  }

  std::vector<double> reverse(std::span<const double> parameters,
                              const LgssmMatrices& grad) const override {
    std::vector<Dual> at(parameters.begin(), parameters.end());
    std::vector<double> out(at.size(), 0);
    for (std::size_t p = 0; p < at.size(); ++p) {
      at[p].slope = 1;
      const Build<Dual> built(structure_, at);
      at[p].slope = 0;
      const auto add = [&](const std::vector<Dual>& M, const std::vector<double>& g) {
        for (std::size_t j = 0; j < g.size(); ++j) out[p] += M[j].slope * g[j];
      };
      add(built.A, grad.A);
      add(built.Q, grad.Q);
      add(built.R, grad.R);
      add(built.P0, grad.P0);
      add(built.D, grad.D);
    }
    return out;
  }

 private:
  Structure structure_;
};

/// true, false or "fixed".
Component component(const io::JsonView& json, const char* key) {
  const auto given = json.get(key);
  if (!given) return Component::none;
  if (given->value().is_string()) {
    given->choice({"fixed"});
    return Component::fixed;
  }
  return given->boolean() ? Component::free : Component::none;
}

}  // namespace

std::unique_ptr<LgssmForm> make_structural_form(const io::JsonView& json, std::int64_t m,
                                                std::int64_t U) {
  json.allow_only({"level", "trend", "seasonal", "cycle", "autoregressive", "irregular"});
  if (m != 1) json.fail(fmt::format("is a model of one column, the data has {}", m));
  Structure s;
  s.U = U;
  s.level = component(json, "level");
  s.trend = component(json, "trend");
  if (s.trend != Component::none && s.level == Component::none) {
    json.at("trend").fail("must come with \"level\"");
  }
  if (const auto seasonal = json.get("seasonal")) {
    seasonal->allow_only({"period", "harmonics", "fixed"});
    s.seasonal = Component::free;
    if (const auto fixed = seasonal->get("fixed")) {
      if (fixed->boolean()) s.seasonal = Component::fixed;
    }
    s.period = seasonal->at("period").number(2);
    const auto most = static_cast<std::int64_t>(s.period / 2);
    s.harmonics = most;
    if (const auto harmonics = seasonal->get("harmonics"))
      s.harmonics = harmonics->integer(1, most);
  }
  if (const auto cycle = json.get("cycle")) {
    s.cycle = true;
    if (cycle->value().is_object()) {
      cycle->allow_only({"period"});
      s.cycle_period = cycle->at("period").number(2.01);
    } else {
      s.cycle = cycle->boolean();
    }
  }
  if (const auto order = json.get("autoregressive")) s.autoregressive = order->integer(0, 64);
  s.irregular = component(json, "irregular") == Component::free;
  if (s.states() == 0) json.fail("must have a component besides \"irregular\"");
  return std::make_unique<StructuralForm>(s);
}

}  // namespace seqvae

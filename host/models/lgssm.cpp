#include "seqvae/models/lgssm.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "seqvae/core/error.hpp"

namespace seqvae {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

/// Observations and mask of one sequence as the contracts take them.
struct Observed {
  std::vector<double> y, mask;
  std::int32_t length;
  KalmanData<double> data;

  Observed(const data::SequenceSet& set, std::int64_t sequence, std::int64_t first_row) {
    length = set.lengths[index(sequence)];
    const auto begin = set.values.begin() + first_row * set.D;
    y.assign(begin, begin + length * set.D);
    for (double& value : y) {
      mask.push_back(std::isnan(value) ? 0 : 1);
      if (std::isnan(value)) value = 0;
    }
    data.layout.T = length, data.layout.B = 1;
    data.y = {y.data(), set.D}, data.mask = {mask.data(), set.D};
    if (set.U > 0) data.u = {set.controls.data() + first_row * set.U, set.U};
  }
};

LgssmFiltered filter(const LgssmMatrices& model, const Observed& observed, std::int64_t sequence) {
  const std::int64_t n = model.n, T = observed.length;
  LgssmFiltered out;
  out.mean.resize(index(T * n)), out.covariance.resize(index(T * n * n)),
      out.log_likelihood.resize(index(T));
  KalmanFilterArgs<double> args;
  args.model = model.view(), args.data = observed.data;
  args.mean = {out.mean.data(), n}, args.covariance = {out.covariance.data(), n * n};
  args.log_likelihood = {out.log_likelihood.data(), 1};
  std::int32_t status = 0;
  args.status = &status;
  if (!model.diffuse.empty()) {
    out.factor.resize(index(T * n * n));
    args.diffuse_factor = {out.factor.data(), n * n}, args.diffuse_steps = &out.diffuse_steps;
  }
  std::vector<double> workspace(kalman_workspace_bytes(args) / sizeof(double) + 2);
  args.workspace = workspace.data(), args.workspace_bytes = workspace.size() * sizeof(double);
  cpu::kalman_filter(args);
  if (status != 0) {
    throw Error(fmt::format("lgssm: sequence {}, step {}: a covariance is not positive definite",
                            sequence, status));
  }
  if (out.diffuse_steps >= T) {
    throw Error(fmt::format("lgssm: sequence {}: its {} steps never resolve the diffuse start",
                            sequence, T));
  }
  return out;
}

std::vector<double> zeros(std::int64_t count) { return std::vector<double>(index(count), 0.0); }

}  // namespace

KalmanModel<double> LgssmMatrices::view() const {
  KalmanModel<double> v;
  v.n = n, v.m = m, v.U = U;
  v.A = {A.data()}, v.Q = {Q.data()}, v.C = {C.data()}, v.R = {R.data()};
  v.m0 = {m0.data()}, v.P0 = {P0.data()}, v.observation_offset = {offset.data()};
  if (U > 0) v.B = {B.data()}, v.D = {D.data()};
  if (!diffuse.empty()) v.diffuse = diffuse.data();
  return v;
}

LgssmFiltered lgssm_filter(const LgssmMatrices& model, const data::SequenceSet& set,
                           std::int64_t sequence) {
  return filter(model, Observed(set, sequence, set.starts()[index(sequence)]), sequence);
}

// --- the forms ----------------------------------------------------------------------------------

Lgssm Lgssm::given(const io::JsonView& config) {
  config.allow_only({"A", "B", "C", "D", "Q", "R", "m0", "P0", "diffuse"});
  Lgssm model;
  LgssmMatrices& k = model.matrices_;
  const auto rows_of = [&](const char* key) {
    return static_cast<std::int64_t>(config.at(key).elements().size());
  };
  k.n = rows_of("A"), k.m = rows_of("C");
  if (k.n < 1) config.at("A").fail("must have at least one row");
  if (k.m < 1) config.at("C").fail("must have at least one row");
  k.A = config.at("A").matrix(k.n, k.n), k.C = config.at("C").matrix(k.m, k.n);
  k.Q = config.at("Q").matrix(k.n, k.n), k.R = config.at("R").matrix(k.m, k.m);
  k.offset = zeros(k.m);
  const auto symmetric = [&](const char* key, const std::vector<double>& M, std::int64_t size) {
    for (std::int64_t i = 0; i < size; ++i) {
      if (M[index(i * size + i)] < 0)
        config.at(key).fail("must have no negative entry on its diagonal");
      for (std::int64_t j = 0; j < i; ++j) {
        const double difference = std::abs(M[index(i * size + j)] - M[index(j * size + i)]);
        if (difference > 1e-12 * std::abs(M[index(i * size + i)] + M[index(j * size + j)])) {
          config.at(key).fail("must be symmetric");
        }
      }
    }
  };
  symmetric("Q", k.Q, k.n), symmetric("R", k.R, k.m);
  const auto diffuse = config.get("diffuse");
  if (diffuse && diffuse->boolean()) {
    for (const char* key : {"m0", "P0"}) {
      if (const auto start = config.get(key)) start->fail("must be left out where diffuse is true");
    }
    k.diffuse.assign(index(k.n), 1);
    k.m0 = zeros(k.n), k.P0 = zeros(k.n * k.n);
  } else {
    const io::JsonView m0 = config.at("m0");
    k.m0 = m0.numbers();
    if (static_cast<std::int64_t>(k.m0.size()) != k.n)
      m0.fail(fmt::format("must have {} numbers", k.n));
    k.P0 = config.at("P0").matrix(k.n, k.n);
    symmetric("P0", k.P0, k.n);
  }
  if (config.get("B") || config.get("D")) {
    const io::JsonView first = config.get("B") ? config.at("B") : config.at("D");
    const auto rows = first.elements();
    k.U = rows.empty() ? 0 : static_cast<std::int64_t>(rows[0].elements().size());
    if (k.U < 1) first.fail("must have at least one column");
    k.B = config.get("B") ? config.at("B").matrix(k.n, k.U) : zeros(k.n * k.U);
    k.D = config.get("D") ? config.at("D").matrix(k.m, k.U) : zeros(k.m * k.U);
  }
  return model;
}

io::Json Lgssm::default_configuration() {
  return {{"form", "structural"}, {"level", true},  {"trend", true}, {"fixed", io::Json::array()},
          {"period", 0},          {"harmonics", 0}, {"states", 4}};
}

namespace {

/// Variance of the differences between steps that are both there, and variance of the values.
struct Scale {
  double steps = 1, values = 1, mean = 0;
  explicit Scale(const data::SequenceSet& set, std::int64_t column) {
    double sum = 0, squares = 0, differences = 0;
    std::int64_t count = 0, pairs = 0;
    const std::vector<std::int64_t> starts = set.starts();
    for (std::int64_t i = 0; i < set.count(); ++i) {
      double last = std::nan("");
      for (std::int64_t r = starts[index(i)]; r < starts[index(i) + 1]; ++r) {
        const double y = set.values[index(r * set.D + column)];
        if (!std::isnan(y)) sum += y, squares += y * y, ++count;
        if (!std::isnan(y) && !std::isnan(last)) differences += (y - last) * (y - last), ++pairs;
        last = y;
      }
    }
    if (count > 0) mean = sum / static_cast<double>(count);
    if (count > 1) values = std::max(1e-12, squares / static_cast<double>(count) - mean * mean);
    if (pairs > 0) steps = std::max(1e-12, differences / static_cast<double>(pairs));
  }
};

}  // namespace

Lgssm Lgssm::of(const io::JsonView& configuration, const data::SequenceSet& set) {
  configuration.allow_only({"form", "level", "trend", "fixed", "period", "harmonics", "states"});
  Lgssm model;
  LgssmMatrices& k = model.matrices_;
  const std::string form = configuration.at("form").choice({"structural", "general"});
  if (form == "general") {
    model.form_ = Form::general;
    k.n = configuration.at("states").integer(1, 64), k.m = set.D, k.U = set.U;
    const auto add = [&](const std::string& name, std::int64_t rows, std::int64_t cols,
                         auto start) {
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < cols; ++j) {
          model.names_.push_back(cols == 1 ? fmt::format("{}[{}]", name, i)
                                           : fmt::format("{}[{}][{}]", name, i, j));
          model.theta_.push_back(start(i, j));
        }
      }
    };
    std::vector<Scale> scale;
    for (std::int64_t j = 0; j < k.m; ++j) scale.emplace_back(set, j);
    // A near 0.9 I, its rotations apart; C spreads the columns over the states.
    add("A", k.n, k.n, [](auto i, auto j) {
      return i == j ? 0.9 : 0.05 * std::sin(1.0 + 3.0 * double(i) + double(j));
    });
    add("C", k.m, k.n, [&](auto i, auto j) {
      return std::sqrt(scale[index(i)].values) *
             (i % k.n == j ? 1.0 : 0.3 * std::cos(1.0 + double(i) * 2.0 + double(j)));
    });
    add("B", k.n, k.U, [](auto, auto) { return 0.0; });
    add("D", k.m, k.U, [](auto, auto) { return 0.0; });
    add("offset", k.m, 1, [&](auto i, auto) { return scale[index(i)].mean; });
    add("m0", k.n, 1, [](auto, auto) { return 0.0; });
    add("log_q", k.n, 1, [](auto, auto) { return std::log(0.1); });
    add("log_r", k.m, 1, [&](auto i, auto) { return std::log(0.3 * scale[index(i)].values); });
    add("log_p0", k.n, 1, [](auto, auto) { return 0.0; });
  } else {
    model.form_ = Form::structural;
    if (set.D != 1)
      configuration.at("form").fail(
          fmt::format("structural takes one column, the data have {}", set.D));
    if (set.U != 0) configuration.at("form").fail("structural takes no controls");
    const bool level = configuration.at("level").boolean(),
               trend = configuration.at("trend").boolean();
    const double period = configuration.at("period").number(0);
    const std::int64_t harmonics = configuration.at("harmonics").integer(0, 30);
    if (!level && trend) configuration.at("trend").fail("needs a level");
    if (harmonics > 0 && period < 2 * static_cast<double>(harmonics)) {
      configuration.at("harmonics").fail("must be at most half the period");
    }
    if (!level && harmonics == 0)
      configuration.at("level").fail("a model needs a level or harmonics");
    std::vector<std::string> fixed;
    for (const io::JsonView& name : configuration.at("fixed").elements()) {
      fixed.push_back(name.choice({"level", "trend", "seasonal", "irregular"}));
    }
    k.m = 1, k.n = level + trend;
    for (std::int64_t j = 1; j <= harmonics; ++j)
      k.n += 2 * static_cast<double>(j) == period ? 1 : 2;
    k.A = zeros(k.n * k.n), k.C = zeros(k.n), k.Q = zeros(k.n * k.n);
    const auto a = [&](std::int64_t i, std::int64_t j) -> double& {
      return k.A[index(i * k.n + j)];
    };
    const Scale scale(set, 0);
    const auto variance = [&](const std::string& name, std::vector<std::int64_t> entries,
                              double share) {
      if (std::find(fixed.begin(), fixed.end(), name) != fixed.end()) return;
      model.names_.push_back("log_variance_" + name);
      model.theta_.push_back(std::log(share * scale.steps));
      model.entries_.push_back(std::move(entries));
    };
    std::int64_t at = 0;
    if (level) {
      a(0, 0) = 1, k.C[0] = 1;
      variance("level", {0}, 0.1);
      ++at;
    }
    if (trend) {
      a(0, 1) = a(1, 1) = 1;
      variance("trend", {1}, 1e-4);
      ++at;
    }
    std::vector<std::int64_t> seasonal;
    for (std::int64_t j = 1; j <= harmonics; ++j) {
      const double angle = 2 * std::numbers::pi * static_cast<double>(j) / period;
      k.C[index(at)] = 1, a(at, at) = std::cos(angle);
      seasonal.push_back(at);
      if (2 * static_cast<double>(j) != period) {
        a(at, at + 1) = std::sin(angle), a(at + 1, at) = -std::sin(angle),
                   a(at + 1, at + 1) = std::cos(angle);
        seasonal.push_back(++at);
      }
      ++at;
    }
    if (harmonics > 0) variance("seasonal", seasonal, 1e-3);
    variance("irregular", {-1}, 0.4);
    k.R = zeros(1), k.offset = zeros(1), k.m0 = zeros(k.n), k.P0 = zeros(k.n * k.n);
    k.diffuse.assign(index(k.n), 1);
    if (model.theta_.empty()) configuration.at("fixed").fail("leaves no variance free");
  }
  model.update_matrices();
  return model;
}

void Lgssm::set_theta(std::span<const double> theta) {
  require(theta.size() == theta_.size(), "lgssm", "parameters", theta.size(),
          fmt::format("{}", theta_.size()));
  theta_.assign(theta.begin(), theta.end());
  update_matrices();
}

void Lgssm::update_matrices() {
  LgssmMatrices& k = matrices_;
  if (form_ == Form::structural) {
    for (std::size_t p = 0; p < theta_.size(); ++p) {
      for (std::int64_t entry : entries_[p]) {
        (entry < 0 ? k.R[0] : k.Q[index(entry * k.n + entry)]) = std::exp(theta_[p]);
      }
    }
    return;
  }
  auto from = theta_.begin();
  const auto take = [&](std::vector<double>& to, std::int64_t count) {
    to.assign(from, from + count);
    from += count;
  };
  const auto diagonal = [&](std::vector<double>& to, std::int64_t size) {
    to = zeros(size * size);
    for (std::int64_t i = 0; i < size; ++i) to[index(i * size + i)] = std::exp(*from++);
  };
  take(k.A, k.n * k.n), take(k.C, k.m * k.n), take(k.B, k.n * k.U), take(k.D, k.m * k.U);
  take(k.offset, k.m), take(k.m0, k.n);
  diagonal(k.Q, k.n), diagonal(k.R, k.m), diagonal(k.P0, k.n);
}

void Lgssm::chain(const LgssmMatrices& grad, std::vector<double>& gradient) const {
  const LgssmMatrices& k = matrices_;
  if (form_ == Form::structural) {
    for (std::size_t p = 0; p < theta_.size(); ++p) {
      for (std::int64_t entry : entries_[p]) {
        const std::size_t at = index(entry * k.n + entry);
        gradient[p] += entry < 0 ? grad.R[0] * k.R[0] : grad.Q[at] * k.Q[at];
      }
    }
    return;
  }
  auto to = gradient.begin();
  for (const std::vector<double>* part :
       {&grad.A, &grad.C, &grad.B, &grad.D, &grad.offset, &grad.m0}) {
    for (double g : *part) *to++ += g;
  }
  const auto diagonal = [&](const std::vector<double>& g, const std::vector<double>& M,
                            std::int64_t size) {
    for (std::int64_t i = 0; i < size; ++i)
      *to++ += g[index(i * size + i)] * M[index(i * size + i)];
  };
  diagonal(grad.Q, k.Q, k.n), diagonal(grad.R, k.R, k.m), diagonal(grad.P0, k.P0, k.n);
}

double Lgssm::log_likelihood(const data::SequenceSet& set, std::vector<double>* gradient) const {
  const LgssmMatrices& k = matrices_;
  require(set.D == k.m, "lgssm", "columns", set.D, fmt::format("the model's {}", k.m));
  require(set.U == k.U, "lgssm", "controls", set.U, fmt::format("the model's {}", k.U));
  double total = 0;
  LgssmMatrices grad = k;  // for its shapes
  if (gradient != nullptr) {
    gradient->assign(theta_.size(), 0.0);
    for (std::vector<double>* part :
         {&grad.A, &grad.B, &grad.Q, &grad.C, &grad.D, &grad.R, &grad.m0, &grad.P0, &grad.offset}) {
      std::fill(part->begin(), part->end(), 0.0);
    }
  }
  const std::vector<std::int64_t> starts = set.starts();
  for (std::int64_t i = 0; i < set.count(); ++i) {
    const Observed observed(set, i, starts[index(i)]);
    const LgssmFiltered filtered = filter(k, observed, i);
    const std::int32_t begin = set.begin[index(i)];
    total = std::accumulate(filtered.log_likelihood.begin() + begin, filtered.log_likelihood.end(),
                            total);
    if (gradient == nullptr) continue;
    std::vector<double> counted(index(observed.length));
    for (std::int32_t t = begin; t < observed.length; ++t) counted[index(t)] = 1;
    KalmanBackwardArgs<double> args;
    args.model = k.view(), args.data = observed.data, args.accumulate = true;
    args.filtered.mean = {filtered.mean.data(), k.n},
    args.filtered.covariance = {filtered.covariance.data(), k.n * k.n};
    if (!k.diffuse.empty()) {
      args.filtered.diffuse_factor = {filtered.factor.data(), k.n * k.n};
      args.filtered.diffuse_steps = &filtered.diffuse_steps;
    }
    args.grad_log_likelihood = {counted.data(), 1};
    KalmanGradient<double>& g = args.grad;
    g.Q = {grad.Q.data()}, g.R = {grad.R.data()};
    if (form_ == Form::general) {
      g.A = {grad.A.data()}, g.C = {grad.C.data()}, g.m0 = {grad.m0.data()},
      g.P0 = {grad.P0.data()};
      g.observation_offset = {grad.offset.data()};
      if (k.U > 0) g.B = {grad.B.data()}, g.D = {grad.D.data()};
    }
    std::vector<double> workspace(kalman_workspace_bytes(args) / sizeof(double) + 2);
    args.workspace = workspace.data(), args.workspace_bytes = workspace.size() * sizeof(double);
    cpu::kalman_backward(args);
  }
  if (gradient != nullptr) chain(grad, *gradient);
  return total;
}

}  // namespace seqvae

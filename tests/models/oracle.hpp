// A stored case of PyTorch float64 values for a whole model (tests/reference/README.md), and our
// side of it: the model by the same names, its batch, its noise.
#pragma once
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "seqvae/graph/executor.hpp"
#include "seqvae/models/registry.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {

using nlohmann::json;

inline void flatten(const json& value, std::vector<double>& out) {
  if (value.is_array()) {
    for (const json& element : value) flatten(element, out);
  } else {
    out.push_back(value.get<double>());
  }
}
inline std::vector<double> flat(const json& value) {
  std::vector<double> out;
  flatten(value, out);
  return out;
}

inline std::vector<json> cases_of(const std::string& file) {
  std::ifstream stream(reference(file));
  if (!stream) throw std::runtime_error("no reference " + file);
  return json::parse(stream)["cases"].get<std::vector<json>>();
}

/// Our configuration of a reference's.
inline io::Json configuration_of(const json& c) {
  io::Json ours;
  if (c["model"] == "dmm") {
    const std::string encoder = c["encoder"];
    ours = {{"z", c["z"].get<int>()},
            {"emission", c["emission_width"].get<int>()},
            {"transition", c["transition_width"].get<int>()},
            {"rnn", c["rnn_width"].get<int>()},
            {"encoder", encoder == "rnn_relu" ? "relu" : encoder},
            {"posterior", c["posterior"].get<std::string>()}};
  } else if (c["model"] == "vrnn") {
    ours = {{"hidden", c["hidden"].get<int>()}, {"z", c["z"].get<int>()}};
  } else {
    ours = {{"z", c["z"].get<int>()},
            {"encoder", c["encoder_width"].get<int>()},
            {"decoder", c["decoder_width"].get<int>()},
            {"emission", c["emission_width"].get<int>()}};
  }
  return ours;
}

inline std::unique_ptr<Model> model_of(const json& c) {
  DataShape shape;
  shape.x_width = c["x"].get<std::int64_t>();
  shape.missing = c["missing"].get<bool>();
  shape.emission = parse_emission(c["emission"].get<std::string>());
  const ModelEntry& entry = find_model(c["model"].get<std::string>());
  const io::Json given = configuration_of(c);
  const io::Json resolved = resolve_configuration(entry, io::JsonView(given, "reference"));
  return entry.make(io::JsonView(resolved, "reference"), shape);
}

template <class Real>
std::vector<Real> parameters_of(const Model& model, const json& values) {
  std::vector<Real> flat_values(static_cast<std::size_t>(model.parameters().size()), Real{0});
  for (const Parameter& p : model.parameters().all()) {
    const std::vector<double> v = flat(values.at(p.name));
    if (static_cast<std::int64_t>(v.size()) != p.count())
      throw std::runtime_error("count of " + p.name);
    for (std::size_t i = 0; i < v.size(); ++i) {
      flat_values[static_cast<std::size_t>(p.offset) + i] = static_cast<Real>(v[i]);
    }
  }
  return flat_values;
}

/// [T][B][K][D], padded and time-major, to rows sequence after sequence.
template <class Real>
std::vector<Real> by_sequence(const std::vector<double>& padded, const std::vector<int>& lengths,
                              std::int64_t D) {
  std::vector<Real> rows;
  const std::int64_t B = static_cast<std::int64_t>(lengths.size());
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t t = 0; t < lengths[static_cast<std::size_t>(b)]; ++t) {
      for (std::int64_t d = 0; d < D; ++d) {
        rows.push_back(static_cast<Real>(padded[static_cast<std::size_t>((t * B + b) * D + d)]));
      }
    }
  }
  return rows;
}

/// Everything a run of a case needs, alive as long as it.
template <class Real>
struct OracleRun {
  std::unique_ptr<Model> model;
  std::vector<Real> values, x, missing, mask, noise, gradients;
  std::vector<std::int32_t> lengths;
  std::vector<std::int64_t> first_row;
  std::vector<std::uint32_t> ids;
  Real beta, seed, one_over_particles;
  std::int64_t K = 1;
  ScanOptions options;
  ScanBatch<Real> batch;

  explicit OracleRun(const json& c, bool hoist = true) : model(model_of(c["config"])) {
    values = parameters_of<Real>(*model, c["parameters"]);
    const std::vector<int> steps = c["lengths"].get<std::vector<int>>();
    lengths.assign(steps.begin(), steps.end());
    std::int64_t row = 0;
    for (std::size_t b = 0; b < lengths.size(); ++b) {
      first_row.push_back(row), ids.push_back(static_cast<std::uint32_t>(b));
      row += lengths[b];
    }
    const std::int64_t X = model->shape().x_width, Z = c["config"]["z"].get<std::int64_t>();
    x = by_sequence<Real>(flat(c["x"]), steps, X);
    if (c.contains("mask")) mask = by_sequence<Real>(flat(c["mask"]), steps, X);
    for (Real m : mask) missing.push_back(1 - m);
    const bool iwae = c.contains("log_weights");
    if (iwae) K = static_cast<std::int64_t>(c["log_weights"][0].size());
    const bool global = c["config"]["model"] == "rvae";
    if (global) {
      for (double v : flat(c["noise"])) noise.push_back(static_cast<Real>(v));
    } else {
      noise = by_sequence<Real>(flat(c["noise"]), steps, K * Z);
    }
    options.gradient = true, options.hoist = hoist;
    if (iwae) {
      options.bound = Bound::iwae;
      options.trace.particles = options.trace.sampled_kl = true;
    }
    beta = iwae ? 1 : c["beta"].get<Real>();
    seed = Real{-1} / static_cast<Real>(row);
    one_over_particles = Real{1} / static_cast<Real>(K);
    gradients.resize(values.size());
    batch.lengths = lengths, batch.first_row = first_row, batch.sequence_id = ids;
    batch.bindings = {
        {"x", x.data()}, {"x_mask", mask.data()}, {"x_missing", missing.data()},
        {"beta", &beta}, {"seed", &seed},         {"one_over_particles", &one_over_particles}};
    batch.noise = {{"z", noise.data()}};
  }

  Executor<Real> run(ThreadPool& pool) {
    Executor<Real> executor(model->scan(options), model->parameters(), pool, K);
    executor.set_parameters(values.data());
    executor.run(batch, gradients.data());
    return executor;
  }
};

}  // namespace seqvae::test

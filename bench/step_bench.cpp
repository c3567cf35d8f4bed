// One training step of a model, by the protocol of bench/peers/README.md: fresh noise, forward,
// backward, clipping by the global norm, Adam. Driven by bench/compare.py, in turn with its peers.
//
// The floor is arithmetic: the products of the scan's graph, each node by the rows that it runs.
#include <algorithm>
#include <cmath>

#include "bench/serve.hpp"
#include "bench/step_flop.hpp"
#include "seqvae/graph/executor.hpp"
#include "seqvae/io/safetensors.hpp"
#include "seqvae/kernels/optimizer.hpp"
#include "seqvae/models/registry.hpp"
#include "tests/graph/new_shapes.hpp"

namespace seqvae::bench {
namespace {

/// The case's configuration under this library's keys.
io::Json configuration_of(const io::Json& c) {
  if (c["model"] == "dmm") {
    return {{"z", c["z"]},
            {"emission", c["emission_width"]},
            {"transition", c["transition_width"]},
            {"rnn", c["rnn_width"]},
            {"encoder", "relu"},
            {"posterior", "ST-R"}};
  }
  return {{"hidden", c["hidden"]}, {"z", c["z"]}};
}

/// [T][B][D] to rows sequence after sequence.
std::vector<float> by_sequence(const io::Array& padded, std::span<const std::int32_t> lengths) {
  const std::span<const float> values = padded.as<float>();
  const std::size_t B = lengths.size(), D = static_cast<std::size_t>(padded.shape[2]);
  std::vector<float> rows;
  for (std::size_t b = 0; b < B; ++b) {
    for (std::size_t t = 0; t < static_cast<std::size_t>(lengths[b]); ++t) {
      const auto row = values.begin() + static_cast<std::ptrdiff_t>((t * B + b) * D);
      rows.insert(rows.end(), row, row + static_cast<std::ptrdiff_t>(D));
    }
  }
  return rows;
}

class TrainingStep : public Work {
 public:
  TrainingStep(const std::string& file, int threads) : pool_(threads) {
    const io::Safetensors contents = io::read_safetensors(file);
    config_ = io::parse_json(contents.metadata.at("config"), file);
    DataShape shape;
    shape.x_width = config_["x"].get<std::int64_t>();
    shape.emission = Emission::Kind::bernoulli;
    const ModelEntry& entry = find_model(config_["model"].get<std::string>());
    const io::Json given = configuration_of(config_);
    const io::Json resolved = resolve_configuration(entry, io::JsonView(given, file));
    model_ = entry.make(io::JsonView(resolved, file), shape);
    values_.assign(static_cast<std::size_t>(model_->parameters().size()), 0.0f);
    for (const Parameter& p : model_->parameters().all()) {
      const std::vector<double> v = contents.tensors.at("parameters." + p.name).to_double();
      std::copy(v.begin(), v.end(), values_.begin() + p.offset);
    }
    gradients_ = m_ = v_ = std::vector<float>(values_.size(), 0.0f);
    const auto lengths = contents.tensors.at("lengths").as<std::int32_t>();
    lengths_.assign(lengths.begin(), lengths.end());
    for (std::size_t b = 0; b < lengths_.size(); ++b) {
      first_row_.push_back(rows_), ids_.push_back(static_cast<std::uint32_t>(b));
      rows_ += lengths_[b];
    }
    x_ = by_sequence(contents.tensors.at("x"), lengths_);
    noise_ = by_sequence(contents.tensors.at("noise"), lengths_);
    beta_ = config_["beta"].get<float>();
    seed_ = -1.0f / static_cast<float>(rows_);
    executor_ = std::make_unique<Executor<float>>(scan(), model_->parameters(), pool_);
    batch_.lengths = lengths_, batch_.first_row = first_row_, batch_.sequence_id = ids_;
    batch_.bindings = {{"x", x_.data()}, {"beta", &beta_}, {"seed", &seed_}};
  }

  io::Json about() const override {
    return {{"program", "seqvae"}, {"variant", "cpu"},         {"config", config_}, {"rows", rows_},
            {"dtype", "float32"},  {"threads", pool_.count()}, {"flop", flop()}};
  }

  io::Json loss() override {
    batch_.noise = {{"z", noise_.data()}};
    executor_->set_parameters(values_.data());
    executor_->run(batch_, gradients_.data());
    batch_.noise.clear();
    double objective = 0, square = 0;
    for (float o : executor_->output("objective")) objective += o;
    for (float g : gradients_) square += static_cast<double>(g) * g;
    return {{"loss", -objective / static_cast<double>(rows_)},
            {"gradient_norm", std::sqrt(square)}};
  }

  /// Milliseconds that the first step at a new batch shape costs more than the same step repeated.
  io::Json shapes() override {
    const auto make = [&] { return Executor<float>(scan(), model_->parameters(), pool_); };
    std::vector<float> gradients(values_.size());
    const auto step = [&](Executor<float>& executor, const std::vector<std::int32_t>& lengths) {
      const std::vector<std::int64_t> first_row(lengths.size(), 0);  // all read the longest's rows
      const std::vector<std::uint32_t> ids(lengths.size(), 0);
      ScanBatch<float> batch = batch_;
      batch.lengths = lengths, batch.first_row = first_row, batch.sequence_id = ids;
      executor.set_parameters(values_.data());
      executor.run(batch, gradients.data());
    };
    const test::ShapeCosts costs = test::shape_costs(4, 6, make, step);
    const auto summary = [](std::vector<double> seconds) {
      std::sort(seconds.begin(), seconds.end());
      const auto ms = [&](std::size_t i) { return std::round(1e6 * seconds.at(i)) / 1e3; };
      return io::Json{{"shapes", seconds.size()},
                      {"min_ms", ms(0)},
                      {"median_ms", ms(seconds.size() / 2)},
                      {"max_ms", ms(seconds.size() - 1)}};
    };
    return {{"unseen", summary(costs.unseen)}, {"seen", summary(costs.seen)}};
  }

  io::Json run() override {
    double norm = 0;
    const double seconds = seconds_of([&] {
      ++batch_.step;
      executor_->set_parameters(values_.data());
      executor_->run(batch_, gradients_.data());
      AdamWArgs<float> args;
      args.count = static_cast<std::int64_t>(values_.size());
      args.parameters = values_.data(), args.gradients = gradients_.data();
      args.m = m_.data(), args.v = v_.data();
      const AdamWStep step{++update_, config_["learning_rate"].get<double>()};
      args.step = &step;
      args.beta1 = config_["beta1"].get<double>(), args.beta2 = config_["beta2"].get<double>();
      args.clip_norm = config_["clip_norm"].get<double>();
      args.norm = &norm;
      cpu::adamw(args);
    });
    if (!std::isfinite(norm)) return {{"error", "the gradient is not finite"}};
    return {{"seconds", seconds}};
  }

 private:
  Scan scan() const {
    ScanOptions options;
    options.gradient = true;
    return model_->scan(options);
  }

  std::int64_t flop() const {
    return products_flop(executor_->scan(), rows_, static_cast<std::int64_t>(lengths_.size()));
  }

  ThreadPool pool_;
  io::Json config_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Executor<float>> executor_;
  ScanBatch<float> batch_;
  std::vector<float> values_, gradients_, m_, v_, x_, noise_;
  std::vector<std::int32_t> lengths_;
  std::vector<std::int64_t> first_row_;
  std::vector<std::uint32_t> ids_;
  std::int64_t rows_ = 0, update_ = 0;
  float beta_ = 1, seed_ = 0;
};

std::unique_ptr<Work> make(const std::string& file, int threads) {
  return std::make_unique<TrainingStep>(file, threads);
}

}  // namespace
}  // namespace seqvae::bench

int main(int argc, char** argv) { return seqvae::bench::serve(argc, argv, seqvae::bench::make); }

// Times whole training steps of deep models on a GPU: fresh noise, forward, backward, clipping by
// the global norm, AdamW, the objective read by the host.
//
//     bench_gpu_step [--small] [--seconds S]
//
// Writes one JSON object: microseconds a step by the host's clock (the median of S seconds of
// steps), of a batch of binary sequences whose lengths spread evenly. Variants: loops as one kernel
// each ("chains"), or step by step ("steps"). Exit status 1 where the two disagree, or an objective
// or a gradient is not finite.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <random>
#include <string>

#include <fmt/format.h>

#include "bench/step_flop.hpp"
#include "host/graph/scan_runner.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/kernels/optimizer.hpp"
#include "seqvae/kernels/run.hpp"
#include "seqvae/models/registry.hpp"

namespace seqvae::bench {
namespace {

constexpr double kLearningRate = 3e-4, kBeta1 = 0.9, kBeta2 = 0.999, kClipNorm = 10;
constexpr double kTolerance = 1e-4;  // of the variants' first objectives

struct Sizes {
  std::int64_t B, shortest, T, x;
};

/// Binary sequences, and all else that a scan is given.
class Batch {
 public:
  explicit Batch(const Sizes& sizes) : T(sizes.T) {
    std::mt19937 engine(7);
    for (std::int64_t b = 0; b < sizes.B; ++b) {
      const std::int64_t less =
          (sizes.T - sizes.shortest) * b / std::max<std::int64_t>(1, sizes.B - 1);
      lengths_.push_back(static_cast<std::int32_t>(sizes.T - less));
      first_row_.push_back(rows), ids_.push_back(static_cast<std::uint32_t>(b));
      rows += lengths_.back();
    }
    for (std::int64_t i = 0; i < rows * sizes.x; ++i)
      x_.push_back(engine() % 10 == 0 ? 1.0f : 0.0f);
    weight_.assign(static_cast<std::size_t>(rows), 1.0f);
    seed_ = -1.0f / static_cast<float>(rows);
    scan.lengths = lengths_, scan.first_row = first_row_, scan.sequence_id = ids_;
    scan.bindings = {
        {"x", x_.data()}, {"weight", weight_.data()}, {"beta", &beta_}, {"seed", &seed_}};
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  ScanBatch<float> scan;
  const std::int64_t T;
  std::int64_t rows = 0;

 private:
  std::vector<std::int32_t> lengths_;
  std::vector<std::int64_t> first_row_;
  std::vector<std::uint32_t> ids_;
  std::vector<float> x_, weight_;
  float beta_ = 0.5f, seed_ = 0;
};

/// A model in training on the device.
class Training {
 public:
  Training(const Model& model, const Scan& scan, LoopForm form, const Queue& queue)
      : queue_(queue),
        parameters_(queue),
        m_(queue),
        v_(queue),
        gradients_(queue, static_cast<std::size_t>(model.parameters().size())),
        words_(queue, 1),
        norm_(queue, 1),
        workspace_(queue, cuda::adamw_workspace_bytes()),
        runner_(make_queued_runner<float>(scan, model.parameters(), queue, 1, form)),
        objective_(runner_->scan().graph.output("objective")) {
    std::vector<float> values(gradients_.count());
    m_.upload(values), v_.upload(values);
    model.parameters().initialise(1, values.data());
    parameters_.upload(values);
    runner_->set_parameters(parameters_.data());
  }

  /// The objective a row.
  double step(Batch& batch) {
    batch.scan.step = static_cast<std::uint64_t>(++update_.update);
    runner_->run(batch.scan, gradients_.data());
    queue_.copy(words_.data(), &update_, sizeof update_);
    AdamWArgs<float> args;
    args.count = static_cast<std::int64_t>(gradients_.count());
    args.parameters = parameters_.data(), args.gradients = gradients_.data();
    args.m = m_.data(), args.v = v_.data(), args.step = words_.data();
    args.beta1 = kBeta1, args.beta2 = kBeta2, args.clip_norm = kClipNorm, args.norm = norm_.data();
    args.workspace = workspace_.data(), args.workspace_bytes = workspace_.count();
    run(args, queue_);
    objectives_.resize(batch.scan.lengths.size());
    runner_->copy_output(objective_, objectives_.data());
    queue_.synchronize();
    return std::accumulate(objectives_.begin(), objectives_.end(), 0.0) /
           static_cast<double>(batch.rows);
  }
  double gradient_norm() const {
    std::vector<double> norm;
    norm_.download(norm);
    return norm[0];
  }
  std::int64_t chain_count() const { return runner_->chain_count(); }

 private:
  const Queue& queue_;
  Buffer<float> parameters_, m_, v_, gradients_;
  Buffer<AdamWStep> words_;
  Buffer<double> norm_;
  Buffer<std::byte> workspace_;
  std::unique_ptr<ScanRunner<float>> runner_;
  NodeId objective_;
  AdamWStep update_{0, kLearningRate};
  std::vector<float> objectives_;
};

double seconds_of(Training& training, Batch& batch, double& objective) {
  const auto begin = std::chrono::steady_clock::now();
  objective = training.step(batch);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void require_finite(double value, const char* what) {
  if (!std::isfinite(value)) throw Error(fmt::format("the {} is not finite", what));
}

/// Both variants of a model's step.
void time_model(const std::string& name, const io::Json& configuration, const Sizes& sizes,
                double seconds, const Queue& queue, io::Json& cases) {
  DataShape shape;
  shape.x_width = sizes.x, shape.emission = Emission::Kind::bernoulli;
  const ModelEntry& entry = find_model(name);
  const io::Json resolved = resolve_configuration(entry, io::JsonView(configuration, name));
  const auto model = entry.make(io::JsonView(resolved, name), shape);
  ScanOptions options;
  options.gradient = options.weighted = true;
  const Scan scan = model->scan(options);
  Batch batch(sizes);
  const std::int64_t flop = products_flop(scan, batch.rows, sizes.B);
  double agreed = 0;
  for (const LoopForm form : {LoopForm::chains, LoopForm::steps}) {
    Training training(*model, scan, form, queue);
    double objective = 0, first = training.step(batch);
    require_finite(first, "objective");
    if (form == LoopForm::chains) agreed = first;
    if (std::abs(first - agreed) > kTolerance * std::abs(agreed)) {
      throw Error(
          fmt::format("{}: the objective is {} as chains, {} step by step", name, agreed, first));
    }
    for (int i = 0; i < 4; ++i) training.step(batch);  // the second is recorded, then it is warm
    std::vector<double> turns;
    for (double sum = 0; turns.size() < 3 || sum < seconds; sum += turns.back()) {
      turns.push_back(seconds_of(training, batch, objective));
    }
    require_finite(objective, "objective"), require_finite(training.gradient_norm(), "gradient");
    const auto middle = turns.begin() + static_cast<std::ptrdiff_t>(turns.size() / 2);
    std::nth_element(turns.begin(), middle, turns.end());
    const double us = *middle * 1e6;
    io::Json row{{"name", name + "_step"},
                 {"shape", fmt::format("{}x{}", sizes.B, sizes.T)},
                 {"variant", form == LoopForm::chains ? "chains" : "steps"},
                 {"us", us},
                 {"us_a_step", us / static_cast<double>(sizes.T)},
                 {"steps", turns.size()},
                 {"rows", batch.rows},
                 {"chains", training.chain_count()},
                 {"flop", flop},
                 {"tflop_per_s", static_cast<double>(flop) / us / 1e6},
                 {"first_objective", first},
                 {"objective", objective}};
    std::cerr << fmt::format("{:10} {:7} {:10.1f} us, objective a row {:.4f}, then {:.4f}\n",
                             row["name"].get<std::string>(), row["variant"].get<std::string>(), us,
                             first, objective);
    cases.push_back(std::move(row));
  }
}

}  // namespace
}  // namespace seqvae::bench

int main(int argc, char** argv) {
  using namespace seqvae;
  bool small = false;
  double seconds = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--small") {
      small = true;
    } else if (option == "--seconds" && i + 1 < argc && std::atof(argv[i + 1]) > 0) {
      seconds = std::atof(argv[++i]);
    } else {
      std::cerr << "usage: " << argv[0] << " [--small] [--seconds S]\n";
      return 2;
    }
  }
  const bench::Sizes sizes = small ? bench::Sizes{3, 2, 6, 8} : bench::Sizes{20, 20, 129, 88};
  io::Json dmm{{"z", 100}, {"emission", 100}, {"transition", 200}, {"rnn", 600}};
  io::Json vrnn{{"hidden", 256}, {"z", 64}};
  if (small) {
    dmm = {{"z", 4}, {"emission", 5}, {"transition", 6}, {"rnn", 8}};
    vrnn = {{"hidden", 8}, {"z", 4}};
  }
  dmm["encoder"] = "relu", dmm["posterior"] = "ST-R";
  io::Json cases = io::Json::array();
  int status = 0;
  try {
    const Queue queue(Device::cuda(0));
    bench::time_model("dmm", dmm, sizes, seconds, queue, cases);
    bench::time_model("vrnn", vrnn, sizes, seconds, queue, cases);
  } catch (const std::exception& error) {
    std::cerr << "bench_gpu_step: " << error.what() << "\n";
    status = 1;
  }
  std::cout << io::Json{{"cases", cases}}.dump(1) << std::endl;
  return status;
}

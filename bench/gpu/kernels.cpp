// Times every CUDA kernel alone, as it runs inside a captured step: replays of a graph of many
// calls.
//
//     bench_gpu_kernels [--shape ROWSxD]... [--parameters N]... [--product MxNxK]... [--only TEXT]
//                       [--seconds S]
//
// Writes one JSON object: for each case its microseconds a call (the median of seven turns), the
// bytes that it must move at least (each input and output once) and the rate that this makes; for
// products also their arithmetic.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "bench/gpu/timing.hpp"
#include "seqvae/io/json.hpp"
#include "seqvae/kernels/dense.hpp"
#include "seqvae/kernels/movement.hpp"
#include "seqvae/kernels/optimizer.hpp"
#include "seqvae/kernels/reduce.hpp"
#include "tests/kernels/row_contracts.hpp"
#include "tests/support/device_array.hpp"

namespace seqvae::bench {
namespace {

using test::DeviceArray;

struct Shape {
  std::int64_t rows, D;
  std::string name() const { return fmt::format("{}x{}", rows, D); }
};

struct ProductShape {
  std::int64_t M, N, K;
  std::string name() const { return fmt::format("{}x{}x{}", M, N, K); }
};

struct Settings {
  std::vector<Shape> shapes;
  std::vector<std::int64_t> parameters;  ///< of an optimiser
  std::vector<ProductShape> products;
  std::string only;    ///< part of the names that are timed
  double turn = 0.01;  ///< seconds of a turn, at least
};

/// A matrix on the device that repeats a block of values.
class Input {
 public:
  Input(std::int64_t rows, std::int64_t width, const std::vector<float>& block)
      : memory_(static_cast<std::size_t>(rows * width)), width_(width) {
    const std::size_t count = static_cast<std::size_t>(rows * width);
    std::size_t filled = std::min(count, block.size());
    cuda::copy(memory_.data(), block.data(), filled * sizeof(float), Stream());
    while (filled < count) {
      const std::size_t more = std::min(filled, count - filled);
      cuda::copy(memory_.data() + filled, memory_.data(), more * sizeof(float), Stream());
      filled += more;
    }
    cuda::synchronize(Stream());
  }
  Rows<const float> view() const { return {memory_.data(), width_}; }
  float* data() const { return memory_.data(); }

 private:
  DeviceArray<float> memory_;
  std::int64_t width_;
};

class Report {
 public:
  explicit Report(const Settings& settings) : settings_(settings) {}

  bool wants(const std::string& name) const {
    return name.find(settings_.only) != std::string::npos;
  }
  /// flops: counted for products alone.
  template <class Enqueue>
  void time(const std::string& name, const std::string& shape, std::int64_t bytes, Enqueue enqueue,
            double flops = 0) {
    const double seconds = seconds_a_call(settings_.turn, enqueue);
    cases_.push_back({{"name", name},
                      {"shape", shape},
                      {"us", seconds * 1e6},
                      {"bytes", bytes},
                      {"gb_per_s", static_cast<double>(bytes) / seconds / 1e9}});
    if (flops > 0) cases_.back()["tflop_per_s"] = flops / seconds / 1e12;
    std::cerr << fmt::format("{:32} {:>14} {:10.2f} us {:8.0f} GB/s", name, shape, seconds * 1e6,
                             static_cast<double>(bytes) / seconds / 1e9);
    if (flops > 0) std::cerr << fmt::format(" {:6.2f} TFLOP/s", flops / seconds / 1e12);
    std::cerr << "\n";
  }
  const io::Json& cases() const { return cases_; }

 private:
  const Settings& settings_;
  io::Json cases_ = io::Json::array();
};

void time_contract(Report& report, const test::Contract& contract, const Shape& shape) {
  constexpr std::int64_t kBlock = 1024;  // rows that differ
  std::int64_t bytes = 0;
  std::list<Input> inputs;
  std::vector<Rows<const float>> in;
  for (const test::Input& input : contract.inputs) {
    const std::int64_t width = test::width(input.factor, shape.D);
    std::vector<float> block(static_cast<std::size_t>(std::min(shape.rows, kBlock) * width));
    const int number = static_cast<int>(inputs.size());
    for (std::size_t i = 0; i < block.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      block[i] =
          static_cast<float>(test::value_at(input.values, number, at / width, at % width, width));
    }
    inputs.emplace_back(shape.rows, width, block);
    in.push_back(inputs.back().view());
    bytes += 4 * shape.rows * width;
  }
  std::list<DeviceArray<float>> outputs;
  std::vector<Rows<float>> out;
  for (const int factor : contract.outputs) {
    const std::int64_t width = test::width(factor, shape.D);
    outputs.emplace_back(static_cast<std::size_t>(shape.rows * width));
    out.push_back({outputs.back().data(), width});
    bytes += 4 * shape.rows * width;
  }
  const test::RowNoise noise(shape.rows);
  const DeviceArray<std::uint32_t> ids(noise.sequence_id);
  const DeviceArray<std::uint64_t> step(std::vector<std::uint64_t>{noise.step});
  report.time(contract.name, shape.name(), bytes, [&](Stream stream) {
    contract.run_cuda(shape.rows, shape.D, noise.args<float>(ids.data(), step.data()), in, out,
                      stream);
  });
}

std::vector<float> normals(std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(
        test::value_at(test::Filling::normal, 0, 0, static_cast<std::int64_t>(i), count));
  }
  return values;
}

void time_reductions(Report& report, const Shape& shape) {
  const auto [rows, D] = shape;
  const Input x(rows, D, normals(std::min<std::int64_t>(rows * D, 1 << 16)));
  const DeviceArray<float> y(static_cast<std::size_t>(std::max(rows, D)));
  if (report.wants("sum_over_rows")) {
    const std::size_t bytes = cuda::sum_over_rows_workspace_bytes(rows, D);
    const DeviceArray<double> workspace(bytes / sizeof(double));
    report.time("sum_over_rows", shape.name(), 4 * (rows * D + D), [&](Stream stream) {
      cuda::sum_over_rows({rows, D, false, x.view(), y.data(), workspace.data(), bytes}, stream);
    });
  }
  if (report.wants("sum_over_time")) {
    RowLayout layout;  // 64 sequences
    layout.B = std::min<std::int64_t>(rows, 64), layout.T = rows / layout.B;
    const DeviceArray<float> sums(static_cast<std::size_t>(layout.B * D));
    report.time("sum_over_time", shape.name(), 4 * (rows * D + layout.B * D), [&](Stream stream) {
      cuda::sum_over_time({layout, D, x.view(), {sums.data(), D}}, stream);
    });
  }
  if (report.wants("log_mean_exp")) {
    report.time("log_mean_exp", shape.name(), 4 * (rows * D + rows), [&](Stream stream) {
      cuda::log_mean_exp({rows, D, x.data(), y.data()}, stream);
    });
  }
}

void time_movement(Report& report, const Shape& shape) {
  const auto [rows, D] = shape;
  constexpr std::int64_t kParticles = 8;
  RowLayout layout;  // packed: 64 sequences; rows left over are cleared
  layout.B = std::min<std::int64_t>(rows, 64), layout.T = rows / layout.B, layout.capacity = rows;
  std::vector<std::int32_t> offsets;
  for (std::int64_t t = 0; t <= layout.T; ++t) {
    offsets.push_back(static_cast<std::int32_t>(t * layout.B));
  }
  const DeviceArray<std::int32_t> device_offsets(offsets);
  layout.offsets = device_offsets.data();
  const Input x(rows, D, normals(std::min<std::int64_t>(rows * D, 1 << 16)));
  const DeviceArray<float> y(static_cast<std::size_t>(rows * D));
  if (report.wants("move_rows")) {
    report.time("move_rows", shape.name(), 8 * rows * D, [&](Stream stream) {
      cuda::move_rows({Move::from_step_before, layout, D, x.view(), {}, {y.data(), D}}, stream);
    });
  }
  if (report.wants("sum_over_particles")) {
    const std::int64_t sums = rows / kParticles;
    report.time("sum_over_particles", shape.name(), 4 * (kParticles + 1) * sums * D,
                [&](Stream stream) {
                  cuda::sum_over_particles({sums, kParticles, D, x.view(), {y.data(), D}}, stream);
                });
  }
}

void time_adamw(Report& report, std::int64_t count) {
  if (!report.wants("adamw")) return;
  const auto values = normals(std::min<std::int64_t>(count, 1 << 16));
  auto squares = values;
  for (float& x : squares) x *= x;
  const Input p(1, count, values), g(1, count, values), m(1, count, values), v(1, count, squares);
  const DeviceArray<AdamWStep> step(std::vector<AdamWStep>{{5, 1e-9}});
  const DeviceArray<double> norm(1), workspace(cuda::adamw_workspace_bytes() / sizeof(double));
  AdamWArgs<float> args;
  args.count = count, args.parameters = p.data(), args.gradients = g.data();
  args.m = m.data(), args.v = v.data(), args.step = step.data(), args.norm = norm.data();
  args.clip_norm = 1, args.weight_decay = 0.01;
  args.workspace = workspace.data(), args.workspace_bytes = cuda::adamw_workspace_bytes();
  report.time("adamw", std::to_string(count), 32 * count,
              [&](Stream stream) { cuda::adamw(args, stream); });
}

Input matrix(std::int64_t rows, std::int64_t D) {
  return Input(rows, D, normals(std::min<std::int64_t>(rows * D, 1 << 16)));
}

/// Four products in one call, and four weight gradients, as a training step has them.
void time_at_once(Report& report, const ProductShape& shape, const Input& x, double flops,
                  std::int64_t bytes) {
  constexpr std::int64_t kCalls = 4;
  const auto [M, N, K] = shape;
  if (M * N * K > 1 << 28) return;  // fills a device by itself
  std::list<DeviceArray<float>> results;
  const auto result = [&](std::int64_t count) {
    return results.emplace_back(static_cast<std::size_t>(count)).data();
  };
  if (report.wants("products")) {
    const Input W = matrix(N, K), bias = matrix(1, N);
    std::vector<DenseArgs<float>> calls;
    for (std::int64_t i = 0; i < kCalls; ++i) {
      DenseArgs<float> args;
      args.M = M, args.x = x.view(), args.W = {W.data(), K, N, K}, args.bias = bias.data();
      args.activation = Activation::relu, args.y = {result(M * N), N};
      calls.push_back(args);
    }
    const ProductsArgs<float> args{calls.data(), kCalls};
    cuda::products(args, Stream());
    report.time(
        "products_of_4", shape.name(), kCalls * bytes,
        [&](Stream stream) { cuda::products(args, stream); }, kCalls * flops);
  }
  if (report.wants("weight_gradients") && M >= 1024) {
    const Input grad_y = matrix(M, N);
    std::vector<DenseWeightGradientArgs<float>> calls;
    for (std::int64_t i = 0; i < kCalls; ++i) {
      calls.push_back({M, N, K, grad_y.view(), x.view(), false, {result(N * K), K}, result(N)});
    }
    WeightGradientsArgs<float> args{calls.data(), kCalls};
    args.workspace_bytes = cuda::weight_gradients_workspace_bytes(args);
    const DeviceArray<double> workspace(args.workspace_bytes / sizeof(double) + 2);
    args.workspace = workspace.data();
    cuda::weight_gradients(args, Stream());
    report.time(
        "weight_gradients_of_4", shape.name(), kCalls * bytes,
        [&](Stream stream) { cuda::weight_gradients(args, stream); }, kCalls * flops);
  }
}

void time_dense(Report& report, const ProductShape& shape) {
  const auto [M, N, K] = shape;
  const double flops = 2.0 * static_cast<double>(M) * static_cast<double>(N * K);
  const std::int64_t bytes = 4 * (M * K + N * K + M * N + N);
  const Input x = matrix(M, K);
  if (report.wants("dense")) {
    const Input W = matrix(N, K), bias = matrix(1, N);
    const DeviceArray<float> y(static_cast<std::size_t>(M * N));
    DenseArgs<float> args;
    args.M = M, args.x = x.view(), args.W = {W.data(), K, N, K}, args.bias = bias.data();
    args.y = {y.data(), N};
    cuda::dense(args, Stream());  // finds its algorithm, which a captured call may not
    report.time(
        "dense", shape.name(), bytes, [&](Stream stream) { cuda::dense(args, stream); }, flops);
  }
  if (report.wants("dense_weight_gradient") && M >= 1024) {  // not of a single step's rows
    const Input grad_y = matrix(M, N);
    const DeviceArray<float> grad_W(static_cast<std::size_t>(N * K));
    const DeviceArray<float> grad_bias(static_cast<std::size_t>(N));
    const std::size_t needed = cuda::dense_weight_gradient_workspace_bytes(M, N, K);
    const DeviceArray<double> workspace(needed / sizeof(double));
    const DenseWeightGradientArgs<float> args{M,
                                              N,
                                              K,
                                              grad_y.view(),
                                              x.view(),
                                              false,
                                              {grad_W.data(), K},
                                              grad_bias.data(),
                                              workspace.data(),
                                              needed};
    cuda::dense_weight_gradient(args, Stream());
    report.time(
        "dense_weight_gradient", shape.name(), bytes,
        [&](Stream stream) { cuda::dense_weight_gradient(args, stream); }, flops);
  }
  time_at_once(report, shape, x, flops, bytes);
}

Settings parse(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    Shape shape{};
    ProductShape product{};
    char x = 0, second_x = 0;
    if (option == "--shape" &&
        std::sscanf(value.c_str(), "%ld%c%ld", &shape.rows, &x, &shape.D) == 3 && x == 'x' &&
        shape.rows > 0 && shape.D > 0) {
      settings.shapes.push_back(shape);
    } else if (option == "--parameters" && std::atoll(value.c_str()) > 0) {
      settings.parameters.push_back(std::atoll(value.c_str()));
    } else if (option == "--product" &&
               std::sscanf(value.c_str(), "%ld%c%ld%c%ld", &product.M, &x, &product.N, &second_x,
                           &product.K) == 5 &&
               x == 'x' && second_x == 'x' && product.M > 0 && product.N > 0 && product.K > 0) {
      settings.products.push_back(product);
    } else if (option == "--only" && !value.empty()) {
      settings.only = value;
    } else if (option == "--seconds" && std::atof(value.c_str()) > 0) {
      settings.turn = std::atof(value.c_str());
    } else {
      std::cerr << "usage: " << argv[0]
                << " [--shape ROWSxD]... [--parameters N]... [--product MxNxK]... [--only TEXT]"
                   " [--seconds S]\n";
      std::exit(2);
    }
    ++i;
  }
  if (settings.shapes.empty()) settings.shapes = {{1 << 20, 64}, {2580, 100}};
  if (settings.parameters.empty()) settings.parameters = {300'000, 30'000'000};
  if (settings.products.empty()) {  // a batch's gates and layers; one step's
    settings.products = {{2580, 600, 600}, {2580, 1800, 600}, {16384, 1536, 512},
                         {1256, 200, 100}, {20, 1800, 600},   {64, 1536, 512}};
  }
  return settings;
}

}  // namespace
}  // namespace seqvae::bench

int main(int argc, char** argv) {
  using namespace seqvae::bench;
  const Settings settings = parse(argc, argv);
  Report report(settings);
  try {
    for (const Shape& shape : settings.shapes) {
      for (const seqvae::test::Contract& contract : seqvae::test::row_contracts()) {
        if (report.wants(contract.name)) time_contract(report, contract, shape);
      }
      time_reductions(report, shape);
      time_movement(report, shape);
    }
    for (const std::int64_t count : settings.parameters) time_adamw(report, count);
    for (const ProductShape& shape : settings.products) time_dense(report, shape);
  } catch (const std::exception& error) {
    std::cerr << "bench_gpu_kernels: " << error.what() << "\n";
    return 1;
  }
  std::cout << seqvae::io::Json{{"cases", report.cases()}}.dump(1) << std::endl;
  return 0;
}

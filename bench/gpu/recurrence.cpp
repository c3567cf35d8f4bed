// Times recurrent layers over sequences on a GPU, forward and forward with backward.
//
//     bench_gpu_recurrence [--size T,B,D,H]... [--precision float32|bfloat16] [--seconds S]
//
// Writes one JSON object: microseconds a call (the median of seven turns of graph replays), a
// step's share of it, and the rate of all products. Sizes S, M and L where none is named.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include <fmt/format.h>

#include "bench/gpu/timing.hpp"
#include "seqvae/io/json.hpp"
#include "seqvae/kernels/gru.hpp"
#include "seqvae/kernels/lstm.hpp"
#include "tests/support/device_array.hpp"

namespace seqvae::bench {
namespace {

using test::DeviceArray;

struct Size {
  std::string name;
  std::int64_t T, B, D, H;
};

std::vector<float> normals(std::int64_t count, double scale) {
  static std::mt19937 engine(7);
  std::normal_distribution<float> normal;
  std::vector<float> block(static_cast<std::size_t>(std::min<std::int64_t>(count, 1 << 20)));
  for (float& x : block) x = static_cast<float>(scale) * normal(engine);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = block[i % block.size()];
  return values;
}

struct GruCalls {
  using Forward = GruArgs<float>;
  using Backward = GruBackwardArgs<float>;
  static constexpr const char* kName = "gru";
  static constexpr std::int64_t kGates = 3;
  static constexpr auto* reserve_bytes = cuda::gru_reserve_bytes;
  static constexpr auto* forward_bytes = cuda::gru_workspace_bytes;
  static constexpr auto* backward_bytes = cuda::gru_backward_workspace_bytes;
  static constexpr auto* forward = cuda::gru;
  static constexpr auto* backward = cuda::gru_backward;
};
struct LstmCalls {
  using Forward = LstmArgs<float>;
  using Backward = LstmBackwardArgs<float>;
  static constexpr const char* kName = "lstm";
  static constexpr std::int64_t kGates = 4;
  static constexpr auto* reserve_bytes = cuda::lstm_reserve_bytes;
  static constexpr auto* forward_bytes = cuda::lstm_workspace_bytes;
  static constexpr auto* backward_bytes = cuda::lstm_backward_workspace_bytes;
  static constexpr auto* forward = cuda::lstm;
  static constexpr auto* backward = cuda::lstm_backward;
};

template <class Calls>
class Layer {
 public:
  Layer(const Size& s, Precision precision)
      : G(Calls::kGates * s.H),
        x_(normals(s.T * s.B * s.D, 1)),
        weight_ih_(normals(G * s.D, 1 / std::sqrt(s.D))),
        weight_hh_(normals(G * s.H, 1 / std::sqrt(s.H))),
        bias_(normals(G, 0.1)),
        grad_h_(normals(s.T * s.B * s.H, 1)),
        h_(count(s.T * s.B * s.H)),
        grad_x_(count(s.T * s.B * s.D)),
        grad_weight_ih_(count(G * s.D)),
        grad_weight_hh_(count(G * s.H)),
        grad_bias_ih_(count(G)),
        grad_bias_hh_(count(G)) {
    set_common(forward_, s, precision), set_common(backward_, s, precision);
    forward_.bias_ih = forward_.bias_hh = bias_.data();
    backward_.grad_h = {grad_h_.data(), s.H};
    backward_.grad_x = {grad_x_.data(), s.D};
    backward_.grad_weight_ih = grad_weight_ih_.data();
    backward_.grad_weight_hh = grad_weight_hh_.data();
    backward_.grad_bias_ih = grad_bias_ih_.data();
    backward_.grad_bias_hh = grad_bias_hh_.data();
    const std::size_t kept = Calls::reserve_bytes(forward_);
    reserve_ = std::make_unique<DeviceArray<float>>(kept / sizeof(float));
    forward_.reserve = backward_.reserve = reserve_->data();
    forward_.reserve_bytes = backward_.reserve_bytes = kept;
    const std::size_t bytes =
        std::max(Calls::forward_bytes(forward_), Calls::backward_bytes(backward_));
    workspace_ = std::make_unique<DeviceArray<float>>(bytes / sizeof(float));
    forward_.workspace = backward_.workspace = workspace_->data();
    forward_.workspace_bytes = backward_.workspace_bytes = bytes;
  }
  void forward(Stream stream) const { Calls::forward(forward_, stream); }
  void both(Stream stream) const {
    Calls::forward(forward_, stream);
    Calls::backward(backward_, stream);
  }

 private:
  static std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }
  template <class Args>
  void set_common(Args& a, const Size& s, Precision precision) const {
    a.layout.T = s.T, a.layout.B = s.B, a.D = s.D, a.H = s.H, a.precision = precision;
    a.x = {x_.data(), s.D}, a.h = {h_.data(), s.H};
    a.weight_ih = weight_ih_.data(), a.weight_hh = weight_hh_.data();
  }
  const std::int64_t G;
  DeviceArray<float> x_, weight_ih_, weight_hh_, bias_, grad_h_, h_, grad_x_, grad_weight_ih_,
      grad_weight_hh_, grad_bias_ih_, grad_bias_hh_;
  std::unique_ptr<DeviceArray<float>> reserve_, workspace_;
  typename Calls::Forward forward_;
  typename Calls::Backward backward_;
};

template <class Calls>
io::Json time_layer(const Size& s, Precision precision, bool backward, double turn) {
  const Layer<Calls> layer(s, precision);
  const double seconds = seconds_a_call(
      turn, [&](Stream stream) { backward ? layer.both(stream) : layer.forward(stream); });
  const double flop = 2.0 * Calls::kGates * static_cast<double>(s.T * s.B * s.H) *
                      static_cast<double>(s.H + s.D) * (backward ? 3 : 1);
  io::Json row{{"name", fmt::format("{}_forward{}", Calls::kName, backward ? "_backward" : "")},
               {"shape", s.name},
               {"variant", precision == Precision::float32 ? "float32" : "bfloat16"},
               {"us", seconds * 1e6},
               {"us_a_step", seconds * 1e6 / static_cast<double>(s.T)},
               {"tflop_per_s", flop / seconds / 1e12}};
  std::cerr << fmt::format("{:22} {:8} {:10} {:10.1f} us {:8.3f} us a step {:7.1f} TFLOP/s\n",
                           row["name"].get<std::string>(), s.name,
                           row["variant"].get<std::string>(), seconds * 1e6,
                           row["us_a_step"].get<double>(), row["tflop_per_s"].get<double>());
  return row;
}

}  // namespace
}  // namespace seqvae::bench

int main(int argc, char** argv) {
  using namespace seqvae::bench;
  using seqvae::Precision;
  std::vector<Size> sizes;
  std::vector<Precision> precisions{Precision::float32, Precision::bfloat16};
  double turn = 0.02;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    Size s{argv[i + 1], 0, 0, 0, 0};
    if (option == "--size" &&
        std::sscanf(argv[i + 1], "%ld,%ld,%ld,%ld", &s.T, &s.B, &s.D, &s.H) == 4) {
      sizes.push_back(s);
    } else if (option == "--precision" && (s.name == "float32" || s.name == "bfloat16")) {
      precisions = {s.name == "float32" ? Precision::float32 : Precision::bfloat16};
    } else if (option == "--seconds" && std::atof(argv[i + 1]) > 0) {
      turn = std::atof(argv[i + 1]);
    } else {
      argc = 0;
    }
  }
  if (argc % 2 == 0) {
    std::cerr << "usage: " << argv[0]
              << " [--size T,B,D,H]... [--precision float32|bfloat16] [--seconds S]\n";
    return 2;
  }
  if (sizes.empty()) {
    sizes = {{"S", 129, 20, 88, 600}, {"M", 256, 64, 64, 512}, {"L", 1024, 256, 128, 1024}};
  }
  seqvae::io::Json cases = seqvae::io::Json::array();
  try {
    for (const Size& size : sizes) {
      for (const Precision precision : precisions) {
        if (precision == Precision::bfloat16 && size.H > 640) continue;  // which float32 serves
        for (const bool backward : {false, true}) {
          cases.push_back(time_layer<GruCalls>(size, precision, backward, turn));
          cases.push_back(time_layer<LstmCalls>(size, precision, backward, turn));
        }
      }
    }
  } catch (const std::exception& error) {
    std::cerr << "bench_gpu_recurrence: " << error.what() << "\n";
    return 1;
  }
  std::cout << seqvae::io::Json{{"cases", cases}}.dump(1) << std::endl;
  return 0;
}

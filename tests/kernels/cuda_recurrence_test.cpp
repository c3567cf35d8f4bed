// The GRU on CUDA against its CPU twins, forward and backward: step by step in float, and in a
// cluster's one kernel with weights in bfloat16.
#include <fmt/format.h>

#include "seqvae/kernels/gru.hpp"
#include "tests/kernels/cuda_parity.hpp"
#include "tests/kernels/recurrence_problem.hpp"

namespace seqvae::test {
namespace {

template <class Real>
using GruProblem = RecurrenceProblem<Real, false>;
using Values = std::vector<float>;

/// What a call gives, by name.
using Results = std::vector<std::pair<const char*, Values>>;

template <class Real>
Results results_of(const GruProblem<Real>& p) {
  const auto floats = [](const std::vector<Real>& v) { return Values(v.begin(), v.end()); };
  return {{"h", floats(p.h)},
          {"h_final", floats(p.h_final)},
          {"grad_x", floats(p.grad_x)},
          {"grad_h0", floats(p.grad_h0)},
          {"grad_weight_ih", floats(p.grad_weight_ih)},
          {"grad_weight_hh", floats(p.grad_weight_hh)},
          {"grad_bias_ih", floats(p.grad_bias_ih)},
          {"grad_bias_hh", floats(p.grad_bias_hh)}};
}

struct Case {
  RecurrenceShape shape;
  std::vector<std::int32_t> offsets = {};  ///< set: packed
  bool starts = true;                      ///< h0 is given
  std::int64_t rows() const { return offsets.empty() ? shape.T * shape.B : offsets.back(); }
};

template <class Real>
GruProblem<Real> problem_of(const Case& c) {
  GruProblem<Real> problem(c.shape, c.rows());
  problem.offsets = c.offsets;
  if (!c.starts) problem.h0.clear();
  return problem;
}

/// Device memory that starts as NaN.
class Output {
 public:
  explicit Output(std::size_t count) : memory_(Values(count, std::nanf(""))) {}
  float* data() const { return memory_.data(); }
  Values read() const { return memory_.read(); }

 private:
  DeviceArray<float> memory_;
};

Results on_cuda(const Case& c, Precision precision, How how = How::direct) {
  const GruProblem<float> p = problem_of<float>(c);
  const RecurrenceShape& s = c.shape;
  const auto D = static_cast<std::size_t>(s.D), H = static_cast<std::size_t>(s.H);
  const auto R = static_cast<std::size_t>(p.R), B = static_cast<std::size_t>(s.B);
  const DeviceArray<std::int32_t> lengths(s.lengths), offsets(c.offsets);
  const DeviceArray<std::uint8_t> reset(s.reset);
  const DeviceArray<float> x(p.x), weight_ih(p.weight_ih), weight_hh(p.weight_hh);
  const DeviceArray<float> bias_ih(p.bias_ih), bias_hh(p.bias_hh), h0(p.h0);
  const DeviceArray<float> grad_h(p.grad_h), grad_h_final(p.grad_h_final);
  const Output h(R * H), h_final(B * H), grad_x(R * D), grad_h0(B * H), grad_weight_ih(3 * H * D);
  const Output grad_weight_hh(3 * H * H), grad_bias_ih(3 * H), grad_bias_hh(3 * H);

  const auto set_common = [&](auto& a) {
    a.layout.T = s.T, a.layout.B = s.B, a.layout.capacity = c.offsets.empty() ? 0 : p.R;
    a.layout.lengths = lengths.data(), a.layout.offsets = offsets.data();
    a.D = s.D, a.H = s.H, a.reverse = s.reverse, a.precision = precision;
    a.x = {x.data(), s.D}, a.h0 = {h0.data(), s.H};
    a.weight_ih = weight_ih.data(), a.weight_hh = weight_hh.data(), a.reset = reset.data();
    a.h = {h.data(), s.H};
  };
  GruArgs<float> forward;
  set_common(forward);
  forward.bias_ih = bias_ih.data(), forward.bias_hh = bias_hh.data();
  forward.h_final = {h_final.data(), s.H};
  const DeviceArray<float> reserve(cuda::gru_reserve_bytes(forward) / sizeof(float));
  forward.reserve = reserve.data(), forward.reserve_bytes = cuda::gru_reserve_bytes(forward);
  const DeviceArray<float> workspace(cuda::gru_workspace_bytes(forward) / sizeof(float));
  forward.workspace = workspace.data();
  forward.workspace_bytes = cuda::gru_workspace_bytes(forward);

  GruBackwardArgs<float> backward;
  set_common(backward);
  backward.reserve = reserve.data(), backward.reserve_bytes = forward.reserve_bytes;
  backward.grad_h = {grad_h.data(), s.H}, backward.grad_h_final = {grad_h_final.data(), s.H};
  backward.grad_x = {grad_x.data(), s.D}, backward.grad_h0 = {grad_h0.data(), s.H};
  backward.grad_weight_ih = grad_weight_ih.data();
  backward.grad_weight_hh = grad_weight_hh.data();
  backward.grad_bias_ih = grad_bias_ih.data(), backward.grad_bias_hh = grad_bias_hh.data();
  const std::size_t more = cuda::gru_backward_workspace_bytes(backward);
  const DeviceArray<float> backward_workspace(more / sizeof(float));
  backward.workspace = backward_workspace.data(), backward.workspace_bytes = more;

  const auto enqueue = [&](Stream stream) {
    cuda::gru(forward, stream);
    cuda::gru_backward(backward, stream);
  };
  if (how == How::direct) {
    enqueue(Stream());
    cuda::synchronize(Stream());
  } else {
    const Stream stream = cuda::create_stream();
    enqueue(stream);  // finds the products' algorithms
    {
      cuda::Graph graph(stream, enqueue);
      graph.replay();
      cuda::synchronize(stream);
    }
    cuda::destroy_stream(stream);
  }
  return {{"h", h.read()},
          {"h_final", h_final.read()},
          {"grad_x", grad_x.read()},
          {"grad_h0", grad_h0.read()},
          {"grad_weight_ih", grad_weight_ih.read()},
          {"grad_weight_hh", grad_weight_hh.read()},
          {"grad_bias_ih", grad_bias_ih.read()},
          {"grad_bias_hh", grad_bias_hh.read()}};
}

float rounded_to_bfloat16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u);
}

/// ||a - b|| / ||b||; NaN where one of them is.
double distance(const Values& a, const Values& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

std::vector<std::uint8_t> resets(std::int64_t rows) {
  std::vector<std::uint8_t> all(static_cast<std::size_t>(rows));
  for (std::size_t r = 0; r < all.size(); ++r) all[r] = r % 5 == 2;
  return all;
}

const Case kCases[] = {
    {{3, 50, 2, 3}},
    {{7, 3, 5, 9}},
    {{9, 10, 4, 33, {9, 3, 0, 1, 8, 9, 2, 5, 7, 4}}},
    {{9, 10, 4, 33, {9, 3, 0, 1, 8, 9, 2, 5, 7, 4}, true}},
    {{8, 5, 3, 17, {}, false, resets(40)}},
    {{8, 5, 3, 17, {8, 6, 8, 1, 3}, true, resets(40)}},
    {{6, 9, 7, 40, {}, false, resets(30)}, {0, 9, 17, 24, 27, 29, 30}},
    {{6, 9, 7, 40, {}, true, resets(30)}, {0, 9, 17, 24, 27, 29, 30}, false},
    {{0, 4, 3, 5}},
};

class CudaGru : public testing::TestWithParam<std::size_t> {
 protected:
  const Case& problem() const { return kCases[GetParam()]; }
};
INSTANTIATE_TEST_SUITE_P(Cases, CudaGru, testing::Range<std::size_t>(0, std::size(kCases)));

TEST_P(CudaGru, InFloatErrsAtMostTwiceAsMuchAsTheCpu) {
  auto oracle = problem_of<double>(problem());
  auto plain = problem_of<float>(problem());
  oracle.run(), plain.run();
  const Results expected = results_of(oracle), cpu = results_of(plain);
  const Results actual = on_cuda(problem(), Precision::float32);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double bound =
        2 * distance(cpu[i].second, expected[i].second) + std::numeric_limits<float>::epsilon();
    EXPECT_LE(distance(actual[i].second, expected[i].second), bound) << expected[i].first;
  }
  const Results again = on_cuda(problem(), Precision::float32, How::captured);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(again[i].second, actual[i].second) << expected[i].first << " from a graph";
  }
}

void expect_near_rounded(const Case& c, const Results& actual) {
  auto oracle = problem_of<double>(c);
  for (double& w : oracle.weight_hh) w = rounded_to_bfloat16(static_cast<float>(w));
  oracle.run();
  const Results expected = results_of(oracle);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_LE(distance(actual[i].second, expected[i].second), 1e-2) << expected[i].first;
  }
}

TEST_P(CudaGru, InBfloat16IsNearDoubleOnRoundedWeights) {
  const Results actual = on_cuda(problem(), Precision::bfloat16);
  expect_near_rounded(problem(), actual);
  for_each_schedule([&] {
    const Results again = on_cuda(problem(), Precision::bfloat16);
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_EQ(again[i].second, actual[i].second) << actual[i].first << ", another schedule";
    }
  });
  const Results again = on_cuda(problem(), Precision::bfloat16, How::captured);
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_EQ(again[i].second, actual[i].second) << actual[i].first << " from a graph";
  }
}

TEST(CudaGruSizes, EveryClusterIsNearDoubleOnRoundedWeights) {
  for (const std::int64_t H : {130, 257, 385, 512, 513, 640}) {
    SCOPED_TRACE(fmt::format("H = {}", H));
    const Case c{{4, 9, 3, H, {4, 1, 3, 4, 2, 0, 4, 4, 3}}};
    expect_near_rounded(c, on_cuda(c, Precision::bfloat16));
  }
}

}  // namespace
}  // namespace seqvae::test

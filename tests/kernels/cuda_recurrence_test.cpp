// The GRU and the LSTM on CUDA against their CPU twins, forward and backward: step by step in
// float, and in a cluster's one kernel with weights in bfloat16.
#include <numeric>

#include <fmt/format.h>

#include "tests/kernels/cuda_parity.hpp"
#include "tests/kernels/recurrence_problem.hpp"

namespace seqvae::test {
namespace {

using Floats = std::vector<float>;

/// What a call gives, by name.
using Results = std::vector<std::pair<const char*, Floats>>;

struct RecurrenceCase {
  RecurrenceShape shape;
  std::vector<std::int32_t> offsets = {};  ///< set: packed
  bool starts = true;                      ///< h0 is given, and c0
  std::int64_t spare = 0;                  ///< packed: rows past the last
  bool says_capacity = true;               ///< packed; else they are T B
  std::string_view without = {};           ///< the optional piece that CUDA is not given
  std::string_view zero = {};              ///< the input that is zeros
  std::int64_t used() const { return offsets.empty() ? shape.T * shape.B : offsets.back(); }
  std::int64_t rows() const { return used() + spare; }
  /// What a call promises of a value of each row: nothing of spare ones.
  Floats promised(Floats values, std::int64_t width) const {
    values.resize(static_cast<std::size_t>(used() * width));
    return values;
  }
};

template <class Real, bool kLstm>
Results results_of(const RecurrenceCase& c, const RecurrenceProblem<Real, kLstm>& p) {
  const auto floats = [](const std::vector<Real>& v) { return Floats(v.begin(), v.end()); };
  Results results{
      {"h", c.promised(floats(p.h), p.s.H)},           {"h_final", floats(p.h_final)},
      {"grad_x", c.promised(floats(p.grad_x), p.s.D)}, {"grad_h0", floats(p.grad_h0)},
      {"grad_weight_ih", floats(p.grad_weight_ih)},    {"grad_weight_hh", floats(p.grad_weight_hh)},
      {"grad_bias_ih", floats(p.grad_bias_ih)},        {"grad_bias_hh", floats(p.grad_bias_hh)}};
  if (!kLstm) return results;
  results.emplace_back("c_final", floats(p.c_final));
  results.emplace_back("grad_c0", floats(p.grad_c0));
  return results;
}

template <class Real, bool kLstm>
RecurrenceProblem<Real, kLstm> problem_of(const RecurrenceCase& c) {
  RecurrenceProblem<Real, kLstm> problem(c.shape, c.rows());
  problem.offsets = c.offsets;
  if (!c.starts) problem.h0.clear(), problem.c0.clear();
  std::fill(problem.grad_h.end() - c.spare * c.shape.H, problem.grad_h.end(), std::nanf(""));
  const auto change = [&](std::string_view name, std::vector<Real>& values) {
    if (name == c.zero) std::fill(values.begin(), values.end(), Real(0));
    if (name == c.without) values.clear();
  };
  change("h0", problem.h0), change("c0", problem.c0);
  change("bias_ih", problem.bias_ih), change("bias_hh", problem.bias_hh);
  change("grad_h", problem.grad_h), change("grad_h_final", problem.grad_h_final);
  change("grad_c_final", problem.grad_c_final);
  return problem;
}

/// Takes the results of that name from a call; "grad_bias_", "grad_weight_": of both.
template <class Args>
void leave_out(std::string_view name, Args& a) {
  const auto take = [&](std::string_view result, auto& at) {
    if (result == name || (name.ends_with('_') && result.starts_with(name))) at = {};
  };
  if constexpr (requires { a.grad_x; }) {
    take("grad_x", a.grad_x), take("grad_h0", a.grad_h0);
    take("grad_weight_ih", a.grad_weight_ih), take("grad_weight_hh", a.grad_weight_hh);
    take("grad_bias_ih", a.grad_bias_ih), take("grad_bias_hh", a.grad_bias_hh);
  } else {
    take("h_final", a.h_final);
  }
  if constexpr (requires { a.grad_c0; }) take("grad_c0", a.grad_c0);
  if constexpr (requires { a.c_final; }) take("c_final", a.c_final);
}

/// Device memory that starts as one number.
class RecurrenceOutput {
 public:
  explicit RecurrenceOutput(std::size_t count, float start = std::nanf(""))
      : memory_(Floats(count, start)) {}
  float* data() const { return memory_.data(); }
  Floats read() const { return memory_.read(); }

 private:
  DeviceArray<float> memory_;
};

/// The cells' contracts under one name each.
std::size_t reserve_bytes(const GruArgs<float>& a) { return cuda::gru_reserve_bytes(a); }
std::size_t reserve_bytes(const LstmArgs<float>& a) { return cuda::lstm_reserve_bytes(a); }
std::size_t workspace_bytes(const GruArgs<float>& a) { return cuda::gru_workspace_bytes(a); }
std::size_t workspace_bytes(const LstmArgs<float>& a) { return cuda::lstm_workspace_bytes(a); }
std::size_t workspace_bytes(const GruBackwardArgs<float>& a) {
  return cuda::gru_backward_workspace_bytes(a);
}
std::size_t workspace_bytes(const LstmBackwardArgs<float>& a) {
  return cuda::lstm_backward_workspace_bytes(a);
}
void run(const GruArgs<float>& a, Stream stream) { cuda::gru(a, stream); }
void run(const LstmArgs<float>& a, Stream stream) { cuda::lstm(a, stream); }
void run(const GruBackwardArgs<float>& a, Stream stream) { cuda::gru_backward(a, stream); }
void run(const LstmBackwardArgs<float>& a, Stream stream) { cuda::lstm_backward(a, stream); }

/// Lengths and offsets that a graph may be recorded with, other than those of its replay.
std::vector<std::int32_t> other_lengths(std::vector<std::int32_t> lengths) {
  std::reverse(lengths.begin(), lengths.end());
  return lengths;
}
std::vector<std::int32_t> other_offsets(std::vector<std::int32_t> offsets) {
  std::iota(offsets.begin(), offsets.end(), 0);  // one sequence in each step
  return offsets;
}

/// \p add_to: not NaN: what the gradients are added to.
template <bool kLstm>
Results on_cuda(const RecurrenceCase& c, Precision precision, How how = How::direct,
                float add_to = std::nanf("")) {
  using CellProblem = RecurrenceProblem<float, kLstm>;
  const CellProblem p = problem_of<float, kLstm>(c);
  const RecurrenceShape& s = c.shape;
  const auto D = static_cast<std::size_t>(s.D), H = static_cast<std::size_t>(s.H);
  const auto R = static_cast<std::size_t>(p.R), B = static_cast<std::size_t>(s.B);
  const auto G = static_cast<std::size_t>(p.G);
  const bool direct = how == How::direct;
  const DeviceArray<std::int32_t> lengths(direct ? s.lengths : other_lengths(s.lengths));
  const DeviceArray<std::int32_t> offsets(direct ? c.offsets : other_offsets(c.offsets));
  const DeviceArray<std::uint8_t> reset(s.reset);
  const DeviceArray<float> x(p.x), weight_ih(p.weight_ih), weight_hh(p.weight_hh);
  const DeviceArray<float> bias_ih(p.bias_ih), bias_hh(p.bias_hh), h0(p.h0), c0(p.c0);
  const DeviceArray<float> grad_h(p.grad_h), grad_h_final(p.grad_h_final);
  const DeviceArray<float> grad_c_final(p.grad_c_final);
  const RecurrenceOutput h(R * H), h_final(B * H), c_final(B * H);
  const RecurrenceOutput grad_x(R * D, add_to), grad_h0(B * H, add_to), grad_c0(B * H, add_to);
  const RecurrenceOutput grad_weight_ih(G * D, add_to), grad_weight_hh(G * H, add_to);
  const RecurrenceOutput grad_bias_ih(G, add_to), grad_bias_hh(G, add_to);

  const auto set_common = [&](auto& a) {
    a.layout.T = s.T, a.layout.B = s.B;
    a.layout.capacity = c.offsets.empty() || !c.says_capacity ? 0 : p.R;
    a.layout.lengths = lengths.data(), a.layout.offsets = offsets.data();
    a.D = s.D, a.H = s.H, a.reverse = s.reverse, a.precision = precision;
    a.x = {x.data(), s.D}, a.h0 = {h0.data(), s.H};
    if constexpr (kLstm) a.c0 = {c0.data(), s.H};
    a.weight_ih = weight_ih.data(), a.weight_hh = weight_hh.data(), a.reset = reset.data();
    a.h = {h.data(), s.H};
  };
  typename CellProblem::Args forward;
  set_common(forward);
  forward.bias_ih = bias_ih.data(), forward.bias_hh = bias_hh.data();
  forward.h_final = {h_final.data(), s.H};
  if constexpr (kLstm) forward.c_final = {c_final.data(), s.H};
  leave_out(c.without, forward);
  const bool goes_back = c.without != "reserve";
  const DeviceArray<float> reserve(reserve_bytes(forward) / sizeof(float));
  forward.reserve = goes_back ? reserve.data() : nullptr;
  forward.reserve_bytes = reserve_bytes(forward);
  const DeviceArray<float> workspace(workspace_bytes(forward) / sizeof(float));
  forward.workspace = workspace.data(), forward.workspace_bytes = workspace_bytes(forward);

  typename CellProblem::BackwardArgs backward;
  set_common(backward);
  backward.accumulate_inputs = backward.accumulate_weights = !std::isnan(add_to);
  backward.reserve = reserve.data(), backward.reserve_bytes = reserve_bytes(forward);
  backward.grad_h = {grad_h.data(), s.H}, backward.grad_h_final = {grad_h_final.data(), s.H};
  backward.grad_x = {grad_x.data(), s.D}, backward.grad_h0 = {grad_h0.data(), s.H};
  if constexpr (kLstm) {
    backward.grad_c_final = {grad_c_final.data(), s.H}, backward.grad_c0 = {grad_c0.data(), s.H};
  }
  backward.grad_weight_ih = grad_weight_ih.data();
  backward.grad_weight_hh = grad_weight_hh.data();
  backward.grad_bias_ih = grad_bias_ih.data(), backward.grad_bias_hh = grad_bias_hh.data();
  leave_out(c.without, backward);
  const std::size_t more = workspace_bytes(backward);
  const DeviceArray<float> backward_workspace(more / sizeof(float));
  backward.workspace = backward_workspace.data(), backward.workspace_bytes = more;

  const auto enqueue = [&](Stream stream) {
    run(forward, stream);
    if (goes_back) run(backward, stream);
  };
  if (direct) {
    enqueue(Stream());
    cuda::synchronize(Stream());
  } else {
    const Stream stream = cuda::create_stream();
    enqueue(stream);  // finds the products' algorithms
    {
      cuda::Graph graph(stream, enqueue);
      cuda::copy(lengths.data(), s.lengths.data(), 4 * s.lengths.size(), stream);
      cuda::copy(offsets.data(), c.offsets.data(), 4 * c.offsets.size(), stream);
      graph.replay();
      cuda::synchronize(stream);
    }
    cuda::destroy_stream(stream);
  }
  Results results{
      {"h", c.promised(h.read(), s.H)},           {"h_final", h_final.read()},
      {"grad_x", c.promised(grad_x.read(), s.D)}, {"grad_h0", grad_h0.read()},
      {"grad_weight_ih", grad_weight_ih.read()},  {"grad_weight_hh", grad_weight_hh.read()},
      {"grad_bias_ih", grad_bias_ih.read()},      {"grad_bias_hh", grad_bias_hh.read()}};
  if (!kLstm) return results;
  results.emplace_back("c_final", c_final.read());
  results.emplace_back("grad_c0", grad_c0.read());
  return results;
}

float rounded_to_bfloat16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u);
}

/// ||a - b|| / ||b||; NaN where one of them is.
double distance(const Floats& a, const Floats& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

bool same_bits(const Floats& a, const Floats& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

std::vector<std::uint8_t> resets(std::int64_t rows) {
  std::vector<std::uint8_t> all(static_cast<std::size_t>(rows));
  for (std::size_t r = 0; r < all.size(); ++r) all[r] = r % 5 == 2;
  return all;
}

const RecurrenceCase kCases[] = {
    {{3, 50, 2, 3}},
    {{7, 3, 5, 9}},
    {{5, 10, 4, 33, {5, 3, 0, 1, 4, 5, 2, 5, 3, 4}}},
    {{5, 10, 4, 33, {5, 3, 0, 1, 4, 5, 2, 5, 3, 4}, true}},
    {{5, 5, 3, 17, {}, false, resets(25)}},
    {{5, 5, 3, 17, {5, 4, 5, 1, 3}, true, resets(25)}},
    {{6, 9, 7, 40, {}, false, resets(30)}, {0, 9, 17, 24, 27, 29, 30}},
    {{6, 9, 7, 40, {}, true, resets(30)}, {0, 9, 17, 24, 27, 29, 30}, false},
    {{0, 4, 3, 5}},
};

template <bool kLstm>
void expect_float_errs_at_most_twice_as_much(const RecurrenceCase& c) {
  auto oracle = problem_of<double, kLstm>(c);
  auto plain = problem_of<float, kLstm>(c);
  oracle.run(), plain.run();
  const Results expected = results_of(c, oracle), cpu = results_of(c, plain);
  const Results actual = on_cuda<kLstm>(c, Precision::float32);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double bound =
        2 * distance(cpu[i].second, expected[i].second) + std::numeric_limits<float>::epsilon();
    EXPECT_LE(distance(actual[i].second, expected[i].second), bound) << expected[i].first;
  }
  const Results again = on_cuda<kLstm>(c, Precision::float32, How::captured);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(same_bits(again[i].second, actual[i].second))
        << expected[i].first << " from a graph of other lengths";
  }
}

template <bool kLstm>
void expect_near_rounded(const RecurrenceCase& c, const Results& actual) {
  auto oracle = problem_of<double, kLstm>(c);
  for (double& w : oracle.weight_hh) w = rounded_to_bfloat16(static_cast<float>(w));
  oracle.run();
  const Results expected = results_of(c, oracle);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_LE(distance(actual[i].second, expected[i].second), 1e-2) << expected[i].first;
  }
}

template <bool kLstm>
void expect_bfloat16_near_double(const RecurrenceCase& c) {
  const Results actual = on_cuda<kLstm>(c, Precision::bfloat16);
  expect_near_rounded<kLstm>(c, actual);
  for_each_schedule([&] {
    const Results again = on_cuda<kLstm>(c, Precision::bfloat16);
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_TRUE(same_bits(again[i].second, actual[i].second))
          << actual[i].first << ", another schedule";
    }
  });
  const Results again = on_cuda<kLstm>(c, Precision::bfloat16, How::captured);
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_TRUE(same_bits(again[i].second, actual[i].second)) << actual[i].first << " from a graph";
  }
}

class CudaRecurrence : public testing::TestWithParam<std::size_t> {
 protected:
  const RecurrenceCase& problem() const { return kCases[GetParam()]; }
};
class CudaGru : public CudaRecurrence {};
class CudaLstm : public CudaRecurrence {};
INSTANTIATE_TEST_SUITE_P(Cases, CudaGru, testing::Range<std::size_t>(0, std::size(kCases)));
INSTANTIATE_TEST_SUITE_P(Cases, CudaLstm, testing::Range<std::size_t>(0, std::size(kCases)));

TEST_P(CudaGru, InFloatErrsAtMostTwiceAsMuchAsTheCpu) {
  expect_float_errs_at_most_twice_as_much<false>(problem());
}
TEST_P(CudaLstm, InFloatErrsAtMostTwiceAsMuchAsTheCpu) {
  expect_float_errs_at_most_twice_as_much<true>(problem());
}
TEST_P(CudaGru, InBfloat16IsNearDoubleOnRoundedWeights) {
  expect_bfloat16_near_double<false>(problem());
}
TEST_P(CudaLstm, InBfloat16IsNearDoubleOnRoundedWeights) {
  expect_bfloat16_near_double<true>(problem());
}

template <bool kLstm>
void expect_near_rounded_with(std::int64_t H) {
  SCOPED_TRACE(fmt::format("H = {}", H));
  const RecurrenceCase c{{4, 9, 3, H, {4, 1, 3, 4, 2, 0, 4, 4, 3}}};
  expect_near_rounded<kLstm>(c, on_cuda<kLstm>(c, Precision::bfloat16));
}

TEST(CudaGruSizes, EveryClusterIsNearDoubleOnRoundedWeights) {
  for (const std::int64_t H : {130, 257, 385, 512, 513, 640}) expect_near_rounded_with<false>(H);
}
TEST(CudaLstmSizes, EveryClusterIsNearDoubleOnRoundedWeights) {
  for (const std::int64_t H : {130, 257, 384, 385, 512, 513, 640}) {
    expect_near_rounded_with<true>(H);
  }
}
// One element: by how much plain float errs there is luck, so a few roundings bound it.
template <bool kLstm>
void expect_smallest_in_float() {
  const RecurrenceCase c{{1, 1, 1, 1}};
  auto oracle = problem_of<double, kLstm>(c);
  oracle.run();
  const Results expected = results_of(c, oracle);
  const Results actual = on_cuda<kLstm>(c, Precision::float32);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_LE(distance(actual[i].second, expected[i].second), 2e-6) << expected[i].first;
  }
}
TEST(CudaGruSizes, TheSmallestIsRightInFloat) { expect_smallest_in_float<false>(); }
TEST(CudaLstmSizes, TheSmallestIsRightInFloat) { expect_smallest_in_float<true>(); }

TEST(CudaLstmSizes, ManySequencesOfManyUnitsTakeWiderClusters) {
  const RecurrenceCase c{{2, 65, 2, 401}};
  expect_near_rounded<true>(c, on_cuda<true>(c, Precision::bfloat16));
}

template <bool kLstm>
void expect_gradients_are_added(Precision precision) {
  const RecurrenceCase c{{4, 3, 5, 17, {4, 2, 0}}};
  const Results fresh = on_cuda<kLstm>(c, precision);
  const Results added = on_cuda<kLstm>(c, precision, How::direct, 2.0f);
  for (std::size_t i = 0; i < fresh.size(); ++i) {
    const bool gradient = std::string_view(fresh[i].first).starts_with("grad_");
    for (std::size_t at = 0; at < fresh[i].second.size(); ++at) {
      const float expected = fresh[i].second[at] + (gradient ? 2.0f : 0.0f);
      EXPECT_NEAR(added[i].second[at], expected, 1e-5) << fresh[i].first;
    }
  }
}
TEST(CudaGruGradients, AreAddedWhereAsked) {
  expect_gradients_are_added<false>(Precision::float32);
  expect_gradients_are_added<false>(Precision::bfloat16);
}
TEST(CudaLstmGradients, AreAddedWhereAsked) {
  expect_gradients_are_added<true>(Precision::float32);
  expect_gradients_are_added<true>(Precision::bfloat16);
}

template <bool kLstm>
void expect_spare_rows_change_nothing() {
  for (const bool says_capacity : {true, false}) {
    RecurrenceCase c{{3, 4, 5, 20}, {0, 4, 7, 8}, true, says_capacity ? 5 : 4};
    c.says_capacity = says_capacity;
    expect_float_errs_at_most_twice_as_much<kLstm>(c);
    expect_near_rounded<kLstm>(c, on_cuda<kLstm>(c, Precision::bfloat16));
  }
}
TEST(CudaGruRows, MayBeMoreThanThePackedStepsHave) { expect_spare_rows_change_nothing<false>(); }
TEST(CudaLstmRows, MayBeMoreThanThePackedStepsHave) { expect_spare_rows_change_nothing<true>(); }

/// What is not given counts as zeros, or is not written, and nothing else changes: but for
/// roundings, where a product without a bias is another algorithm's.
template <bool kLstm>
void expect_pieces_are_optional(Precision precision) {
  for (const std::string_view piece :
       {"h0", "bias_ih", "bias_hh", "grad_h", "grad_h_final", "c0", "grad_c_final", "reserve",
        "h_final", "c_final", "grad_x", "grad_h0", "grad_c0", "grad_weight_ih", "grad_weight_hh",
        "grad_weight_", "grad_bias_ih", "grad_bias_hh", "grad_bias_"}) {
    SCOPED_TRACE(piece);
    RecurrenceCase c{{3, 3, 5, 17, {3, 2, 0}}};
    c.zero = piece;
    const Results whole = on_cuda<kLstm>(c, precision);
    std::swap(c.zero, c.without);
    const Results part = on_cuda<kLstm>(c, precision);
    for (std::size_t i = 0; i < whole.size(); ++i) {
      const std::string_view name = whole[i].first;
      const bool left_out = name == piece || (piece.ends_with('_') && name.starts_with(piece)) ||
                            (piece == "reserve" && name.starts_with("grad_"));
      if (left_out) {
        const Floats nothing(whole[i].second.size(), std::nanf(""));
        EXPECT_TRUE(same_bits(part[i].second, nothing)) << name << " was written";
      } else {
        EXPECT_LE(distance(part[i].second, whole[i].second), 1e-3) << name;
      }
    }
  }
}
TEST(CudaGruPieces, AreOptional) {
  expect_pieces_are_optional<false>(Precision::float32);
  expect_pieces_are_optional<false>(Precision::bfloat16);
}
TEST(CudaLstmPieces, AreOptional) {
  expect_pieces_are_optional<true>(Precision::float32);
  expect_pieces_are_optional<true>(Precision::bfloat16);
}

}  // namespace
}  // namespace seqvae::test

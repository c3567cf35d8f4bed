// gru and lstm against PyTorch in float64, against themselves in another layout or cut at resets,
// and their gradients against central differences.
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "seqvae/core/error.hpp"
#include "seqvae/core/threads.hpp"
#include "tests/kernels/recurrence_problem.hpp"

namespace seqvae::test {
namespace {

template <class Real>
void expect_close(const char* what, const std::vector<Real>& actual,
                  const std::vector<double>& expected, double bound) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_LE(std::abs(actual[i] - expected[i]), bound * std::max(1.0, std::abs(expected[i])))
        << what << "[" << i << "] = " << actual[i] << ", expected " << expected[i];
  }
}

template <bool kLstm>
struct Kind {
  static constexpr bool lstm = kLstm;
};
template <class K>
class Recurrence : public testing::Test {
 public:
  template <class Real>
  using Problem = RecurrenceProblem<Real, K::lstm>;
  static constexpr bool lstm = K::lstm;
};
using Kinds = testing::Types<Kind<false>, Kind<true>>;
TYPED_TEST_SUITE(Recurrence, Kinds);

TYPED_TEST(Recurrence, AgreesWithPyTorch) {
  const auto reference =
      nlohmann::json::parse(std::ifstream(SEQVAE_REFERENCE_DIR "/recurrence.json"));
  for (const auto& expected : reference["cases"]) {
    if (expected["kind"] != (TestFixture::lstm ? "lstm" : "gru")) continue;
    RecurrenceShape shape{reference["T"], reference["B"],       reference["D"],
                          reference["H"], reference["lengths"], expected["reverse"]};
    typename TestFixture::template Problem<double> p(shape);
    for (auto& [name, values] : {std::pair{"x", &p.x},
                                 {"weight_ih", &p.weight_ih},
                                 {"weight_hh", &p.weight_hh},
                                 {"bias_ih", &p.bias_ih},
                                 {"bias_hh", &p.bias_hh},
                                 {"h0", &p.h0},
                                 {"grad_h", &p.grad_h},
                                 {"grad_h_final", &p.grad_h_final}}) {
      *values = expected[name].template get<std::vector<double>>();
    }
    if (TestFixture::lstm) {
      p.c0 = expected["c0"].template get<std::vector<double>>();
      p.grad_c_final = expected["grad_c_final"].template get<std::vector<double>>();
    }
    p.poison_padding();
    p.run();
    for (auto& [name, values] : {std::pair{"h", &p.h},
                                 {"h_final", &p.h_final},
                                 {"grad_x", &p.grad_x},
                                 {"grad_h0", &p.grad_h0},
                                 {"grad_weight_ih", &p.grad_weight_ih},
                                 {"grad_weight_hh", &p.grad_weight_hh},
                                 {"grad_bias_ih", &p.grad_bias_ih},
                                 {"grad_bias_hh", &p.grad_bias_hh}}) {
      expect_close(name, *values, expected[name], 1e-10);
    }
    if (!TestFixture::lstm) continue;
    expect_close("c_final", p.c_final, expected["c_final"], 1e-10);
    expect_close("grad_c0", p.grad_c0, expected["grad_c0"], 1e-10);
  }
}

// All shapes a user may bring: one step, one sequence, none, lengths of 0, resets, widths that
// fill no vector.
std::vector<RecurrenceShape> shapes() {
  std::vector<RecurrenceShape> all;
  for (const bool reverse : {false, true}) {
    all.push_back({1, 1, 1, 1, {}, reverse});
    all.push_back({3, 1, 2, 3, {}, reverse, {1, 0, 1}});
    all.push_back({4, 3, 2, 5, {}, reverse});
    all.push_back({5, 4, 3, 2, {2, 5, 0, 5}, reverse});
    all.push_back({4, 3, 2, 3, {3, 4, 1}, reverse, {0, 0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 0}});
    all.push_back({2, 2, 3, 2, {0, 0}, reverse});
  }
  return all;
}

TYPED_TEST(Recurrence, GradientsAreThoseOfCentralDifferences) {
  for (const RecurrenceShape& shape : shapes()) {
    typename TestFixture::template Problem<double> p(shape);
    p.run();
    const auto check = [&](const char* name, std::vector<double>& x, const auto& gradient) {
      const std::vector<double> found = gradient;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double at = x[i], step = 1e-5;
        if (std::isnan(at)) {
          ASSERT_EQ(found[i], 0.0) << name << ", padding";
          continue;
        }
        x[i] = at + step;
        const double above = p.loss();
        x[i] = at - step;
        const double below = p.loss();
        x[i] = at;
        const double expected = (above - below) / (2 * step);
        ASSERT_LE(std::abs(found[i] - expected), 1e-6 * std::max(1.0, std::abs(expected)))
            << name << "[" << i << "] T " << shape.T << " B " << shape.B << " reverse "
            << shape.reverse;
      }
    };
    check("x", p.x, p.grad_x), check("h0", p.h0, p.grad_h0);
    if (TestFixture::lstm) check("c0", p.c0, p.grad_c0);
    check("weight_ih", p.weight_ih, p.grad_weight_ih);
    check("weight_hh", p.weight_hh, p.grad_weight_hh);
    check("bias_ih", p.bias_ih, p.grad_bias_ih), check("bias_hh", p.bias_hh, p.grad_bias_hh);
  }
}

TYPED_TEST(Recurrence, WritesZerosInPaddingAndReadsNothingThere) {
  typename TestFixture::template Problem<float> p({7, 5, 3, 20, {3, 7, 0, 1, 7}});
  p.run();
  for (std::int64_t row = 0; row < p.R; ++row) {
    for (std::int64_t d = 0; d < p.s.H; ++d) {
      const float value = p.h[static_cast<std::size_t>(row * p.s.H + d)];
      EXPECT_TRUE(p.padding(row) ? value == 0.0f : std::abs(value) > 0.0f) << row;
    }
  }
  // Sequence 2 has no step: its carry passes through.
  for (std::size_t d = 2 * 20; d < 3 * 20; ++d) {
    EXPECT_EQ(p.h_final[d], p.h0[d]);
    EXPECT_EQ(p.grad_h0[d], p.grad_h_final[d]);
  }
  for (const float g : p.grad_weight_hh) ASSERT_FALSE(std::isnan(g));
}

// Packed rows of the same sequences, sorted by length.
TYPED_TEST(Recurrence, GivesPackedSequencesTheBitsOfPaddedOnes) {
  for (const bool reverse : {false, true}) {
    RecurrenceShape shape{6, 4, 3, 17, {4, 6, 1, 4}, reverse};
    shape.reset.assign(24, 0);
    shape.reset[2 * 4 + 0] = shape.reset[5 * 4 + 1] = shape.reset[3 * 4 + 3] = 1;
    typename TestFixture::template Problem<float> padded(shape);
    padded.run();

    const std::int64_t order[] = {1, 0, 3, 2};
    RecurrenceShape packed_shape{6, 4, 3, 17, {}, reverse};
    std::vector<std::int32_t> offsets{0};
    std::vector<std::int64_t> row_of;  // the padded row of each packed one
    for (std::int64_t t = 0; t < 6; ++t) {
      for (const std::int64_t b : order) {
        if (!padded.padding(t * 4 + b)) row_of.push_back(t * 4 + b);
      }
      offsets.push_back(static_cast<std::int32_t>(row_of.size()));
    }
    for (const auto row : row_of) packed_shape.reset.push_back(shape.reset[row]);
    typename TestFixture::template Problem<float> packed(packed_shape, offsets.back());
    packed.offsets = offsets;
    const auto take = [](const auto& from, const auto& rows, std::int64_t width, auto& to) {
      to.clear();
      for (const auto row : rows) {
        to.insert(to.end(), from.begin() + row * width, from.begin() + (row + 1) * width);
      }
    };
    take(padded.x, row_of, 3, packed.x), take(padded.grad_h, row_of, 17, packed.grad_h);
    take(padded.h0, order, 17, packed.h0), take(padded.c0, order, 17, packed.c0);
    take(padded.grad_h_final, order, 17, packed.grad_h_final);
    take(padded.grad_c_final, order, 17, packed.grad_c_final);
    packed.weight_ih = padded.weight_ih, packed.weight_hh = padded.weight_hh;
    packed.bias_ih = padded.bias_ih, packed.bias_hh = padded.bias_hh;
    packed.run();

    std::vector<float> expected;
    take(padded.h, row_of, 17, expected);
    EXPECT_EQ(packed.h, expected);
    take(padded.grad_x, row_of, 3, expected);
    EXPECT_EQ(packed.grad_x, expected);
    take(padded.h_final, order, 17, expected);
    EXPECT_EQ(packed.h_final, expected);
    take(padded.grad_h0, order, 17, expected);
    EXPECT_EQ(packed.grad_h0, expected);
    EXPECT_EQ(packed.grad_weight_ih, padded.grad_weight_ih);
    EXPECT_EQ(packed.grad_weight_hh, padded.grad_weight_hh);
    EXPECT_EQ(packed.grad_bias_hh, padded.grad_bias_hh);
  }
}

// A reset at step 3 cuts a sequence of 7 into one of 3 and one of 4, in both directions.
TYPED_TEST(Recurrence, RunsAnEpisodeAfterAResetAsASequenceOfItsOwn) {
  for (const bool reverse : {false, true}) {
    typename TestFixture::template Problem<double> whole(
        {7, 1, 2, 3, {}, reverse, {0, 0, 0, 1, 0, 0, 0}});
    typename TestFixture::template Problem<double> parts({4, 2, 2, 3, {3, 4}, reverse});
    for (std::int64_t t = 0; t < 7; ++t) {
      const std::int64_t row = t < 3 ? t * 2 : (t - 3) * 2 + 1;
      std::copy_n(whole.x.begin() + t * 2, 2, parts.x.begin() + row * 2);
    }
    for (std::int64_t b = 0; b < 2; ++b) {
      std::copy_n(whole.h0.begin(), 3, parts.h0.begin() + b * 3);
      std::copy_n(whole.c0.begin(), 3, parts.c0.begin() + b * 3);
    }
    parts.weight_ih = whole.weight_ih, parts.weight_hh = whole.weight_hh;
    parts.bias_ih = whole.bias_ih, parts.bias_hh = whole.bias_hh;
    whole.run_forward(), parts.run_forward();
    for (std::int64_t t = 0; t < 7; ++t) {
      const std::int64_t row = t < 3 ? t * 2 : (t - 3) * 2 + 1;
      for (std::int64_t d = 0; d < 3; ++d) {
        EXPECT_EQ(whole.h[static_cast<std::size_t>(t * 3 + d)],
                  parts.h[static_cast<std::size_t>(row * 3 + d)])
            << "t " << t << " reverse " << reverse;
      }
    }
  }
}

TYPED_TEST(Recurrence, GivesTheSameBitsOnAnyNumberOfThreads) {
  for (const bool ragged : {false, true}) {
    RecurrenceShape shape{9, 7, 5, 33};
    if (ragged) shape.lengths = {9, 1, 4, 4, 0, 7, 9};
    typename TestFixture::template Problem<float> alone(shape);
    alone.run();
    for (const int threads : {1, 2, 3, 9}) {
      ThreadPool pool(threads);
      typename TestFixture::template Problem<float> shared(shape);
      shared.threads = &pool;
      shared.run();
      EXPECT_EQ(shared.h, alone.h);
      EXPECT_EQ(shared.grad_x, alone.grad_x);
      EXPECT_EQ(shared.grad_h0, alone.grad_h0);
      EXPECT_EQ(shared.grad_weight_ih, alone.grad_weight_ih);
      EXPECT_EQ(shared.grad_weight_hh, alone.grad_weight_hh);
      EXPECT_EQ(shared.grad_bias_ih, alone.grad_bias_ih);
    }
  }
}

TYPED_TEST(Recurrence, AddsToGradientsWhereAsked) {
  for (const bool ragged : {false, true}) {
    RecurrenceShape shape{4, 3, 2, 5};
    if (ragged) shape.lengths = {2, 4, 3};
    typename TestFixture::template Problem<double> p(shape);
    p.run();
    const auto once = p;
    auto a = p.args();
    const Scratch reserve(p.reserve_bytes(a)), workspace(p.workspace_bytes(a));
    a.reserve = reserve.get(), a.reserve_bytes = reserve.bytes();
    const Scratch forward(p.workspace_bytes(a));
    a.workspace = forward.get(), a.workspace_bytes = forward.bytes();
    p.call(a);
    auto b = p.backward_args();
    for (auto* values : {&p.grad_x, &p.grad_h0, &p.grad_c0, &p.grad_weight_ih, &p.grad_weight_hh,
                         &p.grad_bias_ih, &p.grad_bias_hh}) {
      std::iota(values->begin(), values->end(), 1.0);
    }
    b.accumulate_inputs = b.accumulate_weights = true;
    b.reserve = reserve.get(), b.reserve_bytes = reserve.bytes();
    const Scratch backward(p.workspace_bytes(b));
    b.workspace = backward.get(), b.workspace_bytes = backward.bytes();
    p.call(b);
    const auto expect_added = [](const auto& sum, const auto& added) {
      for (std::size_t i = 0; i < sum.size(); ++i) {
        ASSERT_LE(std::abs(sum[i] - (1.0 + static_cast<double>(i)) - added[i]), 1e-12);
      }
    };
    expect_added(p.grad_x, once.grad_x), expect_added(p.grad_h0, once.grad_h0);
    expect_added(p.grad_c0, once.grad_c0);
    expect_added(p.grad_weight_ih, once.grad_weight_ih);
    expect_added(p.grad_weight_hh, once.grad_weight_hh);
    expect_added(p.grad_bias_ih, once.grad_bias_ih);
    expect_added(p.grad_bias_hh, once.grad_bias_hh);
  }
}

TYPED_TEST(Recurrence, StartsFromZerosWhereNoStartIsGiven) {
  typename TestFixture::template Problem<double> without({3, 2, 2, 3}), with({3, 2, 2, 3});
  without.h0.clear(), without.c0.clear();
  std::fill(with.h0.begin(), with.h0.end(), 0.0), std::fill(with.c0.begin(), with.c0.end(), 0.0);
  without.run(), with.run();
  EXPECT_EQ(without.h, with.h);
  EXPECT_EQ(without.grad_weight_hh, with.grad_weight_hh);
}

TYPED_TEST(Recurrence, InFloatIsNearItsDouble) {
  for (const bool reverse : {false, true}) {
    RecurrenceShape shape{40, 11, 10, 50, {}, reverse};
    typename TestFixture::template Problem<float> single(shape);
    typename TestFixture::template Problem<double> wide(shape);
    single.run(), wide.run();
    expect_close("h", single.h, wide.h, 2e-6);
    expect_close("grad_x", single.grad_x, wide.grad_x, 2e-5);
    expect_close("grad_weight_hh", single.grad_weight_hh, wide.grad_weight_hh, 2e-5);
  }
}

TYPED_TEST(Recurrence, NamesArgumentValueAndRule) {
  const std::string name = TestFixture::lstm ? "lstm" : "gru";
  typename TestFixture::template Problem<float> p({3, 2, 2, 3});
  const auto complete = [&] {
    auto a = p.args();
    static const Scratch workspace(1 << 16);
    a.workspace = workspace.get(), a.workspace_bytes = workspace.bytes();
    return a;
  };
  const auto expect = [&](auto change, const std::string& message) {
    auto a = complete();
    change(a);
    EXPECT_THAT([&] { p.call(a); }, testing::ThrowsMessage<InvalidArgument>(name + ": " + message));
  };
  expect([](auto& a) { a.layout.T = -1; }, "layout.T = -1, must be from 0 to 2^31 - 1");
  expect([](auto& a) { a.layout.K = 2; }, "layout.K = 2, must be 1");
  expect([](auto& a) { a.layout.T = a.layout.B = 1 << 16; },
         "layout.T = 65536, must be at most (2^31 - 1) / (B K)");
  expect([](auto& a) { a.D = 0; }, "D = 0, must be >= 1");
  expect([](auto& a) { a.H = 0; }, "H = 0, must be >= 1");
  expect([](auto& a) { a.D = 1 << 30; }, "D = 1073741824, must be <= (2^31 - 1) / (4 H)");
  expect([](auto& a) { a.H = 1 << 15; }, "H = 32768, must be <= (2^31 - 1) / (4 H)");
  expect([](auto& a) { a.x.data = nullptr; }, "x is null, must point to memory");
  expect([](auto& a) { a.weight_ih = nullptr; }, "weight_ih is null, must point to memory");
  expect([](auto& a) { a.weight_hh = nullptr; }, "weight_hh is null, must point to memory");
  expect([](auto& a) { a.h.data = nullptr; }, "h is null, must point to memory");
  expect([](auto& a) { a.workspace = nullptr; }, "workspace is null, must point to memory");
  const auto needed = p.workspace_bytes(complete());
  expect([](auto& a) { a.workspace_bytes = 7; },
         "workspace_bytes = 7, must be >= " + std::to_string(needed));
  expect([](auto& a) { a.reserve = a.workspace; },
         "reserve_bytes = 0, must be >= " + std::to_string(p.reserve_bytes(complete())));

  auto b = p.backward_args();
  b.h = {};
  EXPECT_THAT([&] { p.call(b); }, testing::ThrowsMessage<InvalidArgument>(
                                      name + "_backward: h is null, must point to memory"));
  b = p.backward_args();
  EXPECT_THAT([&] { p.call(b); }, testing::ThrowsMessage<InvalidArgument>(
                                      name + "_backward: reserve is null, must point to memory"));
}

}  // namespace
}  // namespace seqvae::test

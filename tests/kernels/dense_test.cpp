// Products of rows against loops in long double: odd sizes, strides, addends, accumulation.
#include "seqvae/kernels/dense.hpp"

#include <gmock/gmock.h>

#include <hwy/targets.h>
#include <cmath>
#include <cstring>
#include <optional>

#include "seqvae/core/error.hpp"
#include "tests/kernels/matrix.hpp"

namespace seqvae::test {
namespace {

enum class Addend { none, y, other, one_row };

struct DenseShape {
  std::int64_t M, N, K;
  Addend addend = Addend::none;
  bool bias = false, transposed = false;
  Activation activation = Activation::identity;
  std::int64_t gap = 0;
  bool slope = false;

  friend std::ostream& operator<<(std::ostream& out, const DenseShape& s) {
    return out << "M" << s.M << "_N" << s.N << "_K" << s.K << "_addend"
               << static_cast<int>(s.addend) << (s.bias ? "_bias" : "")
               << (s.transposed ? "_transposed" : "") << "_act" << static_cast<int>(s.activation)
               << "_gap" << s.gap << (s.slope ? "_slope" : "");
  }
};

// Inputs of one call, the same for float and double.
template <class Real>
struct DenseProblem {
  DenseShape s;
  Matrix<Real> W, x, bias, addend, activated, y;
  cpu::PackedWeights<Real> packed;

  explicit DenseProblem(const DenseShape& shape)
      : s(shape),
        W(s.transposed ? s.K : s.N, s.transposed ? s.N : s.K, {0, s.gap}),
        x(s.M, s.K, {s.gap, s.gap}),
        bias(1, s.N),
        addend(s.addend == Addend::one_row ? 1 : s.M, s.N, {1, 2 * s.gap}),
        activated(s.M, s.N, {0, s.gap}),
        y(s.M, s.N, {0, s.gap}),
        packed(s.N, s.K) {
    W.fill_normal(1), x.fill_normal(2), bias.fill_normal(3), addend.fill_normal(4);
    activated.fill_normal(5);
    packed.pack(W.view().data, W.view().stride, s.transposed);
  }
  DenseArgs<Real> args() {
    DenseArgs<Real> a;
    a.M = s.M, a.weights = &packed, a.x = x, a.y = y, a.activation = s.activation;
    if (s.bias) a.bias = bias.view().data;
    if (s.addend == Addend::y) a.addend = y;
    if (s.addend == Addend::other) a.addend = addend;
    if (s.addend == Addend::one_row) a.addend = {addend.view().data, 0};
    if (s.slope) a.activated = activated;
    return a;
  }
  void run() {
    if (s.addend == Addend::y) y.fill([&](auto r, auto n) { return addend(r, n); });
    cpu::dense(args());
    y.expect_surroundings_untouched();
  }
  Real weight(std::int64_t n, std::int64_t k) const { return s.transposed ? W(k, n) : W(n, k); }
  // The equation as a loop whose sums are of type Sum.
  template <class Sum>
  Sum element(std::int64_t r, std::int64_t n) const {
    Sum sum = s.bias ? static_cast<Sum>(bias(0, n)) : Sum{0};
    for (std::int64_t k = 0; k < s.K; ++k) {
      sum += static_cast<Sum>(x(r, k)) * static_cast<Sum>(weight(n, k));
    }
    if (s.addend != Addend::none) sum += addend(s.addend == Addend::one_row ? 0 : r, n);
    const Sum given = activated(r, n);
    switch (s.activation) {
      case Activation::relu:
        if (s.slope) return given > 0 ? sum : Sum{0};
        return std::max(sum, Sum{0});
      case Activation::tanh:
        return s.slope ? sum * (1 - given) * (1 + given) : std::tanh(sum);
      default:
        return sum;
    }
  }
};

class Dense : public testing::TestWithParam<DenseShape> {};

TEST_P(Dense, FollowsTheEquationInDouble) {
  DenseProblem<double> problem(GetParam());
  problem.run();
  for (std::int64_t r = 0; r < GetParam().M; ++r) {
    for (std::int64_t n = 0; n < GetParam().N; ++n) {
      const auto expected = static_cast<double>(problem.element<long double>(r, n));
      ASSERT_LE(std::abs(problem.y(r, n) - expected), 1e-13 * (1 + std::sqrt(GetParam().K)));
    }
  }
}

// Root of the mean square: one element of the plain loop may be right by luck.
TEST_P(Dense, ErrsInFloatAtMostTwiceAsMuchAsAPlainLoop) {
  DenseProblem<float> problem(GetParam());
  problem.run();
  double error = 0, plain_error = 0;
  for (std::int64_t r = 0; r < GetParam().M; ++r) {
    for (std::int64_t n = 0; n < GetParam().N; ++n) {
      const double expected = problem.element<double>(r, n);
      error += std::pow(problem.y(r, n) - expected, 2);
      plain_error += std::pow(static_cast<double>(problem.element<float>(r, n)) - expected, 2);
    }
  }
  const double least = static_cast<double>(GetParam().M * GetParam().N) * 0x1p-48;
  EXPECT_LE(error, 4 * plain_error + least);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Dense,
    testing::Values(DenseShape{1, 1, 1}, DenseShape{1, 3, 5, Addend::y, true},
                    DenseShape{2, 1, 17, Addend::other, true},
                    DenseShape{7, 33, 31, Addend::other, true, false, Activation::tanh, 3},
                    DenseShape{9, 20, 30, Addend::other, true, true, Activation::tanh, 1, true},
                    DenseShape{130, 7, 5, Addend::none, false, true, Activation::relu, 0, true},
                    DenseShape{20, 200, 100, Addend::y, true, false, Activation::relu, 1},
                    DenseShape{33, 65, 64, Addend::one_row, false, true, Activation::relu},
                    DenseShape{31, 64, 257, Addend::one_row, true, true, Activation::tanh, 5},
                    DenseShape{128, 48, 16, Addend::none, true},
                    DenseShape{129, 16, 48, Addend::y, false, true, Activation::identity, 7},
                    DenseShape{257, 100, 1, Addend::other, true, true, Activation::identity, 2},
                    DenseShape{10, 600, 601, Addend::y, true}));

TEST(Dense, OfNoRowsDoesNothing) {
  DenseProblem<float> problem({0, 3, 4});
  problem.run();
  DenseArgs<double> args;
  const cpu::PackedWeights<double> weights(3, 4);
  args.weights = &weights;
  cpu::dense(args);
}

TEST(Dense, ReluLetsNaNThrough) {
  DenseProblem<float> problem({40, 20, 3, Addend::none, true, false, Activation::relu});
  problem.x(5, 1) = std::numeric_limits<float>::quiet_NaN();
  problem.run();
  for (std::int64_t n = 0; n < 20; ++n) EXPECT_TRUE(std::isnan(problem.y(5, n)));
  EXPECT_FALSE(std::isnan(problem.y(4, 0)));
}

TEST(Dense, TakesWeightsPackedAgain) {
  DenseProblem<float> problem({3, 70, 5});
  Matrix<float> other(70, 5);
  other.fill_normal(9);
  problem.packed.pack(other.view().data, 5, false);
  problem.run();
  DenseProblem<float> fresh({3, 70, 5});
  fresh.W.fill([&](auto n, auto k) { return other(n, k); });
  fresh.packed.pack(fresh.W.view().data, 5, false);
  fresh.run();
  EXPECT_EQ(std::memcmp(problem.y.view().data, fresh.y.view().data, 3 * 70 * sizeof(float)), 0);
}

TEST(Dense, GivesARowTheSameBitsWhereverItStands) {
  struct {
    std::int64_t N, K;
  } const shapes[] = {{1, 7}, {64, 256}, {100, 600}, {600, 100}, {200, 1800}, {1800, 33}};
  for (const auto& shape : shapes) {
    for (const Addend addend : {Addend::none, Addend::y}) {
      // All rows of the problem are the same one; so must all rows of the result be.
      std::optional<std::vector<float>> first;
      for (const std::int64_t M : {1, 2, 3, 5, 8, 13, 20, 31, 32, 33, 64, 77, 96, 127, 128, 300}) {
        DenseProblem<float> p({M, shape.N, shape.K, addend, true, false, Activation::identity, 3});
        p.x.fill([](auto, auto k) { return std::sin(1.0 + static_cast<double>(k)); });
        p.addend.fill([](auto, auto n) { return std::cos(2.0 + static_cast<double>(n)); });
        p.run();
        if (!first) first.emplace(p.y.view()[0], p.y.view()[0] + shape.N);
        for (std::int64_t r = 0; r < M; ++r) {
          ASSERT_EQ(std::memcmp(p.y.view()[r], first->data(), first->size() * sizeof(float)), 0)
              << "M " << M << " N " << shape.N << " K " << shape.K << " row " << r;
        }
      }
    }
  }
}

// Chains of fused multiply-adds have the same bits on vectors of any width; an instruction set
// without fma errs like any plain loop.
TEST(Dense, GivesTheSameBitsOnEachInstructionSetWithFma) {
  for (const DenseShape& shape :
       {DenseShape{7, 33, 31, Addend::other, true, false, Activation::identity, 3},
        DenseShape{23, 100, 64, Addend::y, true}, DenseShape{4, 7, 9, Addend::none, true, true}}) {
    DenseProblem<float> best(shape), other(shape);
    DenseProblem<double> best_double(shape), other_double(shape);
    best.run(), best_double.run();
    for (const std::int64_t targets : {HWY_AVX2 | HWY_STATIC_TARGET, HWY_SSE4 | HWY_STATIC_TARGET,
                                       HWY_STATIC_TARGET | std::int64_t{0}}) {
      hwy::SetSupportedTargetsForTest(targets);
      other.run(), other_double.run();
      hwy::SetSupportedTargetsForTest(0);
      const bool fused = (targets & HWY_AVX2) != 0;
      for (std::int64_t r = 0; r < shape.M; ++r) {
        for (std::int64_t n = 0; n < shape.N; ++n) {
          ASSERT_LE(std::abs(other.y(r, n) - best.y(r, n)), fused ? 0.0f : 1e-4f) << targets;
          ASSERT_LE(std::abs(other_double.y(r, n) - best_double.y(r, n)), fused ? 0.0 : 1e-13);
        }
      }
    }
  }
}

TEST(Products, AreEachThatOfDense) {
  DenseProblem<double> first({7, 5, 3}), second({2, 9, 4, Addend::other, true});
  std::vector<DenseArgs<double>> calls{first.args(), second.args()};
  cpu::products<double>({calls.data(), 2});
  for (DenseProblem<double>* p : {&first, &second}) {
    for (std::int64_t r = 0; r < p->s.M; ++r) {
      for (std::int64_t n = 0; n < p->s.N; ++n) {
        EXPECT_NEAR(p->y(r, n), static_cast<double>(p->element<long double>(r, n)), 1e-13);
      }
    }
  }
  EXPECT_THAT(
      [] {
        cpu::products<double>({nullptr, 1});
      },
      testing::ThrowsMessage<InvalidArgument>("products: calls is null, must point to memory"));
  calls[1].x.data = nullptr;
  EXPECT_THAT(
      [&] {
        cpu::products<double>({calls.data(), 2});
      },
      testing::ThrowsMessage<InvalidArgument>("dense: x is null, must point to memory"));
}

TEST(Dense, NamesArgumentValueAndRule) {
  const auto expect = [](auto change, const char* message) {
    DenseProblem<float> problem({2, 3, 4, Addend::y});
    auto args = problem.args();
    change(args);
    EXPECT_THAT([&] { cpu::dense(args); }, testing::ThrowsMessage<InvalidArgument>(message));
  };
  expect([](auto& a) { a.M = -1; }, "dense: M = -1, must be from 0 to 2^31 - 1");
  expect([](auto& a) { a.weights = nullptr; }, "dense: weights is null, must point to memory");
  expect([](auto& a) { a.activation = static_cast<Activation>(8); },
         "dense: activation = 8, must be an Activation");
  expect([](auto& a) { a.x.data = nullptr; }, "dense: x is null, must point to memory");
  expect([](auto& a) { a.y.data = nullptr; }, "dense: y is null, must point to memory");
  expect([](auto& a) { a.x.stride = 3; }, "dense: x.stride = 3, must be >= 4 (a row's length)");
  expect([](auto& a) { a.y.stride = 2; }, "dense: y.stride = 2, must be >= 3 (a row's length)");
  expect([](auto& a) { a.addend.stride = 2; },
         "dense: addend.stride = 2, must be 0 or >= 3 (a row's length)");
  expect([](auto& a) { a.addend.stride = 9; },
         "dense: addend.stride = 9, must be y.stride = 3 where addend is y");
  const auto make = [](std::int64_t N, std::int64_t K) {
    return [=] { cpu::PackedWeights<float> weights(N, K); };
  };
  EXPECT_THAT(make(0, 1),
              testing::ThrowsMessage<InvalidArgument>("PackedWeights: N = 0, must be >= 1"));
  EXPECT_THAT(make(1, -2),
              testing::ThrowsMessage<InvalidArgument>("PackedWeights: K = -2, must be >= 1"));
  EXPECT_THAT(make(1 << 20, 1 << 20), testing::ThrowsMessage<InvalidArgument>(
                                          "PackedWeights: N = 1048576, must be <= (2^31 - 1) / K"));
  cpu::PackedWeights<double> weights(2, 3);
  EXPECT_THAT([&] { weights.pack(nullptr, 3, false); },
              testing::ThrowsMessage<InvalidArgument>(
                  "PackedWeights::pack: W is null, must point to memory"));
  const double W[6] = {};
  EXPECT_THAT(
      [&] { weights.pack(W, 2, false); },
      testing::ThrowsMessage<InvalidArgument>("PackedWeights::pack: ldw = 2, must be >= 3"));
}

struct GradientShape {
  std::int64_t M, N, K, gap;
  bool accumulate;
  friend std::ostream& operator<<(std::ostream& out, const GradientShape& s) {
    return out << "M" << s.M << "_N" << s.N << "_K" << s.K << "_gap" << s.gap
               << (s.accumulate ? "_accumulate" : "");
  }
};

template <class Real>
struct GradientProblem {
  GradientShape s;
  Matrix<Real> grad_y, x, before, grad_W, grad_bias;

  explicit GradientProblem(const GradientShape& shape)
      : s(shape),
        grad_y(s.M, s.N, {0, s.gap}),
        x(s.M, s.K, {1, s.gap}),
        before(s.N, s.K),
        grad_W(s.N, s.K, {0, 3 * s.gap}),
        grad_bias(1, s.N, {1, 0}) {
    grad_y.fill_normal(5), x.fill_normal(6), before.fill_normal(7);
  }
  void run() {
    if (s.accumulate) grad_W.fill([&](auto n, auto k) { return before(n, k); });
    if (s.accumulate) grad_bias.fill([&](auto, auto n) { return before(n, 0); });
    cpu::dense_weight_gradient<Real>(
        {s.M, s.N, s.K, grad_y, x, s.accumulate, grad_W, grad_bias.view().data});
    grad_bias.expect_surroundings_untouched();
    grad_W.expect_surroundings_untouched();
  }
  template <class Sum>
  Sum element(std::int64_t n, std::int64_t k) const {
    Sum sum = s.accumulate ? static_cast<Sum>(before(n, k)) : Sum{0};
    for (std::int64_t r = 0; r < s.M; ++r) {
      sum += static_cast<Sum>(grad_y(r, n)) * static_cast<Sum>(x(r, k));
    }
    return sum;
  }
};

template <class Real>
double bias_error(const GradientProblem<Real>& p) {
  double worst = 0;
  for (std::int64_t n = 0; n < p.s.N; ++n) {
    long double sum = p.s.accumulate ? p.before(n, 0) : 0;
    for (std::int64_t r = 0; r < p.s.M; ++r) sum += p.grad_y(r, n);
    worst = std::max(worst, std::abs(static_cast<double>(p.grad_bias(0, n) - sum)));
    if (std::isnan(p.grad_bias(0, n))) return p.grad_bias(0, n);
  }
  return worst;
}

class DenseWeightGradient : public testing::TestWithParam<GradientShape> {};

TEST_P(DenseWeightGradient, FollowsTheEquation) {
  GradientProblem<double> in_double(GetParam());
  in_double.run();
  GradientProblem<float> in_float(GetParam());
  in_float.run();
  EXPECT_LE(bias_error(in_double), 1e-14 * (1 + static_cast<double>(GetParam().M)));
  EXPECT_LE(bias_error(in_float), 1e-7 * (1 + static_cast<double>(GetParam().M)));
  double error = 0, plain_error = 0;
  for (std::int64_t n = 0; n < GetParam().N; ++n) {
    for (std::int64_t k = 0; k < GetParam().K; ++k) {
      const auto expected = static_cast<double>(in_double.element<long double>(n, k));
      ASSERT_LE(std::abs(in_double.grad_W(n, k) - expected), 1e-13 * (1 + std::sqrt(GetParam().M)));
      error += std::pow(in_float.grad_W(n, k) - expected, 2);
      plain_error += std::pow(static_cast<double>(in_float.element<float>(n, k)) - expected, 2);
    }
  }
  EXPECT_LE(error, 4 * plain_error + static_cast<double>(GetParam().N * GetParam().K) * 0x1p-48);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, DenseWeightGradient,
    testing::Values(GradientShape{0, 3, 5, 0, false}, GradientShape{0, 3, 5, 2, true},
                    GradientShape{1, 1, 1, 0, false}, GradientShape{1, 9, 5, 0, true},
                    GradientShape{2, 33, 17, 1, false}, GradientShape{127, 31, 64, 0, true},
                    GradientShape{128, 16, 1, 3, false}, GradientShape{515, 100, 88, 4, true},
                    GradientShape{1000, 3, 200, 0, false}, GradientShape{37, 7, 100, 0, false},
                    GradientShape{300, 21, 130, 1, true}, GradientShape{260, 167, 70, 2, false}));

TEST(DenseWeightGradient, HasTheSameBitsHoweverItIsSharedOut) {
  const GradientShape shape{300, 77, 45, 2, true};
  GradientProblem<float> whole(shape), parts(shape);
  whole.run();
  parts.grad_W.fill([&](auto n, auto k) { return parts.before(n, k); });
  parts.grad_bias.fill([&](auto, auto n) { return parts.before(n, 0); });
  for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, 13}, {13, 77}}) {
    const Rows<float> grad_y = parts.grad_y.view(), grad_W = parts.grad_W.view();
    cpu::dense_weight_gradient<float>({shape.M,
                                       end - begin,
                                       shape.K,
                                       {grad_y.data + begin, grad_y.stride},
                                       parts.x,
                                       true,
                                       {grad_W[begin], grad_W.stride},
                                       parts.grad_bias.view().data + begin});
  }
  for (std::int64_t n = 0; n < shape.N; ++n) {
    ASSERT_EQ(whole.grad_bias(0, n), parts.grad_bias(0, n));
    for (std::int64_t k = 0; k < shape.K; ++k) ASSERT_EQ(whole.grad_W(n, k), parts.grad_W(n, k));
  }
}

TEST(DenseWeightGradient, NamesArgumentValueAndRule) {
  const auto expect = [](auto change, const char* message) {
    GradientProblem<double> p({2, 3, 4, 0, false});
    DenseWeightGradientArgs<double> args{2, 3, 4, p.grad_y, p.x, false, p.grad_W, nullptr};
    change(args);
    EXPECT_THAT(
        [&] { cpu::dense_weight_gradient(args); },
        testing::ThrowsMessage<InvalidArgument>("dense_weight_gradient: " + std::string(message)));
  };
  expect([](auto& a) { a.M = -1; }, "M = -1, must be from 0 to 2^31 - 1");
  expect([](auto& a) { a.N = 0; }, "N = 0, must be >= 1");
  expect([](auto& a) { a.K = 0; }, "K = 0, must be >= 1");
  expect([](auto& a) { a.N = a.K = 1 << 16; }, "N = 65536, must be <= (2^31 - 1) / K");
  expect([](auto& a) { a.grad_W.data = nullptr; }, "grad_W is null, must point to memory");
  expect([](auto& a) { a.grad_y.data = nullptr; }, "grad_y is null, must point to memory");
  expect([](auto& a) { a.x.data = nullptr; }, "x is null, must point to memory");
  expect([](auto& a) { a.grad_y.stride = 2; }, "grad_y.stride = 2, must be >= 3 (a row's length)");
  expect([](auto& a) { a.x.stride = 0; }, "x.stride = 0, must be >= 4 (a row's length)");
  expect([](auto& a) { a.grad_W.stride = 3; }, "grad_W.stride = 3, must be >= 4 (a row's length)");
}

}  // namespace
}  // namespace seqvae::test

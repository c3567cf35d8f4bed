// AdamW at its edges; its values are held to PyTorch's in pytorch_test.cpp.
#include "seqvae/kernels/optimizer.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <vector>

#include "hwy/targets.h"
#include "tests/kernels/matrix.hpp"

namespace seqvae::test {
namespace {

struct Problem {
  explicit Problem(std::int64_t count) : p(4, count), norm(0) {
    p.fill_normal(1);
    for (std::int64_t i = 0; i < count; ++i) p(3, i) = std::abs(p(3, i));
    args.count = count, args.parameters = p.view()[0], args.gradients = p.view()[1];
    args.m = p.view()[2], args.v = p.view()[3], args.norm = &norm;
    args.weight_decay = 0.1, args.l2 = 0.01, args.clip_norm = 1, args.clip_value = 1.5;
    args.step = &step;
  }
  Matrix<float> p;
  double norm;
  AdamWStep step{3, 1e-3};
  AdamWArgs<float> args;
};

TEST(AdamW, LeavesAllAsItIsWhereTheNormIsNotFinite) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    Problem problem(37);
    const Problem before(37);
    problem.p(1, 20) = bad;
    cpu::adamw(problem.args);
    EXPECT_FALSE(std::isfinite(problem.norm));
    for (const int row : {0, 2, 3}) {
      for (std::int64_t i = 0; i < 37; ++i) EXPECT_EQ(problem.p(row, i), before.p(row, i));
    }
  }
}

TEST(AdamW, ANormBeyondFloatIsStillClipped) {
  Problem problem(2);
  problem.p(1, 0) = 3e38f, problem.p(1, 1) = 3e38f;
  problem.args.clip_value = 0;
  cpu::adamw(problem.args);
  EXPECT_NEAR(problem.norm / (3e38 * std::sqrt(2.0)), 1, 1e-7);
  EXPECT_TRUE(std::isfinite(problem.p(0, 0)));
}

TEST(AdamW, DecaysOnlyWhatTheMaskSays) {
  Problem masked(24), decayed(24), plain(24);
  std::vector<float> mask(24);
  for (std::size_t i = 0; i < 24; ++i) mask[i] = i % 2;
  masked.args.decay_mask = mask.data();
  plain.args.weight_decay = plain.args.l2 = 0;
  cpu::adamw(masked.args), cpu::adamw(decayed.args), cpu::adamw(plain.args);
  for (std::int64_t i = 0; i < 24; ++i) {
    EXPECT_EQ(masked.p(0, i), i % 2 != 0 ? decayed.p(0, i) : plain.p(0, i));
    EXPECT_NE(decayed.p(0, i), plain.p(0, i));
  }
}

TEST(AdamW, HasTheSameBitsOnEveryInstructionSet) {
  for (const std::int64_t count : {0, 1, 8, 13, 1000}) {
    Problem expected(count);
    cpu::adamw(expected.args);
    for (const std::int64_t targets : {std::int64_t{HWY_AVX2}, std::int64_t{HWY_STATIC_TARGET}}) {
      Problem problem(count);
      hwy::SetSupportedTargetsForTest(targets);
      cpu::adamw(problem.args);
      hwy::SetSupportedTargetsForTest(0);
      EXPECT_EQ(problem.norm, expected.norm);
      for (int row = 0; row < 4; ++row) {
        for (std::int64_t i = 0; i < count; ++i) EXPECT_EQ(problem.p(row, i), expected.p(row, i));
      }
    }
  }
}

}  // namespace
}  // namespace seqvae::test

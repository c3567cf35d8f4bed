// Draws against the scalar functions of core/random.hpp, bit by bit: whatever the layout, the width
// and the instruction set, a component's noise is that of its counter.
#include <gmock/gmock.h>

#include "hwy/targets.h"
#include "seqvae/core/random.hpp"
#include "seqvae/kernels/gaussian.hpp"
#include "tests/kernels/matrix.hpp"

namespace seqvae::test {
namespace {

/// What a row of the layout stands for, said once more in the plainest way.
struct Place {
  std::int64_t t, b, k;
  bool valid;
};
std::vector<Place> places(const RowLayout& layout) {
  std::vector<Place> all;
  for (std::int64_t step = 0; step < layout.T; ++step) {
    const bool packed = layout.offsets != nullptr;
    const std::int64_t count = packed ? layout.offsets[step + 1] - layout.offsets[step] : layout.B;
    for (std::int64_t b = 0; b < count; ++b) {
      const bool valid = layout.lengths == nullptr || step < layout.lengths[b];
      const std::int64_t origin = layout.origins != nullptr ? layout.origins[b] : 0;
      for (std::int64_t k = 0; k < layout.K; ++k) {
        all.push_back({layout.t0 + step + origin, b, k, valid});
      }
    }
  }
  return all;
}

const std::int32_t kOffsets[] = {0, 5, 9, 12, 13, 14};
const std::int32_t kLengths[] = {5, 0, 2, 9, 1};  // 9: clamped to T
const std::int32_t kOrigins[] = {0, 7, 1000, 3, 20};
const std::uint32_t kIds[] = {3, 4000000000u, 0, 17, 5};

struct LayoutCase {
  const char* name;
  std::int64_t K, t0;
  const std::int32_t *lengths, *offsets, *origins;
};

class Noise : public testing::TestWithParam<LayoutCase> {
 protected:
  template <class Real>
  NoiseArgs<Real> noise(const std::uint64_t* step) const {
    const LayoutCase& c = GetParam();
    NoiseArgs<Real> args;
    args.layout.T = 5, args.layout.B = 5, args.layout.K = c.K, args.layout.t0 = c.t0;
    args.layout.lengths = c.lengths, args.layout.offsets = c.offsets;
    args.layout.origins = c.origins;
    args.key = {0x123456789abcdefull, 200}, args.sequence_id = kIds, args.step = step;
    return args;
  }
};

TEST_P(Noise, IsTheScalarFunctionsBitForBit) {
  const std::uint64_t step = 0x100000007ull;
  const NoiseArgs<float> args = noise<float>(&step);
  const std::vector<Place> rows = places(args.layout);
  ASSERT_EQ(static_cast<std::int64_t>(rows.size()), args.layout.rows());
  for (const std::int64_t D : {1, 2, 3, 4, 5, 7, 16, 33, 64, 511, 512, 513, 1100}) {
    const auto R = static_cast<std::int64_t>(rows.size());
    Matrix<float> zeros(R, D), z(R, D, {1, 3});
    zeros.fill([](auto, auto) { return 0; });  // z = 0 + exp(0) eps
    cpu::gaussian_sample<float>({D, args, zeros, zeros, z});
    for (std::int64_t r = 0; r < R; ++r) {
      const Place& at = rows[static_cast<std::size_t>(r)];
      for (std::int64_t d = 0; d < D; ++d) {
        const Words random = philox(
            noise_counter(200, step, kIds[at.b], static_cast<std::uint32_t>(at.k), at.t, D, d / 4),
            args.key.seed);
        const float eps = at.valid ? normal(random, static_cast<int>(d % 4)) : 0;
        ASSERT_EQ(z(r, d), eps) << "row " << r << ", d = " << d << " of " << D;
      }
    }
    z.expect_surroundings_untouched();
  }
}

TEST_P(Noise, IsDrawnAgainInBackwardAndWithTheKl) {
  constexpr std::int64_t D = 37;
  const std::uint64_t step = 3;
  const NoiseArgs<float> args = noise<float>(&step);
  const std::int64_t R = args.layout.rows();
  Matrix<float> mu(R, D), logvar(R, D), z(R, D), z_kl(R, D), kl_sum(R, 1), ones(R, D), zeros(R, D);
  Matrix<float> grad_mu(R, D), grad_logvar(R, D), grad_mu_kl(R, D), grad_logvar_kl(R, D);
  mu.fill_normal(1), logvar.fill_normal(2);
  ones.fill([](auto, auto) { return 1; }), zeros.fill([](auto, auto) { return 0; });
  cpu::gaussian_sample<float>({D, args, mu, logvar, z});
  cpu::gaussian_sample_kl<float>({D, args, mu, logvar, {}, {}, z_kl, kl_sum});
  cpu::gaussian_sample_backward<float>({D, args, logvar, ones, grad_mu, grad_logvar});
  cpu::gaussian_sample_kl_backward<float>(
      {D, args, mu, logvar, {}, {}, ones, zeros, grad_mu_kl, grad_logvar_kl, {}, {}});
  const std::vector<Place> rows = places(args.layout);
  for (std::int64_t r = 0; r < R; ++r) {
    const bool valid = rows[static_cast<std::size_t>(r)].valid;
    if (!valid) {
      EXPECT_EQ(kl_sum(r, 0), 0);
    }
    for (std::int64_t d = 0; d < D; ++d) {
      ASSERT_EQ(z_kl(r, d), z(r, d));
      ASSERT_EQ(grad_mu(r, d), valid ? 1 : 0);
      ASSERT_EQ(grad_logvar_kl(r, d), grad_logvar(r, d));
      // z - mu = exp(logvar / 2) eps is twice the gradient
      ASSERT_NEAR(2 * grad_logvar(r, d), valid ? z(r, d) - mu(r, d) : 0, 2e-6);
    }
  }
}

TEST_P(Noise, InDoubleIsTheFloatDrawWidened) {
  constexpr std::int64_t D = 9;
  const std::uint64_t step = 3;
  const std::int64_t R = noise<float>(&step).layout.rows();
  Matrix<float> zeros_float(R, D), z_float(R, D);
  Matrix<double> zeros_double(R, D), z_double(R, D);
  zeros_float.fill([](auto, auto) { return 0; }), zeros_double.fill([](auto, auto) { return 0; });
  cpu::gaussian_sample<float>({D, noise<float>(&step), zeros_float, zeros_float, z_float});
  cpu::gaussian_sample<double>({D, noise<double>(&step), zeros_double, zeros_double, z_double});
  for (std::int64_t r = 0; r < R; ++r) {
    for (std::int64_t d = 0; d < D; ++d) {
      ASSERT_EQ(z_double(r, d), static_cast<double>(z_float(r, d)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, Noise,
    testing::Values(LayoutCase{"padded", 1, 0, nullptr, nullptr, nullptr},
                    LayoutCase{"padded_ragged", 1, 2, kLengths, nullptr, nullptr},
                    LayoutCase{"padded_particles", 3, 0, kLengths, nullptr, kOrigins},
                    LayoutCase{"packed", 1, 0, nullptr, kOffsets, nullptr},
                    LayoutCase{"packed_particles", 4, 9, nullptr, kOffsets, kOrigins}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(NoiseBits, AgreeOnEveryInstructionSetOverManyCounters) {
  constexpr std::int64_t B = 2000, D = 400;  // 8e5 draws, tails of the distribution among them
  const std::vector<std::uint32_t> ids = [] {
    std::vector<std::uint32_t> all(B);
    for (std::uint32_t b = 0; b < B; ++b) all[b] = b * 2654435761u;
    return all;
  }();
  const std::uint64_t step = 1;
  NoiseArgs<float> args;
  args.layout.T = 1, args.layout.B = B;
  args.key = {5, 0}, args.sequence_id = ids.data(), args.step = &step;
  Matrix<float> zeros(1, D), z(B, D);
  zeros.fill([](auto, auto) { return 0; });
  const Rows<const float> shared{zeros.view().data, 0};
  for (const std::int64_t targets : {std::int64_t{0}, std::int64_t{HWY_AVX2}}) {
    hwy::SetSupportedTargetsForTest(targets);
    cpu::gaussian_sample<float>({D, args, shared, shared, z});
    hwy::SetSupportedTargetsForTest(0);
    for (std::int64_t b = 0; b < B; ++b) {
      for (std::int64_t quad = 0; quad < D / 4; ++quad) {
        const Words random =
            philox(noise_counter(0, step, ids[static_cast<std::size_t>(b)], 0, 0, D, quad), 5);
        for (int c = 0; c < 4; ++c) ASSERT_EQ(z(b, 4 * quad + c), normal(random, c));
      }
    }
  }
}

}  // namespace
}  // namespace seqvae::test

// The Gaussian kernels on CUDA against their CPU twins, and the edges of their contracts.
#include <gmock/gmock.h>

#include <fmt/format.h>

#include "seqvae/core/error.hpp"
#include "tests/kernels/cuda_sample_layouts.hpp"

namespace seqvae::test {
namespace {

/// Rows of width D; widths straddle the quad and the warp, placements float4's alignment.
struct RowShape {
  std::int64_t rows, D;
  Placement place;
};

std::string name_of_shape(const testing::TestParamInfo<RowShape>& info) {
  return fmt::format("rows{}_D{}_offset{}_gap{}", info.param.rows, info.param.D,
                     info.param.place.offset, info.param.place.gap);
}

const auto kRowShapes = testing::Values(
    RowShape{65, 1, {}}, RowShape{1, 65, {}}, RowShape{0, 5, {}}, RowShape{7, 0, {}},
    RowShape{300, 3, {}}, RowShape{41, 31, {1, 2}}, RowShape{40, 32, {}}, RowShape{40, 32, {4, 8}},
    RowShape{23, 32, {1, 0}}, RowShape{23, 32, {0, 3}}, RowShape{37, 33, {}}, RowShape{5, 257, {}},
    RowShape{3, 260, {}});

std::vector<ParityInput> inputs(const RowShape& s, std::initializer_list<double> scales) {
  std::vector<ParityInput> list;
  for (const double scale : scales) {
    list.push_back({normals(s.rows, s.D, 17 + static_cast<unsigned>(list.size()), scale)});
  }
  return list;
}

// ---- Head -----------------------------------------------------------------------------------

struct Map {
  ScaleMap map;
  float shift, floor;
};
constexpr Map kMaps[] = {{ScaleMap::exp, 0, 0},
                         {ScaleMap::softplus_var, 0, 0},
                         {ScaleMap::softplus_std, 0.5f, 0},
                         {ScaleMap::softplus_std, -0.25f, 0.01f}};

class GaussianHeadParity : public testing::TestWithParam<RowShape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, GaussianHeadParity, kRowShapes, name_of_shape);

TEST_P(GaussianHeadParity, Forward) {
  const auto [rows, D, place] = GetParam();
  for (const Map& m : kMaps) {
    const Problem problem{inputs(GetParam(), {9}), {{rows, D}}, {}, place};
    const auto build = [&](auto real, auto in, auto out, auto) {
      return GaussianHeadArgs<decltype(real)>{m.map, m.shift, m.floor, rows, D, in(0), out(0)};
    };
    expect_parity(
        problem, build, [](const auto& a) { cpu::gaussian_head(a); }, cuda::gaussian_head);
  }
}

TEST_P(GaussianHeadParity, Backward) {
  const auto [rows, D, place] = GetParam();
  for (const Map& m : kMaps) {
    const Problem problem{inputs(GetParam(), {9, 1}), {{rows, D}}, {}, place};
    const auto build = [&](auto real, auto in, auto out, auto) {
      return GaussianHeadBackwardArgs<decltype(real)>{m.map, m.shift, m.floor, rows,
                                                      D,     in(0),   in(1),   out(0)};
    };
    expect_parity(
        problem, build, [](const auto& a) { cpu::gaussian_head_backward(a); },
        cuda::gaussian_head_backward);
  }
}

TEST(CudaGaussianHead, MayWriteOverItsInput) {
  const Matrix<float> raw = normals(9, 33, 5, 9);
  const DeviceMatrix memory = std::move(DeviceMatrix(9, 33, {}).write(raw));
  Matrix<float> expected(9, 33);
  GaussianHeadArgs<float> args{ScaleMap::exp, 0, 0, 9, 33, raw, expected};
  cpu::gaussian_head(args);
  args.raw = args.logvar = memory.view();
  cuda::gaussian_head(args, Stream());
  expect_same_bits(memory.read(), expected, "in place");
}

TEST(CudaGaussianHead, KeepsNanAndSurvivesExtremes) {
  Matrix<float> raw(1, 5);
  const float extremes[] = {std::nanf(""), -200.0f, 200.0f, -INFINITY, INFINITY};
  raw.fill([&](auto, auto d) { return extremes[d]; });
  for (const Map& m : kMaps) {
    const DeviceMatrix in = std::move(DeviceMatrix(1, 5, {}).write(raw)), out(1, 5, {});
    cuda::gaussian_head({m.map, m.shift, m.floor, 1, 5, in.view(), out.view()}, Stream());
    const Matrix<float> logvar = out.read();
    Matrix<double> wide(1, 5), expected(1, 5);
    wide.fill([&](auto, auto d) { return extremes[d]; });
    cpu::gaussian_head<double>({m.map, m.shift, m.floor, 1, 5, wide, expected});
    EXPECT_TRUE(std::isnan(logvar(0, 0)));
    for (int d = 1; d < 5; ++d) {
      EXPECT_FLOAT_EQ(logvar(0, d), static_cast<float>(expected(0, d))) << "d = " << d;
    }
  }
}

// ---- Sample ---------------------------------------------------------------------------------

class GaussianSampleParity : public testing::TestWithParam<SampleShape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, GaussianSampleParity, kSampleShapes, sample_name);

TEST_P(GaussianSampleParity, Forward) {
  const SampleSetup setup(GetParam());
  const auto build = [&](auto real, auto in, auto out, const LayoutPointers& p) {
    using Real = decltype(real);
    return GaussianSampleArgs<Real>{setup.shape.D, setup.noise<Real>(p, in(0)), in(1), in(2),
                                    out(0)};
  };
  expect_parity(
      setup.problem(2, 1), build, [](const auto& a) { cpu::gaussian_sample(a); },
      cuda::gaussian_sample);
}

TEST_P(GaussianSampleParity, Backward) {
  const SampleSetup setup(GetParam());
  const auto build = [&](auto real, auto in, auto out, const LayoutPointers& p) {
    using Real = decltype(real);
    return GaussianSampleBackwardArgs<Real>{
        setup.shape.D, setup.noise<Real>(p, in(0)), in(1), in(2), out(0), out(1)};
  };
  expect_parity(
      setup.problem(2, 2), build, [](const auto& a) { cpu::gaussian_sample_backward(a); },
      cuda::gaussian_sample_backward);
}

TEST_P(GaussianSampleParity, DrawsTheBitsOfTheCpu) {
  const SampleSetup setup(GetParam());
  // mu = 0 and logvar = 0: z is eps to the bit.
  Problem problem = setup.problem(2, 1);
  for (std::size_t i = 1; i < 3; ++i) {
    problem.inputs[i].values.fill([](auto, auto) { return 0.0; });
  }
  const auto build = [&](auto real, auto in, auto out, const LayoutPointers& p) {
    using Real = decltype(real);
    return GaussianSampleArgs<Real>{setup.shape.D, setup.noise<Real>(p, in(0)), in(1), in(2),
                                    out(0)};
  };
  const auto expected =
      run_cpu<float>(problem, build, [](const auto& a) { cpu::gaussian_sample(a); });
  const auto actual = run_cuda(problem, build, cuda::gaussian_sample);
  expect_same_bits(actual[0], expected[0], "draws");
}

TEST(CudaGaussianSample, DrawsAfreshWhereTheStepInMemoryChanges) {
  const SampleSetup setup({Kind::full, 2, 2, 1, 8, {}, false});
  Problem problem = setup.problem(2, 1);
  const auto build = [&](auto real, auto in, auto out, const LayoutPointers& p) {
    using Real = decltype(real);
    return GaussianSampleArgs<Real>{8, setup.noise<Real>(p, in(0)), in(1), in(2), out(0)};
  };
  const auto first = run_cuda(problem, build, cuda::gaussian_sample);
  problem.layout.step[0] += 1;
  const auto second = run_cuda(problem, build, cuda::gaussian_sample);
  EXPECT_NE(first[0](0, 0), second[0](0, 0));
}

// ---- Sample and KL ---------------------------------------------------------------------------

/// The prior: of each row, one row for all, or N(0, I).
enum class Prior { rows, shared, standard };

TEST_P(GaussianSampleParity, ForwardWithKl) {
  const SampleSetup setup(GetParam());
  for (const Prior prior : {Prior::rows, Prior::shared, Prior::standard}) {
    Problem problem = setup.problem(4, 2);
    problem.outputs[1].D = 1;
    for (std::size_t i = 3; i < 5; ++i) problem.inputs[i].broadcast = prior == Prior::shared;
    const auto build = [&](auto real, auto in, auto out, const LayoutPointers& p) {
      using Real = decltype(real);
      GaussianSampleKlArgs<Real> a{
          setup.shape.D, setup.noise<Real>(p, in(0)), in(1), in(2), in(3), in(4), out(0), out(1)};
      if (prior == Prior::standard) a.mu_p = a.logvar_p = {};
      return a;
    };
    expect_parity(
        problem, build, [](const auto& a) { cpu::gaussian_sample_kl(a); },
        cuda::gaussian_sample_kl);
    const auto alone = [&](auto real, auto in, auto out, const LayoutPointers& p) {
      using Real = decltype(real);
      return GaussianSampleArgs<Real>{setup.shape.D, setup.noise<Real>(p, in(0)), in(1), in(2),
                                      out(0)};
    };
    expect_same_bits(run_cuda(problem, build, cuda::gaussian_sample_kl)[0],
                     run_cuda(problem, alone, cuda::gaussian_sample)[0], "z without the KL");
  }
}

TEST_P(GaussianSampleParity, BackwardWithKl) {
  const SampleSetup setup(GetParam());
  for (const Prior prior : {Prior::rows, Prior::shared, Prior::standard}) {
    Problem problem = setup.problem(5, prior == Prior::standard ? 2 : 4);
    problem.inputs.push_back({normals(setup.rows, 1, 77)});
    for (std::size_t i = 3; i < 5; ++i) problem.inputs[i].broadcast = prior == Prior::shared;
    const auto build = [&](auto real, auto in, auto out, const LayoutPointers& p) {
      using Real = decltype(real);
      GaussianSampleKlBackwardArgs<Real> a{setup.shape.D,
                                           setup.noise<Real>(p, in(0)),
                                           in(1),
                                           in(2),
                                           in(3),
                                           in(4),
                                           in(5),
                                           in(6),
                                           out(0),
                                           out(1),
                                           {},
                                           {}};
      if (prior == Prior::standard) {
        a.mu_p = a.logvar_p = {};
      } else {
        a.grad_mu_p = out(2), a.grad_logvar_p = out(3);
      }
      return a;
    };
    expect_parity(
        problem, build, [](const auto& a) { cpu::gaussian_sample_kl_backward(a); },
        cuda::gaussian_sample_kl_backward);
  }
}

// ---- KL -------------------------------------------------------------------------------------

class GaussianKlParity : public testing::TestWithParam<RowShape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, GaussianKlParity, kRowShapes, name_of_shape);

TEST_P(GaussianKlParity, Forward) {
  const auto [rows, D, place] = GetParam();
  for (const Prior prior : {Prior::rows, Prior::shared, Prior::standard}) {
    Problem problem{inputs(GetParam(), {1, 2, 1, 2}), {{rows, D}, {rows, 1}}, {}, place};
    for (std::size_t i = 2; i < 4; ++i) problem.inputs[i].broadcast = prior == Prior::shared;
    const auto build = [&](auto real, auto in, auto out, auto) {
      GaussianKlArgs<decltype(real)> a{rows, D, in(0), in(1), in(2), in(3), out(0), out(1)};
      if (prior == Prior::standard) a.mu_p = a.logvar_p = {};
      return a;
    };
    expect_parity(
        problem, build, [](const auto& a) { cpu::gaussian_kl(a); }, cuda::gaussian_kl);
  }
}

TEST_P(GaussianKlParity, Backward) {
  const auto [rows, D, place] = GetParam();
  for (const Prior prior : {Prior::rows, Prior::shared, Prior::standard}) {
    for (const int given : {1, 2, 3}) {  // grad_kl, grad_kl_sum, both
      Problem problem{
          inputs(GetParam(), {1, 2, 1, 2, 1}), std::vector<ParityOutput>(4, {rows, D}), {}, place};
      problem.inputs.push_back({normals(rows, 1, 77)});
      for (std::size_t i = 2; i < 4; ++i) problem.inputs[i].broadcast = prior == Prior::shared;
      const auto build = [&](auto real, auto in, auto out, auto) {
        GaussianKlBackwardArgs<decltype(real)> a{rows,  D,     in(0),  in(1),  in(2),  in(3),
                                                 in(4), in(5), out(0), out(1), out(2), out(3)};
        if (prior == Prior::standard) a.mu_p = a.logvar_p = {};
        if ((given & 1) == 0) a.grad_kl = {};
        if ((given & 2) == 0) a.grad_kl_sum = {};
        return a;
      };
      expect_parity(
          problem, build, [](const auto& a) { cpu::gaussian_kl_backward(a); },
          cuda::gaussian_kl_backward);
    }
  }
}

TEST(CudaGaussianKl, IsExactlyZeroWherePosteriorEqualsPrior) {
  Matrix<float> mu = normals(4, 33, 3), logvar = normals(4, 33, 4);
  logvar(0, 0) = 100, logvar(0, 1) = -100;  // exp overflows float beyond 88.7
  const DeviceMatrix m = std::move(DeviceMatrix(4, 33, {}).write(mu)),
                     l = std::move(DeviceMatrix(4, 33, {}).write(logvar)), kl(4, 1, {});
  cuda::gaussian_kl({4, 33, m.view(), l.view(), m.view(), l.view(), {}, kl.view()}, Stream());
  const Matrix<float> sums = kl.read();
  for (int r = 0; r < 4; ++r) EXPECT_EQ(sums(r, 0), 0.0f);
}

TEST(CudaGaussianKl, SumsARowTheSameWhereverItStands) {
  const Matrix<float> q = normals(1, 100, 3);
  Matrix<float> rows(50, 100);
  rows.fill([&](auto, auto d) { return q(0, d); });
  const DeviceMatrix x = std::move(DeviceMatrix(50, 100, {}).write(rows)), kl(50, 1, {});
  cuda::gaussian_kl({50, 100, x.view(), x.view(), {}, {}, {}, kl.view()}, Stream());
  const Matrix<float> sums = kl.read();
  for (int r = 1; r < 50; ++r) EXPECT_EQ(sums(r, 0), sums(0, 0));
}

TEST(CudaGaussianKl, NamesArgumentValueAndRule) {
  GaussianKlArgs<float> args;
  args.rows = -3, args.D = 2;
  EXPECT_THAT([&] { cuda::gaussian_kl(args, Stream()); },
              testing::ThrowsMessage<InvalidArgument>(
                  "gaussian_kl: rows = -3, must be from 0 to 2^31 - 1"));
}

#if defined(SEQVAE_EMULATED)
TEST(CudaGaussian, MovesTheBytesThatItsFloorNames) {
  const std::int64_t T = 16, B = 4, rows = T * B, D = 32;
  const DeviceMatrix x = std::move(DeviceMatrix(rows, D, {}).write(normals(rows, D, 1)));
  const DeviceMatrix column = std::move(DeviceMatrix(rows, 1, {}).write(normals(rows, 1, 2)));
  const DeviceMatrix y(rows, D, {}), y2(rows, D, {}), y3(rows, D, {}), y4(rows, D, {}),
      sum(rows, 1, {});
  const DeviceArray<std::uint32_t> ids(std::vector<std::uint32_t>(B, 3));
  const DeviceArray<std::uint64_t> step(std::vector<std::uint64_t>{1});
  NoiseArgs<float> noise;
  noise.layout.T = T, noise.layout.B = B;
  noise.sequence_id = ids.data(), noise.step = step.data();
  const Rows<float> v = x.view();
  emulation::take_traffic();
  cuda::gaussian_head({ScaleMap::exp, 0, 0, rows, D, v, y.view()}, Stream());
  cuda::gaussian_head_backward({ScaleMap::exp, 0, 0, rows, D, v, v, y.view()}, Stream());
  cuda::gaussian_kl({rows, D, v, v, v, v, {}, sum.view()}, Stream());
  cuda::gaussian_kl_backward({rows, D, v, v, v, v, v, {}, y.view(), {}, {}, {}}, Stream());
  cuda::gaussian_sample({D, noise, v, v, y.view()}, Stream());
  cuda::gaussian_sample_backward({D, noise, v, v, y.view(), y2.view()}, Stream());
  cuda::gaussian_sample_kl({D, noise, v, v, v, v, y.view(), sum.view()}, Stream());
  cuda::gaussian_sample_kl_backward(
      {D, noise, v, v, v, v, v, column.view(), y.view(), y2.view(), y3.view(), y4.view()},
      Stream());
  const auto traffic = emulation::take_traffic();
  ASSERT_EQ(traffic.size(), 8u);
  const std::int64_t n = 4 * rows * D, r = 4 * rows;
  const std::int64_t reads[] = {n, 2 * n, 4 * n, 5 * n, 2 * n, 2 * n, 4 * n, 5 * n};
  const std::int64_t writes[] = {n, n, r, n, n, 2 * n, n + r, 4 * n};
  // Where noise is drawn, each lane also asks for the step and its row's id: 12 bytes that the
  // caches hold; and for the one gradient of its row's KL.
  const std::int64_t quads = rows * D / 4;
  const std::int64_t cached[] = {0, 0, 0, 0, 12 * quads, 12 * quads, 12 * quads, 16 * quads};
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(traffic[i].bytes_read, reads[i] + cached[i]) << traffic[i].kernel;
    EXPECT_EQ(traffic[i].bytes_written, writes[i]) << traffic[i].kernel;
  }
}
#endif

}  // namespace
}  // namespace seqvae::test

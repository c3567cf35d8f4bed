// Reductions on CUDA against their CPU twins.
#include "seqvae/core/error.hpp"
#include "seqvae/kernels/reduce.hpp"
#include "tests/kernels/cuda_sample_layouts.hpp"

namespace seqvae::test {
namespace {

class CudaSumOverTime : public testing::TestWithParam<SampleShape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, CudaSumOverTime, kSampleShapes, sample_name);

TEST_P(CudaSumOverTime, HasItsParity) {
  SampleShape shape = GetParam();
  for (const std::int64_t T : {shape.T, shape.T * 7}) {  // fewer and more steps than slots
    shape.T = T;
    const SampleSetup setup(shape);
    Problem problem = setup.problem(0, 1);
    problem.outputs[0].rows = shape.B * shape.K;
    const auto build = [&](auto real, auto in, auto out, const LayoutPointers& p) {
      using Real = decltype(real);
      return SumOverTimeArgs<Real>{setup.noise<Real>(p, {}).layout, shape.D, in(0), out(0)};
    };
    expect_parity(
        problem, build, [](const auto& a) { cpu::sum_over_time(a); }, cuda::sum_over_time);
  }
}

struct Columns {
  std::int64_t rows, D;
  Placement place;
};
const Columns kColumns[] = {{0, 5, {}},         {1, 1, {}},    {17, 33, {1, 2}},
                            {600, 40, {}},      {1100, 3, {}}, {2500, 33, {0, 1}},
                            {4097, 33, {0, 1}}, {5000, 4, {}}, {3, 0, {}}};

TEST(CudaSumOverRows, HasItsParityOverwritingThenAccumulating) {
  for (const auto& [rows, D, place] : kColumns) {
    const std::size_t bytes = cuda::sum_over_rows_workspace_bytes(rows, D);
    EXPECT_EQ(bytes > 0, rows > 4096 && D > 0);
    const DeviceArray<double> workspace(bytes / sizeof(double));
    const Problem problem{inputs_of(normals(rows, D, 3)), {{1, D}}, {}, place};
    const auto build = [&, rows = rows, D = D](auto real, auto in, auto out, auto) {
      using Real = decltype(real);
      return SumOverRowsArgs<Real>{rows, D, false, in(0), out(0).data, workspace.data(), bytes};
    };
    const auto twice = [](auto a, auto twin) {
      twin(a);
      a.accumulate = true;
      twin(a);
    };
    expect_parity(
        problem, build,
        [&](const auto& a) { twice(a, [](const auto& b) { cpu::sum_over_rows(b); }); },
        [&](const auto& a, Stream stream) {
          twice(a, [&](const auto& b) { cuda::sum_over_rows(b, stream); });
        });
  }
}

TEST(CudaSumOverRows, WantsItsWorkspace) {
  const DeviceMatrix x = std::move(DeviceMatrix(5000, 3, {}).write(normals(5000, 3, 1)));
  const DeviceMatrix y(1, 3, {});
  try {
    cuda::sum_over_rows({5000, 3, false, x.view(), y.view().data}, Stream());
    FAIL() << "no workspace was given";
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(), "sum_over_rows: workspace is null, must point to memory");
  }
}

TEST(CudaLogMeanExp, HasItsParity) {
  for (const std::int64_t K : {1, 2, 7, 32, 33, 1000}) {
    for (const std::int64_t rows : {0, 1, 19}) {
      Problem problem{inputs_of(normals(rows, K, 3, 4), normals(rows, 1, 5)), {{rows, 1}}, {}, {}};
      const auto build = [&](auto real, auto in, auto out, auto) {
        using Real = decltype(real);
        return LogMeanExpArgs<Real>{rows, K, in(0).data, out(0).data};
      };
      expect_parity(
          problem, build, [](const auto& a) { cpu::log_mean_exp(a); }, cuda::log_mean_exp);
      problem.outputs[0].D = K;
      const auto gradient = [&](auto real, auto in, auto out, auto) {
        using Real = decltype(real);
        return LogMeanExpBackwardArgs<Real>{rows, K, in(0).data, in(1).data, out(0).data};
      };
      expect_parity(
          problem, gradient, [](const auto& a) { cpu::log_mean_exp_backward(a); },
          cuda::log_mean_exp_backward);
    }
  }
}

TEST(CudaLogMeanExp, KeepsInfinitiesAndNan) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float rows[][3] = {{-kInf, -kInf, -kInf},
                           {-kInf, 2, -kInf},
                           {kInf, 1, 2},
                           {1, std::nanf(""), 2},
                           {3000, 3001, -3000}};
  Matrix<float> x(5, 3);
  x.fill([&](auto r, auto d) { return rows[r][d]; });
  const Problem problem{inputs_of(std::move(x), normals(5, 1, 5)), {{5, 1}, {5, 3}}, {}, {}};
  const auto build = [](auto real, auto in, auto out, auto) {
    using Real = decltype(real);
    return std::pair{LogMeanExpArgs<Real>{5, 3, in(0).data, out(0).data},
                     LogMeanExpBackwardArgs<Real>{5, 3, in(0).data, in(1).data, out(1).data}};
  };
  const auto expected = run_cpu<float>(problem, build, [](const auto& a) {
    cpu::log_mean_exp(a.first), cpu::log_mean_exp_backward(a.second);
  });
  const auto actual = run_cuda(problem, build, [](const auto& a, Stream stream) {
    cuda::log_mean_exp(a.first, stream), cuda::log_mean_exp_backward(a.second, stream);
  });
  for (std::size_t o = 0; o < 2; ++o) {
    for (std::int64_t r = 0; r < 5; ++r) {
      for (std::int64_t d = 0; d < expected[o].D(); ++d) {
        if (std::isnan(expected[o](r, d))) {
          EXPECT_TRUE(std::isnan(actual[o](r, d))) << r;
        } else {
          EXPECT_FLOAT_EQ(actual[o](r, d), expected[o](r, d)) << r;
        }
      }
    }
  }
}

}  // namespace
}  // namespace seqvae::test

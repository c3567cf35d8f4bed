// Weight gradients on CUDA against their CPU twins, one by one and many at once. The CPU's sums are
// chains over blocks of 256 rows: the largest error of a matrix stays within twice the CPU's, and
// the bits are the same in every run.
#include <gmock/gmock.h>

#include "seqvae/core/error.hpp"
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/dense.hpp"
#include "tests/kernels/cuda_sample_layouts.hpp"

namespace seqvae::test {
namespace {

struct GradientCase {
  std::int64_t M, N, K;
  Placement place = {};
};

class CudaDenseWeightGradient : public testing::TestWithParam<bool> {};

// Of one row, of fewer rows than a chunk of the bias's sum, and of more.
TEST_P(CudaDenseWeightGradient, HasItsParity) {
  const bool accumulate = GetParam();
  for (const auto& [M, N, K, place] : {GradientCase{0, 3, 5},
                                       {0, 3, 5, {1, 2}},
                                       {1, 1, 1},
                                       {1, 4, 8, {1, 3}},
                                       {3, 5, 7},
                                       {40, 33, 65},
                                       {40, 1, 6},
                                       {129, 96, 100},
                                       {129, 20, 12, {2, 2}},
                                       {129, 20, 12, {3, 1}},
                                       {1100, 9, 4},
                                       {1100, 70, 6, {1, 2}},
                                       {1536, 8, 12}}) {
    SCOPED_TRACE(fmt::format("M {} N {} K {} offset {} gap {}", M, N, K, place.offset, place.gap));
    const std::size_t bytes = cuda::dense_weight_gradient_workspace_bytes(M, N, K);
    EXPECT_EQ(bytes > 0, M >= 1024);
    const DeviceArray<float> workspace(bytes / sizeof(float));
    const Problem problem{
        inputs_of(normals(M, N, 1), normals(M, K, 2), normals(N, K, 3), normals(1, N, 4)),
        {{N, K}, {1, N}},
        {},
        place};
    const auto build = [&, M = M, N = N, K = K](auto real, auto in, auto out, auto) {
      using Real = decltype(real);
      return std::tuple(DenseWeightGradientArgs<Real>{M, N, K, in(0), in(1), accumulate, out(0),
                                                      out(1).data, workspace.data(), bytes},
                        MultiplyAddArgs<Real>{N, K, 1, 1, in(2), {}, {}, out(0)},
                        MultiplyAddArgs<Real>{1, N, 1, 1, in(3), {}, {}, out(1)});
    };
    expect_parity(
        problem, build,
        [&](const auto& a) {
          if (accumulate) cpu::multiply_add(std::get<1>(a)), cpu::multiply_add(std::get<2>(a));
          cpu::dense_weight_gradient(std::get<0>(a));
        },
        [&](const auto& a, Stream stream) {
          if (accumulate) {
            cuda::multiply_add(std::get<1>(a), stream), cuda::multiply_add(std::get<2>(a), stream);
          }
          cuda::dense_weight_gradient(std::get<0>(a), stream);
        });
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, CudaDenseWeightGradient, testing::Bool(), [](const auto& info) {
  return info.param ? "accumulating" : "overwriting";
});

TEST(CudaDenseWeightGradient, WantsItsWorkspace) {
  const DeviceMatrix grad_y = std::move(DeviceMatrix(5000, 3, {}).write(normals(5000, 3, 1)));
  const DeviceMatrix x = std::move(DeviceMatrix(5000, 2, {}).write(normals(5000, 2, 2)));
  const DeviceMatrix grad_W(3, 2, {}), grad_bias(1, 3, {});
  DenseWeightGradientArgs<float> args{5000, 3, 2, grad_y.view(), x.view(), false, grad_W.view()};
  const DeviceArray<double> workspace(64);
  const auto expect = [&](const std::string& message) {
    EXPECT_THAT(
        [&] { cuda::dense_weight_gradient(args, Stream()); },
        testing::ThrowsMessage<InvalidArgument>("dense_weight_gradient: workspace" + message));
  };
  args.grad_bias = grad_bias.view().data;
  expect(" is null, must point to memory");
  args.workspace = workspace.data();
  expect(fmt::format("_bytes = 0, must be >= {}",
                     cuda::dense_weight_gradient_workspace_bytes(5000, 3, 2)));
}

/// Gradients of many sizes in one call: of no rows, one, a slice and a row, several slices; biases
/// alone, and none; three in bfloat16, one of them last; more than a launch holds.
class CudaWeightGradients : public testing::TestWithParam<bool> {
 protected:
  struct Call {
    std::int64_t M, N, K;
    bool bias = true;
    Precision precision = Precision::float32;
  };
  static std::vector<Call> calls() {
    std::vector<Call> all{{0, 3, 5},
                          {1, 4, 8},
                          {1, 1, 1, false},
                          {3, 5, 7},
                          {17, 65, 33},
                          {33, 4, 130, false},
                          {256, 3, 4},
                          {257, 5, 8},
                          {300, 66, 2},
                          {520, 3, 0},
                          {7, 66, 0},
                          {0, 2, 0},
                          {33, 16, 24, true, Precision::bfloat16},
                          {33, 16, 24, false, Precision::bfloat16}};
    for (std::int64_t i = 0; i < 30; ++i) all.push_back({5 + i, 3 + i, 1 + i % 7, i % 3 > 0});
    all.push_back({20, 8, 8, true, Precision::bfloat16});
    return all;
  }
};

TEST_P(CudaWeightGradients, HaveTheirParity) {
  const bool accumulate = GetParam();
  const std::vector<Call> calls = CudaWeightGradients::calls();
  {
    Problem problem;
    problem.place = accumulate ? Placement{1, 3} : Placement{0, 0};
    for (const Call& call : calls) {
      const std::int64_t K = std::max<std::int64_t>(call.K, 1);
      // Numbers that bfloat16 holds as they are, where it is asked for.
      const bool exact = call.precision == Precision::bfloat16;
      const auto add = [&](std::int64_t rows, std::int64_t D, unsigned seed) {
        Matrix<float> values = normals(rows, D, seed);
        if (exact) {
          const Matrix<float> from = normals(rows, D, seed);
          values.fill([&](auto r, auto d) { return std::round(8 * from(r, d)) / 8; });
        }
        problem.inputs.push_back({std::move(values)});
      };
      add(call.M, call.N, 1), add(call.M, K, 2), add(call.N, K, 3), add(1, call.N, 4);
      problem.outputs.push_back({call.N, K});
      problem.outputs.push_back({1, call.N});
    }
    WeightGradientsArgs<float> sizes;
    std::vector<DenseWeightGradientArgs<float>> of_sizes;
    for (const Call& call : calls) {
      DenseWeightGradientArgs<float> a{call.M, call.N, call.K};
      float bias;
      a.grad_bias = call.bias ? &bias : nullptr, a.precision = call.precision;
      of_sizes.push_back(a);
    }
    sizes.calls = of_sizes.data(), sizes.count = static_cast<std::int64_t>(of_sizes.size());
    const std::size_t bytes = cuda::weight_gradients_workspace_bytes(sizes);
    const DeviceArray<float> workspace(bytes / sizeof(float));
    const auto build = [&](auto real, auto in, auto out, auto) {
      using Real = decltype(real);
      struct Work {
        WeightGradientsArgs<Real> args(void* workspace, std::size_t workspace_bytes) const {
          return {calls.data(), static_cast<std::int64_t>(calls.size()), workspace,
                  workspace_bytes};
        }
        std::vector<DenseWeightGradientArgs<Real>> calls;
        std::vector<MultiplyAddArgs<Real>> starts;
      } work;
      for (std::size_t i = 0; i < calls.size(); ++i) {
        const Call& c = calls[i];
        DenseWeightGradientArgs<Real> a{c.M, c.N, c.K, in(4 * i), in(4 * i + 1), accumulate};
        if (c.K > 0) a.grad_W = out(2 * i);
        if (c.bias) a.grad_bias = out(2 * i + 1).data;
        a.precision = c.precision;
        if (accumulate && c.K > 0) {
          work.starts.push_back({c.N, c.K, 1, 1, in(4 * i + 2), {}, {}, out(2 * i)});
        }
        if (accumulate && c.bias) {
          work.starts.push_back({1, c.N, 1, 1, in(4 * i + 3), {}, {}, out(2 * i + 1)});
        }
        work.calls.push_back(a);
      }
      return work;
    };
    expect_parity(
        problem, build,
        [](const auto& work) {
          for (const auto& start : work.starts) cpu::multiply_add(start);
          cpu::weight_gradients(work.args(nullptr, 0));
        },
        [&](const auto& work, Stream stream) {
          for (const auto& start : work.starts) cuda::multiply_add(start, stream);
          cuda::weight_gradients(work.args(workspace.data(), bytes), stream);
        });
  }
}
INSTANTIATE_TEST_SUITE_P(Modes, CudaWeightGradients, testing::Bool(), [](const auto& info) {
  return info.param ? "accumulating" : "overwriting";
});

#if defined(SEQVAE_EMULATED)

TEST(CudaWeightGradients, AreTwoLaunches) {
  const DeviceMatrix grad_y = std::move(DeviceMatrix(600, 3, {}).write(normals(600, 3, 1)));
  const DeviceMatrix x = std::move(DeviceMatrix(600, 2, {}).write(normals(600, 2, 2)));
  const DeviceMatrix grad_W(3, 2, {}), short_W(3, 2, {});
  const std::vector<DenseWeightGradientArgs<float>> calls{
      {600, 3, 2, grad_y.view(), x.view(), false, grad_W.view()},
      {5, 3, 2, grad_y.view(), x.view(), false, short_W.view()}};
  const auto launches = [&](std::int64_t first, std::int64_t count) {
    WeightGradientsArgs<float> args{calls.data() + first, count};
    args.workspace_bytes = cuda::weight_gradients_workspace_bytes(args);
    const DeviceArray<float> workspace(args.workspace_bytes / sizeof(float));
    args.workspace = workspace.data();
    emulation::take_traffic();
    cuda::weight_gradients(args, Stream());
    return emulation::take_traffic().size();
  };
  EXPECT_EQ(launches(0, 2), 2u);
  EXPECT_EQ(launches(1, 1), 1u);  // of one slice
}

#endif

}  // namespace
}  // namespace seqvae::test

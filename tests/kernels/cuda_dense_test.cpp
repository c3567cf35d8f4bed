// Products of rows on CUDA against their CPU twins. The CPU's sums are chains in order of k, the
// kernels' are cut, cuBLAS's are what it chooses: the largest error of a matrix stays within twice
// the CPU's, and the bits are the same in every run.
#include <gmock/gmock.h>

#include "kernels/dense/products.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/dense.hpp"
#include "tests/kernels/cuda_sample_layouts.hpp"
#if defined(SEQVAE_EMULATED)
#include <cublasLt.h>
#endif

namespace seqvae::test {
namespace {

enum class Addend { none, other, y, one_row };

struct DenseCase {
  std::int64_t M, N, K;
  bool transposed = false, bias = false;
  Addend addend = Addend::none;
  Activation activation = Activation::identity;
  Placement place = {};
  bool slope = false;  ///< the activation's, of what it gave elsewhere
  Precision precision = Precision::float32;
};

/// A call and what y holds before it.
template <class Real>
struct Call {
  DenseArgs<Real> args;
  Rows<const Real> before;
  MultiplyAddArgs<Real> fill() const { return {args.M, args.W.N, 1, 1, before, {}, {}, args.y}; }
};

std::string describe(const DenseCase& c) {
  return fmt::format(
      "M {} N {} K {} transposed {} bias {} addend {} activation {} slope {} offset {} gap {}", c.M,
      c.N, c.K, c.transposed, c.bias, static_cast<int>(c.addend), static_cast<int>(c.activation),
      c.slope, c.place.offset, c.place.gap);
}

constexpr std::size_t kInputs = 5;  // of a case
void add_case(const DenseCase& c, Problem& problem) {
  // Outputs of about 1, so that exp does not make a few of them decide.
  const double scale = 1 / std::sqrt(static_cast<double>(c.K));
  const auto factor = [&](std::int64_t rows, std::int64_t D, unsigned seed, double size) {
    Matrix<float> values = normals(rows, D, seed, size);
    if (c.precision == Precision::bfloat16) {  // numbers that it holds as they are
      const Matrix<float> from = normals(rows, D, seed, size);
      values.fill([&](auto r, auto d) { return std::round(8 * from(r, d)) / 8; });
    }
    problem.inputs.push_back({std::move(values)});
  };
  factor(c.M, c.K, 1, 1);
  factor(c.transposed ? c.K : c.N, c.transposed ? c.N : c.K, 2, scale);
  problem.inputs.push_back({normals(1, c.N, 3)});
  problem.inputs.push_back({normals(c.M, c.N, 4), c.addend == Addend::one_row});
  problem.inputs.push_back({normals(c.M, c.N, 5)});
  problem.outputs.push_back({c.M, c.N});
}

/// The case's call; its inputs are those from `first` on.
template <class Real, class In>
Call<Real> call_of(const DenseCase& c, In in, std::size_t first, Rows<Real> y) {
  Call<Real> call;
  DenseArgs<Real>& a = call.args;
  a.M = c.M, a.x = in(first), a.y = y, a.activation = c.activation, a.precision = c.precision;
  a.W = {in(first + 1).data, in(first + 1).stride, c.N, c.K, c.transposed};
  if (c.bias) a.bias = in(first + 2).data;
  if (c.addend == Addend::y) a.addend = a.y, call.before = in(first + 3);
  if (c.addend == Addend::other || c.addend == Addend::one_row) a.addend = in(first + 3);
  if (c.slope) a.activated = in(first + 4);
  return call;
}

template <class Real>
void run_on_cpu(Call<Real> call) {
  const PlainWeights<Real>& W = call.args.W;
  cpu::PackedWeights<Real> packed(W.N, W.K);
  packed.pack(W.data, W.stride, W.transposed);
  call.args.weights = &packed;
  if (call.before) cpu::multiply_add(call.fill());
  cpu::dense(call.args);
}

/// By what its size says, and by the library, whatever its size.
void expect_dense(const DenseCase& c) {
  Problem problem;
  problem.place = c.place;
  add_case(c, problem);
  for (const bool by_library : {false, true}) {
    SCOPED_TRACE(describe(c) + (by_library ? " by the library" : ""));
    expect_parity(
        problem,
        [&](auto real, auto in, auto out, auto) {
          return call_of<decltype(real)>(c, in, 0, out(0));
        },
        [](const auto& call) { run_on_cpu(call); },
        [&](const Call<float>& call, Stream stream) {
          if (call.before) cuda::multiply_add(call.fill(), stream);
          if (by_library && call.args.M > 0) {
            cuda::dense_by_library(call.args, stream);
          } else {
            cuda::dense(call.args, stream);
          }
        });
  }
}

constexpr std::int64_t kSizes[][3] = {{1, 1, 1},    {3, 5, 7},     {1, 9, 4},      {17, 1, 3},
                                      {2, 24, 16},  {40, 33, 65},  {129, 96, 100}, {65, 5, 7},
                                      {70, 33, 20}, {130, 68, 12}, {66, 65, 17}};

class CudaDense : public testing::TestWithParam<std::tuple<bool, bool, int>> {};

TEST_P(CudaDense, HasItsParity) {
  const auto [transposed, bias, addend] = GetParam();
  for (const auto& [M, N, K] : kSizes) {
    expect_dense({M, N, K, transposed, bias, static_cast<Addend>(addend)});
  }
}

// Of few rows: more than one chunk of K, and every number of slices of it.
TEST(CudaDense, OfFewRowsAndManyColumnsHasItsParity) {
  for (const bool transposed : {false, true}) {
    expect_dense({20, 37, 300, transposed, true, Addend::y, Activation::tanh});
    expect_dense({64, 18, 260, transposed, false, Addend::other});
    expect_dense({5, 3, 513, transposed, true, Addend::one_row, Activation::identity, {1, 2}});
    expect_dense({1, 40, 600, transposed});
    expect_dense({2, 20, 1100, transposed, true, Addend::other});  // eight blocks share K
  }
}

// Rows and pointers aligned to 16, 8 and 4 bytes.
TEST_P(CudaDense, HasItsParityWhereverTheRowsLie) {
  const auto [transposed, bias, addend] = GetParam();
  for (const Placement place :
       {Placement{1, 0}, Placement{0, 3}, Placement{2, 6}, Placement{4, 8}, Placement{3, 1}}) {
    expect_dense(
        {20, 24, 16, transposed, bias, static_cast<Addend>(addend), Activation::identity, place});
    expect_dense({7, 5, 9, transposed, bias, static_cast<Addend>(addend), Activation::relu, place});
  }
}

std::string options_name(const testing::TestParamInfo<std::tuple<bool, bool, int>>& info) {
  const auto [transposed, bias, addend] = info.param;
  const char* const addends[] = {"no_addend", "addend", "addend_y", "addend_one_row"};
  return fmt::format("{}{}{}", transposed ? "transposed_" : "", bias ? "bias_" : "",
                     addends[addend]);
}

INSTANTIATE_TEST_SUITE_P(Options, CudaDense,
                         testing::Combine(testing::Bool(), testing::Bool(), testing::Range(0, 4)),
                         options_name);

TEST(CudaDenseActivation, HasItsParity) {
  for (int kind = 0; kind <= static_cast<int>(Activation::leaky_relu); ++kind) {
    const auto activation = static_cast<Activation>(kind);
    expect_dense({40, 33, 65, false, true, Addend::none, activation});
    expect_dense({13, 20, 8, true, false, Addend::y, activation, {1, 2}});
    expect_dense({13, 20, 8, false, true, Addend::one_row, activation});
    expect_dense({70, 20, 8, true, false, Addend::none, activation});
    expect_dense({66, 37, 65, false, false, Addend::none, activation});  // more than a tile
    for (const std::int64_t M : {3, 66}) {
      expect_dense({M, 20, 8, true, false, Addend::none, activation, {}, true});
      expect_dense({M, 7, 9, true, true, Addend::other, activation, {1, 2}, true});
    }
  }
}

/// Products of few rows, of tiles and of bfloat16, their weights either way; of no rows; more than
/// the 24 that a launch holds.
TEST(CudaProducts, HaveTheirParity) {
  std::vector<DenseCase> cases{
      {3, 5, 7},
      {0, 2, 3},
      {130, 68, 100, false, true, Addend::other, Activation::tanh},
      {70, 37, 65},
      {80, 24, 16, false, true, Addend::none, Activation::relu, {}, false, Precision::bfloat16},
      {70, 65, 20, true, true, Addend::y, Activation::tanh},
      {1, 40, 600, false, false, Addend::none, Activation::relu},
      {66, 8, 12, false, true, Addend::one_row, Activation::sigmoid},
      {64, 9, 300, true},
      {200, 4, 33, true, false, Addend::other, Activation::relu, {}, true}};
  for (std::int64_t i = 0; i < 26; ++i) {
    cases.push_back({2 + i, 3 + i, 1 + i % 7, false, i % 3 > 0});
    cases.push_back({65 + i, 70 - i, 1 + i % 7, true, i % 3 > 0});
  }
  Problem problem;
  for (const DenseCase& c : cases) add_case(c, problem);
  expect_parity(
      problem,
      [&](auto real, auto in, auto out, auto) {
        std::vector<Call<decltype(real)>> calls;
        for (std::size_t i = 0; i < cases.size(); ++i) {
          calls.push_back(call_of<decltype(real)>(cases[i], in, kInputs * i, out(i)));
        }
        return calls;
      },
      [](const auto& calls) {
        for (const auto& call : calls) run_on_cpu(call);
      },
      [](const std::vector<Call<float>>& calls, Stream stream) {
        std::vector<DenseArgs<float>> args;
        for (const Call<float>& call : calls) {
          if (call.before) cuda::multiply_add(call.fill(), stream);
          args.push_back(call.args);
        }
        cuda::products({args.data(), static_cast<std::int64_t>(args.size())}, stream);
      });
}

TEST(CudaProducts, NameArgumentValueAndRule) {
  EXPECT_THAT(
      [] {
        cuda::products({nullptr, -1}, Stream());
      },
      testing::ThrowsMessage<InvalidArgument>("products: count = -1, must be from 0 to 2^31 - 1"));
  EXPECT_THAT(
      [] {
        cuda::products({nullptr, 1}, Stream());
      },
      testing::ThrowsMessage<InvalidArgument>("products: calls is null, must point to memory"));
  const DenseArgs<float> call;
  EXPECT_THAT(
      [&] {
        cuda::products({&call, 1}, Stream());
      },
      testing::ThrowsMessage<InvalidArgument>("dense: W.data is null, must point to memory"));
  cuda::products({}, Stream());
}

TEST(CudaDenseActivation, ReluLetsNaNThrough) {
  Matrix<float> x = normals(4, 3, 1);
  x(1, 2) = std::nanf("");
  const DeviceMatrix rows = std::move(DeviceMatrix(4, 3, {}).write(x));
  const DeviceMatrix W = std::move(DeviceMatrix(5, 3, {}).write(normals(5, 3, 2)));
  const DeviceMatrix y(4, 5, {});
  DenseArgs<float> a;
  a.M = 4, a.x = rows.view(), a.W = {W.view().data, 3, 5, 3}, a.y = y.view();
  a.activation = Activation::relu;
  for (const Precision precision : {Precision::float32, Precision::bfloat16}) {
    a.precision = precision;
    cuda::dense(a, Stream());
    const Matrix<float> read = y.read();
    for (std::int64_t r = 0; r < 4; ++r) {
      for (std::int64_t n = 0; n < 5; ++n) EXPECT_EQ(std::isnan(read(r, n)), r == 1) << r;
    }
  }
}

TEST(CudaDense, OfNoRowsDoesNothing) { expect_dense({0, 3, 4, false, true}); }

// The plan of a shape is used again; what it points to is each call's own.
TEST(CudaDense, TakesEachCallsOwnPointers) {
  const DeviceMatrix x = std::move(
      DeviceMatrix(3, 4, {}).write(Matrix<float>(3, 4).fill([](auto, auto) { return 1; })));
  for (int call = 1; call <= 3; ++call) {
    const DeviceMatrix W = std::move(
        DeviceMatrix(8, 4, {}).write(Matrix<float>(8, 4).fill([&](auto, auto) { return call; })));
    const DeviceMatrix bias = std::move(DeviceMatrix(1, 8, {}).write(Matrix<float>(1, 8).fill(
        [&](auto, auto n) { return 10 * call + static_cast<double>(n); })));
    const DeviceMatrix y(3, 8, {});
    DenseArgs<float> a;
    a.M = 3, a.x = x.view(), a.W = {W.view().data, 4, 8, 4}, a.bias = bias.view().data;
    a.y = y.view();
    cuda::dense(a, Stream());
    const Matrix<float> read = y.read();
    for (std::int64_t n = 0; n < 8; ++n) {
      EXPECT_EQ(read(2, n), static_cast<float>(14 * call + n)) << call;
    }
  }
}

TEST(CudaDense, OfOneRowLooksAtNoStride) {
  const DeviceMatrix x = std::move(DeviceMatrix(1, 4, {}).write(normals(1, 4, 1)));
  const DeviceMatrix W = std::move(DeviceMatrix(1, 4, {}).write(normals(1, 4, 2)));
  const DeviceMatrix addend = std::move(DeviceMatrix(1, 1, {}).write(normals(1, 1, 3)));
  const DeviceMatrix y(1, 1, {});
  DenseArgs<float> a;
  a.M = 1, a.x = {x.view().data, 0}, a.W = {W.view().data, 0, 1, 4};
  a.addend = {addend.view().data, 0}, a.y = {y.view().data, -7}, a.activation = Activation::elu;
  cuda::dense(a, Stream());
  EXPECT_FALSE(std::isnan(y.read()(0, 0)));
  const DeviceMatrix grad_W(1, 4, {});
  cuda::dense_weight_gradient({1, 1, 4, a.addend, a.x, false, {grad_W.view().data, 0}}, Stream());
  EXPECT_FALSE(std::isnan(grad_W.read()(0, 3)));
}

TEST(CudaDense, NamesArgumentValueAndRule) {
  const DeviceMatrix x(2, 4, {}), W(3, 4, {}), y(2, 3, {});
  const auto expect = [&](auto change, const char* message) {
    DenseArgs<float> args;
    args.M = 2, args.x = x.view(), args.W = {W.view().data, 4, 3, 4}, args.y = y.view();
    args.precision = Precision::bfloat16;  // few rows in float are not cuBLASLt's
    change(args);
    EXPECT_THAT([&] { cuda::dense(args, Stream()); },
                testing::ThrowsMessage<InvalidArgument>("dense: " + std::string(message)));
  };
  expect([](auto& a) { a.M = -1; }, "M = -1, must be from 0 to 2^31 - 1");
  expect([](auto& a) { a.W.data = nullptr; }, "W.data is null, must point to memory");
  expect([](auto& a) { a.W.N = 0; }, "W.N = 0, must be >= 1");
  expect([](auto& a) { a.W.K = -2; }, "W.K = -2, must be >= 1");
  expect([](auto& a) { a.W.N = a.W.K = 1 << 16; }, "W.N = 65536, must be <= (2^31 - 1) / W.K");
  expect([](auto& a) { a.W.stride = 3; }, "W.stride = 3, must be >= 4 (a row's length)");
  expect([](auto& a) { a.W.transposed = true, a.W.stride = 2; },
         "W.stride = 2, must be >= 3 (a row's length)");
  expect([](auto& a) { a.activation = static_cast<Activation>(-1); },
         "activation = -1, must be an Activation");
  expect([](auto& a) { a.x.data = nullptr; }, "x is null, must point to memory");
  expect([](auto& a) { a.x.stride = 0; }, "x.stride = 0, must be >= 4 (a row's length)");
  expect([](auto& a) { a.y.stride = 2; }, "y.stride = 2, must be >= 3 (a row's length)");
  expect(
      [](auto& a) {
        a.activated = {a.x.data, 2};
      },
      "activated.stride = 2, must be >= 3 (a row's length)");
  expect([](auto& a) { a.activated = a.y; }, "activated = y, must be other memory");
  expect(
      [](auto& a) {
        a.addend = {a.y.data, 0};
      },
      "addend.stride = 0, must be 0 or >= 3 (a row's length)");
}

#if defined(SEQVAE_EMULATED)

// What the emulator's own cuBLASLt sees.
TEST(CudaDense, IsWatchedByTheEmulator) {
  const DeviceMatrix x = std::move(DeviceMatrix(2, 4, {}).write(normals(2, 4, 1)));
  const DeviceMatrix W(3, 4, {}), y(2, 3, {});  // W was never written
  DenseArgs<float> args;
  args.M = 2, args.x = x.view(), args.W = {W.view().data, 4, 3, 4}, args.y = y.view();
  args.precision = Precision::bfloat16;  // few rows in float are not cuBLASLt's
  const auto fault = [&] {
    emulation::take_reports();
    EXPECT_THROW(cuda::dense(args, Stream()), CudaError);
    const auto reports = emulation::take_reports();
    return reports.size() == 1 ? reports[0] : emulation::Report{};
  };
  emulation::Report report = fault();
  EXPECT_EQ(report.fault, emulation::Fault::uninitialised);
  EXPECT_THAT(report.text, testing::StartsWith("cublasLtMatmul, block (0,0,0) thread (0,0,0) at "));
  EXPECT_THAT(report.text, testing::HasSubstr("dense.cu:"));
  const DeviceMatrix written = std::move(DeviceMatrix(3, 4, {}).write(normals(3, 4, 2)));
  args.W.data = written.view().data;
  args.M = 3, args.y.data = DeviceMatrix(3, 3, {}).view().data;  // x has 2 rows; y was freed
  report = fault();
  EXPECT_EQ(report.fault, emulation::Fault::out_of_range);
}

TEST(CudaDense, IsOneLaunchUnlessItMustBeMore) {
  Precision precision = Precision::bfloat16;
  const auto launches = [&](bool bias, bool one_row, Activation activation) {
    const DeviceMatrix x = std::move(DeviceMatrix(2, 4, {}).write(normals(2, 4, 1)));
    const DeviceMatrix W = std::move(DeviceMatrix(3, 4, {}).write(normals(3, 4, 2)));
    const DeviceMatrix row = std::move(DeviceMatrix(1, 3, {}).write(normals(1, 3, 3)));
    const DeviceMatrix y(2, 3, {});
    DenseArgs<float> a;
    a.M = 2, a.x = x.view(), a.W = {W.view().data, 4, 3, 4}, a.y = y.view();
    if (bias) a.bias = row.view().data;
    if (one_row) a.addend = {row.view().data, 0};
    a.activation = activation, a.precision = precision;
    emulation::take_traffic();
    cuda::dense(a, Stream());
    return emulation::take_traffic().size();
  };
  EXPECT_EQ(launches(false, false, Activation::identity), 1u);
  EXPECT_EQ(launches(true, false, Activation::identity), 1u);
  EXPECT_EQ(launches(false, true, Activation::identity), 1u);
  EXPECT_EQ(launches(true, true, Activation::identity), 2u);
  EXPECT_EQ(launches(true, false, Activation::relu), 2u);
  precision = Precision::float32;
  EXPECT_EQ(launches(true, true, Activation::relu), 1u);
}

TEST(CudaProducts, AreOneLaunchOfAKind) {
  const auto launches = [&](std::vector<std::int64_t> rows) {
    const DeviceMatrix x = std::move(DeviceMatrix(70, 4, {}).write(normals(70, 4, 1)));
    const DeviceMatrix W = std::move(DeviceMatrix(3, 4, {}).write(normals(3, 4, 2)));
    std::vector<DeviceMatrix> y;
    std::vector<DenseArgs<float>> calls;
    for (const std::int64_t M : rows) {
      DenseArgs<float> a;
      a.M = M, a.x = x.view(), a.W = {W.view().data, 4, 3, 4};
      a.y = y.emplace_back(70, 3, Placement{}).view();
      calls.push_back(a);
    }
    emulation::take_traffic();
    cuda::products({calls.data(), static_cast<std::int64_t>(calls.size())}, Stream());
    return emulation::take_traffic().size();
  };
  EXPECT_EQ(launches({1, 5, 64}), 1u);
  EXPECT_EQ(launches({70, 65}), 1u);
  EXPECT_EQ(launches({70, 65, 1, 0, 2}), 2u);
  EXPECT_EQ(launches({70, 1}), 2u);
}

TEST(CudaDense, IsRefusedByTheEmulatorWhereCublasWould) {
  cublasLtHandle_t handle = nullptr;
  ASSERT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
  const DeviceMatrix a = std::move(DeviceMatrix(5, 4, {}).write(normals(5, 4, 1)));
  const DeviceMatrix d(4, 4, {}), workspace(1, 16, {});
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t square, overlapping, flat, spaced;
  cublasLtMatmulPreferenceOpaque_t preference;
  cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  cublasLtMatrixLayoutInit(&square, CUDA_R_32F, 4, 4, 4);
  cublasLtMatrixLayoutInit(&overlapping, CUDA_R_32F, 4, 4, 3);
  cublasLtMatrixLayoutInit(&flat, CUDA_R_32F, 3, 4, 4);
  cublasLtMatrixLayoutInit(&spaced, CUDA_R_32F, 4, 4, 5);
  cublasLtMatmulPreferenceInit(&preference);
  const std::uint64_t bytes = 64;
  EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(
                &preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, 4),
            CUBLAS_STATUS_INVALID_VALUE);
  cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                       &bytes, sizeof bytes);
  cublasLtMatmulHeuristicResult_t best;
  int found = 0;
  const auto search = [&](cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t C) {
    return cublasLtMatmulAlgoGetHeuristic(handle, &operation, A, &square, C, &square, &preference,
                                          1, &best, &found);
  };
  EXPECT_EQ(search(&overlapping, &square), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(search(&flat, &square), CUBLAS_STATUS_INVALID_VALUE);
  ASSERT_EQ(search(&square, &square), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(best.workspaceSize, 64u);
  const float one = 1, zero = 0;
  const auto multiply = [&](std::int64_t offset, cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t C,
                            void* memory, std::size_t given) {
    return cublasLtMatmul(handle, &operation, &one, a.view().data + offset, A, a.view().data,
                          &square, &zero, d.view().data, C, d.view().data, &square, &best.algo,
                          memory, given, nullptr);
  };
  void* const memory = workspace.view().data;
  EXPECT_EQ(multiply(0, &square, &square, memory, 64), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(multiply(0, &square, &square, memory, 63), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(multiply(0, &square, &square, nullptr, 64), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(multiply(1, &square, &square, memory, 64), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(multiply(0, &spaced, &square, memory, 64), CUBLAS_STATUS_INVALID_VALUE);
  ASSERT_EQ(search(&square, &spaced), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(multiply(0, &square, &spaced, memory, 64), CUBLAS_STATUS_INVALID_VALUE);  // in place
  EXPECT_EQ(cublasLtDestroy(handle), CUBLAS_STATUS_SUCCESS);
}

#endif

}  // namespace
}  // namespace seqvae::test

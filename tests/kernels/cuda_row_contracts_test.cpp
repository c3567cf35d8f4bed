// What every row-wise contract promises, of its CUDA kernel, over all of them: float errs at most
// twice as much as the plain float loop; a row's bits hang on neither its place, its stride, its
// alignment, the schedule nor a captured graph; nothing is read or written outside the rows.
#include "hwy/targets.h"
#include "seqvae/core/error.hpp"
#include "seqvae/kernels/likelihood.hpp"
#include "tests/kernels/cuda_parity.hpp"
#include "tests/kernels/row_contracts.hpp"

namespace seqvae::test {
namespace {

using DeviceMatrices = std::vector<DeviceMatrix>;

/// A contract's inputs, on the host.
struct Given {
  std::int64_t rows, D;
  std::vector<Matrix<float>> inputs;

  Given(const Contract& contract, std::int64_t rows_, std::int64_t D_)
      : rows(rows_), D(D_), inputs(inputs_of<float>(contract, rows_, D_)) {}
};

template <class Real>
std::vector<Matrix<Real>> on_cpu(const Contract& contract, const Given& given) {
  std::vector<Matrix<Real>> inputs;
  for (const Matrix<float>& m : given.inputs) {
    inputs.emplace_back(m.rows(), m.D());
    inputs.back().fill([&](auto r, auto d) { return m(r, d); });
  }
  auto outputs = outputs_of<Real>(contract, given.rows, given.D);
  run(contract, given.rows, given.D, 0, inputs, outputs);
  return outputs;
}

struct CudaRun {
  Placement place;
  How how = How::direct;
  std::size_t shared = ~std::size_t{0};          ///< the input whose first row serves for all
  std::size_t over = ~std::size_t{0}, from = 0;  ///< the input that output `from` stands upon
  std::size_t without = ~std::size_t{0};         ///< the output that is not asked for
};

std::vector<Matrix<float>> on_cuda(const Contract& contract, const Given& given, CudaRun how = {}) {
  DeviceMatrices in, out;
  for (std::size_t i = 0; i < given.inputs.size(); ++i) {
    const Matrix<float>& m = given.inputs[i];
    in.emplace_back(m.rows(), m.D(), how.place, i == how.shared).write(m);
  }
  // Outputs are aligned otherwise than inputs.
  const Placement place{how.place.offset == 0 ? 0 : how.place.offset + 1, how.place.gap};
  for (const int factor : contract.outputs) {
    out.emplace_back(given.rows, width(factor, given.D), place);
  }
  std::vector<Rows<const float>> from;
  std::vector<Rows<float>> to;
  for (const DeviceMatrix& m : in) from.push_back(m.view());
  for (const DeviceMatrix& m : out) to.push_back(m.view());
  if (how.over < in.size()) to[how.from] = in[how.over].view();
  if (how.without < to.size()) to[how.without] = {};

  const RowNoise noise(given.rows);
  const DeviceArray<std::uint32_t> ids(noise.sequence_id);
  const DeviceArray<std::uint64_t> step(std::vector<std::uint64_t>{noise.step});
  const auto enqueue = [&](Stream stream) {
    contract.run_cuda(given.rows, given.D, noise.args<float>(ids.data(), step.data()), from, to,
                      stream);
  };
  if (how.how == How::direct) {
    enqueue(Stream());
    cuda::synchronize(Stream());
  } else {
    const Stream stream = cuda::create_stream();
    {
      cuda::Graph graph(stream, enqueue);
      graph.replay();
      graph.replay();
      cuda::synchronize(stream);
    }
    cuda::destroy_stream(stream);
  }
  std::vector<Matrix<float>> results;
  for (std::size_t o = 0; o < out.size(); ++o) {
    const bool stands_over = how.over < in.size() && o == how.from;
    results.push_back((stands_over ? in[how.over] : out[o]).read());
  }
  return results;
}

void expect_same_bits(const std::vector<Matrix<float>>& actual,
                      const std::vector<Matrix<float>>& expected, const char* what) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    test::expect_same_bits(actual[i], expected[i], what);
  }
}

class CudaRowContract : public testing::TestWithParam<std::size_t> {
 protected:
  const Contract& contract() const { return row_contracts()[GetParam()]; }
};

TEST_P(CudaRowContract, FloatErrsAtMostTwiceAsMuchAsThePlainLoop) {
  // Each remainder of a quad. The last three: rows of which a lane keeps four quads, eight, and
  // none.
  constexpr std::int64_t kShapes[][2] = {{40, 75}, {300, 3}, {23, 33}, {19, 70},
                                         {41, 32}, {5, 300}, {4, 700}, {3, 1100}};
  for (const auto& [rows, D] : kShapes) {
    const Given given(contract(), rows, D);
    const auto oracle = on_cpu<double>(contract(), given);
    const auto actual = on_cuda(contract(), given);
    hwy::SetSupportedTargetsForTest(HWY_STATIC_TARGET);  // no fma: the plain loops
    const auto plain = on_cpu<float>(contract(), given);
    hwy::SetSupportedTargetsForTest(0);
    for (std::size_t i = 0; i < oracle.size(); ++i) {
      expect_no_worse(actual[i], plain[i], oracle[i], i);
    }
  }
}

TEST_P(CudaRowContract, IsNanAndInfiniteWhereTheEquationsAre) {
  for (std::size_t i = 0; i < contract().inputs.size(); ++i) {
    const Filling values = contract().inputs[i].values;
    if (values == Filling::one_hot || values == Filling::binary || values == Filling::counts)
      continue;
    Given given(contract(), 4, 35);
    const std::int64_t last = given.inputs[i].D() - 1;
    given.inputs[i](1, last) = std::nanf("");
    given.inputs[i](2, last / 2) = 90;  // exp(90) is infinite in float
    const auto oracle = on_cpu<double>(contract(), given);
    const auto plain = on_cpu<float>(contract(), given);
    const auto actual = on_cuda(contract(), given);
    for (std::size_t o = 0; o < oracle.size(); ++o) {
      for (std::int64_t r = 0; r < oracle[o].rows(); ++r) {
        for (std::int64_t d = 0; d < oracle[o].D(); ++d) {
          const bool nan = std::isnan(actual[o](r, d)), infinite = std::isinf(actual[o](r, d));
          // Float may overflow where double does not, but no otherwise than the plain loops.
          EXPECT_EQ(nan, std::isnan(plain[o](r, d))) << "input " << i << ", row " << r;
          EXPECT_EQ(infinite, std::isinf(plain[o](r, d))) << "input " << i << ", row " << r;
          if (r != 2) {
            EXPECT_EQ(nan, std::isnan(oracle[o](r, d))) << "input " << i;
          }
        }
      }
    }
  }
}

TEST_P(CudaRowContract, HasTheSameBitsUnderEverySchedule) {
  const Given given(contract(), 11, 33);
  const auto expected = on_cuda(contract(), given);
  for_each_schedule(
      [&] { expect_same_bits(on_cuda(contract(), given), expected, "another schedule"); });
  expect_same_bits(on_cuda(contract(), given, {{}, How::captured}), expected, "replayed");
}

TEST_P(CudaRowContract, HasTheSameBitsWhateverItsPlace) {
  for (const std::int64_t D : {1, 4, 31, 32, 64, 130, 512, 1028}) {
    const Given given(contract(), 3, D);
    const auto expected = on_cuda(contract(), given);
    for (const Placement place : {Placement{1, 0}, {0, 1}, {3, 37}, {4, 4}}) {
      expect_same_bits(on_cuda(contract(), given, {place}), expected, "another place");
    }
  }
}

TEST_P(CudaRowContract, GivesARowAloneTheBitsItHasInCompany) {
  for (const std::int64_t D : {1, 5, 33}) {
    const auto alone = on_cuda(contract(), Given(contract(), 1, D));
    const auto company = on_cuda(contract(), Given(contract(), 300, D));
    for (std::size_t o = 0; o < alone.size(); ++o) {
      for (std::int64_t d = 0; d < alone[o].D(); ++d) {
        EXPECT_EQ(std::bit_cast<std::uint32_t>(alone[o](0, d)),
                  std::bit_cast<std::uint32_t>(company[o](0, d)))
            << "D = " << D << ", d = " << d;
      }
    }
  }
}

TEST_P(CudaRowContract, ReadsOneRowForAllWhereTheStrideIsZero) {
  const bool one_hot = contract().inputs[0].values == Filling::one_hot;
  for (std::size_t shared = one_hot ? 1 : 0; shared < contract().inputs.size(); ++shared) {
    Given given(contract(), 4, 35);
    Matrix<float>& m = given.inputs[shared];
    m.fill([&](auto, auto d) { return m(0, d); });
    const auto expected = on_cuda(contract(), given);
    CudaRun how;
    how.shared = shared;
    expect_same_bits(on_cuda(contract(), given, how), expected, "one row for all");
  }
}

TEST_P(CudaRowContract, MayWriteOverAnInputOfTheSameWidth) {
  const Given given(contract(), 3, 37);
  const auto expected = on_cuda(contract(), given);
  for (std::size_t i = 0; i < contract().inputs.size(); ++i) {
    for (std::size_t o = 0; o < contract().outputs.size(); ++o) {
      if (contract().inputs[i].factor != 1 || contract().outputs[o] != 1) continue;
      CudaRun how;
      how.over = i, how.from = o;
      const auto actual = on_cuda(contract(), given, how);
      test::expect_same_bits(actual[o], expected[o], "written over an input");
    }
  }
}

TEST_P(CudaRowContract, MakesTheOthersWhereAnOptionalOutputIsNotAskedFor) {
  const Given given(contract(), 3, 37);
  const auto expected = on_cuda(contract(), given);
  for (std::size_t left_out = 0; left_out < expected.size(); ++left_out) {
    CudaRun how;
    how.without = left_out;
    std::vector<Matrix<float>> actual;
    try {
      actual = on_cuda(contract(), given, how);
    } catch (const InvalidArgument&) {  // it is not optional
      continue;
    }
    for (std::size_t o = 0; o < expected.size(); ++o) {
      if (o != left_out) test::expect_same_bits(actual[o], expected[o], "one output not asked for");
    }
  }
}

TEST_P(CudaRowContract, HasNothingToDoWithoutRowsOrColumns) {
  on_cuda(contract(), Given(contract(), 0, 5));
  const auto sums = on_cuda(contract(), Given(contract(), 2, 0));
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (contract().outputs[i] != 0) continue;
    EXPECT_EQ(sums[i](0, 0), 0) << "an empty sum";
    EXPECT_EQ(sums[i](1, 0), 0) << "an empty sum";
  }
}

// The points at which a function of one component has a kink, and its gradient a step.
TEST(CudaRowContractKinks, BelongToTheSideThatTheEquationsSay) {
  constexpr float kKinks[] = {0, -0.5f, 0.75f, -15, 15, -20};
  for (const Contract& contract : row_contracts()) {
    const Input& first = contract.inputs[0];
    const bool real = first.values == Filling::normal || first.values == Filling::wide;
    if (!real || contract.inputs.size() > 2 || contract.outputs != std::vector{1}) continue;
    Given given(contract, 6, 9);
    given.inputs[0].fill([&](auto r, auto d) { return kKinks[(r + d) % std::ssize(kKinks)]; });
    const auto oracle = on_cpu<double>(contract, given);
    const auto actual = on_cuda(contract, given);
    for (std::int64_t r = 0; r < given.rows; ++r) {
      for (std::int64_t d = 0; d < oracle[0].D(); ++d) {
        const double expected = oracle[0](r, d);
        EXPECT_NEAR(actual[0](r, d), expected, 1e-5 * std::max(1.0, std::abs(expected)))
            << contract.name << " at " << given.inputs[0](r, d);
      }
    }
  }
}

// log x! plus 1, since l is 0: counts small and large, and what is no count.
TEST(CudaPoisson, HasTheLogarithmOfTheFactorial) {
  const float counts[] = {0,    1,     2,     3,    4,    5,      6,     7,
                          12,   30,    100,   170,  1e3f, 1e5f,   1e7f,  3e9f,
                          0.5f, 1.25f, 2.75f, 3.5f, 4.5f, 10.25f, 1e-6f, 0.999f};
  const std::int64_t rows = std::size(counts);
  Matrix<float> x(rows, 1), l(rows, 1);
  x.fill([&](auto r, auto) { return counts[r]; });
  l.fill([](auto, auto) { return 0; });
  const Problem problem{inputs_of(std::move(x), std::move(l)), {{rows, 1}}, {}, {}};
  const auto build = [&](auto real, auto in, auto out, auto) {
    using Real = decltype(real);
    return LikelihoodArgs<Real>{Likelihood::poisson, rows, 1, in(0), {}, in(1), out(0)};
  };
  const auto oracle = run_cpu<double>(problem, build, [](const auto& a) { cpu::likelihood(a); });
  const auto actual = run_cuda(problem, build, cuda::likelihood);
  for (std::int64_t r = 0; r < rows; ++r) {
    const double expected = oracle[0](r, 0);  // -1 - log x!
    EXPECT_NEAR(actual[0](r, 0), expected, 4e-7 * std::abs(expected)) << counts[r];
  }
}

#if defined(SEQVAE_EMULATED)

/// Asked of global memory, each input and output once but for what a lane asks for of its whole
/// row, which the caches hold: the columns that are one number, and the place, id and step of its
/// noise.
TEST_P(CudaRowContract, MovesTheBytesOfItsFloor) {
  const Contract& contract = this->contract();
  const std::int64_t rows = 96, D = 192;
  const Given given(contract, rows, D);
  std::int64_t floor = 0, widest = 0, columns = 0;
  const auto count = [&](int factor) {
    floor += 4 * rows * width(factor, D);
    widest = std::max(widest, width(factor, D));
    columns += factor == 0 ? 1 : 0;
  };
  for (const Input& input : contract.inputs) count(input.factor);
  for (const int factor : contract.outputs) count(factor);
  emulation::take_traffic();
  on_cuda(contract, given);
  std::int64_t asked = 0, launches = 0;
  for (const emulation::Traffic& traffic : emulation::take_traffic()) {
    asked += traffic.bytes_read + traffic.bytes_written, ++launches;
  }
  const std::int64_t lanes = rows * (widest + 3) / 4;
  const bool draws = contract.name.find("sample") != std::string::npos ||
                     contract.name.find("dropout") != std::string::npos;
  const std::int64_t cached = lanes * (4 * columns + (draws ? 12 : 0));
  EXPECT_LE(static_cast<double>(asked - std::min(cached, asked)), 1.15 * static_cast<double>(floor))
      << asked << " bytes in " << launches << " launches, floor " << floor << ", cached at most "
      << cached;
  EXPECT_GE(3 * asked, floor) << "the floor is not one";  // masked classes, say, are not read
  RecordProperty("bytes_over_floor",
                 std::to_string(static_cast<double>(asked) / static_cast<double>(floor)));
}

#endif

INSTANTIATE_TEST_SUITE_P(All, CudaRowContract,
                         testing::Range<std::size_t>(0, row_contracts().size()),
                         [](const auto& info) { return row_contracts()[info.param].name; });

}  // namespace
}  // namespace seqvae::test

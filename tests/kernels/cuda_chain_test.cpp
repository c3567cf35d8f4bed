// The chain as one CUDA kernel against the contracts one by one on the CPU.
#include <gmock/gmock.h>

#include "seqvae/core/error.hpp"
#include "tests/kernels/chain_problem.hpp"
#include "tests/kernels/cuda_parity.hpp"

namespace seqvae::test {
namespace {

struct ChainCase {
  ChainShape shape;
  unsigned cluster;
};

std::string name_of_chain(const testing::TestParamInfo<ChainCase>& info) {
  const auto& [s, cluster] = info.param;
  return "T" + std::to_string(s.T) + "_rows" + std::to_string(s.rows) + "_H" + std::to_string(s.H) +
         "_D" + std::to_string(s.D) + "_K" + std::to_string(s.K) + (s.time < 0 ? "_reverse" : "") +
         (s.ragged ? "_ragged" : "") + "_cluster" + std::to_string(cluster);
}

/// Memory of a problem on the device.
class OnDevice {
 public:
  explicit OnDevice(ChainProblem<float>& problem)
      : W_(problem.W),
        bias_(problem.bias),
        U_(problem.U),
        V_(problem.V),
        x_(problem.x),
        h0_(problem.h0),
        zeros_(problem.zeros),
        goes_on_(problem.goes_on),
        ids_(problem.ids),
        origins_(problem.origins),
        offsets_(problem.offsets),
        step_(std::vector<std::uint64_t>{problem.step}),
        out_(static_cast<std::size_t>(problem.s.T * problem.s.rows * (problem.s.H + problem.s.D))),
        table_(problem.table(
            {W_.data(), bias_.data(), U_.data(), V_.data(), x_.data(), h0_.data(), zeros_.data(),
             goes_on_.data(), ids_.data(), origins_.data(), offsets_.data(), step_.data(),
             out_.data(), out_.data() + problem.s.T * problem.s.rows * problem.s.H},
            args)) {
    args.table = table_.data();
  }
  std::vector<float> read(Stream stream = Stream()) const { return out_.read(stream); }

  ChainArgs<float> args;

 private:
  DeviceArray<float> W_, bias_, U_, V_, x_, h0_, zeros_, goes_on_;
  DeviceArray<std::uint32_t> ids_;
  DeviceArray<std::int32_t> origins_, offsets_;
  DeviceArray<std::uint64_t> step_;
  DeviceArray<float> out_;
  DeviceArray<ChainStage<float>> table_;
};

std::vector<float> run_on_cuda(const ChainCase& c) {
  ChainProblem<float> problem(c.shape);
  OnDevice device(problem);
  device.args.cluster = c.cluster;
  cuda::chain(device.args, Stream());
  cuda::synchronize(Stream());
  return device.read();
}

Matrix<float> column(const std::vector<float>& values) {
  Matrix<float> matrix(static_cast<std::int64_t>(values.size()), 1);
  matrix.fill([&](auto r, auto) { return values[static_cast<std::size_t>(r)]; });
  return matrix;
}

/// Returns what CUDA found.
std::vector<float> expect_parity(const ChainCase& c) {
  const std::vector<double> exact = run_on_cpu<double>(c.shape);
  Matrix<double> oracle(static_cast<std::int64_t>(exact.size()), 1);
  oracle.fill([&](auto r, auto) { return exact[static_cast<std::size_t>(r)]; });
  const std::vector<float> found = run_on_cuda(c);
  expect_no_worse(column(found), column(run_on_cpu<float>(c.shape)), oracle, 0);
  return found;
}

class CudaChain : public testing::TestWithParam<ChainCase> {};

TEST_P(CudaChain, HasItsParity) {
  const std::vector<float> found = expect_parity(GetParam());
  for_each_schedule([&] {
    expect_same_bits(column(run_on_cuda(GetParam())), column(found), "another schedule");
  });
}

// Several rows a cluster, of 2 to 8, and products of either form whose weights do not stay.
TEST(CudaChain, ReadsWeightsThatDoNotStay) {
  for (const std::int64_t rows : {10, 20, 30, 60}) expect_parity({{1, rows, 156, 150}, 2});
  expect_parity({{1, 10, 155, 149}, 2});
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, CudaChain,
    testing::Values(
        ChainCase{{3, 1, 4, 4}, 1}, ChainCase{{3, 9, 8, 4}, 1}, ChainCase{{3, 2, 12, 8}, 8},
        ChainCase{{3, 1, 7, 3}, 8}, ChainCase{{3, 9, 9, 5, -1}, 4},
        ChainCase{{3, 18, 20, 6, 1, 3}, 2}, ChainCase{{2, 3, 33, 1, -1}, 0},
        ChainCase{{5, 5, 8, 4, 1, 1, true}, 1}, ChainCase{{4, 6, 8, 4, -1, 2, true}, 2},
        ChainCase{{4, 10, 8, 3, -1, 1, true}, 2}, ChainCase{{5, 10, 9, 4, 1, 1, true}, 1},
        // Results alternate in a cluster of 16; weights that stay and that do not.
        ChainCase{{2, 2, 24, 4}, 16}, ChainCase{{2, 2, 112, 4}, 1}, ChainCase{{2, 2, 109, 3}, 1},
        // 3, 6 and 8 rows a cluster.
        ChainCase{{2, 24, 8, 4}, 2}, ChainCase{{2, 42, 8, 4, -1}, 2}, ChainCase{{2, 61, 8, 4}, 2}),
    name_of_chain);

TEST(CudaChain, ReplaysFromAGraphWithWhatThenStandsInMemory) {
  const ChainCase c{{4, 3, 8, 4}, 2};
  ChainProblem<float> problem(c.shape);
  OnDevice device(problem);
  device.args.cluster = c.cluster;
  const std::vector<float> direct = run_on_cuda(c);
  const Stream stream = cuda::create_stream();
  {
    cuda::Graph graph(stream, [&](Stream s) { cuda::chain(device.args, s); });
    for (int i = 0; i < 2; ++i) {
      graph.replay();
      expect_same_bits(column(device.read(stream)), column(direct), "replayed");
    }
  }
  cuda::destroy_stream(stream);
}

TEST(CudaChain, RefusesWhatNoBlockHolds) {
  ChainArgs<float> args;
  args.T = 1, args.rows = 1, args.columns = 100000;
  EXPECT_FALSE(cuda::chain_fits(args));
  EXPECT_THROW(cuda::chain(args, Stream()), InvalidArgument);
}

TEST(CudaChain, RefusesAProductWithASlope) {
  DenseArgs<float> product;
  float data[4] = {};
  product.M = 1, product.x = {data, 1}, product.W = {data, 1, 1, 1}, product.y = {data, 1};
  product.activated = {data, 1};
  ChainArgs<float> args;
  args.T = args.rows = args.stages = 1;
  ChainStage<float> stage = chain_stage(product, product, ChainFrame<float>());
  EXPECT_THAT([&] { arrange_chain(&stage, args); },
              testing::ThrowsMessage<InvalidArgument>(
                  "chain: activated of a product = given, must be a stage of its own"));
}

TEST(CudaChain, DoesNothingWithoutRowsOrSteps) {
  ChainArgs<float> args;
  args.rows = 5;
  cuda::chain(args, Stream());
  args.rows = 0, args.T = 5;
  cuda::chain(args, Stream());
  cuda::synchronize(Stream());
}

}  // namespace
}  // namespace seqvae::test

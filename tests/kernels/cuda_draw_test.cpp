// One-hot draws, draws of observations and dropout on CUDA: the CPU's draws, in every layout.
#include "seqvae/kernels/categorical.hpp"
#include "seqvae/kernels/dropout.hpp"
#include "seqvae/kernels/likelihood.hpp"
#include "tests/kernels/cuda_sample_layouts.hpp"

namespace seqvae::test {
namespace {

class CudaDraw : public testing::TestWithParam<SampleShape> {
 protected:
  /// likelihood_sample takes no given noise.
  static SampleShape drawn() {
    SampleShape shape = GetParam();
    shape.given = false;
    return shape;
  }
  /// Bit for bit, under every schedule and from a graph too. A draw is a comparison with a uniform:
  /// where the device's expf errs otherwise than the host's, about one in 1e7 may fall otherwise.
  template <class Build, class Cpu, class Cuda>
  void expect_draws_of_cpu(const Problem& problem, Build build, Cpu cpu, Cuda cuda) {
    const auto expected = run_cpu<float>(problem, build, cpu);
    expect_same_bits(run_cuda(problem, build, cuda)[0], expected[0], "draws");
    for_each_schedule(
        [&] { expect_same_bits(run_cuda(problem, build, cuda)[0], expected[0], "a schedule"); });
    expect_same_bits(run_cuda(problem, build, cuda, How::captured)[0], expected[0], "a graph");
  }
};
INSTANTIATE_TEST_SUITE_P(Shapes, CudaDraw, kSampleShapes, sample_name);

TEST_P(CudaDraw, OfObservationsAreTheCpus) {
  const SampleSetup setup(drawn());
  for (const Likelihood kind :
       {Likelihood::bernoulli, Likelihood::categorical, Likelihood::poisson}) {
    const auto build = [&](auto real, auto in, auto out, const LayoutPointers& p) {
      using Real = decltype(real);
      return LikelihoodSampleArgs<Real>{kind, setup.shape.D, setup.noise<Real>(p, in(0)), in(1),
                                        out(0)};
    };
    expect_draws_of_cpu(
        setup.problem(1, 1), build, [](const auto& a) { cpu::likelihood_sample(a); },
        cuda::likelihood_sample);
  }
}

TEST_P(CudaDraw, OfLargePoissonRatesAreTheCpus) {
  const SampleSetup setup(drawn());
  Problem problem = setup.problem(1, 1);
  Matrix<float>& logits = problem.inputs[1].values;
  logits.fill([&](auto r, auto d) { return 4.0 + logits(r, d); });  // rates astride 64
  const auto build = [&](auto real, auto in, auto out, const LayoutPointers& p) {
    using Real = decltype(real);
    return LikelihoodSampleArgs<Real>{Likelihood::poisson, setup.shape.D,
                                      setup.noise<Real>(p, in(0)), in(1), out(0)};
  };
  expect_draws_of_cpu(
      problem, build, [](const auto& a) { cpu::likelihood_sample(a); }, cuda::likelihood_sample);
}

TEST_P(CudaDraw, OneHotIsTheCpus) {
  const SampleSetup setup(GetParam());
  constexpr std::int64_t kClasses = 5;
  Problem problem = setup.problem(1, 1);  // a group for each component, its uniform the noise
  problem.inputs[0].values.fill([](auto r, auto g) { return std::fmod(0.37 * r + 0.11 * g, 1.0); });
  const Matrix<float> padding = std::move(problem.inputs[1].values);
  problem.inputs.pop_back();
  problem.inputs.push_back({Matrix<float>(setup.rows, setup.shape.D * kClasses)});
  problem.inputs[1].values.fill([&](auto r, auto c) {  // a class of no weight; NaN in padding
    return setup.shape.D > 0 && std::isnan(padding(r, 0)) ? NAN : std::fmod(3.0 * r + c, 4.0) / 4.0;
  });
  problem.outputs[0].D *= kClasses;
  const auto build = [&](auto real, auto in, auto out, const LayoutPointers& at) {
    using Real = decltype(real);
    return OneHotSampleArgs<Real>{setup.shape.D, kClasses, setup.noise<Real>(at, in(0)), in(1),
                                  out(0)};
  };
  expect_draws_of_cpu(
      problem, build, [](const auto& a) { cpu::one_hot_sample(a); }, cuda::one_hot_sample);
}

TEST_P(CudaDraw, DropoutKeepsWhatTheCpuKeeps) {
  const SampleSetup setup(GetParam());
  Problem problem = setup.problem(1, 1);
  problem.inputs[0].values.fill([](auto r, auto d) { return std::fmod(0.37 * r + 0.11 * d, 1.0); });
  const auto build = [&](auto real, auto in, auto out, const LayoutPointers& p) {
    using Real = decltype(real);
    return DropoutArgs<Real>{setup.shape.D, setup.noise<Real>(p, in(0)), Real(0.25), in(1), out(0)};
  };
  expect_draws_of_cpu(
      problem, build, [](const auto& a) { cpu::dropout(a); }, cuda::dropout);
}

}  // namespace
}  // namespace seqvae::test

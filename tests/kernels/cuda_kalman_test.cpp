// The Kalman contracts on CUDA against their CPU twins: all sizes that they are compiled for, all
// forms, every layout.
#include "tests/kernels/cuda_kalman.hpp"

#include "seqvae/core/error.hpp"

namespace seqvae::test::kalman {
namespace {

struct KalmanCase {
  KalmanShape shape;
  KalmanForm form;
  friend void PrintTo(const KalmanCase& c, std::ostream* out) {
    constexpr const char* names[] = {"covariance", "joseph", "square_root"};
    PrintTo(c.shape, out);
    *out << "_" << names[static_cast<int>(c.form)];
  }
};

constexpr KalmanShape kKalmanShapes[] = {
    // T, B, n, m, U, masked, full_R, varying, ragged, packed, diffuse
    KalmanShape{1, 1, 1, 1, 0, false, false, false, false, false, 0},
    KalmanShape{4, 19, 2, 1, 0, false, false, false, true, false, 0},
    KalmanShape{7, 3, 2, 4, 2, true, true, true, true, false, 0},
    KalmanShape{5, 9, 4, 2, 1, true, false, true, true, true, 0},
    KalmanShape{6, 3, 3, 3, 1, false, true, false, true, true, 0},
    KalmanShape{5, 5, 7, 3, 2, true, true, false, true, false, 0},
    KalmanShape{3, 3, 13, 5, 0, true, true, true, false, false, 0},
    KalmanShape{3, 2, 32, 9, 1, true, false, false, false, false, 0},
    KalmanShape{3, 2, 33, 7, 1, true, true, false, true, true, 0}};

/// Those whose runs take no time.
bool is_small(const KalmanShape& shape) { return shape.n <= 4 && shape.B <= 9; }

class CudaKalman : public testing::TestWithParam<KalmanShape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, CudaKalman, testing::ValuesIn(kKalmanShapes),
                         testing::PrintToStringParamName());

TEST_P(CudaKalman, SmootherHasItsParity) {
  expect_parity(
      KalmanProblem(GetParam()),
      [](auto& calls) {
        calls.filter(KalmanForm::joseph);
        calls.smooth();
      },
      is_small(GetParam()));
}

TEST_P(CudaKalman, SmootherHasItsParityInChunks) {
  KalmanShape shape = GetParam();
  shape.T = is_small(shape) ? 11 : 5;
  for (const std::int64_t chunk : {1, 2, 5}) {
    if (chunk != 2 && !is_small(shape)) continue;
    SCOPED_TRACE(chunk);
    expect_parity(
        KalmanProblem(shape),
        [&](auto& calls) {
          calls.filter(KalmanForm::joseph);
          calls.smooth(false, chunk);
        },
        chunk == 2 && is_small(shape));
  }
}

TEST_P(CudaKalman, BackwardHasItsParity) {
  const KalmanProblem p(GetParam());
  for (const bool shared : {true, false}) {
    SCOPED_TRACE(shared ? "shared" : "each sequence");
    expect_parity(
        p,
        [&](auto& calls) {
          calls.filter(KalmanForm::joseph);
          calls.differentiate(true, shared, GetParam().varying);
        },
        is_small(GetParam()) && shared);
  }
}

TEST_P(CudaKalman, BackwardHasItsParityInChunks) {
  KalmanShape shape = GetParam();
  shape.T = is_small(shape) ? 11 : 5;
  if (shape.B == 1) shape.B = 9;  // of a single number the CPU may be right by luck
  const KalmanProblem p(shape);
  for (const std::int64_t chunk : {1, 2, 5}) {
    if (chunk != 2 && !is_small(shape)) continue;
    for (const bool shared : {true, false}) {
      SCOPED_TRACE(testing::Message() << (shared ? "shared" : "each sequence") << ", " << chunk);
      expect_parity(
          p,
          [&](auto& calls) {
            calls.filter(KalmanForm::joseph);
            calls.differentiate(true, shared, shape.varying, false, chunk);
          },
          chunk == 2 && is_small(shape) && shared);
    }
  }
}

TEST_P(CudaKalman, ForecastHasItsParity) {
  expect_parity(
      KalmanProblem(GetParam()), [](auto& calls) { calls.forecast(); }, is_small(GetParam()));
}

TEST_P(CudaKalman, DrawsHaveTheirParity) {
  expect_parity(
      KalmanProblem(GetParam()),
      [](auto& calls) {
        calls.simulate(2), calls.simulate_given(2);
        calls.filter(KalmanForm::joseph);
        calls.sample(3);
      },
      is_small(GetParam()));
}

TEST_P(CudaKalman, GradientOfSmoothedMomentsHasItsParity) {
  KalmanShape shape = GetParam();
  if (shape.B == 1) shape.B = 9;  // of a single number the CPU may be right by luck
  const KalmanProblem p(shape);
  for (const bool means : {true, false}) {
    for (const bool shared : {true, false}) {
      if (shared && (shape.m == 1 || shape.n > 32)) continue;  // as above; takes long
      SCOPED_TRACE(testing::Message() << (means ? "means" : "covariances") << ", "
                                      << (shared ? "shared" : "each sequence"));
      expect_parity(
          p,
          [&](auto& calls) {
            calls.filter(KalmanForm::joseph);
            calls.differentiate_smoothed(means, !means, shared, shape.varying);
          },
          is_small(shape) && shared && !means);  // those of means by the kernel of draws
    }
  }
}

/// To what likelihoods and filtered moments give, in chunks.
TEST(CudaKalmanGradient, OfAllMomentsIsTheirSum) {
  KalmanShape shape = kKalmanShapes[5];
  shape.T = 11;
  expect_parity(
      KalmanProblem(shape),
      [](auto& calls) {
        calls.filter(KalmanForm::joseph);
        calls.differentiate_smoothed(true, true, true, false, 3);
      },
      false);
}

TEST_P(CudaKalman, GradientOfDrawsHasItsParity) {
  KalmanShape shape = GetParam();
  if (shape.B == 1) shape.B = 9;  // of a single number the CPU may be right by luck
  const KalmanProblem p(shape);
  for (const bool shared : {true, false}) {
    SCOPED_TRACE(shared ? "shared" : "each sequence");
    expect_parity(
        p, [&](auto& calls) { calls.differentiate_draws(2, shared, shape.varying); },
        is_small(shape) && shared);
  }
}

TEST(CudaKalmanGradient, IsAddedToWhatStandsThere) {
  const KalmanProblem p(kKalmanShapes[4]);
  for (const bool shared : {true, false}) {
    const auto work = [&](auto& calls) {
      calls.filter(KalmanForm::joseph);
      calls.differentiate(false, shared, false, true);
      calls.differentiate_draws(2, shared, false, true);
    };
    const Results oracle = results_of<double>(p, How::cpu, work);
    expect_close(results_of<double>(p, How::cuda, work), oracle, oracle, 0, 1e-11);
  }
}

TEST(CudaKalmanGradient, OfEachArrayAlone) {
  const KalmanProblem p({7, 9, 2, 2, 1, false, true, true, true, false, 0});
  for (const char* name : {"grad A", "grad Q", "grad b", "grad C", "grad R", "grad d", "grad m0",
                           "grad P0", "grad B", "grad D", "grad y"}) {
    SCOPED_TRACE(name);
    expect_parity(
        p,
        [&](auto& calls) {
          calls.only(name);
          calls.filter(KalmanForm::joseph);
          calls.differentiate(true, true, false);
          calls.differentiate_smoothed(true, true, true, false);
          calls.differentiate_draws(2, true, false);
        },
        false);
  }
}

TEST(CudaKalmanShared, CovariancesAreThoseOfOneSequence) {
  KalmanProblem p({6, 5, 4, 2, 1, false, false, false, false, false, 0});
  const auto work = [](auto& calls) {
    calls.filter(KalmanForm::square_root, true);
    calls.smooth(true);
    calls.sample(2);
  };
  expect_parity(p, work, true);
  KalmanProblem ragged({6, 5, 4, 2, 1, false, false, false, true, false, 0});
  expect_parity(
      ragged, [](auto& calls) { calls.filter(KalmanForm::joseph, true); }, false);
}

/// One array changes from step to step and the others stay: what is kept of a step stays no longer
/// than it should.
TEST(CudaKalmanVarying, EachArrayAlone) {
  const KalmanProblem varying({5, 9, 2, 2, 1, false, true, true, true, false, 0});
  for (Array KalmanProblem::*const alone :
       {&KalmanProblem::A, &KalmanProblem::Q, &KalmanProblem::C, &KalmanProblem::R,
        &KalmanProblem::B, &KalmanProblem::D, &KalmanProblem::b, &KalmanProblem::d}) {
    KalmanProblem p = varying;
    for (Array* array : {&p.A, &p.B, &p.b, &p.Q, &p.C, &p.D, &p.d, &p.R}) {
      if (array == &(p.*alone)) continue;
      array->values.resize(std::size_t(array->entries));
      array->step = array->sequence = 0;
    }
    expect_parity(
        p,
        [](auto& calls) {
          calls.filter(KalmanForm::square_root);
          calls.smooth();
          calls.differentiate(true, true, false);
          calls.simulate(2);
          calls.sample(2);
          calls.differentiate_draws(2, true, false);
          calls.forecast();
        },
        false);
  }
}

class CudaKalmanFilter : public testing::TestWithParam<KalmanCase> {};
std::vector<KalmanCase> cases() {
  std::vector<KalmanCase> all;
  for (const KalmanShape& shape : kKalmanShapes) {
    for (const KalmanForm form :
         {KalmanForm::covariance, KalmanForm::joseph, KalmanForm::square_root}) {
      all.push_back({shape, form});
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Shapes, CudaKalmanFilter, testing::ValuesIn(cases()),
                         testing::PrintToStringParamName());

TEST_P(CudaKalmanFilter, HasItsParity) {
  expect_parity(
      KalmanProblem(GetParam().shape), [](auto& calls) { calls.filter(GetParam().form); },
      is_small(GetParam().shape));
}

TEST_P(CudaKalmanFilter, HasItsParityInChunks) {
  KalmanShape shape = GetParam().shape;
  shape.T = is_small(shape) ? 11 : 5;
  for (const std::int64_t chunk : {1, 2, 5}) {
    if (chunk != 2 && !is_small(shape)) continue;
    SCOPED_TRACE(chunk);
    expect_parity(
        KalmanProblem(shape), [&](auto& calls) { calls.filter(GetParam().form, false, chunk); },
        chunk == 2 && is_small(shape));
  }
}

/// A component without noise makes its chunk no map, and a covariance that is none ends all.
TEST(CudaKalmanChunks, WithoutDensityAreFilteredInTurn) {
  for (const double variance : {0.0, -1.0}) {
    KalmanProblem p({12, 3, 3, 2, 0, false, false, true, false, false, 0});
    p.R.values[(6 * 3 + 1) * 2] = variance;  // step 6 of sequence 1, the first of a chunk
    std::fill_n(p.Q.values.begin() + (6 * 3 + 1) * 9, 9, 0.0);
    const auto work = [](auto& calls) { calls.filter(KalmanForm::joseph, false, 2); };
    const Results cpu = results_of<double>(p, How::cpu, work);
    EXPECT_EQ(cpu.back().second[1], variance < 0 ? 7 : 0);
    expect_close(results_of<double>(p, How::cuda, work), cpu, cpu, 0, 1e-11);
  }
}

TEST(CudaKalmanStatus, NamesTheFirstStepThatIsNotPositiveDefinite) {
  for (const KalmanForm form :
       {KalmanForm::covariance, KalmanForm::joseph, KalmanForm::square_root}) {
    KalmanProblem p({6, 3, 3, 2, 0, false, true, true, true, false, 0});
    std::fill_n(p.R.values.begin() + (2 * 3 + 1) * 4, 4, -50.0);  // step 2 of sequence 1
    const auto work = [&](auto& calls) { calls.filter(form); };
    const Results cpu = results_of<double>(p, How::cpu, work);
    expect_close(results_of<double>(p, How::cuda, work), cpu, cpu, 0, 1e-11);
    EXPECT_EQ(cpu.back().second[1], 3);
  }
}

TEST(CudaKalmanStatus, NamesTheFirstStepWhoseTransitionIsNaN) {
  for (const KalmanForm form :
       {KalmanForm::covariance, KalmanForm::joseph, KalmanForm::square_root}) {
    for (const std::size_t entry : {0u, 5u}) {
      KalmanProblem p({6, 3, 3, 2, 0, false, true, true, false, false, 0});
      p.A.values[(2 * 3 + 1) * 9 + entry] = std::nan("");  // step 2 of sequence 1
      const auto work = [&](auto& calls) { calls.filter(form); };
      const Results cuda = results_of<double>(p, How::cuda, work);
      EXPECT_EQ(cuda.back().second, results_of<double>(p, How::cpu, work).back().second);
      EXPECT_EQ(cuda.back().second[1], 3) << static_cast<int>(form) << " " << entry;
    }
  }
}

TEST(CudaKalmanStatus, NamesTheFirstStepWhoseNoiseHasNoLaw) {
  for (const bool of_state : {true, false}) {
    KalmanProblem p({6, 3, 3, 2, 0, false, true, true, true, false, 0});
    const std::size_t step = 2 * 3 + 1;  // step 2 of sequence 1
    if (of_state) {                      // by so little that the filter goes on
      std::fill_n(p.Q.values.begin() + step * 9, 9, 0.0);
      for (std::size_t i = 0; i < 3; ++i) p.Q.values[step * 9 + i * 4] = -1e-3;
    } else {
      std::fill_n(p.R.values.begin() + step * 4, 4, -50.0);
    }
    const auto work = [&](auto& calls) {
      calls.simulate(2);
      if (!of_state) return;
      calls.filter(KalmanForm::joseph);
      calls.sample(2);
    };
    const Results cuda = results_of<double>(p, How::cuda, work);
    const Results cpu = results_of<double>(p, How::cpu, work);
    for (std::size_t i = 0; i < cpu.size(); ++i) {
      if (cpu[i].first != std::string("status")) continue;
      EXPECT_EQ(cuda[i].second, cpu[i].second);
    }
    EXPECT_EQ(cuda.back().second[1], 3) << of_state;
  }
}

TEST(CudaKalmanRefuses, WhatItIsNotCompiledFor) {
  KalmanFilterArgs<double> args;
  args.model.n = 65, args.model.m = 1;
  EXPECT_THAT([&] { cuda::kalman_workspace_bytes(args); },
              testing::ThrowsMessage<InvalidArgument>(testing::HasSubstr(
                  "kalman_filter: model.n = 65, must be at most 64 on a CUDA device")));
  args.model.n = 1;
  const std::uint8_t diffuse = 1;
  args.model.diffuse = &diffuse;
  EXPECT_THAT([&] { cuda::kalman_workspace_bytes(args); },
              testing::ThrowsMessage<InvalidArgument>(
                  testing::HasSubstr("model.diffuse is given, must be null on a CUDA device")));
  KalmanBackwardArgs<double> backward;
  backward.model.n = 1, backward.model.m = 1;
  backward.chunk = -1;
  EXPECT_THAT([&] { cuda::kalman_workspace_bytes(backward); },
              testing::ThrowsMessage<InvalidArgument>(
                  testing::HasSubstr("kalman_backward: chunk = -1, must be >= 0")));
  EXPECT_THAT([&] { check(backward); }, testing::ThrowsMessage<InvalidArgument>(testing::HasSubstr(
                                            "kalman_backward: chunk = -1, must be >= 0")));
}

}  // namespace
}  // namespace seqvae::test::kalman

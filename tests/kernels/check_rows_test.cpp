// Each rule of the row-wise contracts by its whole message.
#include <gmock/gmock.h>

#include "seqvae/core/error.hpp"
#include "seqvae/kernels/activation.hpp"
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/categorical.hpp"
#include "seqvae/kernels/dropout.hpp"
#include "seqvae/kernels/gaussian.hpp"
#include "seqvae/kernels/likelihood.hpp"
#include "seqvae/kernels/movement.hpp"
#include "seqvae/kernels/normalization.hpp"
#include "seqvae/kernels/optimizer.hpp"
#include "seqvae/kernels/recurrent_cell.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae::test {
namespace {

template <class Args>
void expect_refused(const Args& args, const char* message) {
  EXPECT_THAT([&] { check(args); }, testing::ThrowsMessage<InvalidArgument>(message));
}

class CheckRows : public testing::Test {
 protected:
  float memory[64] = {};
  Rows<float> m{memory, 4};
  std::uint32_t ids[2] = {};
  std::uint64_t step = 0;
  double norm = 0;

  GaussianSampleArgs<float> sample() {
    GaussianSampleArgs<float> a{4, {}, m, m, m};
    a.noise.layout.T = 2, a.noise.layout.B = 2;
    a.noise.sequence_id = ids, a.noise.step = &step;
    return a;
  }
  AdamWStep at;
  AdamWArgs<float> adamw() {
    AdamWArgs<float> a;
    a.count = 3, a.parameters = a.m = a.v = memory, a.gradients = memory, a.norm = &norm;
    a.step = &at;
    return a;
  }
};

TEST_F(CheckRows, NamesSizes) {
  expect_refused(ActivationArgs<float>{Activation::tanh, -3, 4, m, m},
                 "activation: rows = -3, must be from 0 to 2^31 - 1");
  expect_refused(MultiplyAddArgs<float>{2, std::int64_t{1} << 31, 1, 1, m, {}, {}, m},
                 "multiply_add: D = 2147483648, must be from 0 to 2^31 - 1");
  expect_refused(MatrixProductArgs<float>{2, {3, -1, 2}, m, m, m},
                 "matrix_product: shape.k = -1, must be from 0 to 2^31 - 1");
  expect_refused(GruCellArgs<float>{2, -1, m, m, m, m, m},
                 "gru_cell: H = -1, must be from 0 to 2^31 - 1");
  expect_refused(SoftmaxArgs<float>{2, 1 << 16, 1 << 16, m, m},
                 "softmax: groups C = 4294967296, must be from 0 to 2^31 - 1");
  expect_refused(CategoricalKlArgs<float>{2, -1, 4, m, m, m},
                 "categorical_kl: groups = -1, must be from 0 to 2^31 - 1");
  expect_refused(LogMeanExpArgs<float>{2, 0, memory, memory},
                 "log_mean_exp: K = 0, must be from 1 to 2^31 - 1");
  auto a = sample();
  a.noise.layout.K = 1 << 24;
  expect_refused(a, "gaussian_sample: layout.K = 16777216, must be from 1 to 2^24 - 1");
}

TEST_F(CheckRows, NamesPointers) {
  expect_refused(ActivationArgs<float>{Activation::tanh, 2, 4, {}, m},
                 "activation: x is null, must point to memory");
  expect_refused(GatedMixArgs<float>{2, 4, m, m, m, {}},
                 "gated_mix: y is null, must point to memory");
  expect_refused(LstmCellBackwardArgs<float>{1, 4, m, m, m, {}, {}, m, {}},
                 "lstm_cell_backward: grad_c is null, must point to memory");
  expect_refused(GaussianKlArgs<float>{2, 4, m, m, m, {}, m, {}},
                 "gaussian_kl: logvar_p is null, must point to memory");
  expect_refused(SelectArgs<float>{2, 4, true, {}, m, m, m},
                 "select: condition is null, must point to memory");
  expect_refused(SoftmaxBackwardArgs<float>{2, 2, 2, m, {}, m},
                 "softmax_backward: grad_p is null, must point to memory");
  expect_refused(CategoricalKlBackwardArgs<float>{2, 2, 2, m, m, {}, m, m},
                 "categorical_kl_backward: grad_kl_sum is null, must point to memory");
  expect_refused(NormalizeBackwardArgs<float>{Normalization::rms, 0, 2, 4, {}, m, m},
                 "normalize_backward: x is null, must point to memory");
  expect_refused(SumOverRowsArgs<float>{2, 4, false, m, nullptr},
                 "sum_over_rows: y is null, must point to memory");
  EXPECT_NO_THROW(check(ActivationArgs<float>{Activation::tanh, 0, 4, {}, {}}));
  EXPECT_NO_THROW(check(ActivationArgs<float>{Activation::tanh, 3, 0, {}, {}}));
}

TEST_F(CheckRows, NamesStrides) {
  expect_refused(ActivationArgs<float>{Activation::tanh, 2, 4, {memory, -4}, m},
                 "activation: x.stride = -4, must be >= 0");
  expect_refused(GruCellArgs<float>{2, 4, m, m, m, m, m},
                 "gru_cell: gates.stride = 4, must be >= its width 12");
  expect_refused(LikelihoodArgs<float>{Likelihood::poisson, 2, 4, m, {}, m, {memory, 0}},
                 "likelihood: log_likelihood.stride = 0, must be >= its width 1");
  EXPECT_NO_THROW(check(ActivationArgs<float>{Activation::tanh, 1, 4, m, {memory, 0}}));
}

TEST_F(CheckRows, NamesChoices) {
  expect_refused(ActivationArgs<float>{static_cast<Activation>(8), 2, 4, m, m},
                 "activation: kind = 8, must be an Activation");
  expect_refused(LikelihoodMeanArgs<float>{static_cast<Likelihood>(-1), 2, 4, m, m},
                 "likelihood_mean: kind = -1, must be a Likelihood");
  expect_refused(GaussianHeadArgs<float>{static_cast<ScaleMap>(3), 0, 0, 2, 4, m, m},
                 "gaussian_head: map = 3, must be a ScaleMap");
  expect_refused(NormalizeArgs<float>{static_cast<Normalization>(2), 0, 2, 4, m, m},
                 "normalize: kind = 2, must be a Normalization");
  expect_refused(NormalizeArgs<float>{Normalization::layer, -1, 2, 4, m, m},
                 "normalize: epsilon = -1, must be >= 0");
  expect_refused(ClampArgs<float>{1, -1, 2, 4, m, m}, "clamp: low = 1, must be <= high, -1");
  expect_refused(ClampBackwardArgs<float>{std::nanf(""), 1, 2, 4, m, m, m},
                 "clamp_backward: low = nan, must be <= high, 1");
  expect_refused(DropoutArgs<float>{4, sample().noise, 1, m, m},
                 "dropout: rate = 1, must be in [0, 1)");
  expect_refused(GaussianHeadArgs<float>{ScaleMap::softplus_std, 0, -0.5f, 2, 4, m, m},
                 "gaussian_head: floor = -0.5, must be >= 0");
}

TEST_F(CheckRows, NamesWhatANoiseNeeds) {
  auto a = sample();
  a.noise.sequence_id = nullptr;
  expect_refused(a, "gaussian_sample: noise.sequence_id is null, must point to memory");
  OneHotSampleArgs<float> one_hot{2, 2, a.noise, m, m};
  expect_refused(one_hot, "one_hot_sample: noise.sequence_id is null, must point to memory");
  a.noise.eps = m;  // then nothing is drawn
  EXPECT_NO_THROW(check(a));
  a = sample(), a.noise.step = nullptr;
  expect_refused(a, "gaussian_sample: noise.step is null, must point to memory");
  a = sample(), a.noise.key.site = 256;
  expect_refused(a, "gaussian_sample: noise.key.site = 256, must be below 256");
  a = sample(), a.noise.layout.t0 = -1;
  expect_refused(a, "gaussian_sample: noise.layout.t0 = -1, must be >= 0");
  a = sample(), a.noise.layout.t0 = (std::int64_t{1} << 32) - 1;
  expect_refused(a, "gaussian_sample: noise.layout.T = 2, must be at most 2^32 / ceil(D / 4) - t0");
  const std::int32_t numbers[3] = {};
  a = sample(), a.noise.layout.lengths = a.noise.layout.offsets = numbers;
  expect_refused(a,
                 "gaussian_sample: layout.lengths and layout.offsets are both given, must be one "
                 "of them");
}

TEST_F(CheckRows, NamesWhatAMoveNeeds) {
  const std::int32_t offsets[3] = {0, 2, 3};
  RowLayout packed;
  packed.T = packed.B = 2, packed.offsets = offsets;
  const MoveRowsArgs<float> good{Move::to_steps, packed, 4, m, {}, m};
  EXPECT_NO_THROW(check(good));
  auto a = good;
  a.move = static_cast<Move>(10);
  expect_refused(a, "move_rows: move = 10, must be a Move");
  a = good, a.layout.B = -1;
  expect_refused(a, "move_rows: layout.B = -1, must be from 0 to 2^31 - 1");
  a = good, a.layout.K = 0;
  expect_refused(a, "move_rows: layout.K = 0, must be from 1 to 2^24 - 1");
  a = good, a.layout.capacity = -1;
  expect_refused(a, "move_rows: layout.capacity = -1, must be from 0 to 2^31 - 1");
  a = good, a.D = -1;
  expect_refused(a, "move_rows: D = -1, must be from 0 to 2^31 - 1");
  a = good, a.layout.offsets = nullptr;
  expect_refused(a, "move_rows: layout.offsets is null, must point to memory");
  a.move = Move::to_particles;  // of either layout
  EXPECT_NO_THROW(check(a));
  a.layout.capacity = 3;
  expect_refused(a, "move_rows: layout.capacity = 3, must be 0 or at least T B K");
  a = good, a.start = m;
  expect_refused(a,
                 "move_rows: start is given, must be left out unless move is from_step_before or "
                 "from_step_after");
  a.move = Move::from_step_after;
  EXPECT_NO_THROW(check(a));
  a.start.stride = -4;
  expect_refused(a, "move_rows: start.stride = -4, must be >= 0");
  a = good, a.x = {};
  expect_refused(a, "move_rows: x is null, must point to memory");
  a.layout.B = 0, a.layout.capacity = 2;  // nothing to read, and rows to clear
  EXPECT_NO_THROW(check(a));
  a.y = {};
  expect_refused(a, "move_rows: y is null, must point to memory");
  a = good, a.y.stride = 3;
  expect_refused(a, "move_rows: y.stride = 3, must be >= its width 4");
  a.move = Move::from_last, a.layout.B = 1;  // one row
  EXPECT_NO_THROW(check(a));
  expect_refused(SumOverParticlesArgs<float>{2, 0, 4, m, m},
                 "sum_over_particles: K = 0, must be from 1 to 2^31 - 1");
  expect_refused(SumOverParticlesArgs<float>{-1, 2, 4, m, m},
                 "sum_over_particles: rows = -1, must be from 0 to 2^31 - 1");
  expect_refused(SumOverParticlesArgs<float>{2, 2, 4, {}, m},
                 "sum_over_particles: x is null, must point to memory");
  expect_refused(SumOverParticlesArgs<float>{2, 2, 4, m, {memory, 0}},
                 "sum_over_particles: y.stride = 0, must be >= its width 4");
}

TEST_F(CheckRows, ReadNothingThatMayLieOnADevice) {
  const auto* out_of_reach = reinterpret_cast<const std::int32_t*>(64);
  auto a = sample();
  a.noise.layout.offsets = a.noise.layout.origins = out_of_reach;
  a.noise.step = reinterpret_cast<const std::uint64_t*>(64);
  EXPECT_NO_THROW(check(a));
  RowLayout packed;
  packed.T = packed.B = 2, packed.offsets = out_of_reach;
  EXPECT_NO_THROW(check(SumOverTimeArgs<float>{packed, 4, m, m}));
  EXPECT_NO_THROW(check(MoveRowsArgs<float>{Move::from_last, packed, 4, m, {}, m}));
}

TEST_F(CheckRows, NamesSettingsOfTheOptimiser) {
  EXPECT_NO_THROW(check(adamw()));
  auto a = adamw();
  a.step = nullptr;
  expect_refused(a, "adamw: step is null, must point to memory");
  expect_refused(AdamWStep{0, 1e-3}, "adamw: step.update = 0, must be >= 1");
  expect_refused(AdamWStep{1, std::nan("")}, "adamw: step.learning_rate = nan, must be >= 0");
  a = adamw(), a.beta2 = 1;
  expect_refused(a, "adamw: beta2 = 1, must be in [0, 1)");
  a = adamw(), a.clip_norm = -1;
  expect_refused(a, "adamw: clip_norm = -1, must be >= 0");
  a = adamw(), a.m = nullptr;
  expect_refused(a, "adamw: m is null, must point to memory");
  a = adamw(), a.norm = nullptr;
  expect_refused(a, "adamw: norm is null, must point to memory");
}

}  // namespace
}  // namespace seqvae::test

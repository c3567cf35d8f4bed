#include "tests/kernels/row_contracts.hpp"

#include <cmath>

#include "seqvae/kernels/activation.hpp"
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/categorical.hpp"
#include "seqvae/kernels/dropout.hpp"
#include "seqvae/kernels/gaussian.hpp"
#include "seqvae/kernels/likelihood.hpp"
#include "seqvae/kernels/normalization.hpp"
#include "seqvae/kernels/recurrent_cell.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae::test {
namespace {

/// `call(Real{}, rows, D, noise, in, out, run)` makes the contract's arguments and gives them to
/// `run` with the twins.
template <class Call>
Contract contract(std::string name, std::vector<Input> inputs, std::vector<int> outputs,
                  Call call) {
  const auto on_cpu = [call](auto real) {
    using Real = decltype(real);
    return Run<Real>([call](std::int64_t rows, std::int64_t D, std::int64_t first_row,
                            const std::vector<Rows<const Real>>& in,
                            const std::vector<Rows<Real>>& out) {
      const RowNoise noise(rows, first_row);
      call(Real{}, rows, D, noise.args<Real>(noise.sequence_id.data(), &noise.step), in, out,
           [](const auto& args, auto cpu, auto) { cpu(args); });
    });
  };
  Contract made{std::move(name), std::move(inputs), std::move(outputs),
                on_cpu(0.0f),    on_cpu(0.0),       nullptr};
#if defined(SEQVAE_TEST_CUDA)
  made.run_cuda = [call](std::int64_t rows, std::int64_t D, const NoiseArgs<float>& noise,
                         const std::vector<Rows<const float>>& in,
                         const std::vector<Rows<float>>& out, Stream stream) {
    call(float{}, rows, D, noise, in, out,
         [stream](const auto& args, auto, auto cuda) { cuda(args, stream); });
  };
#endif
  return made;
}

template <class Real>
NoiseArgs<Real> given(NoiseArgs<Real> noise, Rows<const Real> eps) {
  noise.eps = eps;
  return noise;
}

// The arguments of `function` in their order, which may name Real, rows, D, noise, in and out.
#define SEQVAE_RUN(function, Args, ...)                                                \
  [=](auto real, [[maybe_unused]] std::int64_t rows, [[maybe_unused]] std::int64_t D,  \
      [[maybe_unused]] const auto& noise, const auto& in, const auto& out, auto run) { \
    using Real = decltype(real);                                                       \
    run(                                                                               \
        Args<Real>{__VA_ARGS__}, [](const auto& a) { cpu::function(a); },              \
        [](const auto& a, Stream stream) { cuda::function(a, stream); });              \
  }

std::vector<Contract> build() {
  constexpr Filling N = Filling::normal, W = Filling::wide, U = Filling::unit,
                    S = Filling::signed_unit;
  constexpr Filling B = Filling::binary;
  std::vector<Contract> all;
  const char* kinds[] = {"identity", "relu", "tanh", "sigmoid",
                         "softplus", "exp",  "elu",  "leaky_relu"};
  for (int k = 0; k < 8; ++k) {
    const auto kind = static_cast<Activation>(k);
    all.push_back(contract(kinds[k], {{N}}, {1},
                           SEQVAE_RUN(activation, ActivationArgs, kind, rows, D, in[0], out[0])));
    const Filling y = kind == Activation::tanh ? S : kind == Activation::sigmoid ? U : N;
    all.push_back(contract(std::string(kinds[k]) + "_backward", {{y}, {N}}, {1},
                           SEQVAE_RUN(activation_backward, ActivationBackwardArgs, kind, rows, D,
                                      in[0], in[1], out[0])));
  }
  all.push_back(contract("multiply_add", {{N}, {N}, {N}}, {1},
                         SEQVAE_RUN(multiply_add, MultiplyAddArgs, rows, D, Real(0.5), Real(-1.25),
                                    in[0], in[1], in[2], out[0])));
  all.push_back(
      contract("product", {{N}, {N}}, {1},
               SEQVAE_RUN(multiply_add, MultiplyAddArgs, rows, D, 1, 1, in[0], in[1], {}, out[0])));
  all.push_back(
      contract("sum", {{N}, {N}}, {1},
               SEQVAE_RUN(multiply_add, MultiplyAddArgs, rows, D, 1, 1, in[0], {}, in[1], out[0])));
  all.push_back(
      contract("copy", {{N}}, {1},
               SEQVAE_RUN(multiply_add, MultiplyAddArgs, rows, D, 1, 1, in[0], {}, {}, out[0])));
  all.push_back(
      contract("gated_mix", {{U}, {N}, {N}}, {1},
               SEQVAE_RUN(gated_mix, GatedMixArgs, rows, D, in[0], in[1], in[2], out[0])));
  all.push_back(contract("gated_mix_backward", {{U}, {N}, {N}, {N}}, {1, 1, 1},
                         SEQVAE_RUN(gated_mix_backward, GatedMixBackwardArgs, rows, D, in[0], in[1],
                                    in[2], in[3], out[0], out[1], out[2])));

  struct Head {
    const char* name;
    ScaleMap map;
    float shift, floor;
  };
  for (const Head head : {Head{"head_exp", ScaleMap::exp, 0, 0},
                          Head{"head_softplus_var", ScaleMap::softplus_var, 0, 0},
                          Head{"head_softplus_std", ScaleMap::softplus_std, 0, 0},
                          Head{"head_softplus_std_floor", ScaleMap::softplus_std, 0.5f, 0.125f}}) {
    all.push_back(contract(head.name, {{W}}, {1},
                           SEQVAE_RUN(gaussian_head, GaussianHeadArgs, head.map, head.shift,
                                      head.floor, rows, D, in[0], out[0])));
    all.push_back(contract(std::string(head.name) + "_backward", {{W}, {N}}, {1},
                           SEQVAE_RUN(gaussian_head_backward, GaussianHeadBackwardArgs, head.map,
                                      head.shift, head.floor, rows, D, in[0], in[1], out[0])));
  }
  all.push_back(
      contract("gaussian_sample", {{N}, {N}}, {1},
               SEQVAE_RUN(gaussian_sample, GaussianSampleArgs, D, noise, in[0], in[1], out[0])));
  all.push_back(contract("gaussian_sample_given", {{N}, {N}, {N}}, {1},
                         SEQVAE_RUN(gaussian_sample, GaussianSampleArgs, D, given(noise, in[2]),
                                    in[0], in[1], out[0])));
  all.push_back(contract("gaussian_sample_backward", {{N}, {N}}, {1, 1},
                         SEQVAE_RUN(gaussian_sample_backward, GaussianSampleBackwardArgs, D, noise,
                                    in[0], in[1], out[0], out[1])));
  all.push_back(contract("gaussian_kl", {{N}, {N}, {N}, {N}}, {1, 0},
                         SEQVAE_RUN(gaussian_kl, GaussianKlArgs, rows, D, in[0], in[1], in[2],
                                    in[3], out[0], out[1])));
  all.push_back(
      contract("gaussian_kl_standard", {{N}, {N}}, {0},
               SEQVAE_RUN(gaussian_kl, GaussianKlArgs, rows, D, in[0], in[1], {}, {}, {}, out[0])));
  all.push_back(
      contract("gaussian_kl_backward", {{N}, {N}, {N}, {N}, {N}, {N, 0}}, {1, 1, 1, 1},
               SEQVAE_RUN(gaussian_kl_backward, GaussianKlBackwardArgs, rows, D, in[0], in[1],
                          in[2], in[3], in[4], in[5], out[0], out[1], out[2], out[3])));
  all.push_back(contract("gaussian_kl_backward_standard", {{N}, {N}, {N, 0}}, {1, 1},
                         SEQVAE_RUN(gaussian_kl_backward, GaussianKlBackwardArgs, rows, D, in[0],
                                    in[1], {}, {}, {}, in[2], out[0], out[1], {}, {})));
  all.push_back(contract("gaussian_sample_kl", {{N}, {N}, {N}, {N}}, {1, 0},
                         SEQVAE_RUN(gaussian_sample_kl, GaussianSampleKlArgs, D, noise, in[0],
                                    in[1], in[2], in[3], out[0], out[1])));
  all.push_back(contract("gaussian_sample_kl_standard", {{N}, {N}}, {1, 0},
                         SEQVAE_RUN(gaussian_sample_kl, GaussianSampleKlArgs, D, noise, in[0],
                                    in[1], {}, {}, out[0], out[1])));
  all.push_back(contract(
      "gaussian_sample_kl_backward", {{N}, {N}, {N}, {N}, {N}, {N, 0}}, {1, 1, 1, 1},
      SEQVAE_RUN(gaussian_sample_kl_backward, GaussianSampleKlBackwardArgs, D, noise, in[0], in[1],
                 in[2], in[3], in[4], in[5], out[0], out[1], out[2], out[3])));
  all.push_back(contract("gaussian_log_density", {{N}, {B}, {N}, {N}}, {0},
                         SEQVAE_RUN(gaussian_log_density, GaussianLogDensityArgs, rows, D, in[0],
                                    in[1], in[2], in[3], out[0])));
  all.push_back(contract("gaussian_log_density_unmasked", {{N}, {N}, {N}}, {0},
                         SEQVAE_RUN(gaussian_log_density, GaussianLogDensityArgs, rows, D, in[0],
                                    {}, in[1], in[2], out[0])));
  all.push_back(
      contract("gaussian_log_density_backward", {{N}, {B}, {N}, {N}, {N, 0}}, {1, 1, 1},
               SEQVAE_RUN(gaussian_log_density_backward, GaussianLogDensityBackwardArgs, rows, D,
                          in[0], in[1], in[2], in[3], in[4], out[0], out[1], out[2])));

  struct Discrete {
    const char* name;
    Likelihood kind;
    Filling x;
  };
  for (const Discrete l : {Discrete{"bernoulli", Likelihood::bernoulli, B},
                           Discrete{"categorical", Likelihood::categorical, Filling::one_hot},
                           Discrete{"poisson", Likelihood::poisson, Filling::counts}}) {
    const std::string name = l.name;
    all.push_back(contract(
        name, {{l.x}, {B}, {N}}, {0},
        SEQVAE_RUN(likelihood, LikelihoodArgs, l.kind, rows, D, in[0], in[1], in[2], out[0])));
    all.push_back(contract(
        name + "_unmasked", {{l.x}, {N}}, {0},
        SEQVAE_RUN(likelihood, LikelihoodArgs, l.kind, rows, D, in[0], {}, in[1], out[0])));
    all.push_back(contract(name + "_backward", {{l.x}, {B}, {N}, {N, 0}}, {1},
                           SEQVAE_RUN(likelihood_backward, LikelihoodBackwardArgs, l.kind, rows, D,
                                      in[0], in[1], in[2], in[3], out[0])));
    all.push_back(
        contract(name + "_mean", {{N}}, {1},
                 SEQVAE_RUN(likelihood_mean, LikelihoodMeanArgs, l.kind, rows, D, in[0], out[0])));
  }
  all.push_back(
      contract("select", {{B}, {N}, {N}}, {1},
               SEQVAE_RUN(select, SelectArgs, rows, D, false, in[0], in[1], in[2], out[0])));
  all.push_back(
      contract("select_by_row", {{B, 0}, {N}, {N}}, {1},
               SEQVAE_RUN(select, SelectArgs, rows, D, true, in[0], in[1], in[2], out[0])));
  all.push_back(contract("select_or_zero", {{B}, {N}}, {1},
                         SEQVAE_RUN(select, SelectArgs, rows, D, false, in[0], {}, in[1], out[0])));
  all.push_back(
      contract("clamp", {{N}}, {1},
               SEQVAE_RUN(clamp, ClampArgs, Real(-0.5), Real(0.75), rows, D, in[0], out[0])));
  all.push_back(contract("clamp_backward", {{N}, {N}}, {1},
                         SEQVAE_RUN(clamp_backward, ClampBackwardArgs, Real(-0.5), Real(0.75), rows,
                                    D, in[0], in[1], out[0])));
  all.push_back(contract("dropout", {{N}}, {1},
                         SEQVAE_RUN(dropout, DropoutArgs, D, noise, Real(0.375), in[0], out[0])));
  for (const Normalization kind : {Normalization::layer, Normalization::rms}) {
    const std::string name = kind == Normalization::layer ? "layer_norm" : "rms_norm";
    all.push_back(
        contract(name, {{N}}, {1},
                 SEQVAE_RUN(normalize, NormalizeArgs, kind, Real(1e-3), rows, D, in[0], out[0])));
    all.push_back(contract(name + "_backward", {{N}, {N}}, {1},
                           SEQVAE_RUN(normalize_backward, NormalizeBackwardArgs, kind, Real(1e-3),
                                      rows, D, in[0], in[1], out[0])));
  }
  all.push_back(
      contract("softmax", {{W}}, {1}, SEQVAE_RUN(softmax, SoftmaxArgs, rows, 1, D, in[0], out[0])));
  all.push_back(contract("softmax_of_groups", {{N, 3}}, {3},
                         SEQVAE_RUN(softmax, SoftmaxArgs, rows, 3, D, in[0], out[0])));
  all.push_back(contract(
      "softmax_backward", {{U, 3}, {N, 3}}, {3},
      SEQVAE_RUN(softmax_backward, SoftmaxBackwardArgs, rows, 3, D, in[0], in[1], out[0])));
  all.push_back(contract("one_hot_sample", {{U, 3}}, {3},
                         SEQVAE_RUN(one_hot_sample, OneHotSampleArgs, 3, D, noise, in[0], out[0])));
  all.push_back(
      contract("categorical_kl", {{N, 3}, {N, 3}}, {0},
               SEQVAE_RUN(categorical_kl, CategoricalKlArgs, rows, 3, D, in[0], in[1], out[0])));
  all.push_back(contract("categorical_kl_backward", {{N}, {N}, {N, 0}}, {1, 1},
                         SEQVAE_RUN(categorical_kl_backward, CategoricalKlBackwardArgs, rows, 1, D,
                                    in[0], in[1], in[2], out[0], out[1])));
  all.push_back(
      contract("gru_cell", {{N, 3}, {N, 3}, {N}}, {1, 3},
               SEQVAE_RUN(gru_cell, GruCellArgs, rows, D, in[0], in[1], in[2], out[0], out[1])));
  all.push_back(contract("gru_cell_backward", {{U, 3}, {N, 3}, {N}, {N}}, {3, 3, 1},
                         SEQVAE_RUN(gru_cell_backward, GruCellBackwardArgs, rows, D, in[0], in[1],
                                    in[2], in[3], out[0], out[1], out[2])));
  all.push_back(
      contract("lstm_cell", {{N, 4}, {N}}, {1, 1, 4},
               SEQVAE_RUN(lstm_cell, LstmCellArgs, rows, D, in[0], in[1], out[0], out[1], out[2])));
  all.push_back(contract("lstm_cell_backward", {{U, 4}, {N}, {N}, {N}, {N}}, {4, 1},
                         SEQVAE_RUN(lstm_cell_backward, LstmCellBackwardArgs, rows, D, in[0], in[1],
                                    in[2], in[3], in[4], out[0], out[1])));
  return all;
}
#undef SEQVAE_RUN

}  // namespace

const std::vector<Contract>& row_contracts() {
  static const std::vector<Contract> contracts = build();
  return contracts;
}

double value_at(Filling values, int input, std::int64_t row, std::int64_t column, std::int64_t D) {
  const Words random = philox({{static_cast<std::uint32_t>(column), static_cast<std::uint32_t>(row),
                                static_cast<std::uint32_t>(input), 0}},
                              99);
  const float n = normal(random, 0), u = uniform(random.w[2]);
  switch (values) {
    case Filling::normal:
      return 1.5f * n;
    case Filling::wide:
      return 8.0f * n;
    case Filling::unit:
      return u;
    case Filling::signed_unit:
      return 2 * u - 1;
    case Filling::binary:
      return u < 0.6f;
    case Filling::one_hot:
      return column == (7 * row + 3) % D;
    case Filling::counts:
      return std::floor(6 * u);
  }
  return 0;
}

}  // namespace seqvae::test

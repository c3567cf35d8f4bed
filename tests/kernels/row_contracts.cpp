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

template <class Function>
Contract contract(std::string name, std::vector<Input> inputs, std::vector<int> outputs,
                  Function function) {
  const auto typed = [function](auto real) {
    using Real = decltype(real);
    return Run<Real>([function](std::int64_t rows, std::int64_t D, std::int64_t first_row,
                                const std::vector<Rows<const Real>>& in,
                                const std::vector<Rows<Real>>& out) {
      function(Real{}, rows, D, first_row, in, out);
    });
  };
  return {std::move(name), std::move(inputs), std::move(outputs), typed(0.0f), typed(0.0)};
}

/// Noise of row r as sequence 100 + r, so that a row draws the same wherever it stands.
template <class Real>
struct Noise {
  Noise(std::int64_t rows, std::int64_t first_row) {
    for (std::int64_t r = 0; r < rows; ++r) {
      ids.push_back(static_cast<std::uint32_t>(100 + first_row + r));
    }
    args.layout.T = 1, args.layout.B = rows, args.layout.t0 = 3;
    args.key = {77, 5}, args.sequence_id = ids.data(), args.step = &step;
  }
  std::vector<std::uint32_t> ids;
  std::uint64_t step = 12;
  NoiseArgs<Real> args;
};

#define SEQVAE_RUN                                                                    \
  [=](auto real, [[maybe_unused]] std::int64_t rows, [[maybe_unused]] std::int64_t D, \
      [[maybe_unused]] std::int64_t first_row, const auto& in, const auto& out) {      \
    using Real = decltype(real);
std::vector<Contract> build() {
  constexpr Values N = Values::normal, W = Values::wide, U = Values::unit, S = Values::signed_unit;
  constexpr Values B = Values::binary;
  std::vector<Contract> all;
  const char* kinds[] = {"identity", "relu", "tanh", "sigmoid",
                         "softplus", "exp",  "elu",  "leaky_relu"};
  for (int k = 0; k < 8; ++k) {
    const auto kind = static_cast<Activation>(k);
    all.push_back(contract(kinds[k], {{N}}, {1}, SEQVAE_RUN
      cpu::activation<Real>({kind, rows, D, in[0], out[0]});
  }));
  const Values y = kind == Activation::tanh ? S : kind == Activation::sigmoid ? U : N;
    all.push_back(contract(std::string(kinds[k]) + "_backward", {{y}, {N}}, {1}, SEQVAE_RUN
      cpu::activation_backward<Real>({kind, rows, D, in[0], in[1], out[0]});
}));
}
  all.push_back(contract("multiply_add", {{N}, {N}, {N}}, {1}, SEQVAE_RUN
    cpu::multiply_add<Real>({rows, D, Real(0.5), Real(-1.25), in[0], in[1], in[2], out[0]});
  }));
  all.push_back(contract("product", {{N}, {N}}, {1}, SEQVAE_RUN
    cpu::multiply_add<Real>({rows, D, 1, 1, in[0], in[1], {}, out[0]});
  }));
  all.push_back(contract("sum", {{N}, {N}}, {1}, SEQVAE_RUN
    cpu::multiply_add<Real>({rows, D, 1, 1, in[0], {}, in[1], out[0]});
  }));
  all.push_back(contract("copy", {{N}}, {1}, SEQVAE_RUN
    cpu::multiply_add<Real>({rows, D, 1, 1, in[0], {}, {}, out[0]});
  }));
  all.push_back(contract("gated_mix", {{U}, {N}, {N}}, {1}, SEQVAE_RUN
    cpu::gated_mix<Real>({rows, D, in[0], in[1], in[2], out[0]});
  }));
  all.push_back(contract("gated_mix_backward", {{U}, {N}, {N}, {N}}, {1, 1, 1}, SEQVAE_RUN
    cpu::gated_mix_backward<Real>(
        {rows, D, in[0], in[1], in[2], in[3], out[0], out[1], out[2]});
  }));

  struct Head {
    const char* name;
    ScaleMap map;
    float shift, floor;
  };
  for (const Head head : {Head{"head_exp", ScaleMap::exp, 0, 0},
                          Head{"head_softplus_var", ScaleMap::softplus_var, 0, 0},
                          Head{"head_softplus_std", ScaleMap::softplus_std, 0, 0},
                          Head{"head_softplus_std_floor", ScaleMap::softplus_std, 0.5f, 0.125f}}) {
    all.push_back(contract(head.name, {{W}}, {1}, SEQVAE_RUN
      cpu::gaussian_head<Real>({head.map, head.shift, head.floor, rows, D, in[0], out[0]});
  }));
    all.push_back(contract(std::string(head.name) + "_backward", {{W}, {N}}, {1}, SEQVAE_RUN
      cpu::gaussian_head_backward<Real>(
          {head.map, head.shift, head.floor, rows, D, in[0], in[1], out[0]});
    }));
    }
  all.push_back(contract("gaussian_sample", {{N}, {N}}, {1}, SEQVAE_RUN
    Noise<Real> noise(rows, first_row);
    cpu::gaussian_sample<Real>({D, noise.args, in[0], in[1], out[0]});
  }));
  all.push_back(contract("gaussian_sample_given", {{N}, {N}, {N}}, {1}, SEQVAE_RUN
    Noise<Real> noise(rows, first_row);
    noise.args.eps = in[2];
    cpu::gaussian_sample<Real>({D, noise.args, in[0], in[1], out[0]});
  }));
  all.push_back(contract("gaussian_sample_backward", {{N}, {N}}, {1, 1}, SEQVAE_RUN
    Noise<Real> noise(rows, first_row);
    cpu::gaussian_sample_backward<Real>({D, noise.args, in[0], in[1], out[0], out[1]});
  }));
  all.push_back(contract("gaussian_kl", {{N}, {N}, {N}, {N}}, {1, 0}, SEQVAE_RUN
    cpu::gaussian_kl<Real>({rows, D, in[0], in[1], in[2], in[3], out[0], out[1]});
  }));
  all.push_back(contract("gaussian_kl_standard", {{N}, {N}}, {0}, SEQVAE_RUN
    cpu::gaussian_kl<Real>({rows, D, in[0], in[1], {}, {}, {}, out[0]});
  }));
  all.push_back(contract("gaussian_kl_backward", {{N}, {N}, {N}, {N}, {N}, {N, 0}}, {1, 1, 1, 1},
    SEQVAE_RUN cpu::gaussian_kl_backward<Real>({rows, D, in[0], in[1], in[2], in[3], in[4], in[5],
                                                out[0], out[1], out[2], out[3]});
  }));
  all.push_back(contract("gaussian_kl_backward_standard", {{N}, {N}, {N, 0}}, {1, 1}, SEQVAE_RUN
    cpu::gaussian_kl_backward<Real>(
        {rows, D, in[0], in[1], {}, {}, {}, in[2], out[0], out[1], {}, {}});
  }));
  all.push_back(contract("gaussian_sample_kl", {{N}, {N}, {N}, {N}}, {1, 0}, SEQVAE_RUN
    Noise<Real> noise(rows, first_row);
    cpu::gaussian_sample_kl<Real>(
        {D, noise.args, in[0], in[1], in[2], in[3], out[0], out[1]});
  }));
  all.push_back(contract("gaussian_sample_kl_standard", {{N}, {N}}, {1, 0}, SEQVAE_RUN
    Noise<Real> noise(rows, first_row);
    cpu::gaussian_sample_kl<Real>({D, noise.args, in[0], in[1], {}, {}, out[0], out[1]});
  }));
  all.push_back(contract("gaussian_sample_kl_backward", {{N}, {N}, {N}, {N}, {N}, {N, 0}},
    {1, 1, 1, 1}, SEQVAE_RUN
    Noise<Real> noise(rows, first_row);
    cpu::gaussian_sample_kl_backward<Real>({D, noise.args, in[0], in[1], in[2], in[3], in[4],
                                            in[5], out[0], out[1], out[2], out[3]});
  }));
  all.push_back(contract("gaussian_log_density", {{N}, {B}, {N}, {N}}, {0}, SEQVAE_RUN
    cpu::gaussian_log_density<Real>({rows, D, in[0], in[1], in[2], in[3], out[0]});
  }));
  all.push_back(contract("gaussian_log_density_unmasked", {{N}, {N}, {N}}, {0}, SEQVAE_RUN
    cpu::gaussian_log_density<Real>({rows, D, in[0], {}, in[1], in[2], out[0]});
  }));
  all.push_back(contract("gaussian_log_density_backward", {{N}, {B}, {N}, {N}, {N, 0}}, {1, 1, 1},
    SEQVAE_RUN cpu::gaussian_log_density_backward<Real>(
        {rows, D, in[0], in[1], in[2], in[3], in[4], out[0], out[1], out[2]});
  }));

  struct Discrete {
    const char* name;
    Likelihood kind;
    Values x;
  };
  for (const Discrete l : {Discrete{"bernoulli", Likelihood::bernoulli, B},
                           Discrete{"categorical", Likelihood::categorical, Values::one_hot},
                           Discrete{"poisson", Likelihood::poisson, Values::counts}}) {
    const std::string name = l.name;
    all.push_back(contract(name, {{l.x}, {B}, {N}}, {0}, SEQVAE_RUN
      cpu::likelihood<Real>({l.kind, rows, D, in[0], in[1], in[2], out[0]});
  }));
    all.push_back(contract(name + "_unmasked", {{l.x}, {N}}, {0}, SEQVAE_RUN
      cpu::likelihood<Real>({l.kind, rows, D, in[0], {}, in[1], out[0]});
    }));
    all.push_back(contract(name + "_backward", {{l.x}, {B}, {N}, {N, 0}}, {1}, SEQVAE_RUN
      cpu::likelihood_backward<Real>({l.kind, rows, D, in[0], in[1], in[2], in[3], out[0]});
    }));
    all.push_back(contract(name + "_mean", {{N}}, {1}, SEQVAE_RUN
      cpu::likelihood_mean<Real>({l.kind, rows, D, in[0], out[0]});
    }));
    }
  all.push_back(contract("select", {{B}, {N}, {N}}, {1}, SEQVAE_RUN
    cpu::select<Real>({rows, D, false, in[0], in[1], in[2], out[0]});
  }));
  all.push_back(contract("select_by_row", {{B, 0}, {N}, {N}}, {1}, SEQVAE_RUN
    cpu::select<Real>({rows, D, true, in[0], in[1], in[2], out[0]});
  }));
  all.push_back(contract("select_or_zero", {{B}, {N}}, {1}, SEQVAE_RUN
    cpu::select<Real>({rows, D, false, in[0], {}, in[1], out[0]});
  }));
  all.push_back(contract("clamp", {{N}}, {1}, SEQVAE_RUN
    cpu::clamp<Real>({Real(-0.5), Real(0.75), rows, D, in[0], out[0]});
  }));
  all.push_back(contract("clamp_backward", {{N}, {N}}, {1}, SEQVAE_RUN
    cpu::clamp_backward<Real>({Real(-0.5), Real(0.75), rows, D, in[0], in[1], out[0]});
  }));
  all.push_back(contract("dropout", {{N}}, {1}, SEQVAE_RUN
    Noise<Real> noise(rows, first_row);
    cpu::dropout<Real>({D, noise.args, Real(0.375), in[0], out[0]});
  }));
  for (const Normalization kind : {Normalization::layer, Normalization::rms}) {
    const std::string name = kind == Normalization::layer ? "layer_norm" : "rms_norm";
    all.push_back(contract(name, {{N}}, {1}, SEQVAE_RUN
      cpu::normalize<Real>({kind, Real(1e-3), rows, D, in[0], out[0]});
  }));
    all.push_back(contract(name + "_backward", {{N}, {N}}, {1}, SEQVAE_RUN
      cpu::normalize_backward<Real>({kind, Real(1e-3), rows, D, in[0], in[1], out[0]});
    }));
    }
  all.push_back(contract("softmax", {{W}}, {1}, SEQVAE_RUN
    cpu::softmax<Real>({rows, 1, D, in[0], out[0]});
  }));
  all.push_back(contract("softmax_of_groups", {{N, 3}}, {3}, SEQVAE_RUN
    cpu::softmax<Real>({rows, 3, D, in[0], out[0]});
  }));
  all.push_back(contract("softmax_backward", {{U, 3}, {N, 3}}, {3}, SEQVAE_RUN
    cpu::softmax_backward<Real>({rows, 3, D, in[0], in[1], out[0]});
  }));
  all.push_back(contract("one_hot_sample", {{U, 3}}, {3}, SEQVAE_RUN
    Noise<Real> noise(rows, first_row);
    cpu::one_hot_sample<Real>({3, D, noise.args, in[0], out[0]});
  }));
  all.push_back(contract("categorical_kl", {{N, 3}, {N, 3}}, {0}, SEQVAE_RUN
    cpu::categorical_kl<Real>({rows, 3, D, in[0], in[1], out[0]});
  }));
  all.push_back(contract("categorical_kl_backward", {{N}, {N}, {N, 0}}, {1, 1}, SEQVAE_RUN
    cpu::categorical_kl_backward<Real>({rows, 1, D, in[0], in[1], in[2], out[0], out[1]});
  }));
  all.push_back(contract("gru_cell", {{N, 3}, {N, 3}, {N}}, {1, 3}, SEQVAE_RUN
    cpu::gru_cell<Real>({rows, D, in[0], in[1], in[2], out[0], out[1]});
  }));
  all.push_back(contract("gru_cell_backward", {{U, 3}, {N, 3}, {N}, {N}}, {3, 3, 1}, SEQVAE_RUN
    cpu::gru_cell_backward<Real>(
        {rows, D, in[0], in[1], in[2], in[3], out[0], out[1], out[2]});
  }));
  all.push_back(contract("lstm_cell", {{N, 4}, {N}}, {1, 1, 4}, SEQVAE_RUN
    cpu::lstm_cell<Real>({rows, D, in[0], in[1], out[0], out[1], out[2]});
  }));
  all.push_back(contract("lstm_cell_backward", {{U, 4}, {N}, {N}, {N}, {N}}, {4, 1}, SEQVAE_RUN
    cpu::lstm_cell_backward<Real>({rows, D, in[0], in[1], in[2], in[3], in[4], out[0], out[1]});
  }));
  return all;
  }
#undef SEQVAE_RUN

  }  // namespace

  const std::vector<Contract>& row_contracts() {
    static const std::vector<Contract> contracts = build();
    return contracts;
  }

  double value_at(Values values, int input, std::int64_t row, std::int64_t column, std::int64_t D) {
    const Words random =
        philox({{static_cast<std::uint32_t>(column), static_cast<std::uint32_t>(row),
                 static_cast<std::uint32_t>(input), 0}},
               99);
    const float n = normal(random, 0), u = uniform(random.w[2]);
    switch (values) {
      case Values::normal:
        return 1.5f * n;
      case Values::wide:
        return 8.0f * n;
      case Values::unit:
        return u;
      case Values::signed_unit:
        return 2 * u - 1;
      case Values::binary:
        return u < 0.6f;
      case Values::one_hot:
        return column == (7 * row + 3) % D;
      case Values::counts:
        return std::floor(6 * u);
    }
    return 0;
  }

  }  // namespace seqvae::test

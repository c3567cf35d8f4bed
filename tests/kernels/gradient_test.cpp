// Every backward of the row-wise contracts against central differences of its forward, in double.
#include <gmock/gmock.h>

#include "seqvae/kernels/activation.hpp"
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/categorical.hpp"
#include "seqvae/kernels/dropout.hpp"
#include "seqvae/kernels/gaussian.hpp"
#include "seqvae/kernels/likelihood.hpp"
#include "seqvae/kernels/normalization.hpp"
#include "seqvae/kernels/recurrent_cell.hpp"
#include "seqvae/kernels/reduce.hpp"
#include "tests/kernels/matrix.hpp"

namespace seqvae::test {
namespace {

constexpr std::int64_t kRows = 6, kD = 7;
using M = Matrix<double>;

M normals(unsigned seed, double scale = 1, std::int64_t D = kD, std::int64_t rows = kRows) {
  M m(rows, D, {1, 2});
  m.fill_normal(seed, scale);
  return m;
}

M zeros_and_ones(unsigned seed) {
  M m = normals(seed);
  return std::move(m.fill([&](auto r, auto d) { return m(r, d) > 0 ? 1.0 : 0.0; }));
}

TEST(Gradient, OfActivations) {
  for (int kind = 0; kind <= static_cast<int>(Activation::leaky_relu); ++kind) {
    SCOPED_TRACE(kind);
    M x = normals(1, 2), y(kRows, kD), grad_x(kRows, kD);
    const auto loss = [&] {
      cpu::activation<double>({static_cast<Activation>(kind), kRows, kD, x, y});
      return weighted_sum(y);
    };
    loss();
    cpu::activation_backward<double>(
        {static_cast<Activation>(kind), kRows, kD, y, weights(kRows, kD), grad_x});
    expect_gradient("grad_x", x, grad_x, loss);
  }
}

TEST(Gradient, OfGatedMix) {
  M g = normals(1), a = normals(2), b = normals(3), y(kRows, kD);
  M grad_g(kRows, kD), grad_a(kRows, kD), grad_b(kRows, kD);
  const auto loss = [&] {
    cpu::gated_mix<double>({kRows, kD, g, a, b, y});
    return weighted_sum(y);
  };
  cpu::gated_mix_backward<double>({kRows, kD, g, a, b, weights(kRows, kD), grad_g, grad_a, grad_b});
  expect_gradient("grad_g", g, grad_g, loss);
  expect_gradient("grad_a", a, grad_a, loss);
  expect_gradient("grad_b", b, grad_b, loss);
}

TEST(Gradient, OfClamp) {
  M x = normals(1), y(kRows, kD), grad_x(kRows, kD);
  const auto loss = [&] {
    cpu::clamp<double>({-0.4, 0.6, kRows, kD, x, y});
    return weighted_sum(y);
  };
  cpu::clamp_backward<double>({-0.4, 0.6, kRows, kD, x, weights(kRows, kD), grad_x});
  expect_gradient("grad_x", x, grad_x, loss);
}

TEST(Gradient, OfNormalize) {
  for (const auto kind : {Normalization::layer, Normalization::rms}) {
    M x = normals(1), y(kRows, kD), grad_x(kRows, kD);
    x.fill([&](auto r, auto d) { return x(r, d) + 2; });
    const auto loss = [&] {
      cpu::normalize<double>({kind, 0.1, kRows, kD, x, y});
      return weighted_sum(y);
    };
    cpu::normalize_backward<double>({kind, 0.1, kRows, kD, x, weights(kRows, kD), grad_x});
    expect_gradient("grad_x", x, grad_x, loss);
  }
}

TEST(Gradient, OfDropoutIsDropoutOfTheGradient) {
  M x = normals(1), y(kRows, kD), grad_x(kRows, kD);
  const std::uint32_t sequence_id[] = {5, 9, 2};
  const std::uint64_t step = 4;
  NoiseArgs<double> noise;
  noise.layout.T = 2, noise.layout.B = 3;
  noise.key = {17, 3}, noise.sequence_id = sequence_id, noise.step = &step;
  const auto loss = [&] {
    cpu::dropout<double>({kD, noise, 0.3, x, y});
    return weighted_sum(y);
  };
  cpu::dropout<double>({kD, noise, 0.3, weights(kRows, kD), grad_x});
  expect_gradient("grad_x", x, grad_x, loss);
}

TEST(Gradient, OfSoftmax) {
  constexpr std::int64_t groups = 3, C = 4;
  M logits = normals(1, 2, groups * C), p(kRows, groups * C), grad(kRows, groups * C);
  const auto loss = [&] {
    cpu::softmax<double>({kRows, groups, C, logits, p});
    return weighted_sum(p);
  };
  loss();
  cpu::softmax_backward<double>({kRows, groups, C, p, weights(kRows, groups * C), grad});
  expect_gradient("grad_logits", logits, grad, loss);
}

TEST(Gradient, OfCategoricalKl) {
  constexpr std::int64_t groups = 3, C = 4, D = groups * C;
  M q = normals(1, 1, D), p = normals(2, 1, D), kl(kRows, 1), grad_q(kRows, D), grad_p(kRows, D);
  const auto loss = [&] {
    cpu::categorical_kl<double>({kRows, groups, C, q, p, kl});
    return weighted_sum(kl);
  };
  cpu::categorical_kl_backward<double>({kRows, groups, C, q, p, weights(kRows, 1), grad_q, grad_p});
  expect_gradient("grad_logits_q", q, grad_q, loss);
  expect_gradient("grad_logits_p", p, grad_p, loss);
}

TEST(Gradient, OfGaussianHeads) {
  struct {
    ScaleMap map;
    double shift, floor;
  } const heads[] = {{ScaleMap::exp, 0, 0},
                     {ScaleMap::softplus_var, 0, 0},
                     {ScaleMap::softplus_std, 0, 0},
                     {ScaleMap::softplus_std, 0.5, 0.1}};
  for (const auto& head : heads) {
    for (const double scale : {1.0, 12.0}) {
      M raw = normals(1, scale), logvar(kRows, kD), grad_raw(kRows, kD);
      const auto loss = [&] {
        cpu::gaussian_head<double>({head.map, head.shift, head.floor, kRows, kD, raw, logvar});
        return weighted_sum(logvar);
      };
      cpu::gaussian_head_backward<double>(
          {head.map, head.shift, head.floor, kRows, kD, raw, weights(kRows, kD), grad_raw});
      expect_gradient("grad_raw", raw, grad_raw, loss);
    }
  }
}

TEST(Gradient, OfGaussianSample) {
  M mu = normals(1), logvar = normals(2), z(kRows, kD), grad_mu(kRows, kD), grad_logvar(kRows, kD);
  const std::uint32_t sequence_id[] = {5, 9, 2};
  const std::uint64_t step = 4;
  NoiseArgs<double> noise;
  noise.layout.T = 2, noise.layout.B = 3, noise.layout.t0 = 1;
  noise.key = {17, 3}, noise.sequence_id = sequence_id, noise.step = &step;
  const auto loss = [&] {
    cpu::gaussian_sample<double>({kD, noise, mu, logvar, z});
    return weighted_sum(z);
  };
  cpu::gaussian_sample_backward<double>(
      {kD, noise, logvar, weights(kRows, kD), grad_mu, grad_logvar});
  expect_gradient("grad_mu", mu, grad_mu, loss);
  expect_gradient("grad_logvar", logvar, grad_logvar, loss);
}

TEST(Gradient, OfGaussianKl) {
  M mu_q = normals(1), logvar_q = normals(2), mu_p = normals(3), logvar_p = normals(4);
  M kl(kRows, kD), kl_sum(kRows, 1);
  M grads[4] = {M(kRows, kD), M(kRows, kD), M(kRows, kD), M(kRows, kD)};
  const auto loss = [&] {
    cpu::gaussian_kl<double>({kRows, kD, mu_q, logvar_q, mu_p, logvar_p, kl, kl_sum});
    return weighted_sum(kl) + weighted_sum(kl_sum);
  };
  cpu::gaussian_kl_backward<double>({kRows, kD, mu_q, logvar_q, mu_p, logvar_p, weights(kRows, kD),
                                     weights(kRows, 1), grads[0], grads[1], grads[2], grads[3]});
  expect_gradient("grad_mu_q", mu_q, grads[0], loss);
  expect_gradient("grad_logvar_q", logvar_q, grads[1], loss);
  expect_gradient("grad_mu_p", mu_p, grads[2], loss);
  expect_gradient("grad_logvar_p", logvar_p, grads[3], loss);
}

TEST(Gradient, OfGaussianLogDensity) {
  M x = normals(1), mask = zeros_and_ones(2), mu = normals(3), logvar = normals(4);
  M log_density(kRows, 1), grad_x(kRows, kD), grad_mu(kRows, kD), grad_logvar(kRows, kD);
  const auto loss = [&] {
    cpu::gaussian_log_density<double>({kRows, kD, x, mask, mu, logvar, log_density});
    return weighted_sum(log_density);
  };
  cpu::gaussian_log_density_backward<double>(
      {kRows, kD, x, mask, mu, logvar, weights(kRows, 1), grad_x, grad_mu, grad_logvar});
  expect_gradient("grad_x", x, grad_x, loss);
  expect_gradient("grad_mu", mu, grad_mu, loss);
  expect_gradient("grad_logvar", logvar, grad_logvar, loss);
}

TEST(Gradient, OfLikelihoods) {
  for (const auto kind : {Likelihood::bernoulli, Likelihood::categorical, Likelihood::poisson}) {
    M x = zeros_and_ones(1), mask = zeros_and_ones(2), logits = normals(3);
    if (kind == Likelihood::categorical) x.fill([](auto r, auto d) { return r % kD == d; });
    M log_likelihood(kRows, 1), grad_logits(kRows, kD);
    const auto loss = [&] {
      cpu::likelihood<double>({kind, kRows, kD, x, mask, logits, log_likelihood});
      return weighted_sum(log_likelihood);
    };
    cpu::likelihood_backward<double>(
        {kind, kRows, kD, x, mask, logits, weights(kRows, 1), grad_logits});
    expect_gradient("grad_logits", logits, grad_logits, loss);
  }
}

TEST(Gradient, OfLogMeanExp) {
  M x(kRows * kD, 1), y(kRows, 1), grad_x(kRows * kD, 1);
  x.fill_normal(1, 3);
  const auto loss = [&] {
    cpu::log_mean_exp<double>({kRows, kD, x.view().data, y.view().data});
    return weighted_sum(y);
  };
  const M grad_y = weights(kRows, 1);
  cpu::log_mean_exp_backward<double>(
      {kRows, kD, x.view().data, grad_y.view().data, grad_x.view().data});
  expect_gradient("grad_x", x, grad_x, loss);
}

TEST(Gradient, OfGruCell) {
  M a = normals(1, 1, 3 * kD), q = normals(2, 1, 3 * kD), h = normals(3);
  M h_next(kRows, kD), gates(kRows, 3 * kD);
  M grad_a(kRows, 3 * kD), grad_q(kRows, 3 * kD), grad_h(kRows, kD);
  const auto loss = [&] {
    cpu::gru_cell<double>({kRows, kD, a, q, h, h_next, gates});
    return weighted_sum(h_next);
  };
  loss();
  cpu::gru_cell_backward<double>(
      {kRows, kD, gates, q, h, weights(kRows, kD), grad_a, grad_q, grad_h});
  expect_gradient("grad_a", a, grad_a, loss);
  expect_gradient("grad_q", q, grad_q, loss);
  expect_gradient("grad_h", h, grad_h, loss);
}

TEST(Gradient, OfLstmCell) {
  M a = normals(1, 1, 4 * kD), c = normals(3), h_next(kRows, kD), c_next(kRows, kD);
  M gates(kRows, 4 * kD), grad_a(kRows, 4 * kD), grad_c(kRows, kD);
  for (const bool h_only : {false, true}) {
    const auto loss = [&] {
      cpu::lstm_cell<double>({kRows, kD, a, c, h_next, c_next, gates});
      return weighted_sum(h_next) + (h_only ? 0 : weighted_sum(c_next));
    };
    loss();
    const M w = weights(kRows, kD);
    cpu::lstm_cell_backward<double>(
        {kRows, kD, gates, c, c_next, w, h_only ? Rows<const double>{} : w.view(), grad_a, grad_c});
    expect_gradient("grad_a", a, grad_a, loss);
    expect_gradient("grad_c", c, grad_c, loss);
  }
}

}  // namespace
}  // namespace seqvae::test

// Linear-Gaussian models in a step: of the data, of a latent, with gaps, controls, mixtures.
#include "tests/graph/gradient_cases.hpp"

namespace seqvae::test {
namespace {

constexpr std::int64_t kStates = 2;

/// The row of a parameter, positive.
Var positive(Step& s, std::int32_t index) {
  return activation(s, Activation::softplus, parameter(s, index));
}
/// L L^T + I / 10 of a parameter that holds L.
Var covariance(Step& s, std::int32_t index, std::int64_t n) {
  const Var L = parameter(s, index);
  const Var one = var(add_constant(s.graph(), 0.1, n));
  return add(s, matrix_product(s, L, L, {n, n, n, false, true}), diagonal(s, one));
}

/// All of a model's arrays as parameters: R full, or its diagonal.
StepMaker of_the_data(bool full_R) {
  return [=](ParameterTable& p) -> StepFunction {
    constexpr std::int64_t n = kStates;
    const std::int32_t A = p.add_vector("A", n * n, {}), C = p.add_vector("C", kX * n, {}),
                       Q = p.add_vector("Q", n * n, {}), m0 = p.add_vector("m0", n, {}),
                       P0 = p.add_vector("P0", n, {}),
                       R = p.add_vector("R", full_R ? kX * kX : kX, {});
    const nn::Linear b(p, "b", kControls, n), d(p, "d", kControls, kX);
    return [=](Step& s) {
      LinearGaussian model;
      model.A = parameter(s, A), model.C = parameter(s, C), model.m0 = parameter(s, m0);
      model.Q = covariance(s, Q, n), model.P0 = diagonal(s, positive(s, P0));
      model.R = full_R ? covariance(s, R, kX) : positive(s, R);
      model.b = b(s, s.input("controls")), model.d = d(s, s.input("controls"));
      s.linear_gaussian("states", model);
    };
  };
}

/// As a KVAE has it: a latent observation, whose transition is a mixture that hangs on the one
/// before. The data come from it, or from the states drawn given all of it.
StepMaker of_a_latent(bool by_states) {
  return [=](ParameterTable& p) -> StepFunction {
    constexpr std::int64_t n = kStates, m = 1, K = 2;
    const nn::Linear posterior(p, "posterior", kX, 2 * m), weights(p, "weights", kX, K),
        out(p, "out", by_states ? n : m, kX);
    const std::int32_t A = p.add_vector("A", K * n * n, {}), C = p.add_vector("C", m * n, {}),
                       Q = p.add_vector("Q", n, {}), R = p.add_vector("R", m, {}),
                       start = p.add_vector("start", n, {});
    return [=](Step& s) {
      LinearGaussian model;
      const Var share = activation(s, Activation::sigmoid, weights(s, s.previous("x")));
      model.A = matrix_product(s, share, parameter(s, A), {1, K, n * n});
      model.C = parameter(s, C), model.m0 = zeros(s, n);
      model.Q = diagonal(s, positive(s, Q)), model.R = positive(s, R);
      model.P0 = diagonal(s, positive(s, start));
      const Gaussian q = gaussian_head(s, posterior(s, s.input("x")), ScaleMap::softplus_std);
      const LinearGaussianDraw a = s.linear_gaussian("a", model, q);
      s.observed("x", {.kind = Emission::Kind::gaussian,
                       .density = {out(s, by_states ? a.z : a.y), zeros(s, kX)}});
    };
  };
}

ScanOptions iwae() {
  ScanOptions options;
  options.trace.sampled_kl = true, options.bound = Bound::iwae;
  return options;
}

/// Each layout of a product of small matrices, one of them shared.
StepMaker products(bool transpose_a, bool transpose_b) {
  return [=](ParameterTable& p) -> StepFunction {
    const nn::Linear a(p, "a", kControls, 6), b(p, "b", kControls, 2);
    const std::int32_t shared = p.add_vector("shared", 2, {});
    return [=](Step& s) {
      const Var u = s.input("controls");
      const Var left = matrix_product(s, a(s, u), b(s, u), {3, 2, 1, transpose_a, transpose_b});
      const Var right =
          matrix_product(s, a(s, u), parameter(s, shared), {3, 2, 1, transpose_a, transpose_b});
      score(s, add(s, left, right));
    };
  };
}

}  // namespace

std::vector<SmallScan> linear_gaussian_cases() {
  ScanOptions gaps;
  gaps.trace.missing = true;
  ScanOptions weighted;
  weighted.weighted = true;
  return {small_step("linear_gaussian", of_the_data(false)),
          small_step("linear_gaussian_full_R", of_the_data(true)),
          small_step("linear_gaussian_with_gaps", of_the_data(false), gaps),
          small_step("linear_gaussian_full_R_with_gaps", of_the_data(true), gaps),
          small_step("linear_gaussian_weighted", of_the_data(false), weighted),
          small_step("linear_gaussian_with_particles", of_the_data(false), {}, 3),
          small_step("linear_gaussian_latent", of_a_latent(false)),
          small_step("linear_gaussian_latent_iwae", of_a_latent(false), iwae(), 3),
          small_step("linear_gaussian_states", of_a_latent(true)),
          small_step("linear_gaussian_states_iwae", of_a_latent(true), iwae(), 3),
          small_step("matrix_product", products(false, false)),
          small_step("matrix_product_transposed_left", products(true, false)),
          small_step("matrix_product_transposed_right", products(false, true)),
          small_step("matrix_product_transposed_both", products(true, true))};
}

std::vector<SmallScan> linear_gaussian_draws() {
  ScanOptions paths, drawn;
  paths.paths = paths.states = paths.trace.missing = true;
  drawn.trace.mode = Mode::generate, drawn.trace.draw_observations = true;
  return {small_step("paths", of_the_data(true), paths),
          small_step("paths_of_particles", of_the_data(false), paths, 3),
          small_step("generated", of_the_data(true), drawn),
          small_step("generated_particles", of_the_data(false), drawn, 3)};
}

}  // namespace seqvae::test

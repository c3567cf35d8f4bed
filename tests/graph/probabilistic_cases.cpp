// Heads, draws, divergences, densities, likelihoods, particles, the objective's variants.
#include "tests/graph/gradient_cases.hpp"

namespace seqvae::test {
namespace {

/// A latent with a learned recurrent prior, and an emission of the kind.
StepMaker state_space(Emission::Kind kind, ScaleMap map = ScaleMap::softplus_std, double shift = 0,
                      double floor = 0) {
  return [=](ParameterTable& p) -> StepFunction {
    constexpr std::int64_t Z = 2;
    const nn::Linear prior(p, "prior", Z, 2 * Z), posterior(p, "posterior", kControls + Z, 2 * Z);
    const nn::EmissionHead emission(p, "emission", kind, Z, {4}, kX);
    const std::int32_t z0 = p.add_vector("z0", Z, {});
    return [=](Step& s) {
      const Var before = s.carry("z", Z, parameter(s, z0));
      const Gaussian p_z = gaussian_head(s, prior(s, before), map, shift, floor);
      const Gaussian q_z =
          gaussian_head(s, posterior(s, concat({s.input("controls"), before})), map, shift, floor);
      const Var z = s.latent("z", p_z, q_z);
      s.next("z", z);
      s.observed("x", emission(s, z));
    };
  };
}

/// A latent a sequence, read at every step, beside one a step.
StepFunction global_and_local(ParameterTable& p) {
  constexpr std::int64_t G = 2, Z = 2;
  const nn::Encoder reader(p, "reader", nn::Encoder::Cell::gru, kX + kControls, 3, false, 0);
  const nn::Linear posterior(p, "posterior", 3, 2 * G), prior(p, "prior", G, 2 * Z),
      local(p, "local", kControls + G, 2 * Z), out(p, "out", Z + G, kX);
  return [=](Step& s) {
    const Var u = s.input("controls");
    reader(s, concat({s.input("x"), u}));
    const Gaussian q_g =
        gaussian_head(s, posterior(s, s.final("reader")), ScaleMap::softplus_std, 0.2, 0.05);
    const Var g = s.global("g", standard_normal(s, G), q_g);
    const Gaussian p_z = gaussian_head(s, prior(s, g), ScaleMap::softplus_var);
    const Gaussian q_z = gaussian_head(s, local(s, concat({u, g})), ScaleMap::softplus_var);
    const Var z = s.latent("z", p_z, q_z);
    s.observed(
        "x", {.kind = Emission::Kind::gaussian, .density = {out(s, concat({z, g})), zeros(s, kX)}});
  };
}

ScanOptions options(Bound bound, bool sampled_kl) {
  ScanOptions made;
  made.bound = bound, made.trace.sampled_kl = sampled_kl;
  return made;
}

}  // namespace

std::vector<SmallScan> probabilistic_cases() {
  using Kind = Emission::Kind;
  std::vector<SmallScan> cases;
  const auto g = state_space(Kind::gaussian);
  cases.push_back(small_step("head_exp", state_space(Kind::gaussian, ScaleMap::exp)));
  cases.push_back(
      small_step("head_softplus_var", state_space(Kind::gaussian, ScaleMap::softplus_var)));
  cases.push_back(small_step("head_softplus_std", g));
  cases.push_back(small_step("head_softplus_std_shifted",
                             state_space(Kind::gaussian, ScaleMap::softplus_std, -0.4, 0.1)));
  // Two of the three columns are clamped, far from the kinks.
  cases.push_back(small_step("head_exp_clamped", [](ParameterTable& p) {
    const std::int32_t raw = p.add_vector("raw", kX, {});
    const nn::Linear f(p, "f", kControls, kX);
    return [=](Step& s) {
      const Var spread = multiply(s, parameter(s, raw),
                                  var(add_concat(s.graph(), {add_constant(s.graph(), 400, 1),
                                                             add_constant(s.graph(), -400, 1),
                                                             add_constant(s.graph(), 1, 1)})));
      const Var logvar = gaussian_head_logvar(s, spread, ScaleMap::exp);
      s.observed("x", {.kind = Emission::Kind::gaussian,
                       .density = {scale(s, 1e-4, f(s, s.input("controls"))), logvar}});
    };
  }));
  cases.push_back(small_step("sampled_kl", g, options(Bound::elbo, true)));
  cases.push_back(small_step("bernoulli", state_space(Kind::bernoulli), {}, 1, Kind::bernoulli));
  cases.push_back(
      small_step("categorical", state_space(Kind::categorical), {}, 1, Kind::categorical));
  cases.push_back(small_step("poisson", state_space(Kind::poisson), {}, 1, Kind::poisson));
  for (const Kind kind : {Kind::gaussian, Kind::bernoulli, Kind::categorical, Kind::poisson}) {
    ScanOptions missing;
    missing.trace.missing = true;
    cases.push_back(small_step(std::string(to_string(kind)) + "_with_gaps", state_space(kind),
                               missing, 1, kind));
  }
  cases.push_back(small_step("softmax", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kControls, 6), g(p, "g", 6, kX);
    return [=](Step& s) {
      const Var p_z = softmax(s, f(s, s.input("controls")), 2);
      s.observed("x", {.kind = Kind::gaussian, .density = {g(s, p_z), zeros(s, kX)}});
    };
  }));
  cases.push_back(small_step("categorical_kl", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kControls, 6);
    const std::int32_t prior = p.add_vector("prior", 6, {});
    return [=](Step& s) {
      const Var kl = categorical_kl(s, f(s, s.input("controls")), parameter(s, prior), 3);
      s.observed("x", {.kind = Kind::gaussian,
                       .density = {concat({kl, scale(s, 2, kl), zeros(s, 1)}), zeros(s, kX)}});
    };
  }));
  cases.push_back(small_step("global", global_and_local));
  cases.push_back(small_step("global_sampled", global_and_local, options(Bound::elbo, true)));
  cases.push_back(small_step("elbo_with_particles", g, options(Bound::elbo, false), 3));
  cases.push_back(small_step("elbo_with_particles_sampled", g, options(Bound::elbo, true), 3));
  cases.push_back(small_step("iwae", g, options(Bound::iwae, true), 3));
  cases.push_back(small_step("iwae_analytic", g, options(Bound::iwae, false), 2));
  cases.push_back(small_step("iwae_global", global_and_local, options(Bound::iwae, true), 3));
  cases.push_back(small_step("elbo_global_with_particles", global_and_local, {}, 3));
  ScanOptions free = options(Bound::elbo, false);
  free.free_nats = 0.4;
  cases.push_back(small_step("free_nats", g, free));
  free.weighted = true;
  cases.push_back(small_step("free_nats_weighted", g, free));
  ScanOptions weighted = options(Bound::iwae, true);
  weighted.weighted = true;
  cases.push_back(small_step("iwae_weighted", g, weighted, 2));
  return cases;
}

}  // namespace seqvae::test

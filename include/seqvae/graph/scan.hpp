/// \file  A model's step scanned over time: the graph of a bound with its gradient, or of draws.
#pragma once
#include <functional>

#include "seqvae/graph/schedule.hpp"
#include "seqvae/graph/step.hpp"

namespace seqvae {

/// elbo: sum_t [ log p(x_t | .) - KL_t ] - KL of globals, the mean over particles.
/// iwae: log 1/K sum_k exp sum_t [ log p(x_t | .) + log p(z_t | .) - log q(z_t | .) ]
///       (Burda, Grosse, Salakhutdinov, arXiv:1509.00519). K = 1: the ELBO with a sampled KL.
enum class Bound { elbo, iwae };

struct ScanOptions {
  TraceOptions trace;
  Bound bound = Bound::elbo;
  bool gradient = false;  ///< of the objective, to every parameter
  bool weighted = false;  ///< rows count by the input "weight" [R][1]: 0 for a part's past
  double free_nats = 0;   ///< objective: max(free_nats, KL_t) a step
  bool paths = false;     ///< also each latent's draw and posterior, and the emission, per step
  bool states = false;    ///< also what a generate scan continues from
  bool hoist = true;
};

/// A scan ready to be planned. Outputs by name, one row a sequence (times particles) unless said:
///   infer     log_likelihood, kl, bound, objective; with paths, a row a step: latent:NAME,
///             posterior_mean:NAME, posterior_logvar:NAME, mean:x, logvar:x (Gaussian), draw:x;
///             with states: start:NAME of each carry, as the generate scan's inputs are called
///   generate  draw:x, mean:x, logvar:x (Gaussian), latent:NAME: a row a step
/// Inputs beside the data: "beta" [1], the KL's weight in the objective, and "seed" [1], the
/// objective's own gradient; both shared.
struct Scan {
  Graph graph;
  Schedule schedule;
  ScanOptions options;
};

using StepFunction = std::function<void(Step&)>;

/// Traces the step, builds the bound, differentiates, fuses and schedules.
Scan trace_scan(const StepFunction& step, const ParameterTable& parameters,
                const ScanOptions& options);

}  // namespace seqvae

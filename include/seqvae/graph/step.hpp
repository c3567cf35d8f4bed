/// \file  The words in which a model writes one step of itself, and what they are traced into.
///
/// A model's step is written once. Traced in `infer` mode the data is given: latents are drawn
/// from their posteriors, observations are scored. Traced in `generate` mode latents are drawn from
/// their priors, observations are drawn, and what the posterior alone needs drops out as dead.
#pragma once
#include <map>
#include <optional>
#include <span>

#include "seqvae/graph/graph.hpp"
#include "seqvae/graph/parameters.hpp"

namespace seqvae {

/// A handle of a value: one node, or several side by side that no one has had to join yet. Data
/// that may be missing is the pair (m x, 1 - m): no network sees a filled value.
struct Var {
  struct Piece {
    NodeId value = kNoNode;
    NodeId missing = kNoNode;  ///< 1 where the value is missing; kNoNode: nothing ever is
  };
  std::vector<Piece> pieces;
};

/// A diagonal Gaussian over the columns of both.
struct Gaussian {
  Var mu, logvar;
};

/// p(x | .) of a step: its kind and what the network says of it.
struct Emission {
  enum class Kind { bernoulli, gaussian, categorical, poisson };
  Kind kind = Kind::bernoulli;
  Var logits;        ///< bernoulli, categorical; poisson: the log rate
  Gaussian density;  ///< gaussian
};
Emission::Kind parse_emission(const std::string& name);  ///< \throws InvalidArgument with the list
const char* to_string(Emission::Kind kind);

enum class Mode { infer, generate };

/// z_1 ~ N(m0, P0),  z_t = A_t z_{t-1} + b_t + N(0, Q_t),  y_t = C_t z_t + d_t + N(0, R_t):
/// a linear-Gaussian model of n states and m observations. Each may be a parameter or hang on
/// whatever the step computes; A_t, b_t and Q_t are those of the step t that they lead to. Controls
/// are linear maps in b and d.
struct LinearGaussian {
  Var A;                 ///< [n n]
  Var Q;                 ///< [n n]  symmetric, positive semidefinite
  Var C;                 ///< [m n]
  Var R;                 ///< [m m], or its diagonal [m]
  Var m0;                ///< [n]  of the first step
  Var P0;                ///< [n n]
  std::optional<Var> b;  ///< [n]  zeros where it is left out
  std::optional<Var> d;  ///< [m]
};

/// What a step of a linear-Gaussian model is: its observation and its state.
struct LinearGaussianDraw {
  Var y;  ///< the latent's draw, or generate: drawn given z
  Var z;  ///< infer: one joint draw of all states given all y, through which no gradient passes;
          ///< generate: drawn given the state before
};

/// How a step is traced.
struct TraceOptions {
  Mode mode = Mode::infer;
  std::int64_t x_width = 0;         ///< columns of x
  std::int64_t controls_width = 0;  ///< columns of u; 0: none
  bool missing = false;             ///< x comes as a pair
  bool particles = false;           ///< latents are drawn K times a sequence
  bool sampled_kl = false;          ///< log q and log p at the draw in place of the analytic KL
  bool continued = false;           ///< generate: carries and globals start from given values
  bool draw_observations = true;    ///< generate: draw x; false: its mean is fed back and reported
  bool dropout = false;             ///< training: dropout acts; else it passes its input on
};

/// One latent or observation of a traced step.
struct Term {
  std::string name;
  NodeId value = kNoNode;   ///< [1] kl (or log q - log p), or the log-likelihood
  NodeId draw = kNoNode;    ///< the latent's draw, or the observation's in generate mode
  NodeId mean = kNoNode;    ///< the posterior's mean; the emission's mean
  NodeId logvar = kNoNode;  ///< of the posterior; of a Gaussian emission
  bool global = false;
};

class Step {
 public:
  Step(Graph& graph, const ParameterTable& parameters, const TraceOptions& options,
       const std::map<std::string, bool>& carries_with_particles);

  /// \name The words of a step.
  /// \{

  /// Draws from the posterior and records its KL divergence from the prior; generate: from the
  /// prior.
  Var latent(const std::string& name, const Gaussian& prior, const Gaussian& posterior);
  /// The data "x", whose log-likelihood is recorded; generate: a draw (or the mean).
  Var observed(const std::string& name, const Emission& emission);
  /// Data of this step: "x" or "controls".
  Var input(const std::string& name);
  /// Last step's value of "x", zeros at a start; generate: last step's draw.
  Var previous(const std::string& name);
  /// Recurrent state: `start` before the first step (default zeros); `next` closes it.
  Var carry(const std::string& name, std::int64_t D, std::optional<Var> start = {});
  void next(const std::string& name, const Var& value);
  /// The same in reverse time, from each sequence's own last step. Absent in generate mode.
  Var carry_back(const std::string& name, std::int64_t D, std::optional<Var> start = {});
  void next_back(const std::string& name, const Var& value);
  /// One draw and one KL a sequence.
  Var global(const std::string& name, const Gaussian& prior, const Gaussian& posterior);
  /// A latent y that is a linear-Gaussian model's observation: drawn from its posterior, its KL
  /// being log q(y_t | .) - log p(y_t | y_1 .. y_{t-1}) with the states integrated out exactly, the
  /// first term its expectation unless the KL is sampled. The states are drawn given all of y;
  /// gradients pass through both.
  LinearGaussianDraw linear_gaussian(const std::string& name, const LinearGaussian& model,
                                     const Gaussian& posterior);
  /// The data "x" as the observation: its evidence is the likelihood.
  LinearGaussianDraw linear_gaussian(const std::string& name, const LinearGaussian& model);
  /// A carry's value after the sequence's last step (a carry_back's: after its first).
  Var final(const std::string& name);
  /// Position in the sequence, from 0, as one column.
  Var time();
  /// 1 at a sequence's first step, 0 after it and where a context is continued, as one column.
  Var start();
  /// \}

  bool generating() const { return options_.mode == Mode::generate; }
  const TraceOptions& options() const { return options_; }
  Graph& graph() { return graph_; }
  const ParameterTable& parameters() const { return parameters_; }
  const std::vector<Term>& latents() const { return latents_; }
  const std::vector<Term>& observations() const { return observations_; }
  /// Name and value after this step of each forward carry, "previous:x" and globals included.
  const std::vector<std::pair<std::string, NodeId>>& state() const { return state_; }
  /// The next place that draws: numbered in the order of the step, the same in both modes.
  std::uint32_t new_site() { return site_++; }
  /// Which carries' next values turned out to have particles.
  std::map<std::string, bool> carries_with_particles() const;
  /// Closes what the step left open. \throws InvalidArgument naming a carry without its next.
  void finish();

 private:
  struct Carry {
    NodeId node = kNoNode, next = kNoNode;
    bool backward = false;
  };
  Var open(const std::string& name, std::int64_t D, const std::optional<Var>& start, bool backward);
  void close(const std::string& name, const Var& value, bool backward);
  Var observe(const Term& term);
  Var previous_data();
  Var previous_draw();
  NodeId draw(const Gaussian& density, RowKind::Base base, std::uint32_t site,
              const std::string& name);
  NodeId filter(const LinearGaussian& model, NodeId y, NodeId mask);
  NodeId states(const std::string& name, const LinearGaussian& model, NodeId y, NodeId mask,
                NodeId filter);
  NodeId next_states(const std::string& name, const LinearGaussian& model);
  Var draw_latent(const std::string& name, const Gaussian& prior, const Gaussian& posterior,
                  bool global);

  Graph& graph_;
  const ParameterTable& parameters_;
  TraceOptions options_;
  std::map<std::string, bool> with_particles_;
  std::map<std::string, Carry> carries_;
  std::vector<Term> latents_, observations_;
  std::vector<std::pair<std::string, NodeId>> state_;
  NodeId drawn_x_ = kNoNode;
  std::optional<Var> previous_;
  std::uint32_t site_ = 0;
};

/// \name Values of a step, combined. All work on the tracing graph of `s`.
/// \{
Var var(NodeId node);
/// Side by side. Nothing is copied: a linear map of it is the sum of the parts' maps.
Var concat(std::initializer_list<Var> parts);
std::int64_t width(Step& s, const Var& x);
/// One node of all pieces. \throws InvalidArgument where a piece may be missing: a network's first
/// layer takes the pair, nothing else does.
NodeId whole(Step& s, const Var& x);
Var value(const Var& x);             ///< m x alone
Var missing(Step& s, const Var& x);  ///< 1 - m alone, zeros where nothing is ever missing
Var slice(Step& s, const Var& x, std::int64_t begin, std::int64_t D);
Var add(Step& s, const Var& a, const Var& b);
Var multiply(Step& s, const Var& a, const Var& b);
Var scale(Step& s, double factor, const Var& x, double shift = 0);
Var activation(Step& s, Activation kind, const Var& x);
/// (1 - g) a + g b
Var gated_mix(Step& s, const Var& g, const Var& a, const Var& b);
/// a where the condition, of a's columns or of one for all of them, is not 0, else b. No gradient
/// goes to the condition, and none to what was not chosen.
Var select(Step& s, const Var& condition, const Var& a, const Var& b);
/// min(max(x, low), high); its gradient is 0 outside.
Var clamp(Step& s, const Var& x, double low, double high);
/// (x - mean) / sqrt(variance + epsilon) over a row's columns, or x / sqrt(mean square + epsilon).
/// nn::LayerNorm and nn::RmsNorm have the weights that commonly follow.
Var normalize(Step& s, Normalization kind, const Var& x, double epsilon);
/// In training (TraceOptions::dropout) x / (1 - rate) with each component dropped, 0 in its place,
/// with probability `rate`, drawn anew at each step (where x is one row a sequence, once); else x.
Var dropout(Step& s, const Var& x, double rate);
/// \name Categorical latents: `groups` of them side by side, each of as many classes.
/// \{
Var softmax(Step& s, const Var& logits, std::int64_t groups = 1);
/// A one-hot draw of each group of p, which is what softmax gives, at each step and for each
/// particle. Straight-through: the gradient goes to p as it comes.
Var one_hot_sample(Step& s, const Var& p, std::int64_t groups = 1);
/// sum over groups of KL(softmax(logits_q) || softmax(logits_p)), one column, nats.
Var categorical_kl(Step& s, const Var& logits_q, const Var& logits_p, std::int64_t groups = 1);
/// \}
/// op(a)[n][k] op(b)[k][m], matrices row by row.
Var matrix_product(Step& s, const Var& a, const Var& b, MatrixShape shape);
/// The n x n matrix with the n columns of x on its diagonal.
Var diagonal(Step& s, const Var& x);
/// x itself, through which no gradient passes.
Var stop_gradient(Step& s, const Var& x);
/// A parameter vector as a value that all rows share.
Var parameter(Step& s, std::int32_t index);
/// n zeros, shared by all rows.
Var zeros(Step& s, std::int64_t n);
/// N(0, I) over n dimensions.
Gaussian standard_normal(Step& s, std::int64_t n);
/// mu and the raw scale side by side in one value of 2 n columns.
Gaussian gaussian_head(Step& s, const Var& mu_and_raw, ScaleMap map, double shift = 0,
                       double floor = 0);
Var gaussian_head_logvar(Step& s, const Var& raw, ScaleMap map, double shift = 0, double floor = 0);
/// \}

}  // namespace seqvae

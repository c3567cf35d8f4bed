/// \file  The graph: a few dozen coarse ops over rows, with delayed edges along time.
///
/// A node's value is a matrix of rows. Its kind says how many rows there are: `shared` one,
/// `sequence` one a sequence (B), `step` one a step of each sequence (R), and each of the last two
/// times K particles. A `carry` is the one op whose input is read at another time: at step t it is
/// its `next` at step t - 1 (or t + 1, backward in time), and `start` where there is none. So a
/// graph may have cycles, and each of them passes through a carry: they are the recurrences.
///
/// Nothing here knows about scans: which nodes run before, in, or after a loop over time is what
/// the strongly connected components of the graph say (graph/schedule.hpp).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "seqvae/kernels/activation.hpp"
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/gaussian.hpp"
#include "seqvae/kernels/likelihood.hpp"
#include "seqvae/kernels/normalization.hpp"

namespace seqvae {

/// Index of a node in its graph.
using NodeId = std::int32_t;
inline constexpr NodeId kNoNode = -1;

/// How many rows a value has.
struct RowKind {
  enum class Base : std::uint8_t { shared, sequence, step };
  Base base = Base::shared;
  bool particles = false;  ///< K rows for each; never with shared

  static RowKind shared() { return {Base::shared, false}; }
  static RowKind sequence(bool particles = false) { return {Base::sequence, particles}; }
  static RowKind step(bool particles = false) { return {Base::step, particles}; }
  friend bool operator==(RowKind, RowKind) = default;
};

/// The kind of a value computed from both.
RowKind join(RowKind a, RowKind b);
std::string to_string(RowKind kind);

/// Inputs that a linear-Gaussian model is: A, b (optional), Q, C, d (optional), R, m0, P0; and
/// which of them is m0.
inline constexpr std::size_t kModelInputs = 8, kModelStart = 6;

enum class Op : std::uint8_t {
  // Leaves.
  input,           ///< data bound by name at run time
  parameter_row,   ///< a parameter vector as one shared row
  constant,        ///< `alpha` in every component
  noise_position,  ///< time of each row, from 0
  absent,          ///< x of a step that is being generated: an error where a live node reads it
  // Affine maps. inputs: x, addend (optional), of linear_transposed what act gave (optional).
  linear,             ///< act(x W^T + bias + addend)
  linear_transposed,  ///< (x W + addend) act': the input gradient of linear, act' by what act gave
  // Elementwise.
  activation,           ///< inputs: x
  activation_backward,  ///< inputs: y, grad_y
  multiply_add,         ///< alpha a (.) b + beta c; inputs: a, b (optional), c (optional)
  gated_mix,            ///< (1 - g) a + g b; inputs: g, a, b
  gated_mix_backward,   ///< [grad_g | grad_a | grad_b]; inputs: g, a, b, grad_y
  gru_cell,             ///< [h' | r z n]; inputs: a, q, h
  gru_cell_backward,    ///< [grad_a | grad_q | grad_h]; inputs: gru_cell, q, h, grad_h'
  lstm_cell,            ///< [h' | c' | i f g o]; inputs: a, c
  lstm_cell_backward,   ///< [grad_a | grad_c]; inputs: lstm_cell, c, grad_[h' | c']
  select,               ///< a where the condition is not 0, else b; inputs: condition, a, b (a or b
                        ///<   may be left out: zeros)
  clamp,                ///< min(max(x, alpha), beta); inputs: x
  clamp_backward,       ///< inputs: x, grad_y
  normalize,            ///< inputs: x
  normalize_backward,   ///< inputs: x, grad_y
  dropout,              ///< inputs: x; alpha is the rate
  // Gaussians and likelihoods.
  gaussian_head,                  ///< inputs: raw
  gaussian_head_backward,         ///< inputs: raw, grad_logvar
  gaussian_sample,                ///< inputs: mu, logvar
  gaussian_sample_backward,       ///< grad_logvar; inputs: logvar, grad_z
  gaussian_kl,                    ///< [1]; inputs: mu_q, logvar_q, and mu_p, logvar_p (optional)
  gaussian_kl_backward,           ///< [grad of each input]; inputs: those of gaussian_kl, grad
  gaussian_log_density,           ///< [1]; inputs: x, mask (optional), mu, logvar
  gaussian_log_density_backward,  ///< [grad_x | grad_mu | grad_logvar]; inputs: those, grad
  likelihood,                     ///< [1]; inputs: x, mask (optional), logits
  likelihood_backward,            ///< inputs: x, mask (optional), logits, grad
  likelihood_sample,              ///< inputs: logits
  likelihood_mean,                ///< inputs: logits
  // Categorical latents, `groups` of them side by side.
  softmax,                  ///< inputs: logits
  softmax_backward,         ///< inputs: p, grad_p
  one_hot_sample,           ///< inputs: p, to which its gradient goes straight through
  categorical_kl,           ///< [1]; inputs: logits_q, logits_p
  categorical_kl_backward,  ///< [grad_logits_q | grad_logits_p]; inputs: those, grad
  // Linear-Gaussian models; their inputs are kModelInputs.
  kalman_filter,           ///< [log p(y_t | y before) | m | P]; inputs: y, mask (optional), a model
  kalman_filter_backward,  ///< [grad of each input but the mask]; inputs: those, kalman_filter,
                           ///<   grad of its first column
  kalman_sample,  ///< [z | y | E y | log Var y], z given all y, y given z; inputs: those of
                  ///<   kalman_filter, kalman_filter
  kalman_sample_backward,  ///< as kalman_filter_backward; inputs: those of kalman_sample, grad of z
  kalman_step,  ///< [z | y | E y | log Var y] drawn; inputs: a model, its prior that of the step
  // Small matrices, one a row.
  matrix_product,   ///< op(a) op(b) of matrices; inputs: a, b
  diagonal_matrix,  ///< [n^2] with the n columns of x on its diagonal
  matrix_diagonal,  ///< its transpose: the diagonal of [n^2]
  // Shape.
  slice,   ///< columns begin .. begin + D of x
  concat,  ///< columns of all inputs
  // Time and particles.
  carry,     ///< inputs: next, start (optional: zeros)
  first,     ///< a sequence's first step: step -> sequence
  last,      ///< a sequence's last step: step -> sequence
  at_first,  ///< the transposes of both: sequence -> step, zero elsewhere
  at_last,
  expand,         ///< sequence -> step: the same row at every step
  to_padded,      ///< step -> step: from packed rows to those of a loop that runs over padded ones
  to_packed,      ///< and back
  sum_over_time,  ///< step -> sequence
  repeat,         ///< one row -> K particles
  sum_over_particles,
  sum_over_rows,          ///< sequence or step -> shared
  log_mean_exp,           ///< sequence with particles -> sequence; inputs: x, a column of its own
  log_mean_exp_backward,  ///< inputs: x, grad_y
  stop_gradient,
  // Sinks: they add to the gradient buffer and have no value.
  weight_gradient,  ///< of a weight and, where it has one, its bias; inputs: grad_y, x
  row_gradient,     ///< of a parameter row; inputs: grad (summed over its rows)
};

const char* to_string(Op op);

/// Columns begin .. begin + cols of a parameter matrix [rows][stride], or a vector (rows 1).
struct ParameterView {
  std::int32_t parameter = -1;  ///< index in the parameter table; -1: none
  std::int64_t begin = 0, cols = 0;
};

struct Node {
  Op op = Op::constant;
  RowKind kind;
  std::int64_t D = 0;  ///< columns
  std::vector<NodeId> inputs;

  ParameterView weight, bias;  ///< linear and sinks; parameter_row uses bias
  Activation activation = Activation::identity;
  ScaleMap scale_map = ScaleMap::exp;
  Likelihood likelihood = Likelihood::bernoulli;
  Normalization normalization = Normalization::layer;
  /// multiply_add; constant: alpha; head: shift, floor; clamp: bounds; normalize: epsilon; dropout
  double alpha = 1, beta = 1;
  std::int64_t groups = 1;        ///< categorical latents
  std::int64_t begin = 0;         ///< slice
  MatrixShape shape;              ///< matrix_product
  std::uint32_t site = 0;         ///< draws
  bool backward_in_time = false;  ///< carry
  std::string name;               ///< input, carry; a label elsewhere
};

/// A value of the graph that is asked for by name.
struct Output {
  std::string name;
  NodeId node;
};

/// Nodes in the order of their making, and what is asked of them.
struct Graph {
  std::vector<Node> nodes;
  std::vector<Output> outputs;
  std::vector<NodeId> sinks;

  NodeId add(Node node);
  const Node& operator[](NodeId id) const { return nodes[static_cast<std::size_t>(id)]; }
  Node& operator[](NodeId id) { return nodes[static_cast<std::size_t>(id)]; }
  /// \throws InvalidArgument where there is none of that name.
  NodeId output(const std::string& name) const;
};

/// \name Builders. They infer kind and width, and bring operands to one row kind.
/// \{
NodeId add_input(Graph& g, const std::string& name, RowKind kind, std::int64_t D);
NodeId add_constant(Graph& g, double value, std::int64_t D);
NodeId add_parameter_row(Graph& g, ParameterView view);
NodeId add_linear(Graph& g, NodeId x, ParameterView weight, std::int64_t out,
                  ParameterView bias = {}, NodeId addend = kNoNode);
NodeId add_activation(Graph& g, Activation kind, NodeId x);
/// alpha a (.) b + beta c; b and c may be kNoNode.
NodeId add_multiply_add(Graph& g, double alpha, NodeId a, NodeId b, double beta, NodeId c);
NodeId add_sum(Graph& g, NodeId a, NodeId b);
/// op(a) op(b), row by row.
NodeId add_matrix_product(Graph& g, NodeId a, NodeId b, MatrixShape shape);
NodeId add_slice(Graph& g, NodeId x, std::int64_t begin, std::int64_t D);
NodeId add_concat(Graph& g, std::vector<NodeId> parts);
/// `next` is set later, by closing the cycle: g[carry].inputs[0].
NodeId add_carry(Graph& g, const std::string& name, RowKind kind, std::int64_t D, NodeId start,
                 bool backward_in_time);
/// x with its rows repeated to a wider kind; x itself where it has that kind or is shared.
NodeId broadcast(Graph& g, NodeId x, RowKind kind);
/// The transpose of broadcast: rows summed up to a narrower kind.
NodeId reduce_to(Graph& g, NodeId x, RowKind kind);
/// An op of one output whose kind is the join of its inputs', all brought to it.
NodeId add_rowwise(Graph& g, Node node);
/// \}

}  // namespace seqvae

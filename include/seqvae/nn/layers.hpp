/// \file  Layers of a step: parameters under PyTorch's names, applied to values of the graph.
///
/// A layer is made once, with its place in the parameter table, and called in every trace. Weights
/// start as torch.nn's do: uniform on (-1/sqrt(fan_in), 1/sqrt(fan_in)), biases too.
#pragma once
#include "seqvae/graph/step.hpp"

namespace seqvae::nn {

/// y = W x + b, and where x may be missing y = W (m x) + V (1 - m) + b: V is "missing_weight"
/// beside "weight", starts at zero, and is made only where `missing_columns` > 0. A concatenation
/// is mapped part by part, so that the parts that do not depend on a recurrence leave it.
class Linear {
 public:
  Linear() = default;
  /// missing_columns: the first so many columns of the input may be missing.
  Linear(ParameterTable& table, const std::string& name, std::int64_t in, std::int64_t out,
         std::int64_t missing_columns = 0, bool bias = true);
  /// The same with names of their own, as the gates of a recurrent cell have.
  Linear(ParameterTable& table, const std::string& weight, const std::string& bias, std::int64_t in,
         std::int64_t out, std::int64_t missing_columns, double bound);

  Var operator()(Step& s, const Var& x) const;
  std::int64_t out() const { return out_; }

  /// Overrides of the default initialisation.
  Linear& starts_as_identity(ParameterTable& table);

 private:
  std::int32_t weight_ = -1, bias_ = -1, missing_ = -1;
  std::int64_t in_ = 0, out_ = 0, missing_columns_ = 0;
};

/// Linear layers with an activation between, and one after the last where asked for. Names are
/// those of a torch.nn.Sequential: NAME.0, NAME.2, ... each activation taking a number.
class Mlp {
 public:
  Mlp() = default;
  Mlp(ParameterTable& table, const std::string& name, std::int64_t in,
      std::vector<std::int64_t> widths, Activation between, bool activate_last = false,
      std::int64_t missing_columns = 0);

  Var operator()(Step& s, const Var& x) const;

 private:
  std::vector<Linear> layers_;
  Activation between_ = Activation::relu;
  bool activate_last_ = false;
};

/// torch.nn.LayerNorm(D): (x - mean) / sqrt(variance + epsilon) (.) weight + bias over the columns.
class LayerNorm {
 public:
  LayerNorm() = default;
  LayerNorm(ParameterTable& table, const std::string& name, std::int64_t D, double epsilon = 1e-5);
  Var operator()(Step& s, const Var& x) const;

 private:
  std::int32_t weight_ = -1, bias_ = -1;
  double epsilon_ = 1e-5;
};

/// torch.nn.RMSNorm(D, eps): x / sqrt(mean square + epsilon) (.) weight.
class RmsNorm {
 public:
  RmsNorm() = default;
  RmsNorm(ParameterTable& table, const std::string& name, std::int64_t D, double epsilon = 1e-5);
  Var operator()(Step& s, const Var& x) const;

 private:
  std::int32_t weight_ = -1;
  double epsilon_ = 1e-5;
};

/// torch.nn.GRUCell: weight_ih [3H][in], weight_hh [3H][H], bias_ih, bias_hh; gates r, z, n.
class GruCell {
 public:
  GruCell() = default;
  /// suffix: "" as torch.nn.GRUCell, "_l0" as torch.nn.GRU, "_l0_reverse" as its other direction.
  GruCell(ParameterTable& table, const std::string& name, std::int64_t in, std::int64_t hidden,
          std::int64_t missing_columns = 0, const std::string& suffix = "");
  Var operator()(Step& s, const Var& x, const Var& h) const;

 private:
  Linear input_, hidden_;
  std::int64_t H_ = 0;
};

/// torch.nn.LSTMCell: gates i, f, g, o. The state is the pair (h, c).
class LstmCell {
 public:
  struct State {
    Var h, c;
  };
  LstmCell() = default;
  LstmCell(ParameterTable& table, const std::string& name, std::int64_t in, std::int64_t hidden,
           std::int64_t missing_columns = 0, const std::string& suffix = "");
  State operator()(Step& s, const Var& x, const State& state) const;

 private:
  Linear input_, hidden_;
  std::int64_t H_ = 0;
};

/// torch.nn.RNNCell: h' = act(W x + b + U h + b').
class RnnCell {
 public:
  RnnCell() = default;
  RnnCell(ParameterTable& table, const std::string& name, std::int64_t in, std::int64_t hidden,
          Activation activation, std::int64_t missing_columns = 0, const std::string& suffix = "");
  Var operator()(Step& s, const Var& x, const Var& h) const;

 private:
  Linear input_, hidden_;
  Activation activation_ = Activation::tanh;
};

/// What summarises a sequence for a posterior: a recurrent layer in either direction of time.
class Encoder {
 public:
  enum class Cell { relu, gru, lstm };
  static Cell parse(const std::string& name);  ///< \throws InvalidArgument with the list

  Encoder() = default;
  /// `initial`: the learned start of h, "h0" of NAME's owner; else zeros.
  Encoder(ParameterTable& table, const std::string& name, Cell cell, std::int64_t in,
          std::int64_t hidden, bool backward_in_time, std::int64_t missing_columns,
          std::int32_t initial = -1);
  /// h_t over the sequence, one row a step.
  Var operator()(Step& s, const Var& x) const;
  /// The carry that holds h: for Step::final.
  const std::string& carry() const { return name_; }

 private:
  std::string name_;
  Cell cell_ = Cell::gru;
  bool backward_ = false;
  std::int64_t H_ = 0;
  std::int32_t initial_ = -1;
  GruCell gru_;
  LstmCell lstm_;
  RnnCell rnn_;
};

/// p(x | features): a network to the emission's parameters. NAME is the network's.
class EmissionHead {
 public:
  EmissionHead() = default;
  /// hidden: widths of the hidden layers; D columns of x. gaussian: mu and raw in 2 D columns, the
  /// map exp, so that the last layer's bias starts a variance near 1.
  EmissionHead(ParameterTable& table, const std::string& name, Emission::Kind kind, std::int64_t in,
               const std::vector<std::int64_t>& hidden, std::int64_t D,
               std::int64_t missing_columns = 0);
  Emission operator()(Step& s, const Var& features) const;

 private:
  Emission::Kind kind_ = Emission::Kind::bernoulli;
  Mlp net_;
};

}  // namespace seqvae::nn

#include "seqvae/nn/layers.hpp"

#include <cmath>

#include "seqvae/core/error.hpp"

namespace seqvae::nn {
namespace {

Initialisation uniform_of(double bound) { return {Initialisation::Kind::uniform, bound}; }

std::string beside(const std::string& weight, const char* other) {
  // "a.weight_ih" -> "a.missing_weight_ih"
  const std::size_t dot = weight.rfind('.');
  return weight.substr(0, dot + 1) + other + weight.substr(dot + 1);
}

}  // namespace

Linear::Linear(ParameterTable& table, const std::string& weight, const std::string& bias,
               std::int64_t in, std::int64_t out, std::int64_t missing_columns, double bound)
    : in_(in), out_(out), missing_columns_(missing_columns) {
  weight_ = table.add(weight, out, in, uniform_of(bound));
  if (!bias.empty()) bias_ = table.add_vector(bias, out, uniform_of(bound));
  if (missing_columns > 0)
    missing_ = table.add(beside(weight, "missing_"), out, missing_columns, {});
}

Linear::Linear(ParameterTable& table, const std::string& name, std::int64_t in, std::int64_t out,
               std::int64_t missing_columns, bool bias)
    : Linear(table, name + ".weight", bias ? name + ".bias" : "", in, out, missing_columns,
             1 / std::sqrt(static_cast<double>(in))) {}

Linear& Linear::starts_as_identity(ParameterTable& table) {
  table.restart(weight_, {Initialisation::Kind::identity, 0});
  if (bias_ >= 0) table.restart(bias_, {});
  return *this;
}

Var Linear::operator()(Step& s, const Var& x) const {
  Graph& g = s.graph();
  require(width(s, x) == in_, s.parameters()[weight_].name, "columns of the input", width(s, x),
          fmt::format("{}", in_));
  NodeId sum = kNoNode;
  std::int64_t begin = 0;
  const ParameterView bias{bias_, 0, bias_ < 0 ? 0 : out_};
  for (const Var::Piece& piece : x.pieces) {
    const std::int64_t D = g[piece.value].D;
    const auto plus = [&](NodeId node, ParameterView weight) {
      // The bias goes with the first part, which is the one that the recurrence feeds last.
      const NodeId part =
          add_linear(g, node, weight, out_, sum == kNoNode ? bias : ParameterView{});
      sum = sum == kNoNode ? part : add_sum(g, sum, part);
    };
    plus(piece.value, {weight_, begin, D});
    if (piece.missing != kNoNode && missing_ >= 0 && begin + D <= missing_columns_) {
      plus(piece.missing, {missing_, begin, D});
    }
    begin += D;
  }
  return var(sum);
}

Mlp::Mlp(ParameterTable& table, const std::string& name, std::int64_t in,
         std::vector<std::int64_t> widths, Activation between, bool activate_last,
         std::int64_t missing_columns)
    : between_(between), activate_last_(activate_last) {
  for (std::size_t i = 0; i < widths.size(); ++i) {
    layers_.emplace_back(table, name + "." + std::to_string(2 * i), in, widths[i],
                         i == 0 ? missing_columns : 0);
    in = widths[i];
  }
}

Var Mlp::operator()(Step& s, const Var& x) const {
  Var y = x;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    y = layers_[i](s, y);
    if (i + 1 < layers_.size() || activate_last_) y = activation(s, between_, y);
  }
  return y;
}

LayerNorm::LayerNorm(ParameterTable& table, const std::string& name, std::int64_t D, double epsilon)
    : weight_(table.add_vector(name + ".weight", D, {Initialisation::Kind::constant, 1})),
      bias_(table.add_vector(name + ".bias", D, {})),
      epsilon_(epsilon) {}

Var LayerNorm::operator()(Step& s, const Var& x) const {
  const Var y = normalize(s, Normalization::layer, x, epsilon_);
  return add(s, multiply(s, y, parameter(s, weight_)), parameter(s, bias_));
}

RmsNorm::RmsNorm(ParameterTable& table, const std::string& name, std::int64_t D, double epsilon)
    : weight_(table.add_vector(name + ".weight", D, {Initialisation::Kind::constant, 1})),
      epsilon_(epsilon) {}

Var RmsNorm::operator()(Step& s, const Var& x) const {
  return multiply(s, normalize(s, Normalization::rms, x, epsilon_), parameter(s, weight_));
}

GruCell::GruCell(ParameterTable& table, const std::string& name, std::int64_t in,
                 std::int64_t hidden, std::int64_t missing_columns, const std::string& suffix)
    : H_(hidden) {
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  input_ = Linear(table, name + ".weight_ih" + suffix, name + ".bias_ih" + suffix, in, 3 * hidden,
                  missing_columns, bound);
  hidden_ = Linear(table, name + ".weight_hh" + suffix, name + ".bias_hh" + suffix, hidden,
                   3 * hidden, 0, bound);
}

Var GruCell::operator()(Step& s, const Var& x, const Var& h) const {
  Node cell;
  cell.op = Op::gru_cell, cell.D = 4 * H_;
  cell.inputs = {whole(s, input_(s, x)), whole(s, hidden_(s, h)), whole(s, h)};
  return slice(s, var(add_rowwise(s.graph(), std::move(cell))), 0, H_);
}

LstmCell::LstmCell(ParameterTable& table, const std::string& name, std::int64_t in,
                   std::int64_t hidden, std::int64_t missing_columns, const std::string& suffix)
    : H_(hidden) {
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  input_ = Linear(table, name + ".weight_ih" + suffix, name + ".bias_ih" + suffix, in, 4 * hidden,
                  missing_columns, bound);
  hidden_ = Linear(table, name + ".weight_hh" + suffix, name + ".bias_hh" + suffix, hidden,
                   4 * hidden, 0, bound);
}

LstmCell::State LstmCell::operator()(Step& s, const Var& x, const State& state) const {
  Node cell;
  cell.op = Op::lstm_cell, cell.D = 6 * H_;
  cell.inputs = {whole(s, add(s, input_(s, x), hidden_(s, state.h))), whole(s, state.c)};
  const Var both = var(add_rowwise(s.graph(), std::move(cell)));
  return {slice(s, both, 0, H_), slice(s, both, H_, H_)};
}

RnnCell::RnnCell(ParameterTable& table, const std::string& name, std::int64_t in,
                 std::int64_t hidden, Activation activation, std::int64_t missing_columns,
                 const std::string& suffix)
    : activation_(activation) {
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  input_ = Linear(table, name + ".weight_ih" + suffix, name + ".bias_ih" + suffix, in, hidden,
                  missing_columns, bound);
  hidden_ = Linear(table, name + ".weight_hh" + suffix, name + ".bias_hh" + suffix, hidden, hidden,
                   0, bound);
}

Var RnnCell::operator()(Step& s, const Var& x, const Var& h) const {
  return activation(s, activation_, add(s, input_(s, x), hidden_(s, h)));
}

Encoder::Cell Encoder::parse(const std::string& name) {
  if (name == "relu") return Cell::relu;
  if (name == "gru") return Cell::gru;
  if (name == "lstm") return Cell::lstm;
  throw InvalidArgument("encoder = " + name + ", must be relu, gru or lstm");
}

Encoder::Encoder(ParameterTable& table, const std::string& name, Cell cell, std::int64_t in,
                 std::int64_t hidden, bool backward_in_time, std::int64_t missing_columns,
                 std::int32_t initial)
    : name_(name), cell_(cell), backward_(backward_in_time), H_(hidden), initial_(initial) {
  switch (cell) {
    case Cell::relu:
      rnn_ = RnnCell(table, name, in, hidden, Activation::relu, missing_columns, "_l0");
      break;
    case Cell::gru:
      gru_ = GruCell(table, name, in, hidden, missing_columns, "_l0");
      break;
    case Cell::lstm:
      lstm_ = LstmCell(table, name, in, hidden, missing_columns, "_l0");
      break;
  }
}

Var Encoder::operator()(Step& s, const Var& x) const {
  const auto open = [&](const std::string& name, std::optional<Var> start) {
    return backward_ ? s.carry_back(name, H_, start) : s.carry(name, H_, start);
  };
  const auto close = [&](const std::string& name, const Var& value) {
    backward_ ? s.next_back(name, value) : s.next(name, value);
  };
  std::optional<Var> start;
  if (initial_ >= 0) start = parameter(s, initial_);
  const Var h = open(name_, start);
  Var now;
  switch (cell_) {
    case Cell::relu:
      now = rnn_(s, x, h);
      break;
    case Cell::gru:
      now = gru_(s, x, h);
      break;
    case Cell::lstm: {
      const LstmCell::State state = lstm_(s, x, {h, open(name_ + ".cell", {})});
      close(name_ + ".cell", state.c);
      now = state.h;
      break;
    }
  }
  close(name_, now);
  return now;
}

EmissionHead::EmissionHead(ParameterTable& table, const std::string& name, Emission::Kind kind,
                           std::int64_t in, const std::vector<std::int64_t>& hidden, std::int64_t D,
                           std::int64_t missing_columns)
    : kind_(kind) {
  std::vector<std::int64_t> widths = hidden;
  widths.push_back(kind == Emission::Kind::gaussian ? 2 * D : D);
  net_ = Mlp(table, name, in, widths, Activation::relu, false, missing_columns);
}

Emission EmissionHead::operator()(Step& s, const Var& features) const {
  Emission emission;
  emission.kind = kind_;
  const Var out = net_(s, features);
  if (kind_ == Emission::Kind::gaussian) {
    emission.density = gaussian_head(s, out, ScaleMap::exp);
  } else {
    emission.logits = out;
  }
  return emission;
}

}  // namespace seqvae::nn

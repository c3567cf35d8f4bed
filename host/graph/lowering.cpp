#include "host/graph/lowering.hpp"

#include <algorithm>

#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/categorical.hpp"
#include "seqvae/kernels/dropout.hpp"
#include "seqvae/kernels/movement.hpp"
#include "seqvae/kernels/normalization.hpp"
#include "seqvae/kernels/recurrent_cell.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae {
namespace {

template <class Real>
void copy(const Call<Real>& c, std::int64_t rows, std::int64_t D, Rows<const Real> from,
          Rows<Real> to) {
  c.run(MultiplyAddArgs<Real>{.rows = rows, .D = D, .a = from, .y = to});
}

/// No component is chosen from anywhere.
template <class Real>
void zero(const Call<Real>& c, std::int64_t rows, std::int64_t D, Rows<Real> to) {
  c.run(SelectArgs<Real>{rows, D, true, {c.shard.nothing, 0}, {}, {}, to});
}

template <class Real>
Rows<Real> from_row(Rows<Real> x, std::int64_t row) {
  return {x.data + row * x.stride, x.stride};
}

/// All steps' rows as they stand outside of loops.
template <class Real>
RowLayout all_steps(const Call<Real>& c) {
  const ScanRows<Real>& rows = c.shard;
  RowLayout layout;
  layout.T = rows.T, layout.B = rows.B, layout.K = c.node().kind.particles ? rows.K : 1;
  layout.offsets = rows.offsets, layout.capacity = rows.R * layout.K;
  return layout;
}

template <class Real>
void move(const Call<Real>& c, Move how, RowLayout layout, Rows<const Real> start = {}) {
  c.run(MoveRowsArgs<Real>{how, layout, c.node().D, c.in(0), start, c.out()});
}

template <class Real>
NoiseArgs<Real> noise_of(const Call<Real>& c) {
  const ScanRows<Real>& shard = c.shard;
  const Node& node = c.node();
  NoiseArgs<Real> noise;
  noise.key = {shard.seed, node.site};
  noise.sequence_id = shard.sequence_id;
  noise.step = shard.step;
  if (node.kind.base == RowKind::Base::step && c.t < 0) {
    noise.layout = all_steps(c);
  } else {
    RowLayout& layout = noise.layout;
    layout.K = node.kind.particles ? shard.K : 1;
    layout.T = 1, layout.B = c.rows / layout.K;
    if (node.kind.base == RowKind::Base::step) layout.t0 = c.t;
  }
  noise.layout.origins = shard.origins;
  if (c.instruction.noise) noise.eps = c.at(c.instruction.noise);
  return noise;
}

/// c_t = next_{t -/+ 1}, and start where a sequence begins. Packed sequences stand longest first,
/// so the ones that have both steps are the first of either; padded ones are asked.
template <class Real>
void carry(const Call<Real>& c) {
  const ScanRows<Real>& shard = c.shard;
  const Node& node = c.node();
  const std::int64_t K = node.kind.particles ? shard.K : 1, here = c.rows;
  const Operand<Real>& next = c.instruction.inputs[0];
  const Operand<Real>& start = c.instruction.inputs[1];
  const std::int64_t other = node.backward_in_time ? c.t + 1 : c.t - 1;
  std::int64_t beside = 0;
  if (other >= 0 && other < shard.T) beside = std::min(shard.active(other) * K, here);
  const Rows<Real> y = c.out();
  const Rows<const Real> first =
      start ? Rows<const Real>(start.data, start.stride) : Rows<const Real>();
  if (beside > 0) {
    const Rows<const Real> from(next.data + next.scale * shard.first[other] * next.stride,
                                next.stride);
    if (node.backward_in_time && shard.goes_on != nullptr) {
      const Real* condition = shard.goes_on + c.t * shard.B * shard.K;
      c.run(SelectArgs<Real>{
          here, node.D, true, {condition, node.kind.particles ? 1 : shard.K}, from, first, y});
      return;
    }
    copy(c, beside, node.D, from, y);
  }
  if (beside == here) return;
  if (start) {
    copy(c, here - beside, node.D, from_row(first, beside), from_row(y, beside));
  } else {
    zero(c, here - beside, node.D, from_row(y, beside));
  }
}

template <class Real>
void expand(const Call<Real>& c) {
  const Rows<const Real> from = c.in(0);
  if (from.stride == 0 || c.t >= 0 || c.node().kind.base != RowKind::Base::step) {
    copy(c, c.rows, c.node().D, from, c.out());
  } else {
    move(c, Move::to_steps, all_steps(c));
  }
}

template <class Real>
void gaussian(const Call<Real>& c) {
  const Node& node = c.node();
  const std::int64_t rows = c.rows, D = node.D;
  const Real shift = static_cast<Real>(node.alpha), floor = static_cast<Real>(node.beta);
  switch (node.op) {
    case Op::gaussian_head:
      c.run(GaussianHeadArgs<Real>{node.scale_map, shift, floor, rows, D, c.in(0), c.out()});
      break;
    case Op::gaussian_head_backward:
      c.run(GaussianHeadBackwardArgs<Real>{node.scale_map, shift, floor, rows, D, c.in(0), c.in(1),
                                           c.out()});
      break;
    case Op::gaussian_sample:
      c.run(GaussianSampleArgs<Real>{D, noise_of(c), c.in(0), c.in(1), c.out()});
      break;
    case Op::gaussian_sample_backward:
      c.run(GaussianSampleBackwardArgs<Real>{D, noise_of(c), c.in(0), c.in(1), {}, c.out()});
      break;
    case Op::gaussian_kl:
      c.run(GaussianKlArgs<Real>{.rows = rows,
                                 .D = c.width(0),
                                 .mu_q = c.in(0),
                                 .logvar_q = c.in(1),
                                 .mu_p = c.in(2),
                                 .logvar_p = c.in(3),
                                 .kl = {},
                                 .kl_sum = c.out()});
      break;
    case Op::gaussian_kl_backward: {
      const std::int64_t n = D / 4;
      c.run(GaussianKlBackwardArgs<Real>{rows,
                                         n,
                                         c.in(0),
                                         c.in(1),
                                         c.in(2),
                                         c.in(3),
                                         {},
                                         c.in(4),
                                         c.out(0),
                                         c.out(n),
                                         c.out(2 * n),
                                         c.out(3 * n)});
      break;
    }
    case Op::gaussian_log_density:
      c.run(GaussianLogDensityArgs<Real>{rows, c.width(0), c.in(0), c.in(1), c.in(2), c.in(3),
                                         c.out()});
      break;
    default: {
      const std::int64_t n = D / 3;
      c.run(GaussianLogDensityBackwardArgs<Real>{rows, n, c.in(0), c.in(1), c.in(2), c.in(3),
                                                 c.in(4), c.out(0), c.out(n), c.out(2 * n)});
    }
  }
}

template <class Real>
void categorical(const Call<Real>& c) {
  const Node& node = c.node();
  const std::int64_t rows = c.rows, groups = node.groups, C = c.width(0) / groups;
  switch (node.op) {
    case Op::softmax:
      c.run(SoftmaxArgs<Real>{rows, groups, C, c.in(0), c.out()});
      break;
    case Op::softmax_backward:
      c.run(SoftmaxBackwardArgs<Real>{rows, groups, C, c.in(0), c.in(1), c.out()});
      break;
    case Op::one_hot_sample:
      c.run(OneHotSampleArgs<Real>{groups, C, noise_of(c), c.in(0), c.out()});
      break;
    case Op::categorical_kl:
      c.run(CategoricalKlArgs<Real>{rows, groups, C, c.in(0), c.in(1), c.out()});
      break;
    default:
      c.run(CategoricalKlBackwardArgs<Real>{rows, groups, C, c.in(0), c.in(1), c.in(2), c.out(0),
                                            c.out(groups * C)});
  }
}

template <class Real>
void cells(const Call<Real>& c) {
  const Node& node = c.node();
  const std::int64_t rows = c.rows;
  const auto from = [](Rows<const Real> x, std::int64_t column) {
    x.data += column;
    return x;
  };
  switch (node.op) {
    case Op::gru_cell: {
      const std::int64_t H = node.D / 4;
      c.run(GruCellArgs<Real>{rows, H, c.in(0), c.in(1), c.in(2), c.out(0), c.out(H)});
      break;
    }
    case Op::gru_cell_backward: {
      const std::int64_t H = node.D / 7;
      c.run(GruCellBackwardArgs<Real>{rows, H, from(c.in(0), H), c.in(1), c.in(2), c.in(3),
                                      c.out(0), c.out(3 * H), c.out(6 * H)});
      break;
    }
    case Op::lstm_cell: {
      const std::int64_t H = node.D / 6;
      c.run(LstmCellArgs<Real>{rows, H, c.in(0), c.in(1), c.out(0), c.out(H), c.out(2 * H)});
      break;
    }
    default: {
      const std::int64_t H = node.D / 5;
      c.run(LstmCellBackwardArgs<Real>{rows, H, from(c.in(0), 2 * H), c.in(1), from(c.in(0), H),
                                       c.in(2), c.in(3), c.out(0), c.out(4 * H)});
    }
  }
}

template <class Real>
void reductions(const Call<Real>& c) {
  const Node& node = c.node();
  const std::int64_t K = c.shard.K;
  switch (node.op) {
    case Op::sum_over_time:
      c.run(SumOverTimeArgs<Real>{all_steps(c), node.D, c.in(0), c.out()});
      break;
    case Op::repeat: {
      RowLayout layout;
      layout.T = 1, layout.B = c.rows / K, layout.K = K;
      move(c, Move::to_particles, layout);
      break;
    }
    case Op::sum_over_particles:
      c.run(SumOverParticlesArgs<Real>{c.rows, K, node.D, c.in(0), c.out()});
      break;
    case Op::log_mean_exp:
      c.run(LogMeanExpArgs<Real>{c.rows, K, c.in(0).data, c.out().data});
      break;
    default:
      c.run(LogMeanExpBackwardArgs<Real>{c.rows / K, K, c.in(0).data, c.in(1).data, c.out().data});
  }
}

template <class Real>
void diagonal(const Call<Real>& c) {
  const bool spread = c.node().op == Op::diagonal_matrix;
  const std::int64_t n = spread ? c.width(0) : c.node().D;
  if (spread) zero(c, c.rows, n * n, c.out());
  for (std::int64_t i = 0; i < n; ++i) {
    Rows<const Real> from = c.in(0);
    from.data += spread ? i : i * (n + 1);
    copy(c, c.rows, 1, from, c.out(spread ? i * (n + 1) : i));
  }
}

template <class Real>
DenseArgs<Real> product_of(const Call<Real>& c) {
  const Instruction<Real>& instruction = c.instruction;
  DenseArgs<Real> args{c.rows,  instruction.weights, c.in(0), instruction.bias,
                       c.in(1), c.node().activation, c.out(), instruction.W};
  args.activated = c.in(2);
  return args;
}

/// A chain takes a slope as a stage of its own.
template <class Real>
void product(const Call<Real>& c) {
  DenseArgs<Real> args = product_of(c);
  const Rows<const Real> activated = args.activated;
  if (c.shard.recorder == nullptr || !activated) return c.run(args);
  args.activated = {}, args.activation = Activation::identity;
  c.run(args);
  c.run(ActivationBackwardArgs<Real>{c.node().activation, c.rows, c.node().D, activated, args.y,
                                     args.y});
}

/// What a sink adds to the gradients.
template <class Real>
DenseWeightGradientArgs<Real> gradient_of(const Call<Real>& c) {
  const Instruction<Real>& instruction = c.instruction;
  DenseWeightGradientArgs<Real> args;
  args.M = c.rows, args.N = c.node().D, args.grad_y = c.in(0), args.accumulate = true;
  if (c.node().op == Op::row_gradient) {
    args.grad_bias = instruction.gradient;
    return args;
  }
  args.K = c.width(1), args.x = c.in(1);
  args.grad_W = {instruction.gradient, instruction.gradient_stride};
  args.grad_bias = instruction.bias_gradient;
  return args;
}

template <class Real>
void dispatch(const Call<Real>& c) {
  const Node& node = c.node();
  const Instruction<Real>& instruction = c.instruction;
  const std::int64_t rows = c.rows, D = node.D;
  switch (node.op) {
    case Op::linear:
    case Op::linear_transposed:
      product(c);
      break;
    case Op::activation:
      c.run(ActivationArgs<Real>{node.activation, rows, D, c.in(0), c.out()});
      break;
    case Op::activation_backward:
      c.run(ActivationBackwardArgs<Real>{node.activation, rows, D, c.in(0), c.in(1), c.out()});
      break;
    case Op::multiply_add:
      c.run(MultiplyAddArgs<Real>{rows, D, static_cast<Real>(node.alpha),
                                  static_cast<Real>(node.beta), c.in(0), c.in(1), c.in(2),
                                  c.out()});
      break;
    case Op::gated_mix:
      c.run(GatedMixArgs<Real>{rows, D, c.in(0), c.in(1), c.in(2), c.out()});
      break;
    case Op::gated_mix_backward: {
      const std::int64_t n = D / 3;
      c.run(GatedMixBackwardArgs<Real>{rows, n, c.in(0), c.in(1), c.in(2), c.in(3), c.out(0),
                                       c.out(n), c.out(2 * n)});
      break;
    }
    case Op::gru_cell:
    case Op::gru_cell_backward:
    case Op::lstm_cell:
    case Op::lstm_cell_backward:
      cells(c);
      break;
    case Op::select: {
      const bool by_row = c.width(0) == 1;
      c.run(SelectArgs<Real>{rows, D, by_row, c.in(0), c.in(1), c.in(2), c.out()});
      break;
    }
    case Op::clamp:
      c.run(ClampArgs<Real>{static_cast<Real>(node.alpha), static_cast<Real>(node.beta), rows, D,
                            c.in(0), c.out()});
      break;
    case Op::clamp_backward:
      c.run(ClampBackwardArgs<Real>{static_cast<Real>(node.alpha), static_cast<Real>(node.beta),
                                    rows, D, c.in(0), c.in(1), c.out()});
      break;
    case Op::normalize:
      c.run(NormalizeArgs<Real>{node.normalization, static_cast<Real>(node.alpha), rows, D, c.in(0),
                                c.out()});
      break;
    case Op::normalize_backward:
      c.run(NormalizeBackwardArgs<Real>{node.normalization, static_cast<Real>(node.alpha), rows, D,
                                        c.in(0), c.in(1), c.out()});
      break;
    case Op::dropout:
      c.run(DropoutArgs<Real>{D, noise_of(c), static_cast<Real>(node.alpha), c.in(0), c.out()});
      break;
    case Op::softmax:
    case Op::softmax_backward:
    case Op::one_hot_sample:
    case Op::categorical_kl:
    case Op::categorical_kl_backward:
      categorical(c);
      break;
    case Op::gaussian_head:
    case Op::gaussian_head_backward:
    case Op::gaussian_sample:
    case Op::gaussian_sample_backward:
    case Op::gaussian_kl:
    case Op::gaussian_kl_backward:
    case Op::gaussian_log_density:
    case Op::gaussian_log_density_backward:
      gaussian(c);
      break;
    case Op::likelihood:
      c.run(LikelihoodArgs<Real>{node.likelihood, rows, c.width(2), c.in(0), c.in(1), c.in(2),
                                 c.out()});
      break;
    case Op::likelihood_backward:
      c.run(LikelihoodBackwardArgs<Real>{node.likelihood, rows, D, c.in(0), c.in(1), c.in(2),
                                         c.in(3), c.out()});
      break;
    case Op::likelihood_sample:
      c.run(LikelihoodSampleArgs<Real>{node.likelihood, D, noise_of(c), c.in(0), c.out()});
      break;
    case Op::likelihood_mean:
      c.run(LikelihoodMeanArgs<Real>{node.likelihood, rows, D, c.in(0), c.out()});
      break;
    case Op::kalman_filter:
    case Op::kalman_filter_backward:
    case Op::kalman_sample:
    case Op::kalman_sample_backward:
    case Op::kalman_step:
      run_kalman(c);
      break;
    case Op::matrix_product:
      c.run(MatrixProductArgs<Real>{rows, node.shape, c.in(0), c.in(1), c.out()});
      break;
    case Op::diagonal_matrix:
    case Op::matrix_diagonal:
      diagonal(c);
      break;
    case Op::concat: {
      std::int64_t column = 0;
      for (std::size_t k = 0; k < instruction.inputs.size(); ++k) {
        if (!instruction.placed[k]) copy(c, rows, c.width(k), c.in(k), c.out(column));
        column += c.width(k);
      }
      break;
    }
    case Op::carry:
      if (c.t >= 0) {
        carry(c);
      } else {
        move(c, node.backward_in_time ? Move::from_step_after : Move::from_step_before,
             all_steps(c), c.in(1));
      }
      break;
    case Op::first:
      move(c, Move::from_first, all_steps(c));
      break;
    case Op::last:
      move(c, Move::from_last, all_steps(c));
      break;
    case Op::at_first:
      move(c, Move::to_first, all_steps(c));
      break;
    case Op::at_last:
      move(c, Move::to_last, all_steps(c));
      break;
    case Op::to_padded:
      move(c, Move::to_padded, all_steps(c));
      break;
    case Op::to_packed:
      move(c, Move::to_packed, all_steps(c));
      break;
    case Op::expand:
      expand(c);
      break;
    case Op::sum_over_rows:
      c.run(SumOverRowsArgs<Real>{c.shard.rows(instruction.inputs[0].kind, c.t), D, false, c.in(0),
                                  c.out().data, instruction.scratch, instruction.scratch_bytes});
      break;
    case Op::weight_gradient:
    case Op::row_gradient: {
      const DenseWeightGradientArgs<Real> gradient = gradient_of(c);
      c.run(WeightGradientsArgs<Real>{&gradient, 1});
      break;
    }
    case Op::sum_over_time:
    case Op::repeat:
    case Op::sum_over_particles:
    case Op::log_mean_exp:
    case Op::log_mean_exp_backward:
      reductions(c);
      break;
    case Op::input:
    case Op::parameter_row:
    case Op::constant:
    case Op::noise_position:
    case Op::absent:
    case Op::slice:
    case Op::stop_gradient:
      break;  // filled before the run, or a view
  }
}

}  // namespace

template <class Real>
std::size_t scratch_bytes(const Instruction<Real>& instruction, const ScanRows<Real>& shard) {
  const Node& node = *instruction.node;
  if (is_kalman(node.op)) return kalman_scratch_bytes(instruction, shard);
  if (shard.queue->device().is_cpu()) return 0;
  switch (node.op) {
    case Op::sum_over_rows:
      return cuda::sum_over_rows_workspace_bytes(shard.rows(instruction.inputs[0].kind, -1),
                                                 node.D);
    default:
      return 0;
  }
}

bool is_product(Op op) { return op == Op::linear || op == Op::linear_transposed; }

template <class Real>
DenseArgs<Real> product_of(const Instruction<Real>& product, const ScanRows<Real>& shard) {
  return product_of(Call<Real>{product, shard, -1, shard.rows(product.node->kind, -1)});
}

template <class Real>
void execute(const Instruction<Real>& instruction, const ScanRows<Real>& shard, std::int64_t t) {
  dispatch(Call<Real>{instruction, shard, t, shard.rows(instruction.node->kind, t)});
}

template <class Real>
DenseWeightGradientArgs<Real> gradient_of(const Instruction<Real>& sink,
                                          const ScanRows<Real>& shard) {
  return gradient_of(Call<Real>{sink, shard, -1, shard.rows(sink.node->kind, -1)});
}

template DenseArgs<float> product_of(const Instruction<float>&, const ScanRows<float>&);
template DenseArgs<double> product_of(const Instruction<double>&, const ScanRows<double>&);
template DenseWeightGradientArgs<float> gradient_of(const Instruction<float>&,
                                                    const ScanRows<float>&);
template DenseWeightGradientArgs<double> gradient_of(const Instruction<double>&,
                                                     const ScanRows<double>&);
template std::size_t scratch_bytes(const Instruction<float>&, const ScanRows<float>&);
template std::size_t scratch_bytes(const Instruction<double>&, const ScanRows<double>&);
template void execute(const Instruction<float>&, const ScanRows<float>&, std::int64_t);
template void execute(const Instruction<double>&, const ScanRows<double>&, std::int64_t);

}  // namespace seqvae

#include "host/graph/lowering.hpp"

#include <algorithm>

#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/categorical.hpp"
#include "seqvae/kernels/dropout.hpp"
#include "seqvae/kernels/normalization.hpp"
#include "seqvae/kernels/recurrent_cell.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae {
namespace {

template <class Real>
void copy(std::int64_t rows, std::int64_t D, Rows<const Real> from, Rows<Real> to) {
  cpu::multiply_add<Real>({.rows = rows, .D = D, .a = from, .y = to});
}

template <class Real>
void zero(std::int64_t rows, std::int64_t D, Rows<Real> to) {
  static const Real nothing = 0;
  for (std::int64_t r = 0; r < rows; ++r) std::fill_n(to[r], D, nothing);
}

template <class Real>
Rows<Real> from_row(Rows<Real> x, std::int64_t row) {
  return {x.data + row * x.stride, x.stride};
}

template <class Real>
NoiseArgs<Real> noise_of(const Call<Real>& c) {
  const ShardRows<Real>& shard = c.shard;
  const Node& node = c.node();
  NoiseArgs<Real> noise;
  noise.key = {shard.seed, node.site};
  noise.sequence_id = shard.sequence_id.data();
  noise.step = &shard.step;
  RowLayout& layout = noise.layout;
  layout.K = node.kind.particles ? shard.K : 1;
  layout.origins = shard.origins.data();
  if (node.kind.base == RowKind::Base::sequence) {
    layout.T = 1, layout.B = shard.B;
  } else if (c.t >= 0) {
    layout.T = 1, layout.B = shard.active(c.t), layout.t0 = c.t;
  } else {
    layout.T = shard.T, layout.B = shard.B, layout.offsets = shard.offsets.data();
  }
  if (c.instruction.noise) noise.eps = c.at(c.instruction.noise);
  return noise;
}

/// c_t = next_{t -/+ 1}, and start where a sequence begins. Sequences stand longest first, so the
/// ones that have both steps are the first of either.
template <class Real>
void carry(const Call<Real>& c, std::int64_t t) {
  const ShardRows<Real>& shard = c.shard;
  const Node& node = c.node();
  const std::int64_t K = node.kind.particles ? shard.K : 1, here = shard.active(t) * K;
  const Operand<Real>& next = c.instruction.inputs[0];
  const Operand<Real>& start = c.instruction.inputs[1];
  std::int64_t beside = 0;
  std::int64_t other = node.backward_in_time ? t + 1 : t - 1;
  if (other >= 0 && other < shard.T) beside = std::min(shard.active(other) * K, here);
  const auto rows_at = [&](const Operand<Real>& operand, std::int64_t step) {
    return Rows<Real>(operand.data + operand.scale * shard.offsets[static_cast<std::size_t>(step)] *
                                         operand.stride,
                      operand.stride);
  };
  const Rows<Real> y = rows_at(c.instruction.output, t);
  if (beside > 0) copy<Real>(beside, node.D, rows_at(next, other), y);
  if (beside == here) return;
  if (start) {
    const Rows<Real> from(start.data, start.stride);
    copy<Real>(here - beside, node.D, from_row(from, beside), from_row(y, beside));
  } else {
    zero(here - beside, node.D, from_row(y, beside));
  }
}

/// Rows of step-kind values that are a sequence's first or last.
template <class Real>
void edges(const Call<Real>& c, bool last, bool scatter) {
  const ShardRows<Real>& shard = c.shard;
  const std::int64_t D = c.node().D, K = c.node().kind.particles ? shard.K : 1;
  const Rows<const Real> from = c.in(0);
  const Rows<Real> to = c.out();
  if (scatter) zero(c.rows, D, to);
  for (std::int64_t b = 0; b < shard.B; ++b) {
    const std::int64_t length = shard.lengths[static_cast<std::size_t>(b)];
    if (length == 0) {
      if (!scatter) zero(K, D, from_row(to, b * K));
      continue;
    }
    const std::int64_t row =
        (shard.offsets[static_cast<std::size_t>(last ? length - 1 : 0)] + b) * K;
    copy<Real>(K, D, from_row(from, scatter ? b * K : row), from_row(to, scatter ? row : b * K));
  }
}

template <class Real>
void expand(const Call<Real>& c) {
  const Rows<const Real> from = c.in(0);
  if (from.stride == 0 || c.t >= 0 || c.node().kind.base != RowKind::Base::step) {
    copy<Real>(c.rows, c.node().D, from, c.out());
    return;
  }
  const std::int64_t K = c.node().kind.particles ? c.shard.K : 1;
  for (std::int64_t t = 0; t < c.shard.T; ++t) {
    copy<Real>(c.shard.active(t) * K, c.node().D, from,
               from_row(c.out(), c.shard.offsets[static_cast<std::size_t>(t)] * K));
  }
}

template <class Real>
void gaussian(const Call<Real>& c) {
  const Node& node = c.node();
  const std::int64_t rows = c.rows, D = node.D;
  const Real shift = static_cast<Real>(node.alpha), floor = static_cast<Real>(node.beta);
  switch (node.op) {
    case Op::gaussian_head:
      cpu::gaussian_head<Real>({node.scale_map, shift, floor, rows, D, c.in(0), c.out()});
      break;
    case Op::gaussian_head_backward:
      cpu::gaussian_head_backward<Real>(
          {node.scale_map, shift, floor, rows, D, c.in(0), c.in(1), c.out()});
      break;
    case Op::gaussian_sample:
      cpu::gaussian_sample<Real>({D, noise_of(c), c.in(0), c.in(1), c.out()});
      break;
    case Op::gaussian_sample_backward:
      cpu::gaussian_sample_backward<Real>({D, noise_of(c), c.in(0), c.in(1), {}, c.out()});
      break;
    case Op::gaussian_kl:
      cpu::gaussian_kl<Real>({.rows = rows,
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
      cpu::gaussian_kl_backward<Real>({rows,
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
      cpu::gaussian_log_density<Real>(
          {rows, c.width(0), c.in(0), c.in(1), c.in(2), c.in(3), c.out()});
      break;
    default: {
      const std::int64_t n = D / 3;
      cpu::gaussian_log_density_backward<Real>(
          {rows, n, c.in(0), c.in(1), c.in(2), c.in(3), c.in(4), c.out(0), c.out(n), c.out(2 * n)});
    }
  }
}

template <class Real>
void categorical(const Call<Real>& c) {
  const Node& node = c.node();
  const std::int64_t rows = c.rows, groups = node.groups, C = c.width(0) / groups;
  switch (node.op) {
    case Op::softmax:
      cpu::softmax<Real>({rows, groups, C, c.in(0), c.out()});
      break;
    case Op::softmax_backward:
      cpu::softmax_backward<Real>({rows, groups, C, c.in(0), c.in(1), c.out()});
      break;
    case Op::one_hot_sample:
      cpu::one_hot_sample<Real>({groups, C, noise_of(c), c.in(0), c.out()});
      break;
    case Op::categorical_kl:
      cpu::categorical_kl<Real>({rows, groups, C, c.in(0), c.in(1), c.out()});
      break;
    default:
      cpu::categorical_kl_backward<Real>(
          {rows, groups, C, c.in(0), c.in(1), c.in(2), c.out(0), c.out(groups * C)});
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
      cpu::gru_cell<Real>({rows, H, c.in(0), c.in(1), c.in(2), c.out(0), c.out(H)});
      break;
    }
    case Op::gru_cell_backward: {
      const std::int64_t H = node.D / 7;
      cpu::gru_cell_backward<Real>({rows, H, from(c.in(0), H), c.in(1), c.in(2), c.in(3), c.out(0),
                                    c.out(3 * H), c.out(6 * H)});
      break;
    }
    case Op::lstm_cell: {
      const std::int64_t H = node.D / 6;
      cpu::lstm_cell<Real>({rows, H, c.in(0), c.in(1), c.out(0), c.out(H), c.out(2 * H)});
      break;
    }
    default: {
      const std::int64_t H = node.D / 5;
      cpu::lstm_cell_backward<Real>({rows, H, from(c.in(0), 2 * H), c.in(1), from(c.in(0), H),
                                     c.in(2), c.in(3), c.out(0), c.out(4 * H)});
    }
  }
}

template <class Real>
void reductions(const Call<Real>& c) {
  const Node& node = c.node();
  const ShardRows<Real>& shard = c.shard;
  const std::int64_t D = node.D;
  switch (node.op) {
    case Op::sum_over_time: {
      RowLayout layout;
      layout.T = shard.T, layout.B = shard.B, layout.K = node.kind.particles ? shard.K : 1;
      layout.offsets = shard.offsets.data();
      cpu::sum_over_time<Real>({layout, D, c.in(0), c.out()});
      break;
    }
    case Op::repeat:
      for (std::int64_t r = 0; r < c.rows / shard.K; ++r) {
        copy<Real>(shard.K, D, {c.in(0)[r], 0}, from_row(c.out(), r * shard.K));
      }
      break;
    case Op::sum_over_particles:
      for (std::int64_t r = 0; r < c.rows; ++r) {
        cpu::sum_over_rows<Real>({shard.K, D, false, from_row(c.in(0), r * shard.K), c.out()[r]});
      }
      break;
    case Op::log_mean_exp:
      cpu::log_mean_exp<Real>({c.rows, shard.K, c.in(0).data, c.out().data});
      break;
    default:
      cpu::log_mean_exp_backward<Real>(
          {c.rows / shard.K, shard.K, c.in(0).data, c.in(1).data, c.out().data});
  }
}

template <class Real>
void diagonal(const Call<Real>& c) {
  const bool spread = c.node().op == Op::diagonal_matrix;
  const std::int64_t n = spread ? c.width(0) : c.node().D;
  if (spread) zero(c.rows, n * n, c.out());
  for (std::int64_t r = 0; r < c.rows; ++r) {
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t at = i * (n + 1);
      c.out()[r][spread ? at : i] = c.in(0)[r][spread ? i : at];
    }
  }
}

template <class Real>
void dispatch(const Call<Real>& c) {
  const Node& node = c.node();
  const Instruction<Real>& instruction = c.instruction;
  const std::int64_t rows = c.rows, D = node.D;
  switch (node.op) {
    case Op::linear:
    case Op::linear_transposed:
      cpu::dense<Real>({rows, instruction.weights, c.in(0), instruction.bias, c.in(1),
                        node.activation, c.out()});
      break;
    case Op::activation:
      cpu::activation<Real>({node.activation, rows, D, c.in(0), c.out()});
      break;
    case Op::activation_backward:
      cpu::activation_backward<Real>({node.activation, rows, D, c.in(0), c.in(1), c.out()});
      break;
    case Op::multiply_add:
      cpu::multiply_add<Real>({rows, D, static_cast<Real>(node.alpha), static_cast<Real>(node.beta),
                               c.in(0), c.in(1), c.in(2), c.out()});
      break;
    case Op::gated_mix:
      cpu::gated_mix<Real>({rows, D, c.in(0), c.in(1), c.in(2), c.out()});
      break;
    case Op::gated_mix_backward: {
      const std::int64_t n = D / 3;
      cpu::gated_mix_backward<Real>(
          {rows, n, c.in(0), c.in(1), c.in(2), c.in(3), c.out(0), c.out(n), c.out(2 * n)});
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
      cpu::select<Real>({rows, D, by_row, c.in(0), c.in(1), c.in(2), c.out()});
      break;
    }
    case Op::clamp:
      cpu::clamp<Real>(
          {static_cast<Real>(node.alpha), static_cast<Real>(node.beta), rows, D, c.in(0), c.out()});
      break;
    case Op::clamp_backward:
      cpu::clamp_backward<Real>({static_cast<Real>(node.alpha), static_cast<Real>(node.beta), rows,
                                 D, c.in(0), c.in(1), c.out()});
      break;
    case Op::normalize:
      cpu::normalize<Real>(
          {node.normalization, static_cast<Real>(node.alpha), rows, D, c.in(0), c.out()});
      break;
    case Op::normalize_backward:
      cpu::normalize_backward<Real>(
          {node.normalization, static_cast<Real>(node.alpha), rows, D, c.in(0), c.in(1), c.out()});
      break;
    case Op::dropout:
      cpu::dropout<Real>({D, noise_of(c), static_cast<Real>(node.alpha), c.in(0), c.out()});
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
      cpu::likelihood<Real>(
          {node.likelihood, rows, c.width(2), c.in(0), c.in(1), c.in(2), c.out()});
      break;
    case Op::likelihood_backward:
      cpu::likelihood_backward<Real>(
          {node.likelihood, rows, D, c.in(0), c.in(1), c.in(2), c.in(3), c.out()});
      break;
    case Op::likelihood_sample:
      cpu::likelihood_sample<Real>({node.likelihood, D, noise_of(c), c.in(0), c.out()});
      break;
    case Op::likelihood_mean:
      cpu::likelihood_mean<Real>({node.likelihood, rows, D, c.in(0), c.out()});
      break;
    case Op::kalman_filter:
    case Op::kalman_filter_backward:
    case Op::kalman_sample:
    case Op::kalman_step:
      run_kalman(c);
      break;
    case Op::matrix_product:
      cpu::matrix_product<Real>({rows, node.shape, c.in(0), c.in(1), c.out()});
      break;
    case Op::diagonal_matrix:
    case Op::matrix_diagonal:
      diagonal(c);
      break;
    case Op::concat: {
      std::int64_t column = 0;
      for (std::size_t k = 0; k < instruction.inputs.size(); ++k) {
        if (!instruction.placed[k]) copy<Real>(rows, c.width(k), c.in(k), c.out(column));
        column += c.width(k);
      }
      break;
    }
    case Op::carry:
      if (c.t >= 0) {
        carry(c, c.t);
      } else {
        for (std::int64_t t = 0; t < c.shard.T; ++t) carry(c, t);
      }
      break;
    case Op::first:
      edges(c, false, false);
      break;
    case Op::last:
      edges(c, true, false);
      break;
    case Op::at_first:
      edges(c, false, true);
      break;
    case Op::at_last:
      edges(c, true, true);
      break;
    case Op::expand:
      expand(c);
      break;
    case Op::sum_over_rows:
      cpu::sum_over_rows<Real>(
          {c.shard.rows(instruction.inputs[0].kind, c.t), D, false, c.in(0), c.out().data});
      break;
    case Op::weight_gradient:
      cpu::dense_weight_gradient<Real>({rows,
                                        D,
                                        c.width(1),
                                        c.in(0),
                                        c.in(1),
                                        true,
                                        {instruction.gradient, instruction.gradient_stride},
                                        instruction.bias_gradient});
      break;
    case Op::row_gradient:
      cpu::sum_over_rows<Real>({rows, D, true, c.in(0), instruction.gradient});
      break;
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
void run(const Instruction<Real>& instruction, const ShardRows<Real>& shard, std::int64_t t) {
  dispatch(Call<Real>{instruction, shard, t, shard.rows(instruction.node->kind, t)});
}

template void run(const Instruction<float>&, const ShardRows<float>&, std::int64_t);
template void run(const Instruction<double>&, const ShardRows<double>&, std::int64_t);

}  // namespace seqvae

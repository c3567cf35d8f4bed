// What is common to all contracts that a chain's stage may be.
#pragma once
#include "seqvae/kernels/chain.hpp"

namespace seqvae {

/// \name f(matrix, columns) for every matrix of the arguments.
/// \{
template <class Real, class F>
void for_each_rows(DenseArgs<Real>& a, F f) {
  f(a.x, a.W.K), f(a.addend, a.W.N), f(a.y, a.W.N);
}
template <class Real, class F>
void for_each_rows(ActivationArgs<Real>& a, F f) {
  f(a.x, a.D), f(a.y, a.D);
}
template <class Real, class F>
void for_each_rows(ActivationBackwardArgs<Real>& a, F f) {
  f(a.y, a.D), f(a.grad_y, a.D), f(a.grad_x, a.D);
}
template <class Real, class F>
void for_each_rows(MultiplyAddArgs<Real>& a, F f) {
  f(a.a, a.D), f(a.b, a.D), f(a.c, a.D), f(a.y, a.D);
}
template <class Real, class F>
void for_each_rows(GatedMixArgs<Real>& a, F f) {
  f(a.g, a.D), f(a.a, a.D), f(a.b, a.D), f(a.y, a.D);
}
template <class Real, class F>
void for_each_rows(GatedMixBackwardArgs<Real>& a, F f) {
  f(a.g, a.D), f(a.a, a.D), f(a.b, a.D), f(a.grad_y, a.D);
  f(a.grad_g, a.D), f(a.grad_a, a.D), f(a.grad_b, a.D);
}
template <class Real, class F>
void for_each_rows(SelectArgs<Real>& a, F f) {
  f(a.condition, a.by_row ? 1 : a.D), f(a.a, a.D), f(a.b, a.D), f(a.y, a.D);
}
template <class Real, class F>
void for_each_rows(GruCellArgs<Real>& a, F f) {
  f(a.a, 3 * a.H), f(a.q, 3 * a.H), f(a.h, a.H), f(a.h_next, a.H), f(a.gates, 3 * a.H);
}
template <class Real, class F>
void for_each_rows(GruCellBackwardArgs<Real>& a, F f) {
  f(a.gates, 3 * a.H), f(a.q, 3 * a.H), f(a.h, a.H), f(a.grad_h_next, a.H);
  f(a.grad_a, 3 * a.H), f(a.grad_q, 3 * a.H), f(a.grad_h, a.H);
}
template <class Real, class F>
void for_each_rows(LstmCellArgs<Real>& a, F f) {
  f(a.a, 4 * a.H), f(a.c, a.H), f(a.h_next, a.H), f(a.c_next, a.H), f(a.gates, 4 * a.H);
}
template <class Real, class F>
void for_each_rows(LstmCellBackwardArgs<Real>& a, F f) {
  f(a.gates, 4 * a.H), f(a.c, a.H), f(a.c_next, a.H), f(a.grad_h_next, a.H);
  f(a.grad_c_next, a.H), f(a.grad_a, 4 * a.H), f(a.grad_c, a.H);
}
template <class Real, class F>
void for_each_rows(GaussianHeadArgs<Real>& a, F f) {
  f(a.raw, a.D), f(a.logvar, a.D);
}
template <class Real, class F>
void for_each_rows(GaussianHeadBackwardArgs<Real>& a, F f) {
  f(a.raw, a.D), f(a.grad_logvar, a.D), f(a.grad_raw, a.D);
}
template <class Real, class F>
void for_each_rows(GaussianSampleArgs<Real>& a, F f) {
  f(a.noise.eps, a.D), f(a.mu, a.D), f(a.logvar, a.D), f(a.z, a.D);
}
template <class Real, class F>
void for_each_rows(GaussianSampleBackwardArgs<Real>& a, F f) {
  f(a.noise.eps, a.D), f(a.logvar, a.D), f(a.grad_z, a.D), f(a.grad_mu, a.D);
  f(a.grad_logvar, a.D);
}
/// \}

/// The kind of a stage, and how wide its rows are.
/// \{
template <class Real>
constexpr ChainOp op_of(const DenseArgs<Real>&) {
  return ChainOp::dense;
}
template <class Real>
constexpr ChainOp op_of(const ActivationArgs<Real>&) {
  return ChainOp::activation;
}
template <class Real>
constexpr ChainOp op_of(const ActivationBackwardArgs<Real>&) {
  return ChainOp::activation_backward;
}
template <class Real>
constexpr ChainOp op_of(const MultiplyAddArgs<Real>&) {
  return ChainOp::multiply_add;
}
template <class Real>
constexpr ChainOp op_of(const GatedMixArgs<Real>&) {
  return ChainOp::gated_mix;
}
template <class Real>
constexpr ChainOp op_of(const GatedMixBackwardArgs<Real>&) {
  return ChainOp::gated_mix_backward;
}
template <class Real>
constexpr ChainOp op_of(const SelectArgs<Real>&) {
  return ChainOp::select;
}
template <class Real>
constexpr ChainOp op_of(const GruCellArgs<Real>&) {
  return ChainOp::gru_cell;
}
template <class Real>
constexpr ChainOp op_of(const GruCellBackwardArgs<Real>&) {
  return ChainOp::gru_cell_backward;
}
template <class Real>
constexpr ChainOp op_of(const LstmCellArgs<Real>&) {
  return ChainOp::lstm_cell;
}
template <class Real>
constexpr ChainOp op_of(const LstmCellBackwardArgs<Real>&) {
  return ChainOp::lstm_cell_backward;
}
template <class Real>
constexpr ChainOp op_of(const GaussianHeadArgs<Real>&) {
  return ChainOp::gaussian_head;
}
template <class Real>
constexpr ChainOp op_of(const GaussianHeadBackwardArgs<Real>&) {
  return ChainOp::gaussian_head_backward;
}
template <class Real>
constexpr ChainOp op_of(const GaussianSampleArgs<Real>&) {
  return ChainOp::gaussian_sample;
}
template <class Real>
constexpr ChainOp op_of(const GaussianSampleBackwardArgs<Real>&) {
  return ChainOp::gaussian_sample_backward;
}

template <class Args>
std::int64_t columns_of(const Args& a) {
  if constexpr (requires { a.H; }) {
    return a.H;
  } else if constexpr (requires { a.W; }) {
    return a.W.N;
  } else {
    return a.D;
  }
}
/// \}

/// Calls f with the stage's arguments as what they are, `stage` const or not.
template <class Real, class Stage, class F>
void with_arguments(Stage& stage, F f) {
  const auto as = [&]<class Args>(std::type_identity<Args>) {
    using Given = std::conditional_t<std::is_const_v<Stage>, const Args, Args>;
    f(*reinterpret_cast<Given*>(stage.arguments));
  };
  switch (stage.op) {
    case ChainOp::dense:
      return as(std::type_identity<DenseArgs<Real>>());
    case ChainOp::activation:
      return as(std::type_identity<ActivationArgs<Real>>());
    case ChainOp::activation_backward:
      return as(std::type_identity<ActivationBackwardArgs<Real>>());
    case ChainOp::multiply_add:
      return as(std::type_identity<MultiplyAddArgs<Real>>());
    case ChainOp::gated_mix:
      return as(std::type_identity<GatedMixArgs<Real>>());
    case ChainOp::gated_mix_backward:
      return as(std::type_identity<GatedMixBackwardArgs<Real>>());
    case ChainOp::select:
      return as(std::type_identity<SelectArgs<Real>>());
    case ChainOp::gru_cell:
      return as(std::type_identity<GruCellArgs<Real>>());
    case ChainOp::gru_cell_backward:
      return as(std::type_identity<GruCellBackwardArgs<Real>>());
    case ChainOp::lstm_cell:
      return as(std::type_identity<LstmCellArgs<Real>>());
    case ChainOp::lstm_cell_backward:
      return as(std::type_identity<LstmCellBackwardArgs<Real>>());
    case ChainOp::gaussian_head:
      return as(std::type_identity<GaussianHeadArgs<Real>>());
    case ChainOp::gaussian_head_backward:
      return as(std::type_identity<GaussianHeadBackwardArgs<Real>>());
    case ChainOp::gaussian_sample:
      return as(std::type_identity<GaussianSampleArgs<Real>>());
    case ChainOp::gaussian_sample_backward:
      return as(std::type_identity<GaussianSampleBackwardArgs<Real>>());
  }
}

}  // namespace seqvae

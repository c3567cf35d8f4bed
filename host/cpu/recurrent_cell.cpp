#include "seqvae/kernels/recurrent_cell.hpp"

#include "host/cpu/plain/recurrent_cell.hpp"
#include "host/cpu/vector_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/recurrent_cell.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "host/cpu/vector_rows-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu::HWY_NAMESPACE {
#if HWY_NATIVE_FMA

void gru_cell_float(const GruCellArgs<float>& args) {
  const std::int64_t H = args.H;
  for (std::int64_t row = 0; row < args.rows; ++row) {
    const float *a = args.a[row], *q = args.q[row], *h = args.h[row];
    float* h_next = args.h_next[row];
    float* gates = args.gates ? args.gates[row] : nullptr;
    for_columns(H, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V r = sigmoid(hn::Add(lanes.load(a + d), lanes.load(q + d)));
      const V z = sigmoid(hn::Add(lanes.load(a + H + d), lanes.load(q + H + d)));
      const V n = tanh(hn::MulAdd(r, lanes.load(q + 2 * H + d), lanes.load(a + 2 * H + d)));
      const V fresh = hn::Mul(hn::Sub(set(1.0f), z), n);
      lanes.store(hn::MulAdd(z, lanes.load(h + d), fresh), h_next + d);
      if (gates != nullptr) {
        lanes.store(r, gates + d);
        lanes.store(z, gates + H + d);
        lanes.store(n, gates + 2 * H + d);
      }
    });
  }
}

void gru_cell_backward_float(const GruCellBackwardArgs<float>& args) {
  const std::int64_t H = args.H;
  const V one = set(1.0f);
  for (std::int64_t row = 0; row < args.rows; ++row) {
    const float *gates = args.gates[row], *q_n = args.q[row] + 2 * H, *h = args.h[row];
    const float* grad_h_next = args.grad_h_next[row];
    float *grad_a = args.grad_a[row], *grad_q = args.grad_q[row], *grad_h = args.grad_h[row];
    for_columns(H, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V r = lanes.load(gates + d), z = lanes.load(gates + H + d);
      const V n = lanes.load(gates + 2 * H + d), grad = lanes.load(grad_h_next + d);
      const V rest = hn::Sub(one, z);
      const V grad_n = hn::Mul(hn::Mul(grad, rest), hn::Mul(hn::Sub(one, n), hn::Add(one, n)));
      const V grad_r = hn::Mul(hn::Mul(grad_n, lanes.load(q_n + d)), hn::Mul(r, hn::Sub(one, r)));
      const V grad_z = hn::Mul(hn::Mul(grad, hn::Sub(lanes.load(h + d), n)), hn::Mul(z, rest));
      lanes.store(grad_r, grad_a + d);
      lanes.store(grad_z, grad_a + H + d);
      lanes.store(grad_n, grad_a + 2 * H + d);
      lanes.store(grad_r, grad_q + d);
      lanes.store(grad_z, grad_q + H + d);
      lanes.store(hn::Mul(grad_n, r), grad_q + 2 * H + d);
      lanes.store(hn::Mul(z, grad), grad_h + d);
    });
  }
}

void lstm_cell_float(const LstmCellArgs<float>& args) {
  const std::int64_t H = args.H;
  for (std::int64_t row = 0; row < args.rows; ++row) {
    const float *a = args.a[row], *c = args.c[row];
    float *h_next = args.h_next[row], *c_next = args.c_next[row];
    float* gates = args.gates ? args.gates[row] : nullptr;
    for_columns(H, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V i = sigmoid(lanes.load(a + d)), f = sigmoid(lanes.load(a + H + d));
      const V g = tanh(lanes.load(a + 2 * H + d)), o = sigmoid(lanes.load(a + 3 * H + d));
      const V next = hn::MulAdd(f, lanes.load(c + d), hn::Mul(i, g));
      lanes.store(next, c_next + d);
      lanes.store(hn::Mul(o, tanh(next)), h_next + d);
      if (gates != nullptr) {
        lanes.store(i, gates + d);
        lanes.store(f, gates + H + d);
        lanes.store(g, gates + 2 * H + d);
        lanes.store(o, gates + 3 * H + d);
      }
    });
  }
}

void lstm_cell_backward_float(const LstmCellBackwardArgs<float>& args) {
  const std::int64_t H = args.H;
  const V zero = hn::Zero(F()), one = set(1.0f);
  for (std::int64_t row = 0; row < args.rows; ++row) {
    const float *gates = args.gates[row], *c = args.c[row], *c_next = args.c_next[row];
    const float* grad_h_next = args.grad_h_next ? args.grad_h_next[row] : nullptr;
    const float* grad_c_next = args.grad_c_next ? args.grad_c_next[row] : nullptr;
    float *grad_a = args.grad_a[row], *grad_c = args.grad_c[row];
    for_columns(H, [&](std::int64_t d, auto lanes) HWY_ATTR {
      const V i = lanes.load(gates + d), f = lanes.load(gates + H + d);
      const V g = lanes.load(gates + 2 * H + d), o = lanes.load(gates + 3 * H + d);
      const V s = tanh(lanes.load(c_next + d));
      const V by_h = grad_h_next != nullptr ? lanes.load(grad_h_next + d) : zero;
      const V by_c = grad_c_next != nullptr ? lanes.load(grad_c_next + d) : zero;
      const V inner = hn::Mul(hn::Sub(one, s), hn::Add(one, s));
      const V grad = hn::MulAdd(hn::Mul(by_h, o), inner, by_c);
      const V c_old = lanes.load(c + d);
      lanes.store(hn::Mul(hn::Mul(grad, g), hn::Mul(i, hn::Sub(one, i))), grad_a + d);
      lanes.store(hn::Mul(hn::Mul(grad, c_old), hn::Mul(f, hn::Sub(one, f))), grad_a + H + d);
      lanes.store(hn::Mul(hn::Mul(grad, i), hn::Mul(hn::Sub(one, g), hn::Add(one, g))),
                  grad_a + 2 * H + d);
      lanes.store(hn::Mul(hn::Mul(by_h, s), hn::Mul(o, hn::Sub(one, o))), grad_a + 3 * H + d);
      lanes.store(hn::Mul(grad, f), grad_c + d);
    });
  }
}

#else
void gru_cell_float(const GruCellArgs<float>& a) { plain::gru_cell(a); }
void gru_cell_backward_float(const GruCellBackwardArgs<float>& a) { plain::gru_cell_backward(a); }
void lstm_cell_float(const LstmCellArgs<float>& a) { plain::lstm_cell(a); }
void lstm_cell_backward_float(const LstmCellBackwardArgs<float>& a) {
  plain::lstm_cell_backward(a);
}
#endif
}  // namespace seqvae::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {
HWY_EXPORT(gru_cell_float);
HWY_EXPORT(gru_cell_backward_float);
HWY_EXPORT(lstm_cell_float);
HWY_EXPORT(lstm_cell_backward_float);

template <>
void gru_cell(const GruCellArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gru_cell_float)(a);
}
template <>
void gru_cell(const GruCellArgs<double>& a) {
  check(a);
  plain::gru_cell(a);
}

template <>
void gru_cell_backward(const GruCellBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(gru_cell_backward_float)(a);
}
template <>
void gru_cell_backward(const GruCellBackwardArgs<double>& a) {
  check(a);
  plain::gru_cell_backward(a);
}

template <>
void lstm_cell(const LstmCellArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(lstm_cell_float)(a);
}
template <>
void lstm_cell(const LstmCellArgs<double>& a) {
  check(a);
  plain::lstm_cell(a);
}

template <>
void lstm_cell_backward(const LstmCellBackwardArgs<float>& a) {
  check(a);
  HWY_DYNAMIC_DISPATCH(lstm_cell_backward_float)(a);
}
template <>
void lstm_cell_backward(const LstmCellBackwardArgs<double>& a) {
  check(a);
  plain::lstm_cell_backward(a);
}

}  // namespace seqvae::cpu
#endif  // HWY_ONCE

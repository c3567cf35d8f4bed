// GRU and LSTM over sequences: the input's product, the loop over time, and in reverse the loop,
// then the products for the gradients. The two differ in their cell, in the LSTM's second carry c,
// and in that the GRU's hidden product q stays apart from a, for r multiplies its third part.
#include "host/cpu/sequences.hpp"
#include "seqvae/core/threads.hpp"
#include "seqvae/kernels/recurrent_cell.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae::cpu {
namespace {

int share_count(ThreadPool* threads) { return threads == nullptr ? 1 : threads->count(); }

template <class Real, class Args>
class Forward {
 public:
  explicit Forward(const Args& args) : a(args) {
    w.place(a, a.workspace);
    if (a.reserve == nullptr) return;
    Arena arena(a.reserve);
    w.reserve.place(a, arena);
  }

  void run() {
    const Sequences sequences(a, w.copies);
    PackedWeights<Real> W(G, a.D, w.W), U(G, a.H, w.U);
    W.pack(a.weight_ih, a.D, false);
    U.pack(a.weight_hh, a.H, false);
    gather_states(sequences, a.h0, a.H, w.copies.h0);
    if constexpr (kLstm) gather_states(sequences, a.c0, a.H, w.copies.c0);
    const auto x = packed_rows(sequences, a.x, a.D, w.copies.x);
    h = sequences.reordered() ? Rows<Real>(w.copies.h, a.H) : a.h;

    const int shares = share_count(a.threads);
    run_shares(a.threads, shares, [&](int i) {
      const std::int64_t row = row_cut(sequences.rows(), i, shares);
      DenseArgs<Real> product;
      product.M = row_cut(sequences.rows(), i + 1, shares) - row;
      product.weights = &W;
      product.x = {x[row], x.stride};
      product.bias = a.bias_ih;
      product.y = {gates(row), G};
      dense(product);
    });
    run_shares(a.threads, shares, [&](int i) {
      loop(sequences, U, sequences.cut(i, shares), sequences.cut(i + 1, shares));
    });

    if (sequences.reordered()) unpack_rows<Real>(sequences, h, a.H, false, a.h);
    for (std::int64_t i = 0; i < sequences.B; ++i) {
      const std::int64_t length = sequences.length(i);
      const std::int64_t last = length == 0 ? 0 : sequences.first(a.reverse ? 0 : length - 1) + i;
      copy_row(length == 0 ? w.copies.h0 + i * a.H : h[last], a.H, w.copies.h_final + i * a.H);
      if constexpr (kLstm) {
        copy_row(length == 0 ? w.copies.c0 + i * a.H : w.reserve.kept + last * a.H, a.H,
                 w.copies.c_final + i * a.H);
      }
    }
    scatter_states(sequences, w.copies.h_final, a.H, false, a.h_final);
    if constexpr (kLstm) scatter_states(sequences, w.copies.c_final, a.H, false, a.c_final);
  }

 private:
  static constexpr bool kLstm = kHasCellState<Args>;
  const Args& a;
  const std::int64_t G = kGates<Args> * a.H;
  RecurrenceWorkspace<Real> w;
  Rows<Real> h;  // in packed order

  Real* gates(std::int64_t row) const { return w.reserve.gates + row * G; }
  Real* kept(std::int64_t row) const { return w.reserve.kept + row * a.H; }

  // Places begin..end over all steps. Gates are written over the pre-activations: the cell reads
  // each element before it writes that element.
  void loop(const Sequences& sequences, const PackedWeights<Real>& U, std::int64_t begin,
            std::int64_t end) const {
    for (std::int64_t s = 0; s < sequences.T; ++s) {
      const std::int64_t t = sequences.step_at(s), last = std::min(end, sequences.at(t));
      if (last <= begin) continue;
      const std::int64_t row = sequences.first(t) + begin, count = last - begin;
      const Rows<Real> pre(gates(row), G);
      const auto h_previous = carry_into<Real>(sequences, s, begin, last, h, w.copies.h0, a.H,
                                               w.h_previous + begin * a.H);
      DenseArgs<Real> product;
      product.M = count;
      product.weights = &U;
      product.x = h_previous;
      product.bias = a.bias_hh;
      if constexpr (kLstm) {
        product.addend = product.y = pre;
        dense(product);
        const auto c_previous = carry_into<Real>(sequences, s, begin, last, {w.reserve.kept, a.H},
                                                 w.copies.c0, a.H, w.c_previous + begin * a.H);
        lstm_cell<Real>({count, a.H, pre, c_previous, {h[row], h.stride}, {kept(row), a.H}, pre});
      } else {
        const Rows<Real> q(w.q + begin * G, G);
        product.y = q;
        dense(product);
        gru_cell<Real>({count, a.H, pre, q, h_previous, {h[row], h.stride}, pre});
        if (a.reserve == nullptr) continue;
        for (std::int64_t i = 0; i < count; ++i) copy_row(q[i] + 2 * a.H, a.H, kept(row + i));
      }
    }
  }
};

template <class Real, class Args>
class Backward {
 public:
  explicit Backward(const Args& args) : a(args) {
    w.place(a, a.workspace);
    Arena arena(a.reserve);
    reserve.place(a, arena);
  }

  void run() {
    const Sequences sequences(a, w.copies);
    const std::int64_t rows = sequences.rows();
    PackedWeights<Real> U(a.H, G, w.U);
    U.pack(a.weight_hh, a.H, true);
    gather_states(sequences, a.h0, a.H, w.copies.h0);
    gather_states(sequences, a.grad_h_final, a.H, w.copies.h_final);
    begin_start_gradient(sequences, w.copies.h_final, w.grad_h0);
    if constexpr (kLstm) {
      gather_states(sequences, a.c0, a.H, w.copies.c0);
      gather_states(sequences, a.grad_c_final, a.H, w.copies.c_final);
      begin_start_gradient(sequences, w.copies.c_final, w.grad_c0);
    }
    h = packed_rows(sequences, a.h, a.H, w.copies.h);
    grad_h = a.grad_h ? packed_rows(sequences, a.grad_h, a.H, w.grad_h_rows) : a.grad_h;

    const int shares = share_count(a.threads);
    run_shares(a.threads, shares, [&](int i) {
      loop(sequences, U, sequences.cut(i, shares), sequences.cut(i + 1, shares));
    });
    scatter_states(sequences, w.grad_h0, a.H, a.accumulate_inputs, a.grad_h0);
    if constexpr (kLstm) scatter_states(sequences, w.grad_c0, a.H, a.accumulate_inputs, a.grad_c0);

    if (a.grad_x) input_gradient(sequences, shares);
    const auto x = packed_rows(sequences, a.x, a.D, w.copies.x);
    const Rows<const Real> grad_a(reserve.gates, G), grad_q(hidden(0), G);
    run_shares(a.threads, shares, [&](int i) {
      weight_gradient(rows, grad_a, x, a.D, a.grad_weight_ih, a.grad_bias_ih, i, shares);
      weight_gradient(rows, grad_q, {w.h_previous, a.H}, a.H, a.grad_weight_hh, a.grad_bias_hh, i,
                      shares);
    });
  }

 private:
  static constexpr bool kLstm = kHasCellState<Args>;
  const Args& a;
  const std::int64_t G = kGates<Args> * a.H;
  RecurrenceBackwardWorkspace<Real> w;
  RecurrenceReserve<Real> reserve;
  Rows<const Real> h, grad_h;  // in packed order

  // The gradient of what W_hh h + b_hh gave.
  Real* hidden(std::int64_t row) const { return (kLstm ? reserve.gates : w.grad_q) + row * G; }

  // Places begin..end from the last step taken to the first. The gradient of a is written over the
  // gates: the cell reads each element before it writes that element.
  void loop(const Sequences& sequences, const PackedWeights<Real>& U, std::int64_t begin,
            std::int64_t end) const {
    const std::int64_t H = a.H;
    for (std::int64_t s = sequences.T - 1; s >= 0; --s) {
      const std::int64_t t = sequences.step_at(s), last = std::min(end, sequences.at(t));
      if (last <= begin) continue;
      const std::int64_t row = sequences.first(t) + begin, count = last - begin;
      const Rows<Real> carry_h(w.carry_h + begin * H, H), grad_a(reserve.gates + row * G, G);
      for (std::int64_t i = std::max(begin, sequences.into_next(s)); i < last; ++i) {
        copy_row(w.copies.h_final + i * H, H, w.carry_h + i * H);
        if constexpr (kLstm) copy_row(w.copies.c_final + i * H, H, w.carry_c + i * H);
      }
      for (std::int64_t i = 0; grad_h && i < count; ++i) {
        const Real* add = grad_h[row + i];
        for (std::int64_t d = 0; d < H; ++d) carry_h[i][d] += add[d];
      }
      const auto carry =
          carry_into<Real>(sequences, s, begin, last, h, w.copies.h0, H, w.h_previous + row * H);
      if (carry.data != w.h_previous + row * H) {
        for (std::int64_t i = 0; i < count; ++i) {
          copy_row(carry[i], H, w.h_previous + (row + i) * H);
        }
      }
      DenseArgs<Real> product;
      product.M = count;
      product.weights = &U;
      product.x = {hidden(row), G};
      product.y = carry_h;
      if constexpr (kLstm) {
        const auto c_previous = carry_into<Real>(sequences, s, begin, last, {reserve.kept, H},
                                                 w.copies.c0, H, w.c_previous + begin * H);
        const Rows<Real> carry_c(w.carry_c + begin * H, H);
        lstm_cell_backward<Real>({count,
                                  H,
                                  grad_a,
                                  c_previous,
                                  {reserve.kept + row * H, H},
                                  carry_h,
                                  carry_c,
                                  grad_a,
                                  carry_c});
      } else {
        // Of q the cell reads the third part, which is all that was kept.
        const Rows<const Real> q(reserve.kept + row * H - 2 * H, H);
        gru_cell_backward<Real>(
            {count, H, grad_a, q, carry, carry_h, grad_a, {hidden(row), G}, carry_h});
        product.addend = carry_h;
      }
      dense(product);
      if (!sequences.any_restarts(s, begin, last)) continue;
      for (std::int64_t i = begin; i < last; ++i) {
        if (!sequences.restarts(s, i)) continue;
        hand_to_start(w.carry_h + i * H, w.grad_h0 + i * H);
        if constexpr (kLstm) hand_to_start(w.carry_c + i * H, w.grad_c0 + i * H);
      }
    }
  }

  // Zeros, but where there is no step: there the final state is the start.
  void begin_start_gradient(const Sequences& sequences, const Real* grad_final,
                            Real* grad_start) const {
    const std::int64_t some = (sequences.T == 0 ? 0 : sequences.at(0)) * a.H;
    std::fill_n(grad_start, some, Real{0});
    std::copy_n(grad_final + some, sequences.B * a.H - some, grad_start + some);
  }

  // The carry was a start value here: its gradient is the start's, and goes no further.
  void hand_to_start(Real* carry, Real* grad_start) const {
    for (std::int64_t d = 0; d < a.H; ++d) {
      grad_start[d] += carry[d];
      carry[d] = 0;
    }
  }

  void input_gradient(const Sequences& sequences, int shares) const {
    PackedWeights<Real> W(a.D, G, w.W);
    W.pack(a.weight_ih, a.D, true);
    const bool direct = !sequences.reordered();
    const Rows<Real> grad_x = direct ? a.grad_x : Rows<Real>(w.grad_x_rows, a.D);
    run_shares(a.threads, shares, [&](int i) {
      const std::int64_t row = row_cut(sequences.rows(), i, shares);
      DenseArgs<Real> product;
      product.M = row_cut(sequences.rows(), i + 1, shares) - row;
      product.weights = &W;
      product.x = {reserve.gates + row * G, G};
      product.y = {grad_x[row], grad_x.stride};
      if (direct && a.accumulate_inputs) product.addend = product.y;
      dense(product);
    });
    if (!direct) unpack_rows<Real>(sequences, grad_x, a.D, a.accumulate_inputs, a.grad_x);
  }

  // Share i of the rows of grad_W[G][width] and of the bias beside it.
  void weight_gradient(std::int64_t rows, Rows<const Real> grad_y, Rows<const Real> x,
                       std::int64_t width, Real* grad_W, Real* grad_bias, int i, int shares) const {
    const std::int64_t n0 = G * i / shares, n1 = G * (i + 1) / shares;
    if (n0 == n1) return;
    const Rows<const Real> own(grad_y.data + n0, grad_y.stride);
    Real* const own_bias = grad_bias == nullptr ? nullptr : grad_bias + n0;
    if (grad_W != nullptr) {
      dense_weight_gradient<Real>({rows,
                                   n1 - n0,
                                   width,
                                   own,
                                   x,
                                   a.accumulate_weights,
                                   {grad_W + n0 * width, width},
                                   own_bias});
    } else if (grad_bias != nullptr) {
      sum_over_rows<Real>({rows, n1 - n0, a.accumulate_weights, own, own_bias});
    }
  }
};

}  // namespace

template <class Real>
void gru(const GruArgs<Real>& args) {
  check(args);
  Forward<Real, GruArgs<Real>>(args).run();
}
template <class Real>
void gru_backward(const GruBackwardArgs<Real>& args) {
  check(args);
  Backward<Real, GruBackwardArgs<Real>>(args).run();
}
template <class Real>
void lstm(const LstmArgs<Real>& args) {
  check(args);
  Forward<Real, LstmArgs<Real>>(args).run();
}
template <class Real>
void lstm_backward(const LstmBackwardArgs<Real>& args) {
  check(args);
  Backward<Real, LstmBackwardArgs<Real>>(args).run();
}

template void gru(const GruArgs<float>&);
template void gru(const GruArgs<double>&);
template void gru_backward(const GruBackwardArgs<float>&);
template void gru_backward(const GruBackwardArgs<double>&);
template void lstm(const LstmArgs<float>&);
template void lstm(const LstmArgs<double>&);
template void lstm_backward(const LstmBackwardArgs<float>&);
template void lstm_backward(const LstmBackwardArgs<double>&);

}  // namespace seqvae::cpu

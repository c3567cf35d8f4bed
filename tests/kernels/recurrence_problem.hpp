// One call of gru or lstm, forward and backward, with inputs from a seed or set by the test.
// Padding of inputs and all outputs and scratch start as NaN.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <random>

#include "seqvae/kernels/gru.hpp"
#include "seqvae/kernels/lstm.hpp"

namespace seqvae::test {

/// 64-byte aligned memory full of NaN.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes)
      : bytes_(bytes), memory_(std::aligned_alloc(64, (bytes + 127) / 64 * 64)) {
    std::memset(memory_, 0xFF, (bytes + 127) / 64 * 64);
  }
  ~Scratch() { std::free(memory_); }
  Scratch(const Scratch&) = delete;
  void* get() const { return memory_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_;
  void* memory_;
};

struct RecurrenceShape {
  std::int64_t T, B, D, H;
  std::vector<std::int32_t> lengths = {};  ///< padded; none: all T
  bool reverse = false;
  std::vector<std::uint8_t> reset = {};  ///< [T * B]
};

template <class Real, bool kLstm>
struct RecurrenceProblem {
  using Args = std::conditional_t<kLstm, LstmArgs<Real>, GruArgs<Real>>;
  using BackwardArgs = std::conditional_t<kLstm, LstmBackwardArgs<Real>, GruBackwardArgs<Real>>;
  using Values = std::vector<Real>;
  static constexpr Real kNaN = std::numeric_limits<Real>::quiet_NaN();

  RecurrenceShape s;
  std::vector<std::int32_t> offsets = {};  ///< set: packed
  ThreadPool* threads = nullptr;
  std::int64_t R, G;
  Values x, weight_ih, weight_hh, bias_ih, bias_hh, h0, c0;
  Values grad_h, grad_h_final, grad_c_final;
  Values h, h_final, c_final;
  Values grad_x, grad_h0, grad_c0, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh;

  explicit RecurrenceProblem(const RecurrenceShape& shape, std::int64_t rows = -1,
                             unsigned seed = 1)
      : s(shape), R(rows < 0 ? s.T * s.B : rows), G((kLstm ? 4 : 3) * s.H) {
    std::mt19937 engine(seed);
    const auto fill = [&](Values& values, std::int64_t count, double scale) {
      std::normal_distribution<float> normal;
      values.resize(static_cast<std::size_t>(count));
      for (Real& value : values) value = static_cast<float>(scale * normal(engine));
    };
    fill(weight_ih, G * s.D, 0.5), fill(weight_hh, G * s.H, 1 / std::sqrt(s.H));
    fill(bias_ih, G, 0.5), fill(bias_hh, G, 0.5);
    fill(h0, s.B * s.H, 1), fill(c0, s.B * s.H, 1);
    fill(grad_h_final, s.B * s.H, 1), fill(grad_c_final, s.B * s.H, 1);
    fill(x, R * s.D, 1), fill(grad_h, R * s.H, 1);
    poison_padding();
  }
  bool padding(std::int64_t row) const {
    if (s.lengths.empty() || s.B == 0) return false;
    return row / s.B >= s.lengths[static_cast<std::size_t>(row % s.B)];
  }
  void poison_padding() {
    for (std::int64_t row = 0; row < R; ++row) {
      if (!padding(row)) continue;
      std::fill_n(x.begin() + row * s.D, s.D, kNaN);
      std::fill_n(grad_h.begin() + row * s.H, s.H, kNaN);
    }
  }

  template <class SomeArgs>
  void set_common(SomeArgs& a) {
    a.layout.T = s.T, a.layout.B = s.B;
    if (!s.lengths.empty()) a.layout.lengths = s.lengths.data();
    if (!offsets.empty()) a.layout.offsets = offsets.data();
    a.D = s.D, a.H = s.H, a.reverse = s.reverse;
    a.x = {x.data(), s.D};
    a.weight_ih = weight_ih.data(), a.weight_hh = weight_hh.data();
    if (!h0.empty()) a.h0 = {h0.data(), s.H};
    if constexpr (kLstm) {
      if (!c0.empty()) a.c0 = {c0.data(), s.H};
    }
    if (!s.reset.empty()) a.reset = s.reset.data();
    a.threads = threads;
  }
  Args args() {
    Args a;
    set_common(a);
    a.bias_ih = bias_ih.data(), a.bias_hh = bias_hh.data();
    const auto poison = [](Values& values, std::int64_t count) {
      values.assign(static_cast<std::size_t>(count), kNaN);
      return values.data();
    };
    a.h = {poison(h, R * s.H), s.H};
    a.h_final = {poison(h_final, s.B * s.H), s.H};
    if constexpr (kLstm) a.c_final = {poison(c_final, s.B * s.H), s.H};
    return a;
  }
  BackwardArgs backward_args() {
    BackwardArgs a;
    set_common(a);
    a.h = {h.data(), s.H};
    a.grad_h = {grad_h.data(), s.H};
    a.grad_h_final = {grad_h_final.data(), s.H};
    const auto poison = [&](Values& values, std::int64_t count) {
      if (!a.accumulate_weights) values.assign(static_cast<std::size_t>(count), kNaN);
      return values.data();
    };
    a.grad_x = {poison(grad_x, R * s.D), s.D};
    a.grad_h0 = {poison(grad_h0, s.B * s.H), s.H};
    if constexpr (kLstm) {
      a.grad_c_final = {grad_c_final.data(), s.H};
      a.grad_c0 = {poison(grad_c0, s.B * s.H), s.H};
    }
    a.grad_weight_ih = poison(grad_weight_ih, G * s.D);
    a.grad_weight_hh = poison(grad_weight_hh, G * s.H);
    a.grad_bias_ih = poison(grad_bias_ih, G), a.grad_bias_hh = poison(grad_bias_hh, G);
    return a;
  }

  static std::size_t reserve_bytes(const Args& a) {
    if constexpr (kLstm)
      return lstm_reserve_bytes(a);
    else
      return gru_reserve_bytes(a);
  }
  static std::size_t workspace_bytes(const Args& a) {
    if constexpr (kLstm)
      return lstm_workspace_bytes(a);
    else
      return gru_workspace_bytes(a);
  }
  static std::size_t workspace_bytes(const BackwardArgs& a) {
    if constexpr (kLstm)
      return lstm_backward_workspace_bytes(a);
    else
      return gru_backward_workspace_bytes(a);
  }
  static void call(const Args& a) {
    if constexpr (kLstm)
      cpu::lstm(a);
    else
      cpu::gru(a);
  }
  static void call(const BackwardArgs& a) {
    if constexpr (kLstm)
      cpu::lstm_backward(a);
    else
      cpu::gru_backward(a);
  }

  void run_forward() {
    Args a = args();
    const Scratch workspace(workspace_bytes(a));
    a.workspace = workspace.get(), a.workspace_bytes = workspace.bytes();
    call(a);
  }
  void run() {
    Args a = args();
    const Scratch reserve(reserve_bytes(a));
    a.reserve = reserve.get(), a.reserve_bytes = reserve.bytes();
    const Scratch workspace(workspace_bytes(a));
    a.workspace = workspace.get(), a.workspace_bytes = workspace.bytes();
    call(a);
    BackwardArgs b = backward_args();
    b.reserve = reserve.get(), b.reserve_bytes = reserve.bytes();
    const Scratch backward_workspace(workspace_bytes(b));
    b.workspace = backward_workspace.get(), b.workspace_bytes = backward_workspace.bytes();
    call(b);
  }
  /// The number that the gradients are the derivatives of.
  double loss() {
    run_forward();
    double sum = 0;
    for (std::int64_t i = 0; i < R * s.H; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (!padding(i / s.H)) sum += h[at] * grad_h[at];
    }
    for (std::size_t i = 0; i < h_final.size(); ++i) sum += h_final[i] * grad_h_final[i];
    for (std::size_t i = 0; i < c_final.size(); ++i) sum += c_final[i] * grad_c_final[i];
    return sum;
  }
};

}  // namespace seqvae::test

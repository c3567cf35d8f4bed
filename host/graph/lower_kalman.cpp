// Ops of linear-Gaussian models as calls of the Kalman contracts. A particle is a sequence to them:
// sequence b's k-th stands at b K + k, as rows do. The likelihood and its gradient run on the
// queue's device, draws on the CPU.
#include <algorithm>
#include <cmath>
#include <limits>

#include "host/graph/lowering.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/kalman.hpp"

namespace seqvae {
namespace {

/// Hands out pieces of scratch; without memory it only counts.
class Scratch {
 public:
  explicit Scratch(std::byte* memory) : memory_(memory) {}
  template <class T>
  T* take(std::int64_t count) {
    std::byte* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(piece);
  }
  bool counting() const { return memory_ == nullptr; }
  std::size_t used() const { return used_; }

 private:
  std::byte* memory_;
  std::size_t used_ = 0;
};

/// One instruction's contracts and their scratch. `run` with scratch that counts runs nothing.
template <class Real>
class KalmanOp {
 public:
  KalmanOp(const Call<Real>& call, std::byte* memory)
      : c_(call),
        scratch_(memory),
        first_(call.node().op == Op::kalman_step ? 1 : 2),
        K_(call.node().kind.particles ? call.shard.K : 1),
        n_(call.width(first_ + kModelStart)),
        m_(call.width(first_ + 3) / n_) {}

  std::size_t run() {
    switch (c_.node().op) {
      case Op::kalman_filter:
        filter();
        break;
      case Op::kalman_filter_backward:
        backward();
        break;
      case Op::kalman_sample:
        sample();
        break;
      case Op::kalman_sample_backward:
        sample_backward();
        break;
      default:
        step();
    }
    return scratch_.used();
  }

 private:
  /// An array of the model: shared, or a row each of the steps.
  StepArray<const Real> array(std::size_t input) const {
    const Rows<const Real> rows = c_.in(input);
    return {rows.data, rows.stride, rows.stride};
  }
  /// One that a sequence has once: that of its first step, whose rows are the first.
  StepArray<const Real> once(std::size_t input) const {
    const Rows<const Real> rows = c_.in(input);
    return {rows.data, 0, rows.stride};
  }

  KalmanModel<Real> model() const {
    KalmanModel<Real> model;
    model.n = n_, model.m = m_;
    model.A = array(first_), model.state_offset = array(first_ + 1);
    model.Q = array(first_ + 2), model.C = array(first_ + 3);
    model.observation_offset = array(first_ + 4), model.R = array(first_ + 5);
    model.diagonal_R = c_.width(first_ + 5) == m_;
    model.m0 = once(first_ + 6), model.P0 = once(first_ + 7);
    return model;
  }

  /// All steps, a particle a sequence.
  RowLayout sequences() {
    const ScanRows<Real>& shard = c_.shard;
    if (shard.particle_offsets != nullptr) {
      RowLayout layout;
      layout.T = shard.T, layout.B = shard.B * K_;
      layout.offsets = K_ > 1 ? shard.particle_offsets : shard.offsets;
      return layout;
    }
    std::int32_t* offsets = scratch_.template take<std::int32_t>(shard.T + 1);
    RowLayout layout;
    layout.T = shard.T, layout.B = shard.B * K_, layout.offsets = offsets;
    if (scratch_.counting()) return layout;
    const std::int32_t K = static_cast<std::int32_t>(K_);
    for (std::int64_t t = 0; t <= shard.T; ++t) offsets[t] = shard.offsets[t] * K;
    return layout;
  }

  KalmanNoise noise(RowLayout& layout, std::uint32_t site) {
    const ScanRows<Real>& shard = c_.shard;
    const std::int64_t count = shard.B * K_;
    auto* id = scratch_.template take<std::uint32_t>(count);
    auto* draw = scratch_.template take<std::uint32_t>(count);
    auto* origin = scratch_.template take<std::int32_t>(count);
    for (std::int64_t i = 0; !scratch_.counting() && i < count; ++i) {
      const std::int64_t b = i / K_;
      id[i] = shard.sequence_id[b], origin[i] = shard.origins[b];
      draw[i] = static_cast<std::uint32_t>(i % K_);
    }
    layout.origins = origin;
    return {{shard.seed, site}, *shard.step, id, draw};
  }

  KalmanData<Real> data() { return {sequences(), c_.in(0), c_.in(1), {}}; }
  KalmanFiltered<Real> filtered(std::size_t input) const {
    return {columns(c_.in(input), 1), columns(c_.in(input), 1 + n_), {}, nullptr};
  }
  static Rows<const Real> columns(Rows<const Real> rows, std::int64_t begin) {
    rows.data += begin;
    return rows;
  }
  std::int32_t* status() { return scratch_.template take<std::int32_t>(c_.shard.B * K_); }

  /// Whether all covariances of a filter's rows were positive definite: its log-likelihoods are NaN
  /// from the first step on that is not.
  bool sound(std::size_t filter) const {
    for (std::int64_t r = 0; r < c_.rows; ++r) {
      if (std::isnan(*c_.in(filter)[r])) return false;
    }
    return true;
  }
  void fill(Real value) const {
    for (std::int64_t r = 0; r < c_.rows; ++r) std::fill_n(c_.out()[r], c_.node().D, value);
  }

  bool on_cpu() const { return c_.shard.queue->device().is_cpu(); }
  /// Rows to spare, which the contracts do not know, must not hold what is not a number.
  void clear() const {
    c_.run(SelectArgs<Real>{c_.rows, c_.node().D, true, {c_.shard.nothing, 0}, {}, {}, c_.out()});
  }

  template <class Args>
  Args& with_workspace(Args& args) {
    args.workspace_bytes = kalman_workspace_bytes(args, *c_.shard.queue);
    args.workspace =
        scratch_.template take<std::byte>(static_cast<std::int64_t>(args.workspace_bytes));
    return args;
  }

  void filter() {
    KalmanFilterArgs<Real> args;
    args.model = model(), args.data = data(), args.status = status();
    args.log_likelihood = c_.out(0), args.mean = c_.out(1), args.covariance = c_.out(1 + n_);
    with_workspace(args);
    if (scratch_.counting()) return;
    if (c_.shard.particle_offsets != nullptr) clear();
    seqvae::run(args, *c_.shard.queue);
  }

  /// Columns [y | model] of the output, a row each.
  KalmanGradient<Real> gradient() const {
    KalmanGradient<Real> grad;
    std::int64_t column = m_;
    grad.y = c_.out(0);
    const auto next = [&](std::size_t input, bool once) {
      StepArray<Real> array;
      const Rows<Real> rows = c_.out(column);
      if (c_.in(first_ + input)) array = {rows.data, once ? 0 : rows.stride, rows.stride};
      column += c_.width(first_ + input);
      return array;
    };
    grad.A = next(0, false), grad.state_offset = next(1, false);
    grad.Q = next(2, false), grad.C = next(3, false);
    grad.observation_offset = next(4, false), grad.R = next(5, false);
    grad.m0 = next(6, true), grad.P0 = next(7, true);
    return grad;
  }

  void backward() {
    constexpr std::size_t kFilter = 2 + kModelInputs;
    KalmanBackwardArgs<Real> args;
    args.model = model(), args.data = data(), args.filtered = filtered(kFilter);
    args.grad_log_likelihood = c_.in(kFilter + 1);
    args.accumulate = true;
    args.grad = gradient();
    with_workspace(args);
    if (scratch_.counting()) return;
    if (on_cpu() && !sound(kFilter)) return fill(std::numeric_limits<Real>::quiet_NaN());
    clear();
    seqvae::run(args, *c_.shard.queue);
  }

  void sample() {
    constexpr std::size_t kFilter = 2 + kModelInputs;
    KalmanSampleArgs<Real> args;
    args.model = model(), args.data = data(), args.filtered = filtered(kFilter);
    args.noise = noise(args.data.layout, c_.node().site);
    args.S = 1, args.z = c_.out(), args.status = status();
    with_workspace(args);
    // y given z: at each step a draw of the model whose state is known.
    Real* certain = scratch_.template take<Real>(n_ * n_);
    KalmanSimulateArgs<Real> emit = simulation(args.data.layout, args.noise, args.status);
    emit.noise.key.site += 1;
    emit.model.P0 = {certain};
    with_workspace(emit);
    if (scratch_.counting()) return;
    if (!sound(kFilter)) return fill(std::numeric_limits<Real>::quiet_NaN());
    cpu::kalman_sample(args);
    std::fill_n(certain, n_ * n_, Real(0));
    for (std::int64_t t = 0; t < c_.shard.T; ++t) {
      const Call<Real> at{c_.instruction, c_.shard, t, c_.shard.rows(c_.node().kind, t)};
      KalmanOp op(at, nullptr);
      op.bind(emit, op.model(), t, at.rows);
      emit.model.m0 = {at.out().data, 0, at.out().stride};
      emit.model.P0 = {certain};
      emit.y = at.out(n_);
      cpu::kalman_simulate(emit);
      op.moments_of_y(emit.model, at.out(0), at.out(n_ + m_), at.out(n_ + 2 * m_));
    }
  }

  void sample_backward() {
    constexpr std::size_t kFilter = 2 + kModelInputs;
    KalmanSampleBackwardArgs<Real> args;
    args.model = model(), args.data = data();
    args.noise = noise(args.data.layout, c_.node().site), args.S = 1;
    args.grad_z = c_.in(kFilter + 1), args.grad = gradient(), args.accumulate = true;
    args.workspace_bytes = kalman_workspace_bytes(args);
    args.workspace =
        scratch_.template take<std::byte>(static_cast<std::int64_t>(args.workspace_bytes));
    if (scratch_.counting()) return;
    if (!sound(kFilter)) return fill(std::numeric_limits<Real>::quiet_NaN());
    clear();  // a prior's gradient stands in the rows of first steps
    cpu::kalman_sample_backward(args);
  }

  void step() {
    const std::int64_t B = c_.shard.B * K_;
    Real* mean = scratch_.template take<Real>(B * n_);
    Real* covariance = scratch_.template take<Real>(B * n_ * n_);
    RowLayout layout;
    layout.T = 1, layout.B = B;
    const KalmanNoise draws = noise(layout, c_.node().site);
    KalmanSimulateArgs<Real> args = simulation(layout, draws, status());
    with_workspace(args);
    if (scratch_.counting()) return;
    bind(args, model(), c_.t, c_.rows);
    for (std::int64_t r = 0; r < c_.rows; ++r) {
      const Real *before = c_.in(0)[r], *start = c_.in(first_ + 6)[r];
      const bool started = before[0] != 0;
      const Real* spread = started ? c_.in(first_ + 2)[r] : c_.in(first_ + 7)[r];
      std::copy_n(spread, n_ * n_, covariance + r * n_ * n_);
      if (!started) {
        std::copy_n(start, n_, mean + r * n_);
        continue;
      }
      cpu::matrix_product<Real>(
          {1, {n_, n_, 1}, {c_.in(first_)[r], 0}, {before + 1, 0}, {mean + r * n_, 0}});
      if (!c_.in(first_ + 1)) continue;
      for (std::int64_t i = 0; i < n_; ++i) mean[r * n_ + i] += c_.in(first_ + 1)[r][i];
    }
    args.model.m0 = {mean, 0, n_}, args.model.P0 = {covariance, 0, n_ * n_};
    args.z = c_.out(1), args.y = c_.out(1 + n_);
    cpu::kalman_simulate(args);
    for (std::int64_t r = 0; r < c_.rows; ++r) c_.out()[r][0] = 1;
    moments_of_y(args.model, c_.out(1), c_.out(1 + n_ + m_), c_.out(1 + n_ + 2 * m_));
  }

  /// Draws of one step.
  KalmanSimulateArgs<Real> simulation(const RowLayout& layout, const KalmanNoise& noise,
                                      std::int32_t* status) const {
    KalmanSimulateArgs<Real> args;
    args.model = model(), args.noise = noise, args.status = status, args.S = 1;
    args.layout.T = 1, args.layout.B = c_.shard.B * K_, args.layout.origins = layout.origins;
    return args;
  }
  static void bind(KalmanSimulateArgs<Real>& args, const KalmanModel<Real>& model, std::int64_t t,
                   std::int64_t rows) {
    args.model = model;
    args.layout.B = rows, args.layout.t0 = t;
  }

  /// E y = C z + d and log Var y = log diag R, given z.
  void moments_of_y(const KalmanModel<Real>& model, Rows<Real> z, Rows<Real> mean,
                    Rows<Real> logvar) const {
    cpu::matrix_product<Real>({c_.rows, {m_, n_, 1}, c_.in(first_ + 3), z, mean});
    if (c_.in(first_ + 4)) {
      cpu::multiply_add<Real>(
          {.rows = c_.rows, .D = m_, .a = mean, .c = c_.in(first_ + 4), .y = mean});
    }
    const std::int64_t apart = model.diagonal_R ? 1 : m_ + 1;
    for (std::int64_t r = 0; r < c_.rows; ++r) {
      for (std::int64_t j = 0; j < m_; ++j)
        logvar[r][j] = std::log(c_.in(first_ + 5)[r][j * apart]);
    }
  }

  const Call<Real>& c_;
  Scratch scratch_;
  std::size_t first_;  // of the model's inputs
  std::int64_t K_, n_, m_;
};

}  // namespace

template <class Real>
void run_kalman(const Call<Real>& call) {
  KalmanOp<Real>(call, call.instruction.scratch).run();
}

bool is_kalman_draw(Op op) {
  return op == Op::kalman_sample || op == Op::kalman_sample_backward || op == Op::kalman_step;
}
bool is_kalman(Op op) {
  return op == Op::kalman_filter || op == Op::kalman_filter_backward || is_kalman_draw(op);
}

template <class Real>
std::size_t kalman_scratch_bytes(const Instruction<Real>& instruction,
                                 const ScanRows<Real>& shard) {
  return KalmanOp<Real>({instruction, shard, -1, shard.rows(instruction.node->kind, -1)}, nullptr)
      .run();
}

template void run_kalman(const Call<float>&);
template void run_kalman(const Call<double>&);
template std::size_t kalman_scratch_bytes(const Instruction<float>&, const ScanRows<float>&);
template std::size_t kalman_scratch_bytes(const Instruction<double>&, const ScanRows<double>&);

}  // namespace seqvae

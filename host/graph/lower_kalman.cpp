// Ops of linear-Gaussian models as calls of the Kalman contracts. A particle is a sequence to them:
// sequence b's k-th stands at b K + k, as rows do.
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
        first_(call.node().op == Op::kalman_step ? 0 : 2),
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

  /// Of the particles, and their origins to the layout.
  KalmanNoise noise(RowLayout& layout) {
    const ScanRows<Real>& shard = c_.shard;
    const NoiseKey key = {shard.seed, c_.node().site};
    if (shard.particles.sequence_id != nullptr) {
      layout.origins = shard.particles.origin;
      return {key, shard.step, shard.particles.sequence_id, shard.particles.draw};
    }
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
    return {key, shard.step, id, draw};
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

  /// On the CPU NaN goes to all of the output where a covariance of a filter's rows was not
  /// positive definite: its log-likelihoods are NaN from that step on. Elsewhere these have to say
  /// it.
  bool refused(std::size_t filter) const {
    if (!c_.shard.queue->device().is_cpu()) return false;
    for (std::int64_t r = 0; r < c_.rows; ++r) {
      if (!std::isnan(*c_.in(filter)[r])) continue;
      for (std::int64_t row = 0; row < c_.rows; ++row) {
        std::fill_n(c_.out()[row], c_.node().D, std::numeric_limits<Real>::quiet_NaN());
      }
      return true;
    }
    return false;
  }
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
    if (scratch_.counting() || refused(kFilter)) return;
    clear();
    seqvae::run(args, *c_.shard.queue);
  }

  void sample() {
    constexpr std::size_t kFilter = 2 + kModelInputs;
    KalmanSampleArgs<Real> args;
    args.model = model(), args.data = data(), args.filtered = filtered(kFilter);
    args.noise = noise(args.data.layout), args.S = 1;
    args.z = c_.out(), args.status = status();
    with_workspace(args);
    KalmanSimulateArgs<Real> emit = emission(args.data.layout, args.noise);
    emit.noise.key.site += 1, emit.given_z = c_.out(), emit.y = c_.out(n_);
    emit.status = args.status;
    with_workspace(emit);
    if (scratch_.counting() || refused(kFilter)) return;
    if (c_.shard.particle_offsets != nullptr) clear();
    seqvae::run(args, *c_.shard.queue);
    seqvae::run(emit, *c_.shard.queue);
  }

  void sample_backward() {
    constexpr std::size_t kFilter = 2 + kModelInputs;
    KalmanSampleBackwardArgs<Real> args;
    args.model = model(), args.data = data();
    args.noise = noise(args.data.layout), args.S = 1;
    args.grad_z = c_.in(kFilter + 1), args.grad = gradient(), args.accumulate = true;
    with_workspace(args);
    if (scratch_.counting() || refused(kFilter)) return;
    clear();  // a prior's gradient stands in the rows of first steps
    seqvae::run(args, *c_.shard.queue);
  }

  /// One step, whose prior is the state's law given the step before.
  void step() {
    RowLayout layout;
    layout.T = 1, layout.B = scratch_.counting() ? c_.shard.B * K_ : c_.rows;
    layout.t0 = std::max<std::int64_t>(c_.t, 0);
    const KalmanNoise draws = noise(layout);
    KalmanSimulateArgs<Real> args = emission(layout, draws);
    args.z = c_.out(), args.y = c_.out(n_), args.status = status();
    with_workspace(args);
    if (!scratch_.counting()) seqvae::run(args, *c_.shard.queue);
  }

  /// A draw, with the moments of y given z.
  KalmanSimulateArgs<Real> emission(const RowLayout& layout, const KalmanNoise& noise) const {
    KalmanSimulateArgs<Real> args;
    args.model = model(), args.layout = layout, args.noise = noise, args.S = 1;
    args.y_mean = c_.out(n_ + m_), args.y_logvar = c_.out(n_ + 2 * m_);
    return args;
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

bool is_kalman(Op op) {
  return op == Op::kalman_filter || op == Op::kalman_filter_backward || op == Op::kalman_sample ||
         op == Op::kalman_sample_backward || op == Op::kalman_step;
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

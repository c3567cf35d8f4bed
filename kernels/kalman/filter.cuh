// The filter of a sequence on its lanes: predict, then one observed component after the other.
#pragma once
#include "kernels/kalman/covariance.cuh"
#include "kernels/kalman/observation.cuh"

namespace seqvae::cuda::kalman {

template <class Real, int N>
class SequenceFilter {
 public:
  __device__ __forceinline__ SequenceFilter(const KalmanFilterArgs<Real>& a, std::int64_t b,
                                            const FilterMemory<Real, N>& memory)
      : a_(a),
        b_(b),
        at_(memory),
        lanes_(memory.exchange),
        covariance_(lanes_, a.model.n, a.form, memory.covariance),
        observation_(lanes_, a.model, a.data, memory.observation) {}

  /// Steps begin .. end, from the prior where begin is 0, else on from where the moments stand.
  /// \return end, or, to every lane, the first step of which a covariance is not positive definite.
  __device__ __forceinline__ std::int64_t run(std::int64_t begin, std::int64_t end) {
    gives_covariances_ = !a_.shared_covariance || is_first_longest(length_of(a_.data.layout, b_));
    std::int64_t t = begin;
    while (t < end && step(t)) ++t;
    lanes_.sync();  // rows of a step that broke may be half written
    return t;
  }

  /// The moments before a step >= 1, from m[n] and P[n][n]. False, for every lane, where P is not
  /// positive semidefinite, of which only the square root says so.
  __device__ __forceinline__ bool set(const Real* m, const Real* P) {
    mean_ = lanes_.lane() < a_.model.n ? m[lanes_.lane()] : Real(0);
    return covariance_.set(P);
  }

  /// Rows from step t on: NaN to the sequence's end, zeros in padding.
  __device__ __forceinline__ void fill_from(std::int64_t t) const {
    const RowLayout& layout = a_.data.layout;
    for (const std::int64_t length = length_of(layout, b_); t < length; ++t) {
      fill_row(t, kNaN<Real>);
    }
    if (layout.offsets == nullptr) {
      for (; t < layout.T; ++t) fill_row(t, Real(0));
    }
    for (; a_.shared_covariance && t < layout.T; ++t) fill_covariances(t, Real(0));
  }
  /// The first bad step, or the sequence's length.
  __device__ __forceinline__ void give_status(std::int64_t t) const {
    if (lanes_.lane() > 0) return;
    const bool bad = t < length_of(a_.data.layout, b_);
    a_.status[b_] = bad ? static_cast<std::int32_t>(t + 1) : 0;
    if (a_.merge_step != nullptr) a_.merge_step[b_] = 0;
    if (a_.diffuse_steps != nullptr) a_.diffuse_steps[b_] = 0;
  }

 private:
  /// Covariances that all share are written by the first of the longest sequences.
  __device__ __forceinline__ bool is_first_longest(std::int64_t length) const {
    const RowLayout& layout = a_.data.layout;
    if (layout.offsets != nullptr || layout.lengths == nullptr) return b_ == 0;
    bool first = true;
    for (std::int64_t b = lanes_.lane(); b < layout.B; b += N) {
      const std::int64_t other = length_of(layout, b);
      first = first && !(other > length || (other == length && b < b_));
    }
    return !lanes_.any(!first);
  }

  /// False, for every lane, where a covariance of the step is not positive definite.
  __device__ __forceinline__ bool step(std::int64_t t) {
    const std::int64_t row = row_of(a_.data.layout, t, b_);
    if (!(t == 0 ? start() : predict(t))) return false;
    give_mean(a_.predicted_mean, row);
    give_covariance(a_.predicted_covariance, t);
    if (!observation_.read(t, b_)) return false;
    fill(lanes_, a_.innovation, row, a_.model.m, kNaN<Real>);
    Real log_likelihood = 0;
    for (int i = 0; i < observation_.count(); ++i) {
      const Real* c = observation_.c(i);
      const Real v = observation_.e(i) - lanes_.sum(c[lanes_.lane()] * mean_);
      Real w;
      const Real f = covariance_.condition(c, observation_.h(i), w);
      if (!(f > 0) || !is_finite(f)) return false;
      mean_ = multiply_add(w / f, v, mean_);
      log_likelihood -= kHalfLog2Pi<Real> + (logarithm(f) + v * v / f) / 2;
      const int j = observation_.index(i);
      if (a_.innovation && j % N == lanes_.lane()) a_.innovation[row][j] = v / root(f);
    }
    give_mean(a_.mean, row);
    give_covariance(a_.covariance, t);
    fill(lanes_, a_.log_likelihood, row, 1, log_likelihood);
    return true;
  }
  __device__ __forceinline__ bool start() {
    mean_ = prior_mean(a_.model, b_, lanes_.lane());
    return covariance_.set(a_.model.P0.data + b_ * a_.model.P0.sequence);
  }
  __device__ __forceinline__ bool predict(std::int64_t t) {
    const KalmanModel<Real>& model = a_.model;
    const RowLayout& layout = a_.data.layout;
    const int i = lanes_.lane();
    const Real* A = at(model.A, layout, t, b_);
    at_.mean[i] = mean_;
    if (A != A_) bring(lanes_, model.n, A_ = A, at_.A);
    lanes_.sync();
    mean_ = dot<Real, N>(at_.A + i * kRow<Real, N>, at_.mean);
    if (i < model.n) {
      mean_ += inputs_of(i, model.U, layout, model.B, model.state_offset, a_.data.u, t, b_);
    }
    return covariance_.predict(at_.A, at(model.Q, layout, t, b_));
  }

  __device__ __forceinline__ void give_mean(const Rows<Real>& out, std::int64_t row) const {
    if (out && lanes_.lane() < a_.model.n) out[row][lanes_.lane()] = mean_;
  }
  __device__ __forceinline__ void give_covariance(const Rows<Real>& out, std::int64_t t) {
    if (!out || !gives_covariances_) return;
    const std::int64_t row = covariance_row(a_.data.layout, a_.shared_covariance, t, b_);
    const Real* P = covariance_.P();
    give(lanes_, a_.model.n, P, out[row], covariance_.row());
    lanes_.sync();  // before P moves on
  }
  __device__ __forceinline__ void fill_covariances(std::int64_t t, Real value) const {
    if (!gives_covariances_) return;
    const std::int64_t nn = a_.model.n * a_.model.n;
    const std::int64_t row = covariance_row(a_.data.layout, a_.shared_covariance, t, b_);
    fill(lanes_, a_.covariance, row, nn, value);
    fill(lanes_, a_.predicted_covariance, row, nn, value);
  }
  __device__ __forceinline__ void fill_row(std::int64_t t, Real value) const {
    const std::int64_t n = a_.model.n, row = row_of(a_.data.layout, t, b_);
    fill(lanes_, a_.mean, row, n, value);
    fill(lanes_, a_.predicted_mean, row, n, value);
    fill_covariances(t, value);
    fill(lanes_, a_.log_likelihood, row, 1, value);
    fill(lanes_, a_.innovation, row, a_.model.m, value);
  }

  const KalmanFilterArgs<Real>& a_;
  std::int64_t b_;
  FilterMemory<Real, N> at_;
  Lanes<Real, N> lanes_;
  StateCovariance<Real, N> covariance_;
  Observation<Real, N> observation_;
  Real mean_ = 0;            // of this lane's component
  const Real* A_ = nullptr;  // what stands in at_.A
  bool gives_covariances_ = true;
};

}  // namespace seqvae::cuda::kalman

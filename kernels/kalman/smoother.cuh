// The smoother of one sequence, N lanes (lanes.cuh), one step after the other, backward: r, a
// component a lane, and N in shared memory, with E[z_t | y] = m + P r and
// Cov[z_t | y] = P - P N P of the filtered m and P (Durbin and Koopman 2012, section 4.4). Each
// step of the filter is run again for its gains.
// Floor: latency, about that of two steps of the filter; (n + n^2) numbers read and as many
// written a row.
// Hazards: lanes.cuh.
#pragma once
#include "kernels/kalman/chunk_ends.cuh"
#include "kernels/kalman/replay.cuh"

namespace seqvae::cuda::kalman {

template <class Real, int N>
class SequenceSmoother {
 public:
  __device__ __forceinline__ SequenceSmoother(const KalmanSmootherArgs<Real>& a, std::int64_t b,
                                              const SmootherMemory<Real, N>& memory)
      : a_(a),
        b_(b),
        at_(memory),
        lanes_(memory.replay.exchange),
        replay_(lanes_, a.model, a.data, a.filtered, memory.replay) {}

  /// r and N after the observation of the last step to be smoothed: zeros, or from memory.
  __device__ __forceinline__ void set_zero() {
    for (int r = 0; r < N; ++r) at_.N_later[r * S + lanes_.lane()] = 0;
    r_ = 0;
  }
  __device__ __forceinline__ void set(const Real* r, const Real* N_given) {
    bring(lanes_, a_.model.n, N_given, at_.N_later);
    r_ = lanes_.lane() < a_.model.n ? r[lanes_.lane()] : Real(0);
  }

  /// The moments of steps end - 1 to begin.
  __device__ __forceinline__ void run(std::int64_t begin, std::int64_t end) {
    if (begin < end) replay_.bring_covariance(end - 1, b_, at_.filtered);
    Real* before = at_.replay.before;
    for (std::int64_t t = end - 1; t >= begin; --t) {
      give_moments(t);
      if (t > 0) replay_.bring_covariance(t - 1, b_, before);
      if (t > 0) replay_.run(t, b_, before);
      if (a_.lag_one && gives_covariances()) give_lag_one(t, before);
      if (t > begin) go_back();
      Real* const filtered = at_.filtered;
      at_.filtered = before, before = filtered;
    }
  }

  /// The same steps, begin >= 1, as a map of r and N: whose g is zero.
  __device__ __forceinline__ void summarise(std::int64_t begin, std::int64_t end,
                                            const ChunkMap<Real>& out) {
    const std::int64_t n = a_.model.n;
    const int i = lanes_.lane();
    Real* own = at_.product + i * S;
    set_zero();
    OwnRow<Real, N> x(at_.replay.rows, i);
    for (int r = 0; r < N; ++r) at_.product[r * S + i] = r == i && i < n ? Real(1) : Real(0);
    for (std::int64_t t = end - 1; t >= begin; --t) {
      replay_.bring_covariance(t - 1, b_, at_.replay.before);
      replay_.run(t, b_, at_.replay.before);
      load(x, own);
      replay_.turn(x, own);
      go_back();
    }
    lanes_.sync();
    give(lanes_, n, at_.product, out.Phi);
    give(lanes_, n, at_.N_later, out.G);
    if (i < n) out.w[i] = r_, out.g[i] = 0;
  }

  /// Zeros in the padding.
  __device__ __forceinline__ void fill_padding() {
    const RowLayout& layout = a_.data.layout;
    const std::int64_t n = a_.model.n;
    const std::int64_t length = length_of(layout, b_);
    for (std::int64_t t = length; layout.offsets == nullptr && t < layout.T; ++t) {
      const std::int64_t row = row_of(layout, t, b_);
      fill(lanes_, a_.mean, row, n, Real(0));
      fill(lanes_, a_.covariance, row, n * n, Real(0));
      fill(lanes_, a_.lag_one, row, n * n, Real(0));
    }
  }

 private:
  static constexpr int S = kRow<Real, N>;

  __device__ __forceinline__ bool gives_covariances() const {
    return !a_.shared_covariance || b_ == 0;
  }
  __device__ __forceinline__ Real* row_in(const Rows<Real>& out, std::int64_t t) const {
    return out[covariance_row(a_.data.layout, a_.shared_covariance, t, b_)];
  }

  __device__ __forceinline__ void give_moments(std::int64_t t) {
    const int i = lanes_.lane();
    Real* vector = at_.replay.vector;
    vector[i] = r_;  // all have met since it was read
    lanes_.sync();
    if (a_.mean) {
      const Real mean = replay_.filtered_mean(t, b_) + dot<Real, N>(at_.filtered + i * S, vector);
      if (i < a_.model.n) a_.mean[row_of(a_.data.layout, t, b_)][i] = mean;
    }
    if (!a_.covariance || !gives_covariances()) return;
    congruence(lanes_, at_.filtered, at_.N_later, at_.product, at_.replay.rows);
    lanes_.sync();
    for (int r = 0; r < N; ++r)
      at_.product[r * S + i] = at_.filtered[r * S + i] - at_.product[r * S + i];
    give(lanes_, a_.model.n, at_.product, row_in(a_.covariance, t));
    lanes_.sync();
  }

  /// Cov(z_t, z_{t-1} | y) = (I - P N) L A P' with P and N after the observation of t, L the
  /// product of its components' I - k c^T, and P' filtered at t - 1: row by row, from the left.
  __device__ __forceinline__ void give_lag_one(std::int64_t t, const Real* before) {
    const int i = lanes_.lane();
    OwnRow<Real, N> x(at_.replay.rows, i);
    Real* own = at_.product + i * S;
    if (t == 0) {
      for (int r = 0; r < N; ++r) at_.product[r * S + i] = 0;
    } else {
      row_times([&](int k) { return at_.filtered[i * S + k]; }, at_.N_later, S, x);
#pragma unroll(kUnrolled <N>)
      for (int j = 0; j < N; ++j) x[j] = (i == j ? Real(1) : Real(0)) - x[j];
      replay_.turn(x, own);
      row_times([&](int k) { return own[k]; }, before, S, x);
      store(own, x);
    }
    lanes_.sync();
    give(lanes_, a_.model.n, at_.product, row_in(a_.lag_one, t));
    lanes_.sync();
  }

  /// r and N from after the step's observation to after that of the step before.
  __device__ __forceinline__ void go_back() {
    const int i = lanes_.lane();
    Real* vector = at_.replay.vector;
    OwnRow<Real, N> row(at_.replay.rows, i);
    for (int j = replay_.count() - 1; j >= 0; --j) {
      const Real *c = replay_.c(j), *k = replay_.k(j);
      const Real f = replay_.f(j);
      load(row, at_.N_later + i * S);
      const Real q = dot<Real, N>(row, k);  // N k
      const Real x = (lanes_.sum(k[i] * q) + 1 / f) / 2 * c[i] - q;
      const Real kr = lanes_.sum(k[i] * r_);
      r_ = multiply_add(replay_.v(j) / f - kr, c[i], r_);
      vector[i] = x;
      lanes_.sync();
      add_symmetric(lanes_, x, vector, c, row, at_.N_later);
    }
    r_ = transposed_times(lanes_, replay_.A(), r_, vector);
    transposed_congruence(lanes_, replay_.A(), at_.N_later, at_.replay.rows);
  }

  const KalmanSmootherArgs<Real>& a_;
  std::int64_t b_;
  SmootherMemory<Real, N> at_;
  Lanes<Real, N> lanes_;
  Replay<Real, N> replay_;
  Real r_ = 0;  // this lane's component
};

}  // namespace seqvae::cuda::kalman

// The filter of one sequence in reverse mode, N lanes (lanes.cuh), one step after the other,
// backward: lambda, a component a lane, and Lambda in shared memory are the gradients of the mean
// and the covariance; each step of the filter is run again, and its components are undone one by
// one (host/cpu/kalman_gradient.hpp has the equations).
// Floor: latency, about that of three steps of the filter; (n + n^2) numbers read a row, and what
// gradients are asked for added to where they stand, in L2.
// Hazards: lanes.cuh; an entry of a gradient is always the same lane's.
#pragma once
#include "kernels/kalman/chunk_ends.cuh"
#include "kernels/kalman/replay.cuh"

namespace seqvae::cuda::kalman {

template <class Real, int N>
class SequenceBackward {
 public:
  /// `chunk`: its number, where time's sums are of each chunk apart (gradient_sums.hpp).
  __device__ __forceinline__ SequenceBackward(const KalmanBackwardArgs<Real>& a, std::int64_t b,
                                              const BackwardMemory<Real, N>& memory,
                                              std::int64_t chunk = 0)
      : a_(a),
        b_(b),
        chunk_(chunk),
        at_(memory),
        lanes_(memory.replay.exchange),
        replay_(lanes_, a.model, a.data, a.filtered, memory.replay) {}

  /// lambda and Lambda after the last step to be undone: zeros, or from memory.
  __device__ __forceinline__ void set_zero() {
    for (int r = 0; r < N; ++r) at_.Lambda[r * S + lanes_.lane()] = 0;
    lambda_ = 0;
  }
  __device__ __forceinline__ void set(const Real* lambda, const Real* Lambda) {
    bring(lanes_, a_.model.n, Lambda, at_.Lambda);
    lambda_ = lanes_.lane() < a_.model.n ? lambda[lanes_.lane()] : Real(0);
  }

  /// Steps end - 1 to begin.
  __device__ __forceinline__ void run(std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = end - 1; t >= begin; --t) {
      undo(t);
      if (t > begin) go_back();
    }
  }

  /// The same steps, begin >= 1, as a map of lambda and Lambda. Phi is kept in `map` [N][N]. `a`
  /// must ask for no gradient.
  __device__ __forceinline__ void summarise(std::int64_t begin, std::int64_t end, Real* map,
                                            const ChunkMap<Real>& out) {
    const std::int64_t n = a_.model.n;
    const int i = lanes_.lane();
    Real g = 0;
    set_zero();
    for (int r = 0; r < N; ++r) map[r * S + i] = r == i && i < n ? Real(1) : Real(0);
    for (std::int64_t t = end - 1; t >= begin; --t) {
      undo(t);
      for (int j = replay_.count() - 1; j >= 0; --j) {
        const Real along = lanes_.sum(replay_.k(j)[i] * g);
        g = multiply_add(replay_.v(j) / replay_.f(j) - along, replay_.c(j)[i], g);
      }
      g = transposed_times(lanes_, replay_.A(), g, at_.replay.vector);
      OwnRow<Real, N> x(at_.replay.rows, i);
      load(x, map + i * S);
      replay_.turn(x, map + i * S);
      go_back();
    }
    lanes_.sync();
    give(lanes_, n, map, out.Phi);
    give(lanes_, n, at_.Lambda, out.G);
    if (i < n) out.w[i] = lambda_, out.g[i] = g;
  }

 private:
  static constexpr int S = kRow<Real, N>;

  /// Where this chunk's part of a gradient of so many entries stands.
  __device__ __forceinline__ Real* place(const StepArray<Real>& grad, std::int64_t t,
                                         std::int64_t entries) const {
    return at(grad, a_.data.layout, t, b_) + (grad.step == 0 ? chunk_ * entries : 0);
  }

  /// Step t but for its transition's way back: what it gives to gradients.
  __device__ __forceinline__ void undo(std::int64_t t) {
    const std::int64_t row = row_of(a_.data.layout, t, b_), n = a_.model.n;
    const int i = lanes_.lane();
    lanes_.sync();  // the step after has been read
    if (a_.grad_mean && i < n) lambda_ += a_.grad_mean[row][i];
    for (int r = 0; a_.grad_covariance && r < n && i < n; ++r) {
      at_.Lambda[r * S + i] += a_.grad_covariance[row][r * n + i];
    }
    kappa_ = a_.grad_log_likelihood ? a_.grad_log_likelihood[row][0] : Real(1);
    if (t > 0) replay_.bring_covariance(t - 1, b_, at_.replay.before);
    replay_.run(t, b_, at_.replay.before);
    if (a_.grad.R && !a_.model.diagonal_R) add_full_noise(t);
    mean_ = replay_.mean();
    for (int j = replay_.count() - 1; j >= 0; --j) step_back(t, j);
    lanes_.sync();
    add_observation(t);
    t == 0 ? add_prior() : add_transition(t);
  }
  __device__ __forceinline__ void go_back() {
    lambda_ = transposed_times(lanes_, replay_.A(), lambda_, at_.replay.vector);
    transposed_congruence(lanes_, replay_.A(), at_.Lambda, at_.replay.rows);
  }

  /// Component j of a step back.
  __device__ __forceinline__ void step_back(std::int64_t t, int j) {
    const int i = lanes_.lane();
    const Real *c = replay_.c(j), *k = replay_.k(j);
    const Real f = replay_.f(j), v = replay_.v(j), ratio = v / f, gain = k[i];
    mean_ = multiply_add(-gain, v, mean_);
    replay_.covariance().undo(k, f);
    OwnRow<Real, N> row(at_.replay.rows, i);
    load(row, at_.Lambda + i * S);
    const Real q = dot<Real, N>(row, k);  // Lambda k
    const Real kl = lanes_.sum(gain * lambda_);
    const Real grad_v = kl - kappa_ * ratio;
    const Real grad_f = lanes_.sum(gain * q) - kl * ratio + kappa_ / 2 * (ratio * ratio - 1 / f);
    const Real w = lambda_ * ratio - 2 * q + grad_f * c[i];
    Real* vector = at_.replay.vector;
    vector[i] = w / 2;
    lanes_.sync();
    add_symmetric(lanes_, w / 2, vector, c, row, at_.Lambda);
    const Real Pw = dot<Real, N>(replay_.covariance().P() + i * S, vector);
    at_.grad_c[j * S + i] = 2 * Pw + grad_f * (gain * f) - grad_v * mean_;
    lambda_ = multiply_add(-grad_v, c[i], lambda_);
    const int component = replay_.observation().index(j);
    if (i == 0) at_.grad_e[j] = grad_v;
    if (a_.grad.R && a_.model.diagonal_R && component % N == i) {
      place(a_.grad.R, t, a_.model.m)[component] += grad_f;
    }
    lanes_.sync();  // before the vector is written again
  }

  /// From the independent components to C, y, d and D: c = L^-1 C, e = L^-1 (y - d - D u).
  __device__ __forceinline__ void add_observation(std::int64_t t) {
    const RowLayout& layout = a_.data.layout;
    const KalmanGradient<Real>& g = a_.grad;
    const Observation<Real, N>& observation = replay_.observation();
    const std::int64_t n = a_.model.n, U = a_.model.U, row = row_of(layout, t, b_);
    const int i = lanes_.lane();
    observation.decorrelate_transposed(at_.grad_c);
    observation.decorrelate_transposed_vector(at_.grad_e);
    for (int j = 0; j < observation.count(); ++j) {
      const std::int64_t component = observation.index(j);
      if (g.C && i < n) place(g.C, t, a_.model.m * n)[component * n + i] += at_.grad_c[j * S + i];
      if (component % N != i) continue;
      const Real grad = at_.grad_e[j];
      if (g.y) g.y[row][component] += grad;
      if (g.observation_offset) place(g.observation_offset, t, a_.model.m)[component] -= grad;
#pragma unroll 1
      for (std::int64_t p = 0; g.D && p < U; ++p) {
        Real& entry = place(g.D, t, a_.model.m * U)[component * U + p];
        entry = multiply_add(-grad, a_.data.u[row][p], entry);
      }
    }
  }

  __device__ __forceinline__ void add_prior() {
    const KalmanGradient<Real>& g = a_.grad;
    const std::int64_t n = a_.model.n;
    const int i = lanes_.lane();
    if (i >= n) return;
    if (g.m0) g.m0.data[b_ * g.m0.sequence + i] += lambda_;
    for (int r = 0; g.P0 && r < n; ++r) {
      g.P0.data[b_ * g.P0.sequence + r * n + i] += at_.Lambda[r * S + i];
    }
  }

  __device__ __forceinline__ void add_transition(std::int64_t t) {
    const RowLayout& layout = a_.data.layout;
    const KalmanGradient<Real>& g = a_.grad;
    const std::int64_t n = a_.model.n, U = a_.model.U;
    const int i = lanes_.lane();
    if (g.Q && i < n) {
      Real* Q = place(g.Q, t, n * n);
      for (int r = 0; r < n; ++r) Q[r * n + i] += at_.Lambda[r * S + i];
    }
    if (g.state_offset && i < n) place(g.state_offset, t, n)[i] += lambda_;
#pragma unroll 1
    for (std::int64_t p = 0; g.B && i < n && p < U; ++p) {
      Real& entry = place(g.B, t, n * U)[i * U + p];
      entry = multiply_add(lambda_, a_.data.u[row_of(layout, t, b_)][p], entry);
    }
    if (!g.A) return;
    // lambda m^T + 2 Lambda A P, of which each lane works on its own row; it is added by columns.
    Real *own = scratch() + i * S, *vector = at_.replay.vector;
    lanes_.sync();
    vector[i] = replay_.filtered_mean(t - 1, b_);
    lanes_.sync();
    OwnRow<Real, N> x(at_.replay.rows, i);
    row_times([&](int k) { return at_.Lambda[i * S + k]; }, replay_.A(), S, x);
    store(own, x);
    row_times([&](int k) { return 2 * own[k]; }, at_.replay.before, S, x);
    axpy(x, lambda_, vector);
    store(own, x);
    lanes_.sync();
    Real* A = place(g.A, t, n * n);
    for (int r = 0; i < n && r < n; ++r) A[r * n + i] += scratch()[r * S + i];
  }

  /// The gradient of a full R, by the innovations of all components at once: with W = L U,
  /// U_ij = c_i.k_j, unit lower triangular, R' = W^-T M W^-1,
  ///     M_ij = k_i.Lambda k_j - (k_i.lambda v_j / f_j + k_j.lambda v_i / f_i) / 2
  ///            + kappa/2 (v_i v_j / (f_i f_j) - [i = j] / f_i).
  __device__ __forceinline__ void add_full_noise(std::int64_t t) {
    const Observation<Real, N>& observation = replay_.observation();
    const int count = replay_.count(), lane = lanes_.lane();
    const int row = static_cast<int>(a_.model.m | 1);
    Real *M = at_.M, *W = at_.W;
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      const Real of_mean = lanes_.sum(replay_.k(i)[lane] * lambda_);
      if (lane == 0) at_.of_mean[i] = of_mean;
    }
    lanes_.sync();
    Real* vector = at_.replay.vector;
    for (int i = 0; i < count; ++i) {
      vector[lane] = dot<Real, N>(at_.Lambda + lane * S, replay_.k(i));
      lanes_.sync();
      const Real ratio = replay_.v(i) / replay_.f(i);
#pragma unroll 1
      for (int j = lane; j <= i; j += N) {
        const Real other = replay_.v(j) / replay_.f(j);
        Real value = dot<Real, N>(replay_.k(j), vector) -
                     (at_.of_mean[i] * other + at_.of_mean[j] * ratio) / 2 +
                     kappa_ / 2 * ratio * other;
        if (i == j) value -= kappa_ / (2 * replay_.f(i));
        M[i * row + j] = M[j * row + i] = value;
      }
      lanes_.sync();
    }
    // W = L U, a column a lane at a time.
#pragma unroll 1
    for (int j = lane; j < count; j += N) {
#pragma unroll 1
      for (int i = j + 1; i < count; ++i) {
        W[i * row + j] = dot<Real, N>(replay_.c(i), replay_.k(j));
      }
#pragma unroll 1
      for (int i = count - 1; i > j; --i) {
        Real sum = W[i * row + j] + observation.L(i, j);
#pragma unroll 1
        for (int p = j + 1; p < i; ++p)
          sum = multiply_add(observation.L(i, p), W[p * row + j], sum);
        W[i * row + j] = sum;
      }
    }
    lanes_.sync();
    // M = W^-T M, then M = (W^-T M^T)^T: a column a lane, then a row.
#pragma unroll 1
    for (int j = lane; j < count; j += N) solve(count, row, M + j, row, W);
    lanes_.sync();
#pragma unroll 1
    for (int j = lane; j < count; j += N) solve(count, row, M + j * row, 1, W);
    lanes_.sync();
    Real* R = place(a_.grad.R, t, a_.model.m * a_.model.m);
    for (int i = 0; i < count; ++i) {
#pragma unroll 1
      for (int j = 0; j < count; ++j) {
        if (observation.index(j) % N != lane) continue;
        R[observation.index(i) * a_.model.m + observation.index(j)] += M[i * row + j];
      }
    }
  }
  /// x = W^-T x of x[count], `apart` elements from one to the next.
  __device__ __forceinline__ static void solve(int count, int row, Real* x, int apart,
                                               const Real* W) {
#pragma unroll 1
    for (int i = count - 1; i > 0; --i) {
      const Real value = x[i * apart];
#pragma unroll 1
      for (int j = 0; j < i; ++j) {
        x[j * apart] = multiply_add(-W[i * row + j], value, x[j * apart]);
      }
    }
  }

  /// [N][N], free after a replay.
  __device__ __forceinline__ Real* scratch() const { return at_.replay.covariance.next; }

  const KalmanBackwardArgs<Real>& a_;
  std::int64_t b_, chunk_;
  BackwardMemory<Real, N> at_;
  Lanes<Real, N> lanes_;
  Replay<Real, N> replay_;
  Real lambda_ = 0, mean_ = 0, kappa_ = 0;  // this lane's component; of the step
};

}  // namespace seqvae::cuda::kalman

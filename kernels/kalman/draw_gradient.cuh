// The gradient of a sequence's draws by N lanes (lanes.cuh). A draw z is the mode of the posterior
// whose data y - eps_R and offsets b + eps_Q its noise has moved, so that what changes it is known
// from the residuals there: with lambda = Cov(z | y) grad_z, the smoothed state of data 0 and of
// grad_z_t as linear terms,
//
//     g = R^-1 (y - d - eps_R - C z)          zeta = -R^-1 C lambda
//     r = Q^-1 (z_t - A z_{t-1} - b - eps_Q)  rho = Q^-1 (lambda_t - A lambda_{t-1})
//
//     A_ = r lambda^T + rho z^T of step t - 1,  b_ = rho,   Q_ = sym(rho r^T)
//     C_ = g lambda^T + zeta z^T,  y_ = -zeta,  d_ = zeta,  R_ = sym(zeta g^T)
//
// and G = rho eps^T, zeta eps^T by the roots of Q and R. None of the four needs an inverse: r and
// g, rho and zeta are what two smoothers with the same gains go back with (Durbin and Koopman 2012,
// section 4.5), the second's filtered state moved by P grad_z at each step. Forward with the path,
// then backward.
// Floor: latency, of four products of N dependent rows a step and draw; of a step n^2 of a
// covariance and 2 m n gains read twice, in L2, and 2 (n + m) numbers kept.
// Hazards: lanes.cuh; an entry of a gradient is always the same lane's.
#pragma once
#include "kernels/kalman/gradient_sums.hpp"
#include "kernels/kalman/observation.cuh"
#include "kernels/kalman/path.cuh"

namespace seqvae::cuda::kalman {

/// K, whose symmetric part is the gradient by S = F F^T, of that by F = L diag(root_h), G[k][k]
/// with its lower half: K = L^-T M L^-1 with M_ij = (L^T G)_ij / root_h_j below the diagonal and
/// half of that on it. Columns without noise stay without. All matrices have `row` elements from
/// one row to the next; G is everybody's before it, K after. Seldom called and long: a function of
/// its own.
template <class Real, int N>
[[gnu::noinline]] __device__ void root_gradient(Lanes<Real, N> lanes, int k, int row, const Real* L,
                                                const Real* root_h, const Real* G, Real* K) {
  for (int j = lanes.lane(); j < k; j += N) {  // a column
    for (int i = 0; i < k; ++i) {
      Real sum = 0;
      if (i >= j && root_h[j] != 0) {
        sum = G[i * row + j];
        for (int p = i + 1; p < k; ++p) sum = multiply_add(L[p * row + i], G[p * row + j], sum);
        sum /= i == j ? 2 * root_h[j] : root_h[j];
      }
      K[i * row + j] = sum;
    }
    for (int p = k - 1; p > 0; --p) {
      const Real value = K[p * row + j];
      for (int i = 0; i < p; ++i) {
        K[i * row + j] = multiply_add(-L[p * row + i], value, K[i * row + j]);
      }
    }
  }
  lanes.sync();
  for (int i = lanes.lane(); i < k; i += N) {  // a row
    for (int p = k - 1; p > 0; --p) {
      const Real value = K[i * row + p];
      for (int j = 0; j < p; ++j) {
        K[i * row + j] = multiply_add(-value, L[p * row + j], K[i * row + j]);
      }
    }
  }
  lanes.sync();
}

template <class Real, int N>
class DrawGradient {
 public:
  __device__ __forceinline__ DrawGradient(const KalmanSampleBackwardArgs<Real>& a,
                                          const Gains<Real>& gains, const KeptDraw<Real>& kept,
                                          std::int64_t b, const DrawGradientMemory<Real, N>& memory)
      : a_(a),
        gains_(gains),
        kept_(kept),
        b_(b),
        at_(memory),
        lanes_(memory.path.exchange),
        path_(lanes_, a.model, a.data.layout, a.data.u, memory.path),
        observation_(lanes_, a.model, a.data, memory.observation) {}

  /// All draws, one after the other, of this many rows each.
  __device__ __forceinline__ void run(std::int64_t rows) {
    const std::int64_t length = length_of(a_.data.layout, b_);
    for (std::int64_t s = 0; s < a_.S; ++s) {
      first_row_ = s * rows;
      if (!follow_path(s, length)) return;
      go_back(s, length);
    }
  }

 private:
  static constexpr int S = kRow<Real, N>;

  __device__ __forceinline__ std::int64_t step_of(std::int64_t t) const {
    return b_ * a_.data.layout.T + t;
  }
  __device__ __forceinline__ Real gradient_of(std::int64_t t) const {
    const int i = lanes_.lane();
    const std::int64_t row = first_row_ + row_of(a_.data.layout, t, b_);
    return i < a_.model.n ? a_.grad_z[row][i] : Real(0);
  }
  __device__ __forceinline__ RowNoise noise_of(std::int64_t t, std::int64_t s) const {
    RowNoise noise(a_.noise, a_.model.n + a_.model.m);
    noise.select(a_.data.layout, t, b_, s);
    return noise;
  }
  /// x and y of all lanes to r and rho, everybody's after it.
  __device__ __forceinline__ void share(Real x, Real y) const {
    lanes_.sync();
    at_.r[lanes_.lane()] = x, at_.rho[lanes_.lane()] = y;
    lanes_.sync();
  }

  /// The path and both filtered states. False, for every lane, where its noise has no law.
  __device__ __forceinline__ bool follow_path(std::int64_t s, std::int64_t length) {
    const std::int64_t n = a_.model.n, m = a_.model.m;
    const int i = lanes_.lane();
    Real z = 0, mean = 0, lambda = 0;
    for (std::int64_t t = 0; t < length; ++t) {
      const RowNoise noise = noise_of(t, s);
      if (!path_.advance(t, b_, noise, z)) return false;
      if (t > 0) {
        share(mean, lambda);
        mean = dot<Real, N>(path_.A() + i * S, at_.r);
        lambda = dot<Real, N>(path_.A() + i * S, at_.rho);
      }
      const int count = gains_.count[step_of(t)];
      for (int j = 0; j < count; ++j) {
        const std::int64_t place = step_of(t) * m + j;
        const Real c = i < n ? gains_.c[place * n + i] : Real(0);
        const Real k = i < n ? gains_.k[place * n + i] : Real(0);
        const Real eps = root(gains_.h[place]) * static_cast<Real>(noise(n + j));
        const Real v = gains_.e[place] - eps - lanes_.sum(c * (z + mean));
        const Real w = -lanes_.sum(c * lambda);
        mean = multiply_add(v, k, mean), lambda = multiply_add(w, k, lambda);
        if (i == 0) kept_.v[place] = v, kept_.w[place] = w;
      }
      share(gradient_of(t), 0);
      if (i >= n) continue;
      lambda = covariance_times(t, at_.r, lambda);
      kept_.z[step_of(t) * n + i] = z + mean, kept_.lambda[step_of(t) * n + i] = lambda;
    }
    return true;
  }
  /// start + this lane's component of P x of step t.
  __device__ __forceinline__ Real covariance_times(std::int64_t t, const Real* x,
                                                   Real start) const {
    const std::int64_t n = a_.model.n;
    const Real* P = gains_.P + step_of(t) * n * n + lanes_.lane();
    for (std::int64_t j = 0; j < n; ++j) start = multiply_add(P[j * n], x[j], start);
    return start;
  }

  __device__ __forceinline__ void go_back(std::int64_t s, std::int64_t length) {
    const std::int64_t n = a_.model.n;
    const int i = lanes_.lane();
    r_ = rho_ = 0;
    for (std::int64_t t = length - 1; t >= 0; --t) {
      const RowNoise noise = noise_of(t, s);
      share(r_, rho_);
      Real z = 0, lambda = 0;
      if (i < n) {
        z = covariance_times(t, at_.r, kept_.z[step_of(t) * n + i]);
        lambda = covariance_times(t, at_.rho, kept_.lambda[step_of(t) * n + i]);
        if (t + 1 < length) add_to_A(t + 1, z, lambda);
      }
      rho_ += gradient_of(t);
      observe_back(t, z, lambda, noise);
      lanes_.sync();  // the step after has been read
      at_.r_before[i] = r_, at_.rho_before[i] = rho_;
      lanes_.sync();
      if (t == 0) break;
      add_transition(t, noise);
      path_.bring_A(t, b_);
      r_ = transposed_times(lanes_, path_.A(), r_, at_.path.vector);
      rho_ = transposed_times(lanes_, path_.A(), rho_, at_.path.vector);
    }
    if (length > 0) add_prior(noise_of(0, s));
  }

  __device__ __forceinline__ Real* place(const StepArray<Real>& grad, std::int64_t t) const {
    return at(grad, a_.data.layout, t, b_);
  }

  /// Of step t, with r and rho before its observation, by z and lambda of the step before.
  __device__ __forceinline__ void add_to_A(std::int64_t t, Real z, Real lambda) const {
    if (!a_.grad.A) return;
    const std::int64_t n = a_.model.n;
    Real* A = place(a_.grad.A, t) + lanes_.lane();
    for (std::int64_t r = 0; r < n; ++r) {
      A[r * n] += multiply_add(at_.r_before[r], lambda, at_.rho_before[r] * z);
    }
  }

  __device__ __forceinline__ void observe_back(std::int64_t t, Real z, Real lambda,
                                               const RowNoise& noise) {
    const std::int64_t n = a_.model.n, m = a_.model.m, U = a_.model.U;
    const int i = lanes_.lane();
    const KalmanGradient<Real>& grad = a_.grad;
    observation_.read(t, b_);
    const int count = observation_.count();
    for (int j = count - 1; j >= 0; --j) {
      const std::int64_t of = step_of(t) * m + j;
      const Real k = i < n ? gains_.k[of * n + i] : Real(0), c = observation_.c(j)[i];
      const Real g = kept_.v[of] / gains_.f[of] - lanes_.sum(k * r_);
      const Real zeta = kept_.w[of] / gains_.f[of] - lanes_.sum(k * rho_);
      r_ = multiply_add(g, c, r_), rho_ = multiply_add(zeta, c, rho_);
      if (i == 0) at_.g[j] = g, at_.zeta[j] = zeta;
    }
    lanes_.sync();
    observation_.decorrelate_transposed_vector(at_.g);
    observation_.decorrelate_transposed_vector(at_.zeta);
    const std::int64_t row = row_of(a_.data.layout, t, b_);
    for (int j = 0; j < count; ++j) {
      const std::int64_t component = observation_.index(j);
      const Real g = at_.g[j], zeta = at_.zeta[j];
      if (grad.C && i < n) {
        place(grad.C, t)[component * n + i] += multiply_add(g, lambda, zeta * z);
      }
      if (component % N != i) continue;
      if (grad.y) grad.y[row][component] -= zeta;
      if (grad.observation_offset) place(grad.observation_offset, t)[component] += zeta;
#pragma unroll 1
      for (std::int64_t p = 0; grad.D && p < U; ++p) {
        Real& entry = place(grad.D, t)[component * U + p];
        entry = multiply_add(zeta, a_.data.u[row][p], entry);
      }
      if (!grad.R || !a_.model.diagonal_R) continue;
      const Real of_root = observation_.h(j) > 0
                               ? static_cast<Real>(noise(n + j)) / (2 * root(observation_.h(j)))
                               : Real(0);
      place(grad.R, t)[component] += zeta * (g + of_root);
    }
    if (grad.R && !a_.model.diagonal_R) add_full_noise(place(grad.R, t), noise);
  }
  __device__ __forceinline__ void add_full_noise(Real* R, const RowNoise& noise) const {
    const int i = lanes_.lane(), count = observation_.count(), row = at_.observation.L_row;
    const std::int64_t n = a_.model.n, m = a_.model.m;
    Real* K = at_.scratch;
#pragma unroll 1
    for (int j = i; noise.given() && j < count; j += N) {
      const Real eps = noise(n + j);
      at_.root_h[j] = root(observation_.h(j));
      for (int p = j; p < count; ++p) at_.of_R[p * row + j] = at_.zeta[p] * eps;
    }
    lanes_.sync();
    if (noise.given()) {
      root_gradient(lanes_, count, row, at_.observation.L, at_.root_h, at_.of_R, K);
    }
    for (int j = 0; j < count; ++j) {
      const std::int64_t column = observation_.index(j);
      if (column % N != i) continue;
      for (int p = 0; p < count; ++p) {
        Real sum = multiply_add(at_.zeta[p], at_.g[j], at_.zeta[j] * at_.g[p]);
        if (noise.given()) sum += K[p * row + j] + K[j * row + p];
        R[observation_.index(p) * m + column] += sum / 2;
      }
    }
  }

  /// Of step t >= 1, but for A's.
  __device__ __forceinline__ void add_transition(std::int64_t t, const RowNoise& noise) {
    const KalmanGradient<Real>& grad = a_.grad;
    const RowLayout& layout = a_.data.layout;
    const std::int64_t n = a_.model.n, U = a_.model.U;
    const int i = lanes_.lane();
    if (grad.Q) add_state_noise(place(grad.Q, t), at(a_.model.Q, layout, t, b_), noise);
    if (i >= n) return;
    if (grad.state_offset) place(grad.state_offset, t)[i] += rho_;
#pragma unroll 1
    for (std::int64_t p = 0; grad.B && p < U; ++p) {
      Real& entry = place(grad.B, t)[i * U + p];
      entry = multiply_add(rho_, a_.data.u[row_of(layout, t, b_)][p], entry);
    }
  }
  __device__ __forceinline__ void add_prior(const RowNoise& noise) {
    const KalmanGradient<Real>& grad = a_.grad;
    if (grad.m0 && lanes_.lane() < a_.model.n) place(grad.m0, 0)[lanes_.lane()] += rho_;
    if (grad.P0) {
      const Real* P0 = a_.model.P0.data + b_ * a_.model.P0.sequence;
      add_state_noise(place(grad.P0, 0), P0, noise);
    }
    end_root();  // whose factor the next path replaces
  }

  /// The gradient by a covariance of the state, to `to`; that by its root is summed while it stays.
  __device__ __forceinline__ void add_state_noise(Real* to, const Real* covariance,
                                                  const RowNoise& noise) {
    const int n = static_cast<int>(a_.model.n), i = lanes_.lane(), row = n | 1;
    for (int p = 0; i < n && p < n; ++p) {
      to[p * n + i] += multiply_add(at_.rho_before[p], r_, rho_ * at_.r_before[p]) / 2;
    }
    if (!noise.given()) return;
    if (to != root_to_ || covariance != path_.noise().source()) {
      end_root();
      path_.noise().follow(covariance, false);
      root_to_ = to;
      for (int p = i; i < n && p < n; ++p) at_.of_Q[p * row + i] = 0;
    }
    if (i >= n) return;
    const Real eps = noise(i);
    for (int p = i; p < n; ++p) {
      Real& entry = at_.of_Q[p * row + i];
      entry = multiply_add(at_.rho_before[p], eps, entry);
    }
  }
  __device__ __forceinline__ void end_root() {
    if (root_to_ == nullptr) return;
    const int n = static_cast<int>(a_.model.n), i = lanes_.lane(), row = n | 1;
    const Real* K = at_.scratch;
    lanes_.sync();
    root_gradient(lanes_, n, row, at_.path.state.L, at_.path.state.h, at_.of_Q, at_.scratch);
    for (int p = 0; i < n && p < n; ++p)
      root_to_[p * n + i] += (K[p * row + i] + K[i * row + p]) / 2;
    root_to_ = nullptr;
    lanes_.sync();
  }

  const KalmanSampleBackwardArgs<Real>& a_;
  const Gains<Real>& gains_;
  const KeptDraw<Real>& kept_;
  std::int64_t b_, first_row_ = 0;
  DrawGradientMemory<Real, N> at_;
  Lanes<Real, N> lanes_;
  StatePath<Real, N> path_;
  Observation<Real, N> observation_;
  Real r_ = 0, rho_ = 0;     // this lane's components
  Real* root_to_ = nullptr;  // where the gradient by the root that of_Q sums goes
};

}  // namespace seqvae::cuda::kalman

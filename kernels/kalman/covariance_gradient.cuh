// The gradient of <W_t, Cov(z_t | y)> of a sequence by N lanes (lanes.cuh). With H the posterior's
// precision it is that of -tr(Omega H), Omega = Cov W Cov, which is E[lambda lambda^T] of
// lambda = Cov s for independent s_t ~ (0, W_t): the second moments of what draw_gradient.cuh has
// of one s,
//
//     A_ = 2 E[rho lambda^T of step t - 1],  Q_ = E[rho rho^T],  C_ = 2 E[zeta lambda^T],
//     R_ = E[zeta zeta^T].
//
// lambda's filtered mean m has D = E[m m^T], forward in time: through A and each component's
// I - k c^T, and + P W P at the step's end. Backward rho = -N m + o with the smoother's N and an o
// of later s alone, O = E[o o^T]; so that, of a step's mean m before its observation and o with its
// s but before its components, zeta_j = -a_j.m - kappa_j.o and lambda = H Phi m + P o, where
// H = I - P N and Phi is the product of the components' I - k c^T.
// Floor: latency, of some twenty products of N dependent rows a step; 2 n^2 numbers of a step
// written and read twice, in L2.
// Hazards: lanes.cuh; an entry of a gradient is always the same lane's.
#pragma once
#include "kernels/kalman/gradient_sums.hpp"
#include "kernels/kalman/observation.cuh"
#include "kernels/kalman/rows.cuh"

namespace seqvae::cuda::kalman {

/// \name Products that are called rather than inlined: many stand in a step, and little of a step's
/// time is in its calls. Matrices are everybody's before and after; `rows` is of OwnRow.
/// \{

/// out = X Y
template <class Real, int N>
[[gnu::noinline]] __device__ void multiply(Lanes<Real, N> lanes, const Real* X, const Real* Y,
                                           Real* out, Real* rows) {
  constexpr int S = kRow<Real, N>;
  const int i = lanes.lane();
  OwnRow<Real, N> x(rows, i);
  row_times([&](int k) { return X[i * S + k]; }, Y, S, x);
  store(out + i * S, x);
  lanes.sync();
}
/// out = X P X^T
template <class Real, int N>
[[gnu::noinline]] __device__ void sandwich(Lanes<Real, N> lanes, const Real* X, const Real* P,
                                           Real* out, Real* rows) {
  congruence(lanes, X, P, out, rows);
  lanes.sync();
}
/// M = X^T M X
template <class Real, int N>
[[gnu::noinline]] __device__ void sandwich_back(Lanes<Real, N> lanes, const Real* X, Real* M,
                                                Real* rows) {
  transposed_congruence(lanes, X, M, rows);
}
/// M = (I - x y^T) M (I - y x^T) + h x x^T of symmetric M; returns this lane's M y of before.
template <class Real, int N>
[[gnu::noinline]] __device__ Real turn(Lanes<Real, N> lanes, const Real* x, const Real* y, Real h,
                                       Real* M, Real* vector, Real* rows) {
  constexpr int S = kRow<Real, N>;
  const int i = lanes.lane();
  OwnRow<Real, N> row(rows, i);
  load(row, M + i * S);
  const Real q = dot<Real, N>(row, y);
  const Real own = (lanes.sum(y[i] * q) + h) / 2 * x[i] - q;
  vector[i] = own;
  lanes.sync();
  add_symmetric(lanes, own, vector, x, row, M);
  return q;
}
/// x -= (x.y) z of a row of this lane's own.
template <class Real, int N>
__device__ __forceinline__ void project(const Real* y, const Real* z, Real* x) {
  const Real along = dot<Real, N>(x, y);
  for_each_entry<Real, N>(z, [&](int j, Real entry) { x[j] = multiply_add(-along, entry, x[j]); });
}
/// \}

template <class Real, int N>
class CovarianceGradient {
 public:
  /// `D`: [T][n][n], of this sequence.
  __device__ __forceinline__ CovarianceGradient(const KalmanBackwardArgs<Real>& a,
                                                const Gains<Real>& gains, Real* D, std::int64_t b,
                                                const CovarianceGradientMemory<Real, N>& memory)
      : a_(a),
        gains_(gains),
        D_(D),
        b_(b),
        at_(memory),
        lanes_(memory.exchange),
        observation_(lanes_, a.model, a.data, memory.observation) {}

  __device__ __forceinline__ void run() {
    const std::int64_t length = length_of(a_.data.layout, b_);
    for (std::int64_t t = 0; t < length; ++t) step(t);
    clear(at_.N_later), clear(at_.O);
    for (std::int64_t t = length - 1; t >= 0; --t) step_back(t);
  }

 private:
  static constexpr int S = kRow<Real, N>;

  __device__ __forceinline__ void clear(Real* M) const {
    for (int r = 0; r < N; ++r) M[r * S + lanes_.lane()] = 0;
    lanes_.sync();
  }
  /// M += X, rows of this lane's own.
  __device__ __forceinline__ void add_row(const Real* X, Real* M) const {
    Real* const own = M + lanes_.lane() * S;
    for_each_entry<Real, N>(X + lanes_.lane() * S, [&](int j, Real entry) { own[j] += entry; });
    lanes_.sync();
  }
  /// A matrix of step t in the workspace. Nobody reads M any more.
  __device__ __forceinline__ void bring_kept(const Real* kept, std::int64_t t, Real* M) const {
    bring(lanes_, a_.model.n, kept + t * a_.model.n * a_.model.n, M);
  }
  __device__ __forceinline__ const Real* covariances() const {
    return gains_.P + b_ * a_.data.layout.T * a_.model.n * a_.model.n;
  }
  __device__ __forceinline__ Real* place(const StepArray<Real>& grad, std::int64_t t) const {
    return at(grad, a_.data.layout, t, b_);
  }

  /// What both passes have of step t: components, gains, P, W and A.
  __device__ __forceinline__ void read(std::int64_t t) {
    const std::int64_t n = a_.model.n, m = a_.model.m, step = b_ * a_.data.layout.T + t;
    const int i = lanes_.lane();
    observation_.read(t, b_);
    for (int j = 0; j < observation_.count(); ++j) {
      at_.k[j * S + i] = i < n ? gains_.k[(step * m + j) * n + i] : Real(0);
    }
    bring_kept(covariances(), t, at_.P);
    bring(lanes_, n, a_.grad_smoothed_covariance[row_of(a_.data.layout, t, b_)], at_.W);
    if (t > 0) bring(lanes_, n, at(a_.model.A, a_.data.layout, t, b_), at_.A);
  }

  /// D of step t from that of the step before, in at_.D.
  __device__ __forceinline__ void step(std::int64_t t) {
    read(t);
    predict(t, at_.D, at_.product);
    for (int j = 0; j < observation_.count(); ++j) {
      turn(lanes_, at_.k + j * S, observation_.c(j), Real(0), at_.product, at_.r, at_.rows);
    }
    sandwich(lanes_, at_.P, at_.W, at_.D, at_.rows);
    add_row(at_.product, at_.D);
    give(lanes_, a_.model.n, at_.D, D_ + t * a_.model.n * a_.model.n);
    lanes_.sync();
  }
  /// E[m m^T] before the observation of step t, from D of step t - 1.
  __device__ __forceinline__ void predict(std::int64_t t, const Real* before, Real* out) const {
    if (t == 0) return clear(out);
    sandwich(lanes_, at_.A, before, out, at_.rows);
  }

  __device__ __forceinline__ void step_back(std::int64_t t) {
    const KalmanGradient<Real>& grad = a_.grad;
    const int i = lanes_.lane(), n = static_cast<int>(a_.model.n);
    read(t);
    multiply(lanes_, at_.P, at_.N_later, at_.H, at_.rows);
    for (int j = 0; j < N; ++j) {
      at_.H[i * S + j] = (i == j && i < n ? Real(1) : Real(0)) - at_.H[i * S + j];
    }
    lanes_.sync();
    sandwich_back(lanes_, at_.H, at_.W, at_.rows);
    add_row(at_.W, at_.O);
    if (t > 0) bring_kept(D_, t - 1, at_.product);
    predict(t, at_.product, at_.D);
    observe_back(t);
    sandwich(lanes_, at_.N_later, at_.D, at_.product, at_.rows);
    add_row(at_.O, at_.product);
    const StepArray<Real>& of_noise = t > 0 ? grad.Q : grad.P0;
    for (int r = 0; of_noise && i < n && r < n; ++r) {
      place(of_noise, t)[r * n + i] += at_.product[r * S + i];
    }
    if (t == 0) return;
    if (grad.A) add_to_A(t);
    sandwich_back(lanes_, at_.A, at_.N_later, at_.rows);
    sandwich_back(lanes_, at_.A, at_.O, at_.rows);
  }

  /// N and O from after the components of step t to before them, and what these give.
  __device__ __forceinline__ void observe_back(std::int64_t t) {
    const int i = lanes_.lane(), count = observation_.count();
    const std::int64_t step = b_ * a_.data.layout.T + t, m = a_.model.m;
    for (int j = count - 1; j >= 0; --j) {
      const Real *c = observation_.c(j), *k = at_.k + j * S;
      const Real f = gains_.f[step * m + j];
      const Real q = turn(lanes_, c, k, 1 / f, at_.N_later, at_.r, at_.rows);
      at_.a[j * S + i] = multiply_add(lanes_.sum(k[i] * q) + 1 / f, c[i], -q);
      at_.kappa[j * S + i] = k[i];
    }
    lanes_.sync();
    turn_rows(count);
    add_observation(t);
    for (int j = count - 1; j >= 0; --j) {
      turn(lanes_, observation_.c(j), at_.k + j * S, Real(0), at_.O, at_.r, at_.rows);
    }
  }
  /// a_j and kappa_j by m and o of the step, from those of their component; H to H Phi.
  __device__ __forceinline__ void turn_rows(int count) const {
#pragma unroll 1
    for (int j = lanes_.lane(); j < count; j += N) {
#pragma unroll 1
      for (int p = j - 1; p >= 0; --p) {
        project<Real, N>(at_.k + p * S, observation_.c(p), at_.a + j * S);
      }
#pragma unroll 1
      for (int p = j + 1; p < count; ++p) {
        project<Real, N>(observation_.c(p), at_.k + p * S, at_.kappa + j * S);
      }
    }
#pragma unroll 1
    for (int p = count - 1; p >= 0; --p) {
      project<Real, N>(at_.k + p * S, observation_.c(p), at_.H + lanes_.lane() * S);
    }
    lanes_.sync();
    observation_.decorrelate_transposed(at_.a);
    observation_.decorrelate_transposed(at_.kappa);
    lanes_.sync();
  }
  __device__ __forceinline__ void add_observation(std::int64_t t) const {
    const KalmanGradient<Real>& grad = a_.grad;
    const std::int64_t n = a_.model.n, m = a_.model.m;
    const int lane = lanes_.lane();
#pragma unroll 1
    for (int i = 0; i < observation_.count(); ++i) {
      const std::int64_t component = observation_.index(i);
      const Real along_m = dot<Real, N>(at_.a + i * S, at_.D + lane * S);
      const Real along_o = dot<Real, N>(at_.kappa + i * S, at_.O + lane * S);
      lanes_.sync();  // those of the component before have been read
      at_.r[lane] = along_m, at_.rho[lane] = along_o;
      lanes_.sync();
      if (grad.C && lane < n) {
        place(grad.C, t)[component * n + lane] -=
            2 * (dot<Real, N>(at_.r, at_.H + lane * S) + dot<Real, N>(at_.rho, at_.P + lane * S));
      }
      if (!grad.R) continue;
      Real* R = place(grad.R, t);
#pragma unroll 1
      for (int j = a_.model.diagonal_R ? i : 0; j <= i; ++j) {
        const std::int64_t other = observation_.index(j);
        if (other % N != lane) continue;
        const Real value =
            dot<Real, N>(at_.r, at_.a + j * S) + dot<Real, N>(at_.rho, at_.kappa + j * S);
        if (a_.model.diagonal_R) {
          R[component] += value;
        } else {
          R[component * m + other] += value;
          if (j < i) R[other * m + component] += value;
        }
      }
    }
    lanes_.sync();
  }

  /// 2 (E[rho rho^T] A P - N A D) with P and D of the step before and rho's moments in at_.product.
  __device__ __forceinline__ void add_to_A(std::int64_t t) const {
    const int i = lanes_.lane(), n = static_cast<int>(a_.model.n);
    Real *sum = at_.D, *along = at_.H;
    bring_kept(D_, t - 1, at_.W);
    multiply(lanes_, at_.A, at_.W, along, at_.rows);
    multiply(lanes_, at_.N_later, along, sum, at_.rows);
    bring_kept(covariances(), t - 1, at_.W);
    multiply(lanes_, at_.A, at_.W, along, at_.rows);
    multiply(lanes_, at_.product, along, at_.W, at_.rows);
    Real* A = place(a_.grad.A, t) + i;
    for (int r = 0; i < n && r < n; ++r) A[r * n] += 2 * (at_.W[r * S + i] - sum[r * S + i]);
  }

  const KalmanBackwardArgs<Real>& a_;
  const Gains<Real>& gains_;
  Real* D_;
  std::int64_t b_;
  CovarianceGradientMemory<Real, N> at_;
  Lanes<Real, N> lanes_;
  Observation<Real, N> observation_;
};

}  // namespace seqvae::cuda::kalman

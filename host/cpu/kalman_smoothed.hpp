// Gradients with respect to smoothed moments, brought to the filtered and the predicted ones.
//
// Smoothed moments are m + P r and P - P N P of the filtered m and P (kalman_smoother.cpp). A step
// back, its observed components at once, with F = (C P C^T + R)^-1, K = P C^T F, L = I - K C and
// v = y - d - D u - C m of the predicted m and P:
//
//     g = F v - K^T r,   r' = r + C^T g,   N' = L^T N L + C^T F C,
//     r_{t-1} = A^T r',  N_{t-1} = A^T N' A.
//
// It ran backward in time, so its adjoint runs forward: with r_ and N_ the gradients by r_{t-1} and
// N_{t-1}, of which those by r' and N' are A r_ and A N_ A^T,
//
//     A_ = r' r_^T + 2 N' A N_,   g_ = C r'_,   L_ = 2 N L N'_,   v_ = F g_,
//     K_ = -r g_^T - L_ C^T,   F_ = sym(g_ v^T + C P K_) + C N'_ C^T,   S_ = -F F_ F = R_,
//     C_ = g r'_^T - K^T L_ + 2 F C N'_ + F K_^T P + 2 S_ C P - v_ m^T,
//     P_ = sym(K_ F C) + C^T S_ C,   m_ = -C^T v_,   r_ = r'_ - K g_,   N_ = L N'_ L^T.
#pragma once
#include "host/cpu/kalman_replay.hpp"
#include "host/cpu/kalman_solve.hpp"

namespace seqvae::cpu::kalman {

/// What y, d and D get of factor e, the gradients by the residuals y - d - D u.
template <class Real>
void add_residual(const KalmanBackwardArgs<Real>& a, std::int64_t t, std::int64_t b, Real factor,
                  const Real* e, const Observation<Real>& observation) {
  const RowLayout& layout = a.data.layout;
  const KalmanGradient<Real>& g = a.grad;
  const std::int64_t U = a.model.U, row = row_of(layout, t, b);
  for (std::int64_t i = 0; i < observation.count(); ++i) {
    const std::int64_t j = observation.index(i);
    const Real grad = factor * e[i];
    if (g.y) g.y[row][j] += grad;
    if (g.observation_offset) at(g.observation_offset, layout, t, b)[j] -= grad;
    if (g.D && U > 0) {
      cpu::axpy(U, -grad, a.data.u[row], at(g.D, layout, t, b) + j * U);
    }
  }
}

template <class Real>
class SmoothedGradient {
 public:
  SmoothedGradient(const KalmanBackwardArgs<Real>& a, Arena& arena)
      : a_(a), n_(a.model.n), m_(a.model.m) {
    if (!given()) return;
    const std::int64_t T = a.data.layout.T, nn = n_ * n_;
    for (Real** p : {&r_, &of_mean_, &of_predicted_mean_}) *p = arena.take<Real>(T * n_);
    for (Real** p : {&N_, &of_covariance_, &of_predicted_covariance_})
      *p = arena.take<Real>(T * nn);
    for (Real** p : {&r_before_, &r_grad_, &vector_}) *p = arena.take<Real>(n_);
    for (Real** p : {&L_, &N_before_, &N_grad_, &L_grad_, &square_, &second_}) {
      *p = arena.take<Real>(nn);
    }
    for (Real** p : {&C_, &CP_, &gain_, &gain_grad_, &C_grad_, &wide_}) {
      *p = arena.take<Real>(m_ * n_);
    }
    for (Real** p : {&S_, &F_, &F_grad_, &S_grad_}) *p = arena.take<Real>(m_ * m_);
    for (Real** p : {&v_, &g_, &g_grad_, &v_grad_}) *p = arena.take<Real>(m_);
  }

  bool given() const { return a_.grad_smoothed_mean || a_.grad_smoothed_covariance; }

  /// Of a sequence: what A, C, R, y, d and D get of it goes to the gradients, the rest is kept.
  void run(std::int64_t b, std::int64_t length, Replay<Real>& replay) {
    if (length == 0) return;
    go_back(b, length, replay);
    std::fill_n(r_grad_, n_, Real(0));
    std::fill_n(N_grad_, n_ * n_, Real(0));
    for (std::int64_t t = 0; t < length; ++t) {
      if (t > 0) {
        add_step(t, b, replay);
      } else {
        std::fill_n(of_predicted_mean_, n_, Real(0));
        std::fill_n(of_predicted_covariance_, n_ * n_, Real(0));
      }
      add_moments(t, b, replay);
    }
  }

  /// lambda += m_ and Lambda += P_ of the filtered moments of step t.
  void add_filtered(std::int64_t t, Real* lambda, Real* Lambda) const {
    axpy(n_, Real(1), of_mean_ + t * n_, lambda);
    axpy(n_ * n_, Real(1), of_covariance_ + t * n_ * n_, Lambda);
  }
  /// The same of the predicted ones.
  void add_predicted(std::int64_t t, Real* lambda, Real* Lambda) const {
    axpy(n_, Real(1), of_predicted_mean_ + t * n_, lambda);
    axpy(n_ * n_, Real(1), of_predicted_covariance_ + t * n_ * n_, Lambda);
  }

 private:
  const Real* A(std::int64_t t, std::int64_t b) const {
    return at(a_.model.A, a_.data.layout, t, b);
  }

  /// C, F, K^T, L and v of step t.
  void read_step(std::int64_t t, std::int64_t b, Replay<Real>& replay) {
    const RowLayout& layout = a_.data.layout;
    replay.run(t, b);
    Observation<Real>& observation = replay.observation();
    seen_ = observation.count();
    const Real *C = at(a_.model.C, layout, t, b), *R = at(a_.model.R, layout, t, b);
    for (std::int64_t i = 0; i < seen_; ++i) {
      const std::int64_t j = observation.index(i);
      std::copy_n(C + j * n_, n_, C_ + i * n_);
      for (std::int64_t k = 0; k < seen_; ++k) {
        const Real diagonal = i == k ? Real(1) : Real(0);
        S_[i * seen_ + k] =
            a_.model.diagonal_R ? diagonal * R[j] : R[j * m_ + observation.index(k)];
      }
    }
    std::fill_n(L_, n_ * n_, Real(0));
    for (std::int64_t i = 0; i < n_; ++i) L_[i * n_ + i] = 1;
    if (seen_ == 0) return;
    observation.read_residuals(t, b, v_);
    add_product_transposed(seen_, n_, 1, Real(-1), C_, replay.predicted().m, v_);
    multiply(seen_, n_, n_, C_, replay.predicted().P, CP_);
    add_product_transposed(seen_, n_, seen_, Real(1), CP_, C_, S_);
    invert_positive(seen_, S_, F_);
    multiply(seen_, seen_, n_, F_, CP_, gain_);
    add_transposed_product(n_, seen_, n_, Real(-1), gain_, C_, L_);
  }

  /// g, r' and N' from r and N after the observation of the step that was read.
  void step_back(const Real* r, const Real* N) {
    std::copy_n(r, n_, r_before_);
    multiply(n_, n_, n_, N, L_, second_);
    transposed_multiply(n_, n_, n_, L_, second_, N_before_);
    if (seen_ == 0) return;
    multiply_vector(seen_, seen_, F_, v_, g_);
    add_product_transposed(seen_, n_, 1, Real(-1), gain_, r, g_);
    add_product(1, seen_, n_, Real(1), g_, C_, r_before_);
    multiply(seen_, seen_, n_, F_, C_, wide_);
    add_transposed_product(n_, seen_, n_, Real(1), C_, wide_, N_before_);
  }

  /// r and N after the observation of each step.
  void go_back(std::int64_t b, std::int64_t length, Replay<Real>& replay) {
    const std::int64_t last = length - 1, nn = n_ * n_;
    std::fill_n(r_ + last * n_, n_, Real(0));
    std::fill_n(N_ + last * nn, nn, Real(0));
    replay.forget();
    for (std::int64_t t = last; t > 0; --t) {
      read_step(t, b, replay);
      step_back(r_ + t * n_, N_ + t * nn);
      transposed_multiply_vector(n_, n_, A(t, b), r_before_, r_ + (t - 1) * n_);
      multiply(n_, n_, n_, N_before_, A(t, b), second_);
      transposed_multiply(n_, n_, n_, A(t, b), second_, N_ + (t - 1) * nn);
    }
    replay.forget();
  }

  /// From the gradients by r and N of step t - 1 to those by r and N of step t.
  void add_step(std::int64_t t, std::int64_t b, Replay<Real>& replay) {
    const std::int64_t nn = n_ * n_;
    const Real* A = this->A(t, b);
    read_step(t, b, replay);
    step_back(r_ + t * n_, N_ + t * nn);
    multiply(n_, n_, n_, A, N_grad_, second_);
    if (a_.grad.A) {
      Real* grad = at(a_.grad.A, a_.data.layout, t, b);
      add_product(n_, 1, n_, Real(1), r_before_, r_grad_, grad);
      add_product(n_, n_, n_, Real(2), N_before_, second_, grad);
    }
    multiply_vector(n_, n_, A, r_grad_, vector_);
    std::copy_n(vector_, n_, r_grad_);
    std::fill_n(N_grad_, nn, Real(0));
    add_product_transposed(n_, n_, n_, Real(1), second_, A, N_grad_);
    std::fill_n(of_predicted_mean_ + t * n_, n_, Real(0));
    std::fill_n(of_predicted_covariance_ + t * nn, nn, Real(0));
    if (seen_ > 0) add_observation(t, b, replay);
  }

  /// The observation of step t: r_grad_ and N_grad_ from those by r' and N' to those by r and N.
  void add_observation(std::int64_t t, std::int64_t b, Replay<Real>& replay) {
    const std::int64_t n = n_, s = seen_, nn = n * n;
    const Real *r = r_ + t * n, *N = N_ + t * nn, *P = replay.predicted().P;
    Real *m_grad = of_predicted_mean_ + t * n, *P_grad = of_predicted_covariance_ + t * nn;
    Real *w = wide_, *product = S_;
    for (Real* sum : {gain_grad_, C_grad_}) std::fill_n(sum, s * n, Real(0));
    for (Real* sum : {F_grad_, S_grad_, product}) std::fill_n(sum, s * s, Real(0));
    std::fill_n(L_grad_, nn, Real(0));
    multiply_vector(s, n, C_, r_grad_, g_grad_);
    multiply_vector(s, s, F_, g_grad_, v_grad_);
    multiply(n, n, n, L_, N_grad_, second_);
    add_product(n, n, n, Real(2), N, second_, L_grad_);
    add_product(s, 1, n, Real(-1), g_grad_, r, gain_grad_);
    add_product_transposed(s, n, n, Real(-1), C_, L_grad_, gain_grad_);
    multiply(s, n, n, C_, N_grad_, w);
    add_product_transposed(s, n, s, Real(1), w, C_, F_grad_);
    add_product_transposed(s, n, s, Real(1), CP_, gain_grad_, product);
    add_product(s, 1, s, Real(1), g_grad_, v_, product);
    add_symmetric_part(s, product, F_grad_);
    add_product(s, 1, n, Real(1), g_, r_grad_, C_grad_);
    add_product(s, s, n, Real(2), F_, w, C_grad_);
    add_product(s, n, n, Real(-1), gain_, L_grad_, C_grad_);
    multiply(s, s, n, F_, gain_grad_, w);  // F K_^T
    add_product(s, n, n, Real(1), w, P, C_grad_);
    transposed_multiply(n, s, n, w, C_, square_);
    add_symmetric_part(n, square_, P_grad);
    multiply(s, s, s, F_, F_grad_, product);
    add_product(s, s, s, Real(-1), product, F_, S_grad_);
    add_product(s, s, n, Real(2), S_grad_, CP_, C_grad_);
    add_product(s, 1, n, Real(-1), v_grad_, replay.predicted().m, C_grad_);
    multiply(s, s, n, S_grad_, C_, w);
    add_transposed_product(n, s, n, Real(1), C_, w, P_grad);
    add_product(1, s, n, Real(-1), v_grad_, C_, m_grad);
    add_product(1, s, n, Real(-1), g_grad_, gain_, r_grad_);
    std::fill_n(N_grad_, nn, Real(0));
    add_product_transposed(n, n, n, Real(1), second_, L_, N_grad_);
    const RowLayout& layout = a_.data.layout;
    const Observation<Real>& observation = replay.observation();
    for (std::int64_t i = 0; i < s; ++i) {
      const std::int64_t j = observation.index(i);
      if (a_.grad.C) axpy(n, Real(1), C_grad_ + i * n, at(a_.grad.C, layout, t, b) + j * n);
      if (!a_.grad.R) continue;
      Real* R = at(a_.grad.R, layout, t, b);
      if (a_.model.diagonal_R) R[j] += S_grad_[i * s + i];
      for (std::int64_t k = 0; !a_.model.diagonal_R && k < s; ++k) {
        R[j * m_ + observation.index(k)] += S_grad_[i * s + k];
      }
    }
    add_residual(a_, t, b, Real(1), v_grad_, observation);
  }

  /// What the smoothed moments of step t give to r and N and to the filtered moments.
  void add_moments(std::int64_t t, std::int64_t b, const Replay<Real>& replay) {
    const std::int64_t n = n_, nn = n * n, row = row_of(a_.data.layout, t, b);
    const Real *P = replay.covariance_of(t, b), *N = N_ + t * nn;
    Real *m_grad = of_mean_ + t * n, *P_grad = of_covariance_ + t * nn;
    std::fill_n(m_grad, n, Real(0));
    std::fill_n(P_grad, nn, Real(0));
    if (a_.grad_smoothed_mean) {
      const Real* grad = a_.grad_smoothed_mean[row];
      std::copy_n(grad, n, m_grad);
      std::fill_n(square_, nn, Real(0));
      add_product(n, 1, n, Real(1), grad, r_ + t * n, square_);
      add_symmetric_part(n, square_, P_grad);
      add_multiply_vector(n, n, P, grad, r_grad_);
    }
    if (a_.grad_smoothed_covariance) {
      const Real* grad = a_.grad_smoothed_covariance[row];
      multiply(n, n, n, grad, P, square_);
      multiply(n, n, n, square_, N, second_);
      axpy(nn, Real(1), grad, P_grad);
      add_symmetric_part(n, second_, P_grad, Real(-2));
      add_product(n, n, n, Real(-1), P, square_, N_grad_);
    }
  }

  const KalmanBackwardArgs<Real>& a_;
  std::int64_t n_, m_, seen_ = 0;
  Real *r_, *N_;                                        // [T][n], [T][n][n]
  Real *of_mean_, *of_covariance_;                      // [T] gradients by filtered moments
  Real *of_predicted_mean_, *of_predicted_covariance_;  // [T] by predicted ones
  Real *r_before_, *N_before_, *r_grad_, *N_grad_, *L_, *L_grad_, *vector_, *square_, *second_;
  Real *C_, *CP_, *gain_, *gain_grad_, *C_grad_, *wide_;  // [seen][n]
  Real *S_, *F_, *F_grad_, *S_grad_;                      // [seen][seen]
  Real *v_, *g_, *g_grad_, *v_grad_;                      // [seen]
};

}  // namespace seqvae::cpu::kalman

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
#include <Eigen/Dense>

#include "host/cpu/kalman_replay.hpp"

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
  using Matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Vector = Eigen::Matrix<Real, Eigen::Dynamic, 1>;
  using Square = Eigen::Map<Matrix>;
  using Column = Eigen::Map<Vector>;

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
    column(r_grad_).setZero();
    square(N_grad_).setZero();
    for (std::int64_t t = 0; t < length; ++t) {
      if (t > 0) {
        add_step(t, b, replay);
      } else {
        column(of_predicted_mean_).setZero();
        square(of_predicted_covariance_).setZero();
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
  Square square(Real* data) const { return {data, n_, n_}; }
  Square square(const Real* data) const { return {const_cast<Real*>(data), n_, n_}; }
  Column column(Real* data) const { return {data, n_}; }
  Square wide(Real* data) const { return {data, seen_, n_}; }
  Square seen(Real* data) const { return {data, seen_, seen_}; }
  Column of_seen(Real* data) const { return {data, seen_}; }
  Square A(std::int64_t t, std::int64_t b) const {
    return square(at(a_.model.A, a_.data.layout, t, b));
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
    square(L_).setIdentity();
    if (seen_ == 0) return;
    const Square P = square(replay.predicted().P);
    observation.read_residuals(t, b, v_);
    of_seen(v_).noalias() -= wide(C_) * column(replay.predicted().m);
    wide(CP_).noalias() = wide(C_) * P;
    seen(S_).noalias() += wide(CP_) * wide(C_).transpose();
    seen(F_).setIdentity();
    Square S = seen(S_), F = seen(F_);
    const Eigen::LLT<Eigen::Ref<Matrix>> root(S);
    root.solveInPlace(F);
    wide(gain_).noalias() = F * wide(CP_);
    square(L_).noalias() -= wide(gain_).transpose() * wide(C_);
  }

  /// g, r' and N' from r and N after the observation of the step that was read.
  void step_back(const Real* r, const Real* N) {
    const Column after(const_cast<Real*>(r), n_);
    column(r_before_) = after;
    square(second_).noalias() = square(N) * square(L_);
    square(N_before_).noalias() = square(L_).transpose() * square(second_);
    if (seen_ == 0) return;
    of_seen(g_).noalias() = seen(F_) * of_seen(v_);
    of_seen(g_).noalias() -= wide(gain_) * after;
    column(r_before_).noalias() += wide(C_).transpose() * of_seen(g_);
    wide(wide_).noalias() = seen(F_) * wide(C_);
    square(N_before_).noalias() += wide(C_).transpose() * wide(wide_);
  }

  /// r and N after the observation of each step.
  void go_back(std::int64_t b, std::int64_t length, Replay<Real>& replay) {
    const std::int64_t last = length - 1, nn = n_ * n_;
    column(r_ + last * n_).setZero();
    square(N_ + last * nn).setZero();
    replay.forget();
    for (std::int64_t t = last; t > 0; --t) {
      read_step(t, b, replay);
      step_back(r_ + t * n_, N_ + t * nn);
      const Square A = this->A(t, b);
      column(r_ + (t - 1) * n_).noalias() = A.transpose() * column(r_before_);
      square(second_).noalias() = square(N_before_) * A;
      square(N_ + (t - 1) * nn).noalias() = A.transpose() * square(second_);
    }
    replay.forget();
  }

  /// From the gradients by r and N of step t - 1 to those by r and N of step t.
  void add_step(std::int64_t t, std::int64_t b, Replay<Real>& replay) {
    const Square A = this->A(t, b);
    const Column r = column(r_ + t * n_);
    const Square N = square(N_ + t * n_ * n_);
    read_step(t, b, replay);
    step_back(r_ + t * n_, N_ + t * n_ * n_);
    square(second_).noalias() = A * square(N_grad_);
    if (a_.grad.A) {
      Square grad = square(at(a_.grad.A, a_.data.layout, t, b));
      grad.noalias() += column(r_before_) * column(r_grad_).transpose();
      grad.noalias() += Real(2) * square(N_before_) * square(second_);
    }
    column(vector_).noalias() = A * column(r_grad_);
    column(r_grad_) = column(vector_);
    square(N_grad_).noalias() = square(second_) * A.transpose();
    Column m_grad = column(of_predicted_mean_ + t * n_);
    Square P_grad = square(of_predicted_covariance_ + t * n_ * n_);
    m_grad.setZero();
    P_grad.setZero();
    if (seen_ > 0) add_observation(t, b, r, N, replay, m_grad, P_grad);
  }

  /// The observation of step t: r_grad_ and N_grad_ from those by r' and N' to those by r and N.
  void add_observation(std::int64_t t, std::int64_t b, const Column& r, const Square& N,
                       Replay<Real>& replay, Column& m_grad, Square& P_grad) {
    const Square C = wide(C_), CP = wide(CP_), F = seen(F_), gain = wide(gain_), L = square(L_);
    Square gain_grad = wide(gain_grad_), C_grad = wide(C_grad_), w = wide(wide_);
    Square F_grad = seen(F_grad_), S_grad = seen(S_grad_), product = seen(S_);
    Column g_grad = of_seen(g_grad_), v_grad = of_seen(v_grad_);
    g_grad.noalias() = C * column(r_grad_);
    v_grad.noalias() = F * g_grad;
    square(second_).noalias() = L * square(N_grad_);
    square(L_grad_).noalias() = Real(2) * N * square(second_);
    gain_grad.noalias() = -g_grad * r.transpose();
    gain_grad.noalias() -= C * square(L_grad_).transpose();
    w.noalias() = C * square(N_grad_);
    F_grad.noalias() = w * C.transpose();
    product.noalias() = CP * gain_grad.transpose();
    product.noalias() += g_grad * of_seen(v_).transpose();
    F_grad += (product + product.transpose()) / 2;
    C_grad.noalias() = of_seen(g_) * column(r_grad_).transpose();
    C_grad.noalias() += Real(2) * F * w;
    C_grad.noalias() -= gain * square(L_grad_);
    w.noalias() = F * gain_grad;  // F K_^T
    C_grad.noalias() += w * square(replay.predicted().P);
    square(square_).noalias() = w.transpose() * C;
    P_grad = (square(square_) + square(square_).transpose()) / 2;
    product.noalias() = F * F_grad;
    S_grad.noalias() = -product * F;
    C_grad.noalias() += Real(2) * S_grad * CP;
    C_grad.noalias() -= v_grad * column(replay.predicted().m).transpose();
    w.noalias() = S_grad * C;
    P_grad.noalias() += C.transpose() * w;
    m_grad.noalias() = -C.transpose() * v_grad;
    column(r_grad_).noalias() -= gain.transpose() * g_grad;
    square(N_grad_).noalias() = square(second_) * L.transpose();
    const RowLayout& layout = a_.data.layout;
    const Observation<Real>& observation = replay.observation();
    for (std::int64_t i = 0; i < seen_; ++i) {
      const std::int64_t j = observation.index(i);
      if (a_.grad.C) axpy(n_, Real(1), C_grad_ + i * n_, at(a_.grad.C, layout, t, b) + j * n_);
      if (!a_.grad.R) continue;
      Real* R = at(a_.grad.R, layout, t, b);
      if (a_.model.diagonal_R) R[j] += S_grad(i, i);
      for (std::int64_t k = 0; !a_.model.diagonal_R && k < seen_; ++k) {
        R[j * m_ + observation.index(k)] += S_grad(i, k);
      }
    }
    add_residual(a_, t, b, Real(1), v_grad_, observation);
  }

  /// What the smoothed moments of step t give to r and N and to the filtered moments.
  void add_moments(std::int64_t t, std::int64_t b, const Replay<Real>& replay) {
    const std::int64_t row = row_of(a_.data.layout, t, b);
    const Square P = square(replay.covariance_of(t, b)), N = square(N_ + t * n_ * n_);
    Column m_grad = column(of_mean_ + t * n_);
    Square P_grad = square(of_covariance_ + t * n_ * n_);
    m_grad.setZero();
    P_grad.setZero();
    if (a_.grad_smoothed_mean) {
      const Column grad(const_cast<Real*>(a_.grad_smoothed_mean[row]), n_);
      m_grad = grad;
      square(square_).noalias() = grad * column(r_ + t * n_).transpose();
      P_grad = (square(square_) + square(square_).transpose()) / 2;
      column(r_grad_).noalias() += P * grad;
    }
    if (a_.grad_smoothed_covariance) {
      const Square grad = square(a_.grad_smoothed_covariance[row]);
      square(square_).noalias() = grad * P;
      square(second_).noalias() = square(square_) * N;
      P_grad += grad - square(second_) - square(second_).transpose();
      square(N_grad_).noalias() -= P * square(square_);
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

// Draws in reverse mode. A draw is z+ + E[z | y~] of the model without offsets, where (z+, y+) is
// a path of the model and y~ = y - y+: so its gradient is that of smoothed means, by
// kalman_backward, and, with lambda the gradient by z+ and y_ that by y~, what goes back along the
// path:
//
//     lambda_t = grad_z_t - C^T y_t_ + A^T lambda_{t+1},   A_ = lambda_t z+_{t-1}^T,
//     C_ = -y_ z+^T,   b_ = lambda,   d_ = -y_,   G = lambda eps^T of the root of Q, -y_ eps^T of
//     R's.
//
// Draw by draw, each with the sequences one after the other.
#include <cmath>

#include "host/cpu/kalman_draws.hpp"
#include "host/cpu/kalman_gradient.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::at;
using cpu::kalman::NoiseFactor;
using cpu::kalman::RowNoise;

/// In place of G, the gradient by F = L diag(sqrt h), whose lower half is read: that by the
/// symmetric S = F F^T. With K_ij = (L^T G)_ij / sqrt h_j below the diagonal, and half of that on
/// it, <G, dF> = <K, L^-1 dS L^-T>. Columns without noise (h = 0) stay without.
template <class Real>
void covariance_gradient(std::int64_t k, const Real* L, const Real* root_h, Real* G, Real* K) {
  std::fill_n(K, k * k, Real(0));
  for (std::int64_t j = 0; j < k; ++j) {
    if (root_h[j] == 0) continue;
    for (std::int64_t i = j; i < k; ++i) {
      Real sum = 0;
      for (std::int64_t p = i; p < k; ++p) sum += L[p * k + i] * G[p * k + j];
      K[i * k + j] = sum / root_h[j] * (i == j ? Real(0.5) : Real(1));
    }
  }
  for (std::int64_t p = k - 1; p > 0; --p) {  // L^-T K
    for (std::int64_t i = 0; i < p; ++i) cpu::axpy(k, -L[p * k + i], K + p * k, K + i * k);
  }
  for (std::int64_t i = 0; i < k; ++i) {  // K L^-1
    for (std::int64_t p = k - 1; p > 0; --p) cpu::axpy(p, -K[i * k + p], L + p * k, K + i * k);
  }
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t j = 0; j < k; ++j) G[i * k + j] = (K[i * k + j] + K[j * k + i]) / 2;
  }
}

/// The gradient by one root, summed for as long as it and the place it goes to are the same.
template <class Real>
class RootSum {
 public:
  RootSum(std::int64_t size, Arena& arena)
      : sum_(arena.take<Real>(size * size)), scratch_(arena.take<Real>(size * size)) {}

  bool goes_to(const Real* place) const { return place == place_; }
  void begin(std::int64_t k, Real* place) {
    k_ = k, place_ = place;
    std::fill_n(sum_, k * k, Real(0));
  }
  /// += x eps_j in column j, from the diagonal down.
  void add(std::int64_t j, Real eps, const Real* x) {
    for (std::int64_t i = j; i < k_; ++i) sum_[i * k_ + j] += x[i] * eps;
  }
  /// Into [width][width] of the place, entry i at index(i).
  template <class Index>
  void end(const Real* L, const Real* root_h, std::int64_t width, Index index) {
    if (place_ == nullptr) return;
    covariance_gradient(k_, L, root_h, sum_, scratch_);
    for (std::int64_t i = 0; i < k_; ++i) {
      for (std::int64_t j = 0; j < k_; ++j) {
        place_[index(i) * width + index(j)] += sum_[i * k_ + j];
      }
    }
    place_ = nullptr;
  }

 private:
  Real *sum_, *scratch_;
  Real* place_ = nullptr;
  std::int64_t k_ = 0;
};

template <class Real>
class SampleGradient {
 public:
  SampleGradient(const KalmanSampleBackwardArgs<Real>& a, Arena& arena)
      : a_(a),
        n_(a.model.n),
        m_(a.model.m),
        path_(a.model, a.data, arena),
        observation_(a.model, a.data, arena),
        of_Q_(a.model.n, arena),
        of_R_(a.model.m, arena) {
    const std::int64_t rows = a.data.layout.T * a.data.layout.B;
    Real* z = arena.take<Real>(rows * n_);
    Real *y = arena.take<Real>(rows * m_), *of_y = arena.take<Real>(rows * m_);
    Real *mean = arena.take<Real>(rows * n_), *covariance = arena.take<Real>(rows * n_ * n_);
    for (Real** p : {&now_, &lambda_, &before_}) *p = arena.take<Real>(n_);
    for (Real** p : {&residual_, &root_h_}) *p = arena.take<Real>(m_);
    zero_ = arena.take<Real>(1);
    z_ = {z, n_}, y_ = {y, m_}, of_y_ = {of_y, m_};

    KalmanModel<Real> model = a.model;
    model.U = 0, model.B = model.D = {};
    model.state_offset = model.observation_offset = model.m0 = {};
    filter_.model = model, filter_.data = {a.data.layout, y_, a.data.mask, {}};
    filter_.chunk = std::max<std::int64_t>(a.data.layout.T, 1);
    filter_.mean = {mean, n_}, filter_.covariance = {covariance, n_ * n_};
    filter_.status = arena.take<std::int32_t>(a.data.layout.B);
    means_.model = model, means_.data = filter_.data;
    means_.filtered = {filter_.mean, filter_.covariance, {}, nullptr};
    means_.grad_log_likelihood = {zero_, 0};
    means_.grad_smoothed_mean = a.grad_z;
    means_.grad.A = a.grad.A, means_.grad.Q = a.grad.Q, means_.grad.C = a.grad.C;
    means_.grad.R = a.grad.R, means_.grad.P0 = a.grad.P0, means_.grad.y = of_y_;
    means_.accumulate = true;
    whole_.model = a.model, whole_.data = a.data;
    whole_.grad = cpu::kalman::without_prior_steps(a.grad);
    take_workspace(filter_, arena);
    take_workspace(means_, arena);
  }

  void run() {
    const RowLayout& layout = a_.data.layout;
    if (!a_.accumulate) cpu::kalman::clear(whole_.grad, a_.model, layout);
    *zero_ = 0;
    for (std::int64_t s = 0; s < a_.S; ++s) {
      for (std::int64_t b = 0; b < layout.B; ++b) follow_path(b, s);
      cpu::kalman_filter(filter_);
      means_.grad_smoothed_mean = {a_.grad_z[s * layout.rows()], a_.grad_z.stride};
      std::fill_n(of_y_.data, layout.rows() * m_, Real(0));
      cpu::kalman_backward(means_);
      for (std::int64_t b = 0; b < layout.B; ++b) go_back(b, s);
    }
  }

 private:
  template <class Args>
  static void take_workspace(Args& args, Arena& arena) {
    args.workspace_bytes = kalman_workspace_bytes(args);
    args.workspace = arena.take<std::byte>(static_cast<std::int64_t>(args.workspace_bytes));
  }
  const Real* C(std::int64_t t, std::int64_t b, std::int64_t i) const {
    return at(a_.model.C, a_.data.layout, t, b) + observation_.index(i) * n_;
  }

  /// z+ and y~ of one sequence.
  void follow_path(std::int64_t b, std::int64_t s) {
    const RowLayout& layout = a_.data.layout;
    const std::int64_t length = cpu::kalman::length_of(layout, b);
    RowNoise noise(a_.noise, layout, n_ + m_);
    if (length > 0) path_.prepare(b);
    for (std::int64_t t = 0; t < length; ++t) {
      const std::int64_t row = cpu::kalman::row_of(layout, t, b);
      noise.select(t, b, s);
      path_.advance(t, b, noise, now_);
      std::copy_n(now_, n_, z_[row]);
      observation_.read_model(t, b);
      observation_.read_residuals(t, b, residual_);
      const std::int64_t count = observation_.count();
      for (std::int64_t i = 0; i < count; ++i) {
        residual_[i] -= cpu::dot(n_, C(t, b, i), now_);
        const Real eps = std::sqrt(observation_.h(i)) * static_cast<Real>(noise(n_ + i));
        residual_[i] -= eps;
        for (std::int64_t j = i + 1; observation_.L() != nullptr && j < count; ++j) {
          residual_[j] -= observation_.L()[j * count + i] * eps;
        }
      }
      std::fill_n(y_[row], m_, Real(0));
      for (std::int64_t i = 0; i < count; ++i) y_[row][observation_.index(i)] = residual_[i];
    }
  }

  void go_back(std::int64_t b, std::int64_t s) {
    const RowLayout& layout = a_.data.layout;
    const std::int64_t length = cpu::kalman::length_of(layout, b);
    if (length == 0) return;
    path_.prepare(b);
    RowNoise noise(a_.noise, layout, n_ + m_);
    std::fill_n(lambda_, n_, Real(0));
    for (std::int64_t t = length - 1; t >= 0; --t) {
      const std::int64_t row = cpu::kalman::row_of(layout, t, b);
      noise.select(t, b, s);
      cpu::axpy(n_, Real(1), a_.grad_z[s * layout.rows() + row], lambda_);
      observe_back(t, b, row, noise);
      if (t > 0) {
        transition_back(t, b, noise);
      } else {
        start_back(b, noise);
      }
    }
    end_R();
    end_Q();
  }

  void observe_back(std::int64_t t, std::int64_t b, std::int64_t row, RowNoise& noise) {
    const KalmanGradient<Real>& g = a_.grad;
    Real* place = g.R ? at(g.R, a_.data.layout, t, b) : nullptr;
    const bool summed = place != nullptr && !a_.model.diagonal_R;
    if (summed && !(observation_.same_at(t, b) && of_R_.goes_to(place))) {
      end_R();
      observation_.read_model(t, b);
      of_R_.begin(observation_.count(), place);
    } else {
      observation_.read_model(t, b);
    }
    const std::int64_t count = observation_.count();
    for (std::int64_t i = 0; i < count; ++i) residual_[i] = -of_y_[row][observation_.index(i)];
    for (std::int64_t i = 0; i < count; ++i) {
      cpu::axpy(n_, residual_[i], C(t, b, i), lambda_);
      if (g.C) {
        Real* of_C = at(g.C, a_.data.layout, t, b) + observation_.index(i) * n_;
        cpu::axpy(n_, residual_[i], z_[row], of_C);
      }
      const Real eps = static_cast<Real>(noise(n_ + i)), root = std::sqrt(observation_.h(i));
      if (summed) of_R_.add(i, eps, residual_);
      if (place != nullptr && a_.model.diagonal_R && root > 0) {
        place[observation_.index(i)] += residual_[i] * eps / (2 * root);
      }
    }
    cpu::kalman::add_residual(whole_, t, b, Real(-1), residual_, observation_);
  }

  /// From lambda of step t to that of t - 1.
  void transition_back(std::int64_t t, std::int64_t b, RowNoise& noise) {
    const RowLayout& layout = a_.data.layout;
    const KalmanGradient<Real>& g = a_.grad;
    cpu::kalman::add_state_inputs(whole_, t, b, Real(1), lambda_);
    if (g.A) {
      const Real* before = z_[cpu::kalman::row_of(layout, t - 1, b)];
      Real* A = at(g.A, layout, t, b);
      for (std::int64_t i = 0; i < n_; ++i) cpu::axpy(n_, lambda_[i], before, A + i * n_);
    }
    if (g.Q) {
      const Real* Q = at(a_.model.Q, layout, t, b);
      Real* place = at(g.Q, layout, t, b);
      NoiseFactor<Real>& root = path_.transition();
      if (Q != root.source() || !of_Q_.goes_to(place)) {
        end_Q();
        root.follow(Q, false);
        of_Q_.begin(n_, place);
      }
      for (std::int64_t j = 0; j < n_; ++j) {
        of_Q_.add(j, static_cast<Real>(noise(j)), lambda_);
      }
    }
    cpu::transposed_multiply_vector(n_, n_, at(a_.model.A, layout, t, b), lambda_, before_);
    std::swap(lambda_, before_);
  }

  void start_back(std::int64_t b, RowNoise& noise) {
    const RowLayout& layout = a_.data.layout;
    const KalmanGradient<Real>& g = a_.grad;
    if (g.m0) cpu::axpy(n_, Real(1), lambda_, at(g.m0, layout, 0, b));
    if (!g.P0) return;
    end_Q();  // whose place in memory the prior's takes
    of_Q_.begin(n_, at(g.P0, layout, 0, b));
    for (std::int64_t j = 0; j < n_; ++j) of_Q_.add(j, static_cast<Real>(noise(j)), lambda_);
    of_Q_.end(path_.prior().L(), path_.prior().root_h(), n_, [](std::int64_t i) { return i; });
  }

  void end_Q() {
    of_Q_.end(path_.transition().L(), path_.transition().root_h(), n_,
              [](std::int64_t i) { return i; });
  }
  void end_R() {
    for (std::int64_t i = 0; i < observation_.count(); ++i) {
      root_h_[i] = std::sqrt(observation_.h(i));
    }
    of_R_.end(observation_.L(), root_h_, m_, [&](std::int64_t i) { return observation_.index(i); });
  }

  const KalmanSampleBackwardArgs<Real>& a_;
  std::int64_t n_, m_;
  cpu::kalman::StatePath<Real> path_;
  cpu::kalman::Observation<Real> observation_;
  RootSum<Real> of_Q_, of_R_;
  Rows<Real> z_, y_, of_y_;                 // z+, y~ and the gradient by y~
  Real *now_, *lambda_, *before_, *zero_;   // [n], but zero_
  Real *residual_, *root_h_;                // [m]
  KalmanFilterArgs<Real> filter_;           // of y~
  KalmanBackwardArgs<Real> means_, whole_;  // of the smoothed means; what the path gives
};

}  // namespace

template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSampleBackwardArgs<Real>& args) {
  Arena arena;
  SampleGradient<Real>(args, arena);
  return arena.used();
}
template std::size_t kalman_workspace_bytes(const KalmanSampleBackwardArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanSampleBackwardArgs<double>&);

namespace cpu {

template <class Real>
void kalman_sample_backward(const KalmanSampleBackwardArgs<Real>& a) {
  check(a);
  Arena arena(a.workspace);
  SampleGradient<Real>(a, arena).run();
}
template void kalman_sample_backward(const KalmanSampleBackwardArgs<float>&);
template void kalman_sample_backward(const KalmanSampleBackwardArgs<double>&);

}  // namespace cpu
}  // namespace seqvae

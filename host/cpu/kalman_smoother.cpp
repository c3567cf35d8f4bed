// The smoother, backward in time: r and N with E[z_t | y] = m + P r and Cov[z_t | y] = P - P N P,
// where P is the filtered covariance; while diffuse, r = r0 + r1 / kappa and
// N = N0 + N1 / kappa + N2 / kappa^2 (Durbin and Koopman 2012, sections 5.3 and 6.4.4).
#include "host/cpu/kalman_replay.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::Moments;

/// r and N, and the products that moments are made of.
template <class Real>
struct SmootherScratch {
  cpu::kalman::Replay<Real> replay;
  Moments<Real> before;  // filtered moments of the step before
  Real *r0, *r1 = nullptr, *N0, *N1 = nullptr, *N2 = nullptr;
  Real *vector, *first, *second, *third, *X_outer = nullptr;

  SmootherScratch(const KalmanSmootherArgs<Real>& a, Arena& arena)
      : replay(a.model, a.data, a.filtered, false, arena),
        before(a.model.n, a.model.diffuse != nullptr, arena) {
    const std::int64_t n = a.model.n;
    for (Real** p : {&r0, &vector}) *p = arena.take<Real>(n);
    for (Real** p : {&N0, &first, &second, &third}) *p = arena.take<Real>(n * n);
    if (a.model.diffuse == nullptr) return;
    r1 = arena.take<Real>(n);
    for (Real** p : {&N1, &N2, &X_outer}) *p = arena.take<Real>(n * n);
  }
};

/// One observed component back: its L = I - k c^T (while diffuse L0 + L1 / kappa) and 1 / f.
template <class Real>
void step_back(std::int64_t n, const Real* c, const cpu::kalman::Update<Real>& u, bool diffuse,
               SmootherScratch<Real>& s) {
  using cpu::add_symmetric, cpu::axpy, cpu::dot, cpu::transposed_multiply_vector;
  // N + c a^T + a c^T = (I - k c^T)^T N (I - k c^T) + extra c c^T
  const auto turn = [&](Real* N, Real extra) {
    transposed_multiply_vector(n, n, N, u.k, s.vector);
    const Real half = (dot(n, u.k, s.vector) + extra) / 2;
    for (std::int64_t i = 0; i < n; ++i) s.vector[i] = half * c[i] - s.vector[i];
    add_symmetric(n, c, s.vector, N);
  };
  const auto turn_vector = [&](Real* r, Real extra) { axpy(n, extra - dot(n, u.k, r), c, r); };
  if (u.f_diffuse == 0) {
    turn(s.N0, 1 / u.f);
    turn_vector(s.r0, u.v / u.f);
    if (!diffuse) return;
    turn(s.N1, 0);
    turn(s.N2, 0);
    turn_vector(s.r1, 0);
    return;
  }
  // k1 = (w - k f) / f_diffuse; L1 = -k1 c^T.
  Real* k1 = s.first;
  Real* q = s.second;
  for (std::int64_t i = 0; i < n; ++i) k1[i] = (u.w[i] - u.k[i] * u.f) / u.f_diffuse;
  // N += L0^T M L1 + L1^T M L0
  const auto mix = [&](const Real* M, Real* N) {
    transposed_multiply_vector(n, n, M, k1, q);
    const Real both = dot(n, u.k, q);
    for (std::int64_t i = 0; i < n; ++i) q[i] = both * c[i] - q[i];
    add_symmetric(n, c, q, N);
  };
  transposed_multiply_vector(n, n, s.N0, k1, q);
  const Real squared = dot(n, k1, q);  // L1^T N0 L1 = squared c c^T
  turn(s.N2, -u.f / (u.f_diffuse * u.f_diffuse) + squared);
  mix(s.N1, s.N2);
  turn(s.N1, 1 / u.f_diffuse);
  mix(s.N0, s.N1);
  turn(s.N0, 0);
  turn_vector(s.r1, u.v / u.f_diffuse - dot(n, k1, s.r0));
  turn_vector(s.r0, 0);
}

/// out = m + P r0 + X X^T r1 and P - P N0 P - (X X^T N1 P + its transpose) - X X^T N2 X X^T.
template <class Real>
void write_moments(const KalmanSmootherArgs<Real>& a, std::int64_t row, const Moments<Real>& f,
                   SmootherScratch<Real>& s) {
  const std::int64_t n = a.model.n, nn = n * n;
  if (f.rank > 0) cpu::kalman::outer(n, f, s.X_outer);
  if (a.mean) {
    Real* mean = a.mean[row];
    std::copy_n(f.m, n, mean);
    cpu::add_multiply_vector(n, n, f.P, s.r0, mean);
    if (f.rank > 0) cpu::add_multiply_vector(n, n, s.X_outer, s.r1, mean);
  }
  if (!a.covariance) return;
  Real* out = a.covariance[row];
  cpu::multiply(n, n, n, s.N0, f.P, s.first, n);
  cpu::multiply(n, n, n, f.P, s.first, s.second, n);
  for (std::int64_t i = 0; i < nn; ++i) out[i] = f.P[i] - s.second[i];
  if (f.rank > 0) {
    cpu::multiply(n, n, n, s.N1, f.P, s.first, n);
    cpu::multiply(n, n, n, s.X_outer, s.first, s.second, n);
    cpu::multiply(n, n, n, s.N2, s.X_outer, s.first, n);
    cpu::multiply(n, n, n, s.X_outer, s.first, s.third, n);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        out[i * n + j] -= s.second[i * n + j] + s.second[j * n + i] + s.third[i * n + j];
      }
    }
  }
  cpu::symmetrize(n, out);
}

/// Cov(z_t, z_{t-1} | y) = (I - P N0 - X X^T N1) A P' - (P N1 + X X^T N2) A X' X'^T, with P, X
/// predicted at t, N before its observation, and P', X' filtered at t - 1.
template <class Real>
void write_lag_one(const KalmanSmootherArgs<Real>& a, std::int64_t t, std::int64_t b,
                   const Moments<Real>& predicted, SmootherScratch<Real>& s) {
  const std::int64_t n = a.model.n, nn = n * n;
  const Real* A = cpu::kalman::at(a.model.A, a.data.layout, t, b);
  Real* out = a.lag_one[cpu::kalman::row_of(a.data.layout, t, b)];
  const auto subtract = [&](const Real* left, const Real* N, const Real* right) {
    cpu::multiply(n, n, n, N, right, s.second, n);
    cpu::multiply(n, n, n, left, s.second, s.third, n);
    for (std::int64_t i = 0; i < nn; ++i) out[i] -= s.third[i];
  };
  cpu::multiply(n, n, n, A, s.before.P, s.first, n);
  std::copy_n(s.first, nn, out);
  subtract(predicted.P, s.N0, s.first);
  if (predicted.rank == 0) return;
  cpu::kalman::outer(n, predicted, s.X_outer);
  subtract(s.X_outer, s.N1, s.first);
  cpu::kalman::outer(n, s.before, s.third);
  cpu::multiply(n, n, n, A, s.third, s.first, n);
  subtract(predicted.P, s.N1, s.first);
  subtract(s.X_outer, s.N2, s.first);
}

template <class Real>
void smooth_sequence(const KalmanSmootherArgs<Real>& a, std::int64_t b, SmootherScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, nn = n * n;
  std::fill_n(s.r0, n, Real(0));
  std::fill_n(s.N0, nn, Real(0));
  if (a.model.diffuse != nullptr) {
    std::fill_n(s.r1, n, Real(0));
    std::fill_n(s.N1, nn, Real(0));
    std::fill_n(s.N2, nn, Real(0));
  }
  auto& replay = s.replay;
  for (std::int64_t t = cpu::kalman::length_of(layout, b) - 1; t >= 0; --t) {
    const std::int64_t row = cpu::kalman::row_of(layout, t, b);
    replay.filtered_moments(t, b, s.before);
    write_moments(a, row, s.before, s);
    replay.run(t, b);
    const bool diffuse = replay.predicted().rank > 0;
    for (std::int64_t i = replay.count() - 1; i >= 0; --i) {
      step_back(n, replay.c(i), replay.update(i), diffuse, s);
    }
    if (t == 0) {
      if (a.lag_one) std::fill_n(a.lag_one[row], nn, Real(0));
      break;
    }
    if (a.lag_one) {
      replay.filtered_moments(t - 1, b, s.before);
      write_lag_one(a, t, b, replay.predicted(), s);
    }
    // r = A^T r, N = A^T N A
    const Real* A = cpu::kalman::at(a.model.A, layout, t, b);
    for (Real* r : {s.r0, diffuse ? s.r1 : nullptr}) {
      if (r == nullptr) continue;
      cpu::transposed_multiply_vector(n, n, A, r, s.vector);
      std::copy_n(s.vector, n, r);
    }
    for (Real* N : {s.N0, diffuse ? s.N1 : nullptr, diffuse ? s.N2 : nullptr}) {
      if (N == nullptr) continue;
      cpu::transposed_congruence(n, A, N, s.third, replay.scratch());
      std::copy_n(s.third, nn, N);
    }
  }
}

}  // namespace

template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSmootherArgs<Real>& args) {
  Arena arena;
  SmootherScratch<Real>(args, arena);
  return arena.used();
}

template std::size_t kalman_workspace_bytes(const KalmanSmootherArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanSmootherArgs<double>&);

namespace cpu {

template <class Real>
void kalman_smoother(const KalmanSmootherArgs<Real>& a) {
  check(a);
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n;
  Arena arena(a.workspace);
  SmootherScratch<Real> scratch(a, arena);
  for (std::int64_t b = 0; b < layout.B; ++b) {
    smooth_sequence(a, b, scratch);
    if (layout.offsets != nullptr) continue;
    for (std::int64_t t = kalman::length_of(layout, b); t < layout.T; ++t) {
      const std::int64_t row = t * layout.B + b;
      if (a.mean) std::fill_n(a.mean[row], n, Real(0));
      if (a.covariance) std::fill_n(a.covariance[row], n * n, Real(0));
      if (a.lag_one) std::fill_n(a.lag_one[row], n * n, Real(0));
    }
  }
}

template void kalman_smoother(const KalmanSmootherArgs<float>&);
template void kalman_smoother(const KalmanSmootherArgs<double>&);

}  // namespace cpu
}  // namespace seqvae

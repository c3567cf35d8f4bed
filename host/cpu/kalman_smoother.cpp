// The smoother, backward in time: r and N with E[z_t | y] = m + P r and Cov[z_t | y] = P - P N P,
// where m and P are filtered moments (Durbin and Koopman 2012, section 4.4). While diffuse, m and P
// are those given omega (kalman_replay.hpp), and z_t moves with it by D = F - P N F. Where P, the
// gains and N have settled, so have the smoothed covariances: they are copied (kalman_reverse.hpp).
#include "host/cpu/kalman_reverse.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::Moments;

template <class Real>
struct SmootherScratch {
  cpu::kalman::Replay<Real> replay;
  cpu::kalman::SettledReverse<Real> settled;
  Moments<Real> filtered, before;  // of this step and of the one before it
  Real *r, *N, *vector, *first, *second;
  Real *D = nullptr, *D_later = nullptr;  // of this step and of the one after it, [n][q]

  SmootherScratch(const KalmanSmootherArgs<Real>& a, Arena& arena)
      : replay(a.model, a.data, a.filtered, false, arena),
        settled(a.model, a.data, a.filtered, arena),
        filtered(a.model.n, a.model.diffuse != nullptr, arena),
        before(a.model.n, a.model.diffuse != nullptr, arena) {
    const std::int64_t n = a.model.n;
    for (Real** p : {&r, &vector}) *p = arena.take<Real>(n);
    for (Real** p : {&N, &first, &second}) *p = arena.take<Real>(n * n);
    if (a.model.diffuse == nullptr) return;
    for (Real** p : {&D, &D_later}) *p = arena.take<Real>(n * n);
  }
};

/// D = F - P N F
template <class Real>
void delta_moves(std::int64_t n, const Moments<Real>& s, SmootherScratch<Real>& scratch, Real* D) {
  cpu::multiply(n, n, s.q, scratch.N, s.X, scratch.first);
  cpu::multiply(n, n, s.q, s.P, scratch.first, scratch.second);
  for (std::int64_t i = 0; i < n * s.q; ++i) D[i] = s.X[i] - scratch.second[i];
}

/// out += D E^T
template <class Real>
void add_delta(std::int64_t n, std::int64_t q, const Real* D, const Real* E, Real* out) {
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) out[i * n + j] += cpu::dot(q, D + i * q, E + j * q);
  }
}

/// `kept`: the covariance is that of the step after.
template <class Real>
void write_moments(const KalmanSmootherArgs<Real>& a, std::int64_t t, std::int64_t b, bool kept,
                   SmootherScratch<Real>& s) {
  const std::int64_t n = a.model.n, row = cpu::kalman::row_of(a.data.layout, t, b);
  const Moments<Real>& f = s.filtered;
  if (a.mean) {
    std::copy_n(f.m, n, a.mean[row]);
    if (s.settled.mapped()) {
      cpu::axpy(n, Real(1), s.settled.Pr(), a.mean[row]);
    } else {
      cpu::add_multiply_vector(n, n, f.P, s.r, a.mean[row]);
    }
  }
  if (!a.covariance) return;
  Real* out = a.covariance[row];
  if (kept) {
    std::copy_n(a.covariance[cpu::kalman::row_of(a.data.layout, t + 1, b)], n * n, out);
    return;
  }
  cpu::congruence(n, n, f.P, s.N, s.first, s.replay.scratch());
  for (std::int64_t i = 0; i < n * n; ++i) out[i] = f.P[i] - s.first[i];
  if (f.q > 0) add_delta(n, f.q, s.D, s.D, out);
}

/// Cov(z_t, z_{t-1} | y) = (I - P N) L A P' + D_t D_{t-1}^T with P and N after the observation of
/// t, L the product of its components' I - k c^T, and P' filtered at t - 1. It equals (I - P N) A
/// P' with those before the observation, where precise observations leave no digits of I - P N.
template <class Real>
void write_lag_one(const KalmanSmootherArgs<Real>& a, std::int64_t t, std::int64_t b,
                   SmootherScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  const Real* A = cpu::kalman::at(a.model.A, a.data.layout, t, b);
  Real* out = a.lag_one[cpu::kalman::row_of(a.data.layout, t, b)];
  s.replay.filtered_moments(t - 1, b, s.replay.diffuse(t, b), s.before);
  cpu::multiply(n, n, n, A, s.before.P, out);
  for (std::int64_t i = 0; i < s.replay.count(); ++i) {
    const Real* k = s.replay.update(i).k;
    cpu::transposed_multiply_vector(n, n, out, s.replay.c(i), s.vector);
    for (std::int64_t j = 0; j < n; ++j) cpu::axpy(n, -k[j], s.vector, out + j * n);
  }
  cpu::multiply(n, n, n, s.N, out, s.first);
  cpu::multiply(n, n, n, s.filtered.P, s.first, s.second);
  for (std::int64_t i = 0; i < n * n; ++i) out[i] -= s.second[i];
}

/// Step t from r and N after its observation to those of t - 1, or of the prior at t = 0. `same`:
/// its gains are those of the step after.
template <class Real>
void go_back(const KalmanSmootherArgs<Real>& a, std::int64_t t, std::int64_t b, bool same,
             SmootherScratch<Real>& s) {
  const std::int64_t n = a.model.n;
  if (same) {
    s.settled.leave();
    s.settled.before_step(s.N);
  } else {
    s.settled.start();
  }
  for (std::int64_t i = s.replay.count() - 1; i >= 0; --i) {
    const auto u = s.replay.update(i);
    const Real* c = s.replay.c(i);
    cpu::kalman::step_back_N(n, c, u, s.N, s.vector);
    cpu::axpy(n, u.v / u.f - cpu::dot(n, u.k, s.r), c, s.r);
  }
  if (t == 0) return;
  const Real* A = cpu::kalman::at(a.model.A, a.data.layout, t, b);
  cpu::transposed_multiply_vector(n, n, A, s.r, s.vector);
  std::copy_n(s.vector, n, s.r);
  cpu::transposed_congruence(n, A, s.N, s.first, s.replay.scratch());
  std::copy_n(s.first, n * n, s.N);
  if (same) s.settled.after_step(t, b, s.N, s.replay);
}

template <class Real>
void smooth_sequence(const KalmanSmootherArgs<Real>& a, std::int64_t b, SmootherScratch<Real>& s) {
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, last = cpu::kalman::length_of(layout, b) - 1;
  auto& replay = s.replay;
  std::fill_n(s.r, n, Real(0));
  std::fill_n(s.N, n * n, Real(0));
  s.settled.start();
  replay.forget();
  bool same = false;  // step t + 1 had the gains of t + 2, and P_t is P_{t+1}
  for (std::int64_t t = last; t >= 0; --t) {
    const std::int64_t row = cpu::kalman::row_of(layout, t, b);
    if (t == replay.last_diffuse(b)) replay.enter_diffuse(t, b, s.r, s.N);
    const bool kept = same && s.settled.settled() && !replay.diffuse(t, b);
    if (kept) {
      std::copy_n(a.filtered.mean[row], n, s.filtered.m);
    } else {
      replay.filtered_moments(t, b, replay.diffuse(t, b), s.filtered);
    }
    if (s.filtered.q > 0) delta_moves(n, s.filtered, s, s.D);
    write_moments(a, t, b, kept, s);
    if (a.lag_one && t < last && replay.diffuse(t + 1, b)) {  // step t + 1 waited for D
      add_delta(n, s.filtered.q, s.D_later, s.D, a.lag_one[cpu::kalman::row_of(layout, t + 1, b)]);
    }
    std::swap(s.D, s.D_later);
    same = replay.same_at(t, b);
    const bool mapped = kept && same && s.settled.map(t, b, replay);
    mapped ? s.settled.step(t, b, s.r, replay) : replay.run(t, b);
    if (a.lag_one && t == 0) {
      std::fill_n(a.lag_one[row], n * n, Real(0));
    } else if (a.lag_one && kept && same) {
      std::copy_n(a.lag_one[cpu::kalman::row_of(layout, t + 1, b)], n * n, a.lag_one[row]);
    } else if (a.lag_one) {
      write_lag_one(a, t, b, s);
    }
    if (mapped) {
      std::copy_n(s.settled.r(), n, s.r);
    } else {
      go_back(a, t, b, same, s);
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

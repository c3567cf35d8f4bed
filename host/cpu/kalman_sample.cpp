// Draws: from the model, and of the states given the observations (simulation smoother).
// Sequence by sequence, draw by draw, forward in time.
#include "host/cpu/kalman_draws.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::at;
using cpu::kalman::NoiseFactor;
using cpu::kalman::RowNoise;
using cpu::kalman::StatePath;

template <class Real>
void fill_draws(const Rows<Real>& out, std::int64_t S, std::int64_t rows, std::int64_t row,
                std::int64_t width, Real value) {
  for (std::int64_t s = 0; out && s < S; ++s) std::fill_n(out[s * rows + row], width, value);
}

template <class Real>
struct SimulateScratch {
  KalmanData<Real> data;
  StatePath<Real> path;
  NoiseFactor<Real> R;
  Real *z, *y;

  SimulateScratch(const KalmanSimulateArgs<Real>& a, Arena& arena)
      : data{a.layout, {}, {}, a.u},
        path(a.model, data, arena),
        R(a.model.m, arena),
        z(arena.take<Real>(a.model.n)),
        y(arena.take<Real>(a.model.m)) {}
};

/// 0, or 1 + the first step whose noise is not positive semidefinite.
template <class Real>
std::int32_t simulate_sequence(const KalmanSimulateArgs<Real>& a, std::int64_t b,
                               SimulateScratch<Real>& scratch) {
  const RowLayout& layout = a.layout;
  const std::int64_t n = a.model.n, m = a.model.m, rows = layout.rows();
  const std::int64_t length = cpu::kalman::length_of(layout, b);
  if (length > 0 && !a.given_z && !scratch.path.prepare(b)) return 1;
  const std::int64_t apart = a.model.diagonal_R ? 1 : m + 1;
  RowNoise noise(a.noise, layout, n + m);
  for (std::int64_t s = 0; s < a.S; ++s) {
    for (std::int64_t t = 0; t < length; ++t) {
      const std::int64_t row = cpu::kalman::row_of(layout, t, b);
      noise.select(t, b, s);
      const std::int64_t place = s * rows + row;
      const Real* R = at(a.model.R, layout, t, b);
      if (a.given_z) {
        std::copy_n(a.given_z[place], n, scratch.z);
      } else if (!scratch.path.advance(t, b, noise, scratch.z)) {
        return static_cast<std::int32_t>(t + 1);
      }
      if (!scratch.R.follow(R, a.model.diagonal_R)) return static_cast<std::int32_t>(t + 1);
      if (a.z) std::copy_n(scratch.z, n, a.z[place]);
      for (std::int64_t j = 0; a.y_logvar && j < m; ++j) {
        a.y_logvar[place][j] = std::log(R[j * apart]);
      }
      if (!a.y && !a.y_mean) continue;
      cpu::multiply_vector(m, n, at(a.model.C, layout, t, b), scratch.z, scratch.y);
      cpu::kalman::add_inputs(m, a.model.U, layout, a.model.D, a.model.observation_offset, a.u, t,
                              b, scratch.y);
      if (a.y_mean) std::copy_n(scratch.y, m, a.y_mean[place]);
      scratch.R.add(noise, n, scratch.y);
      if (a.y) std::copy_n(scratch.y, m, a.y[place]);
    }
  }
  return 0;
}

/// What the filter does to any observations of a sequence: its gains, for all steps. Before the
/// merge they are given delta, and a = G^T X^T c tells what an innovation says of omega,
/// delta = G omega.
template <class Real>
struct SampleScratch {
  cpu::kalman::Stepper<Real> stepper;
  cpu::kalman::Observation<Real> observation;
  cpu::kalman::Moments<Real> moments;
  cpu::kalman::Update<Real> update;
  StatePath<Real> path;
  std::int64_t q;
  std::int64_t* count;                    // [T]
  Real *c, *k, *a = nullptr, *e, *h, *f;  // [T][m][n], [T][m][q] or [T][m]
  Real *v, *mean;                         // [T][m], [T][n]  of one draw
  Real *z, *r, *vector;                   // [n]
  Real* omega = nullptr;                  // [q]

  SampleScratch(const KalmanSampleArgs<Real>& args, Arena& arena)
      : stepper(args.model, args.data, arena),
        observation(args.model, args.data, arena),
        moments(args.model.n, args.model.diffuse != nullptr, arena),
        path(args.model, args.data, arena),
        q(cpu::kalman::count_diffuse(args.model)) {
    const std::int64_t n = args.model.n, steps = args.data.layout.T, all = steps * args.model.m;
    for (Real** p : {&update.w, &update.k, &update.a}) *p = arena.take<Real>(n);
    count = arena.take<std::int64_t>(steps);
    for (Real** p : {&c, &k}) *p = arena.take<Real>(all * n);
    for (Real** p : {&e, &h, &f, &v}) *p = arena.take<Real>(all);
    mean = arena.take<Real>(steps * n);
    for (Real** p : {&z, &r, &vector}) *p = arena.take<Real>(n);
    if (q == 0) return;
    a = arena.take<Real>(all * q);
    omega = arena.take<Real>(q);
  }
};

template <class Real>
const Real* covariance_of(const KalmanSampleArgs<Real>& a, std::int64_t t, std::int64_t b) {
  return a.filtered
      .covariance[cpu::kalman::covariance_row(a.data.layout, a.filtered.shared_covariance, t, b)];
}

template <class Real>
void keep_gains(const KalmanSampleArgs<Real>& args, std::int64_t b, std::int64_t length,
                SampleScratch<Real>& s) {
  const std::int64_t n = args.model.n, m = args.model.m;
  const std::int64_t merge = s.q > 0 ? args.filtered.merge_step[b] : 0;
  for (std::int64_t t = 0; t < length; ++t) {
    if (t == 0) {
      s.stepper.start(b, s.moments);
    } else {
      if (t == merge) {
        std::copy_n(covariance_of(args, t - 1, b), n * n, s.moments.P);
        s.moments.q = 0;
      }
      s.stepper.predict(t, b, s.moments);
    }
    s.observation.read(t, b);
    s.count[t] = s.observation.count();
    for (std::int64_t i = 0; i < s.count[t]; ++i) {
      const std::int64_t place = t * m + i;
      s.e[place] = s.observation.e(i);
      s.h[place] = s.observation.h(i);
      s.stepper.update(s.observation.c(i), s.h[place], s.e[place], s.moments, s.update);
      std::copy_n(s.observation.c(i), n, s.c + place * n);
      std::copy_n(s.update.k, n, s.k + place * n);
      s.f[place] = s.update.f;
      if (t < merge) {
        cpu::transposed_multiply_vector(s.q, s.q, args.filtered.diffuse.spread[b], s.update.a,
                                        s.a + place * s.q);
      }
    }
  }
}

/// One draw: a path z+ with its observations y+, then the smoothed mean of z - z+ given y - y+.
template <class Real>
std::int32_t sample_path(const KalmanSampleArgs<Real>& args, std::int64_t b, std::int64_t draw,
                         std::int64_t length, SampleScratch<Real>& s) {
  using cpu::axpy, cpu::dot;
  const RowLayout& layout = args.data.layout;
  const std::int64_t n = args.model.n, m = args.model.m, q = s.q, base = draw * layout.rows();
  const std::int64_t merge = q > 0 ? args.filtered.merge_step[b] : 0;
  RowNoise noise(args.noise, layout, n + m);
  if (q > 0) std::fill_n(s.omega, q, Real(0));
  // x += X G omega, X of the filtered moments of step t.
  const auto add_delta = [&](std::int64_t t, Real* x) {
    cpu::multiply_vector(q, q, args.filtered.diffuse.spread[b], s.omega, s.vector);
    cpu::add_multiply_vector(n, q, args.filtered.diffuse.factor[cpu::kalman::row_of(layout, t, b)],
                             s.vector, x);
  };
  for (std::int64_t t = 0; t < length; ++t) {
    noise.select(t, b, draw);
    if (!s.path.advance(t, b, noise, s.z)) return static_cast<std::int32_t>(t + 1);
    std::copy_n(s.z, n, args.z[base + cpu::kalman::row_of(layout, t, b)]);
    Real* mean = s.mean + t * n;
    std::fill_n(mean, n, Real(0));
    if (t > 0) {
      const Real* before = mean - n;
      if (t == merge) {  // omega is known by its mean from here on
        std::copy_n(before, n, s.r);
        add_delta(t - 1, s.r);
        before = s.r;
      }
      cpu::add_multiply_vector(n, n, at(args.model.A, layout, t, b), before, mean);
    }
    for (std::int64_t i = 0; i < s.count[t]; ++i) {
      const std::int64_t place = t * m + i;
      const Real* c = s.c + place * n;
      const Real y = dot(n, c, s.z) + std::sqrt(s.h[place]) * static_cast<Real>(noise(n + i));
      s.v[place] = s.e[place] - y - dot(n, c, mean);
      axpy(n, s.v[place], s.k + place * n, mean);
      // In the coordinates of omega the normal equations have the identity on their left.
      if (t < merge) axpy(q, s.v[place] / s.f[place], s.a + place * q, s.omega);
    }
  }
  std::fill_n(s.r, n, Real(0));
  for (std::int64_t t = length - 1; t >= 0; --t) {
    const std::int64_t row = cpu::kalman::row_of(layout, t, b);
    Real* z = args.z[base + row];
    if (t == merge - 1) {  // what comes later, said of omega: + G^T X^T r
      cpu::transposed_multiply_vector(n, q, args.filtered.diffuse.factor[row], s.r, s.vector);
      for (std::int64_t i = 0; i < q; ++i) {
        axpy(q, s.vector[i], args.filtered.diffuse.spread[b] + i * q, s.omega);
      }
    }
    axpy(n, Real(1), s.mean + t * n, z);
    if (t < merge) add_delta(t, z);
    const Real* P = t < merge ? args.filtered.diffuse.covariance[row] : covariance_of(args, t, b);
    cpu::add_multiply_vector(n, n, P, s.r, z);
    for (std::int64_t i = s.count[t] - 1; i >= 0; --i) {
      const std::int64_t place = t * m + i;
      Real v = s.v[place];
      if (t < merge) v -= dot(q, s.a + place * q, s.omega);
      axpy(n, v / s.f[place] - dot(n, s.k + place * n, s.r), s.c + place * n, s.r);
    }
    if (t == 0) break;
    cpu::transposed_multiply_vector(n, n, at(args.model.A, layout, t, b), s.r, s.vector);
    std::copy_n(s.vector, n, s.r);
  }
  return 0;
}

template <class Real>
std::int32_t sample_sequence(const KalmanSampleArgs<Real>& a, std::int64_t b,
                             SampleScratch<Real>& s) {
  const std::int64_t length = cpu::kalman::length_of(a.data.layout, b);
  if (length == 0) return 0;
  if (!s.path.prepare(b)) return 1;
  keep_gains(a, b, length, s);
  for (std::int64_t draw = 0; draw < a.S; ++draw) {
    const std::int32_t bad = sample_path(a, b, draw, length, s);
    if (bad != 0) return bad;
  }
  return 0;
}

}  // namespace

template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSimulateArgs<Real>& args) {
  Arena arena;
  SimulateScratch<Real>(args, arena);
  return arena.used();
}

template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSampleArgs<Real>& args) {
  Arena arena;
  SampleScratch<Real>(args, arena);
  return arena.used();
}

template std::size_t kalman_workspace_bytes(const KalmanSimulateArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanSimulateArgs<double>&);
template std::size_t kalman_workspace_bytes(const KalmanSampleArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanSampleArgs<double>&);

namespace cpu {

template <class Real>
void kalman_simulate(const KalmanSimulateArgs<Real>& a) {
  check(a);
  const RowLayout& layout = a.layout;
  Arena arena(a.workspace);
  SimulateScratch<Real> scratch(a, arena);
  for (std::int64_t b = 0; b < layout.B; ++b) {
    a.status[b] = simulate_sequence(a, b, scratch);
    if (layout.offsets != nullptr) continue;
    for (std::int64_t t = kalman::length_of(layout, b); t < layout.T; ++t) {
      fill_draws(a.z, a.S, layout.rows(), t * layout.B + b, a.model.n, Real(0));
      for (const Rows<Real>& out : {a.y, a.y_mean, a.y_logvar}) {
        fill_draws(out, a.S, layout.rows(), t * layout.B + b, a.model.m, Real(0));
      }
    }
  }
}

template <class Real>
void kalman_sample(const KalmanSampleArgs<Real>& a) {
  check(a);
  const RowLayout& layout = a.data.layout;
  Arena arena(a.workspace);
  SampleScratch<Real> scratch(a, arena);
  for (std::int64_t b = 0; b < layout.B; ++b) {
    a.status[b] = sample_sequence(a, b, scratch);
    if (layout.offsets != nullptr) continue;
    for (std::int64_t t = kalman::length_of(layout, b); t < layout.T; ++t) {
      fill_draws(a.z, a.S, layout.rows(), t * layout.B + b, a.model.n, Real(0));
    }
  }
}

template void kalman_simulate(const KalmanSimulateArgs<float>&);
template void kalman_simulate(const KalmanSimulateArgs<double>&);
template void kalman_sample(const KalmanSampleArgs<float>&);
template void kalman_sample(const KalmanSampleArgs<double>&);

}  // namespace cpu
}  // namespace seqvae

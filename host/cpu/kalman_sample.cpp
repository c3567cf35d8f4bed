// Draws: from the model, and of the states given the observations (simulation smoother).
// Sequence by sequence, draw by draw, forward in time.
#include "host/cpu/kalman_replay.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::at;

/// Standard normals of one row of width n + m.
class RowNoise {
 public:
  RowNoise(const KalmanNoise& noise, const RowLayout& layout, std::int64_t width)
      : noise_(noise), layout_(layout), width_(width) {}
  void select(std::int64_t t, std::int64_t b, std::int64_t draw) {
    t_ = layout_.t0 + t + (layout_.origins != nullptr ? layout_.origins[b] : 0);
    id_ = noise_.sequence_id[b];
    draw_ = static_cast<std::uint32_t>(draw);
    quad_ = -1;
  }
  float operator()(std::int64_t component) {
    if (component / 4 != quad_) {
      quad_ = component / 4;
      words_ = philox(noise_counter(noise_.key.site, noise_.step, id_, draw_, t_, width_, quad_),
                      noise_.key.seed);
    }
    return normal(words_, static_cast<int>(component % 4));
  }

 private:
  const KalmanNoise& noise_;
  const RowLayout& layout_;
  std::int64_t width_, t_ = 0, quad_ = -1;
  std::uint32_t id_ = 0, draw_ = 0;
  Words words_{};
};

/// x += L diag(sqrt h) eps for a covariance L diag(h) L^T.
template <class Real>
class NoiseFactor {
 public:
  NoiseFactor(std::int64_t k, Arena& arena)
      : k_(k), L_(arena.take<Real>(k * k)), h_(arena.take<Real>(k)) {}

  /// Both: false where the covariance is not positive semidefinite.
  bool factorize(const Real* S) {
    sound_ = cpu::factorize_semidefinite(k_, S, L_, h_);
    for (std::int64_t j = 0; sound_ && j < k_; ++j) h_[j] = std::sqrt(h_[j]);
    return sound_;
  }
  /// The same, of an array of the model: nothing to do where it is that of the call before.
  bool follow(const Real* S, bool diagonal) {
    if (S == source_) return sound_;
    source_ = S;
    if (!diagonal) return factorize(S);
    sound_ = true;
    std::fill_n(L_, k_ * k_, Real(0));
    for (std::int64_t j = 0; j < k_; ++j) {
      L_[j * k_ + j] = 1;
      h_[j] = std::sqrt(S[j]);
      sound_ = sound_ && S[j] >= 0;
    }
    return sound_;
  }
  /// Draws components first .. first + k of the row.
  void add(RowNoise& noise, std::int64_t first, Real* x) const {
    for (std::int64_t j = 0; j < k_; ++j) {
      if (h_[j] == 0) continue;
      const Real scaled = h_[j] * static_cast<Real>(noise(first + j));
      for (std::int64_t i = j; i < k_; ++i) x[i] += L_[i * k_ + j] * scaled;
    }
  }

 private:
  std::int64_t k_;
  Real *L_, *h_;
  const Real* source_ = nullptr;
  bool sound_ = false;
};

/// A path of the state: z_0 from the prior, then the transitions.
template <class Real>
class StatePath {
 public:
  StatePath(const KalmanModel<Real>& model, const KalmanData<Real>& data, Arena& arena)
      : model_(model),
        data_(data),
        stepper_(model, data, arena),
        start_(model.n, model.diffuse != nullptr, arena),
        prior_(model.n, arena),
        Q_(model.n, arena),
        next_(arena.take<Real>(model.n)) {}

  /// To be called before the draws of a sequence.
  bool prepare(std::int64_t b) {
    stepper_.start(b, start_);
    return prior_.factorize(start_.P);
  }
  /// z of step t from that of step t - 1. False where the noise is not positive semidefinite.
  bool advance(std::int64_t t, std::int64_t b, RowNoise& noise, Real* z) {
    const std::int64_t n = model_.n;
    if (t == 0) {
      std::copy_n(start_.m, n, z);
      prior_.add(noise, 0, z);
      return true;
    }
    if (!Q_.follow(at(model_.Q, data_.layout, t, b), false)) return false;
    cpu::multiply_vector(n, n, at(model_.A, data_.layout, t, b), z, next_);
    std::copy_n(next_, n, z);
    cpu::kalman::add_inputs(n, model_.U, data_.layout, model_.B, model_.state_offset, data_.u, t, b,
                            z);
    Q_.add(noise, 0, z);
    return true;
  }

 private:
  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  cpu::kalman::Stepper<Real> stepper_;
  cpu::kalman::Moments<Real> start_;
  NoiseFactor<Real> prior_, Q_;
  Real* next_;
};

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
  if (length > 0 && !scratch.path.prepare(b)) return 1;
  RowNoise noise(a.noise, layout, n + m);
  for (std::int64_t s = 0; s < a.S; ++s) {
    for (std::int64_t t = 0; t < length; ++t) {
      const std::int64_t row = cpu::kalman::row_of(layout, t, b);
      noise.select(t, b, s);
      if (!scratch.path.advance(t, b, noise, scratch.z) ||
          !scratch.R.follow(at(a.model.R, layout, t, b), a.model.diagonal_R)) {
        return static_cast<std::int32_t>(t + 1);
      }
      if (a.z) std::copy_n(scratch.z, n, a.z[s * rows + row]);
      if (!a.y) continue;
      cpu::multiply_vector(m, n, at(a.model.C, layout, t, b), scratch.z, scratch.y);
      cpu::kalman::add_inputs(m, a.model.U, layout, a.model.D, a.model.observation_offset, a.u, t,
                              b, scratch.y);
      scratch.R.add(noise, n, scratch.y);
      std::copy_n(scratch.y, m, a.y[s * rows + row]);
    }
  }
  return 0;
}

/// What the filter does to any observations of a sequence: its gains, for all steps.
template <class Real>
struct SampleScratch {
  cpu::kalman::Replay<Real> replay;
  StatePath<Real> path;
  cpu::kalman::Moments<Real> filtered;
  std::int64_t* count;                                 // [T]
  Real *c, *k, *k1 = nullptr, *e, *h, *f, *f_diffuse;  // [T][m][n] or [T][m]
  Real *v, *mean;                                      // [T][m], [T][n]  of one draw
  Real *z, *r0, *r1, *vector;                          // [n]

  SampleScratch(const KalmanSampleArgs<Real>& a, Arena& arena)
      : replay(a.model, a.data, a.filtered, false, arena),
        path(a.model, a.data, arena),
        filtered(a.model.n, a.model.diffuse != nullptr, arena) {
    const std::int64_t n = a.model.n, steps = a.data.layout.T, all = steps * a.model.m;
    count = arena.take<std::int64_t>(steps);
    for (Real** p : {&c, &k}) *p = arena.take<Real>(all * n);
    if (a.model.diffuse != nullptr) k1 = arena.take<Real>(all * n);
    for (Real** p : {&e, &h, &f, &f_diffuse, &v}) *p = arena.take<Real>(all);
    mean = arena.take<Real>(steps * n);
    for (Real** p : {&z, &r0, &r1, &vector}) *p = arena.take<Real>(n);
  }
};

template <class Real>
void keep_gains(std::int64_t n, std::int64_t m, std::int64_t b, std::int64_t length,
                SampleScratch<Real>& s) {
  for (std::int64_t t = 0; t < length; ++t) {
    s.replay.run(t, b);
    s.count[t] = s.replay.count();
    for (std::int64_t i = 0; i < s.count[t]; ++i) {
      const std::int64_t place = t * m + i;
      const auto u = s.replay.update(i);
      std::copy_n(s.replay.c(i), n, s.c + place * n);
      std::copy_n(u.k, n, s.k + place * n);
      s.e[place] = s.replay.observation().e(i);
      s.h[place] = s.replay.observation().h(i);
      s.f[place] = u.f;
      s.f_diffuse[place] = u.f_diffuse;
      for (std::int64_t j = 0; u.f_diffuse > 0 && j < n; ++j) {
        s.k1[place * n + j] = (u.w[j] - u.k[j] * u.f) / u.f_diffuse;
      }
    }
  }
}

/// One draw: a path z+ with its observations y+, then the smoothed mean of z - z+ given y - y+.
template <class Real>
std::int32_t sample_path(const KalmanSampleArgs<Real>& a, std::int64_t b, std::int64_t draw,
                         std::int64_t length, SampleScratch<Real>& s) {
  using cpu::axpy, cpu::dot;
  const RowLayout& layout = a.data.layout;
  const std::int64_t n = a.model.n, m = a.model.m, base = draw * layout.rows();
  RowNoise noise(a.noise, layout, n + m);
  for (std::int64_t t = 0; t < length; ++t) {
    noise.select(t, b, draw);
    if (!s.path.advance(t, b, noise, s.z)) return static_cast<std::int32_t>(t + 1);
    std::copy_n(s.z, n, a.z[base + cpu::kalman::row_of(layout, t, b)]);
    Real* mean = s.mean + t * n;
    std::fill_n(mean, n, Real(0));
    if (t > 0) cpu::add_multiply_vector(n, n, at(a.model.A, layout, t, b), mean - n, mean);
    for (std::int64_t i = 0; i < s.count[t]; ++i) {
      const std::int64_t place = t * m + i;
      const Real* c = s.c + place * n;
      const Real y = dot(n, c, s.z) + std::sqrt(s.h[place]) * static_cast<Real>(noise(n + i));
      s.v[place] = s.e[place] - y - dot(n, c, mean);
      axpy(n, s.v[place], s.k + place * n, mean);
    }
  }
  std::fill_n(s.r0, n, Real(0));
  std::fill_n(s.r1, n, Real(0));
  for (std::int64_t t = length - 1; t >= 0; --t) {
    Real* z = a.z[base + cpu::kalman::row_of(layout, t, b)];
    s.replay.filtered_moments(t, b, s.filtered);
    axpy(n, Real(1), s.mean + t * n, z);
    cpu::add_multiply_vector(n, n, s.filtered.P, s.r0, z);
    if (s.filtered.rank > 0) {
      cpu::transposed_multiply_vector(n, n, s.filtered.X, s.r1, s.vector);
      cpu::add_multiply_vector(n, n, s.filtered.X, s.vector, z);
    }
    for (std::int64_t i = s.count[t] - 1; i >= 0; --i) {
      const std::int64_t place = t * m + i;
      const Real *c = s.c + place * n, *k = s.k + place * n;
      if (s.f_diffuse[place] > 0) {
        const Real seen = s.v[place] / s.f_diffuse[place] - dot(n, s.k1 + place * n, s.r0);
        axpy(n, seen - dot(n, k, s.r1), c, s.r1);
        axpy(n, -dot(n, k, s.r0), c, s.r0);
      } else {
        axpy(n, -dot(n, k, s.r1), c, s.r1);
        axpy(n, s.v[place] / s.f[place] - dot(n, k, s.r0), c, s.r0);
      }
    }
    if (t == 0) break;
    for (Real* r : {s.r0, s.r1}) {
      cpu::transposed_multiply_vector(n, n, at(a.model.A, layout, t, b), r, s.vector);
      std::copy_n(s.vector, n, r);
    }
  }
  return 0;
}

template <class Real>
std::int32_t sample_sequence(const KalmanSampleArgs<Real>& a, std::int64_t b,
                             SampleScratch<Real>& s) {
  const std::int64_t length = cpu::kalman::length_of(a.data.layout, b);
  if (length == 0) return 0;
  if (!s.path.prepare(b)) return 1;
  keep_gains(a.model.n, a.model.m, b, length, s);
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
      fill_draws(a.y, a.S, layout.rows(), t * layout.B + b, a.model.m, Real(0));
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

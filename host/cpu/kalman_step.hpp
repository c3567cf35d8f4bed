// One step of the Kalman filter on one sequence, shared by the filter and by the reverse passes,
// which replay it from the stored moments of the step before.
#pragma once
#include <cstddef>
#include <limits>

#include "host/cpu/small_matrix.hpp"
#include "seqvae/kernels/kalman.hpp"

namespace seqvae::cpu::kalman {

inline constexpr double kLog2Pi = 1.8378770664093454836;

/// Deals out a workspace; without one it only counts.
class Arena {
 public:
  explicit Arena(void* begin = nullptr) : begin_(static_cast<char*>(begin)) {}
  template <class Real>
  Real* take(std::int64_t count) {
    char* place = begin_ == nullptr ? nullptr : begin_ + used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(Real) + 15) / 16 * 16;
    return reinterpret_cast<Real*>(place);
  }
  std::size_t used() const { return used_; }

 private:
  char* begin_;
  std::size_t used_ = 0;
};

inline std::int64_t row_of(const RowLayout& layout, std::int64_t t, std::int64_t b) {
  return layout.offsets != nullptr ? layout.offsets[t] + b : t * layout.B + b;
}

/// A row of an output, where there is one.
template <class Real>
void write(const Rows<Real>& out, std::int64_t row, std::int64_t count, const Real* values) {
  if (out) std::copy_n(values, count, out[row]);
}

/// Whether sequences have the same covariances at each step that they have.
template <class Real>
bool covariances_are_shared(const KalmanModel<Real>& m, const KalmanData<Real>& data) {
  return m.diffuse == nullptr && !data.mask && m.A.sequence == 0 && m.Q.sequence == 0 &&
         m.C.sequence == 0 && m.R.sequence == 0 && m.P0.sequence == 0;
}

/// Whether every step is like the one before: covariances settle then (kalman_settled.hpp).
template <class Real>
bool is_constant(const KalmanModel<Real>& m, const KalmanData<Real>& data) {
  return !data.mask && m.A.step == 0 && m.Q.step == 0 && m.C.step == 0 && m.R.step == 0;
}

/// Steps of a chunk where the caller leaves the choice.
template <class Real>
std::int64_t default_chunk(const KalmanModel<Real>& m, const KalmanData<Real>& data, int threads) {
  return kalman_chunk(data.layout.T, data.layout.B, threads, is_constant(m, data));
}

/// The row of a covariance.
inline std::int64_t covariance_row(const RowLayout& layout, bool shared, std::int64_t t,
                                   std::int64_t b) {
  return shared ? t : row_of(layout, t, b);
}

inline std::int64_t length_of(const RowLayout& layout, std::int64_t b) {
  if (layout.offsets != nullptr) {  // step t has a row of b while its count exceeds b
    std::int64_t first = 0, last = layout.T;
    while (first < last) {
      const std::int64_t t = (first + last) / 2;
      if (layout.offsets[t + 1] - layout.offsets[t] > b) {
        first = t + 1;
      } else {
        last = t;
      }
    }
    return first;
  }
  if (layout.lengths == nullptr) return layout.T;
  return std::clamp<std::int64_t>(layout.lengths[b], 0, layout.T);
}

template <class Real>
Real* at(const StepArray<Real>& array, const RowLayout& layout, std::int64_t t, std::int64_t b) {
  if (layout.offsets != nullptr && array.step != 0 && array.sequence != 0) {
    return array.data + row_of(layout, t, b) * array.sequence;
  }
  return array.data + t * array.step + b * array.sequence;
}

/// x += M u + offset, each where it is given.
template <class Real>
void add_inputs(std::int64_t rows, std::int64_t U, const RowLayout& layout,
                const StepArray<const Real>& M, const StepArray<const Real>& offset,
                const Rows<const Real>& u, std::int64_t t, std::int64_t b, Real* x) {
  if (offset) axpy(rows, Real(1), at(offset, layout, t, b), x);
  if (M && U > 0) add_multiply_vector(rows, U, at(M, layout, t, b), u[row_of(layout, t, b)], x);
}

/// The observed components of a row, made independent: y = C z + r, R = L diag(h) L^T, so that
/// c = L^-1 C and e = L^-1 (y - d - D u) have noise h.
template <class Real>
class Observation {
 public:
  Observation(const KalmanModel<Real>& model, const KalmanData<Real>& data, Arena& arena)
      : model_(model), data_(data) {
    const std::int64_t n = model.n, m = model.m;
    index_ = arena.take<std::int64_t>(m);
    next_ = arena.take<std::int64_t>(m);
    c_ = arena.take<Real>(m * n);
    h_ = arena.take<Real>(m);
    e_ = arena.take<Real>(m);
    mean_ = arena.take<Real>(m);
    if (!model.diagonal_R) {
      L_ = arena.take<Real>(m * m);
      block_ = arena.take<Real>(m * m);
    }
  }

  /// Whether C, R and what is observed are at step t what read_model last said. Changes nothing.
  bool same_at(std::int64_t t, std::int64_t b) {
    const std::int64_t row = row_of(data_.layout, t, b);
    std::int64_t count = 0;
    for (std::int64_t j = 0; j < model_.m; ++j) {
      if (!data_.mask || data_.mask[row][j] != 0) next_[count++] = j;
    }
    const bool same = at(model_.C, data_.layout, t, b) == C_ &&
                      at(model_.R, data_.layout, t, b) == R_ && count == count_ &&
                      std::equal(index_, index_ + count_, next_);
    next_count_ = count;
    return same;
  }

  /// Which components are observed at step t of sequence b, their c, h and L. False where R is not
  /// positive semidefinite.
  bool read_model(std::int64_t t, std::int64_t b) {
    same_ = same_at(t, b);
    if (same_) return sound_;
    const std::int64_t n = model_.n;
    C_ = at(model_.C, data_.layout, t, b), R_ = at(model_.R, data_.layout, t, b);
    std::swap(index_, next_);
    count_ = next_count_;
    sound_ = model_.diagonal_R ? take_diagonal() : diagonalize();
    for (std::int64_t i = 0; i < count_; ++i) {
      std::copy_n(C_ + index_[i] * n, n, c_ + i * n);
      for (std::int64_t j = 0; L_ != nullptr && j < i; ++j) {
        if (L_[i * count_ + j] != 0) axpy(n, -L_[i * count_ + j], c_ + j * n, c_ + i * n);
      }
    }
    return sound_;
  }

  /// e of those components.
  void read_values(std::int64_t t, std::int64_t b) {
    read_residuals(t, b, e_);
    decorrelate(1, e_);
  }

  bool read(std::int64_t t, std::int64_t b) {
    const bool sound = read_model(t, b);
    read_values(t, b);
    return sound;
  }

  /// y - d - D u of the observed components, `apart` apart in e.
  void read_residuals(std::int64_t t, std::int64_t b, Real* e, std::int64_t apart = 1) {
    const RowLayout& layout = data_.layout;
    const Real* y = data_.y[row_of(layout, t, b)];
    if (!model_.observation_offset && !(model_.D && model_.U > 0)) {
      for (std::int64_t i = 0; i < count_; ++i) e[i * apart] = y[index_[i]];
      return;
    }
    std::fill_n(mean_, model_.m, Real(0));
    add_inputs(model_.m, model_.U, layout, model_.D, model_.observation_offset, data_.u, t, b,
               mean_);
    for (std::int64_t i = 0; i < count_; ++i) e[i * apart] = y[index_[i]] - mean_[index_[i]];
  }

  /// e = L^-1 e, e[count][columns]
  void decorrelate(std::int64_t columns, Real* e) const {
    for (std::int64_t i = 1; L_ != nullptr && i < count_; ++i) {
      for (std::int64_t j = 0; j < i; ++j) {
        const Real l = L_[i * count_ + j];
        if (l != 0) axpy(columns, -l, e + j * columns, e + i * columns);
      }
    }
  }

  /// What read_model said is what it said the time before.
  bool same() const { return same_; }
  std::int64_t count() const { return count_; }
  std::int64_t index(std::int64_t i) const { return index_[i]; }
  const Real* c(std::int64_t i) const { return c_ + i * model_.n; }
  Real h(std::int64_t i) const { return h_[i]; }
  Real e(std::int64_t i) const { return e_[i]; }
  const Real* L() const { return L_; }  ///< [count][count]; null with diagonal_R

  /// x = L^-T x, x[count][columns]
  void decorrelate_transposed(std::int64_t columns, Real* x) const {
    for (std::int64_t i = count_ - 1; L_ != nullptr && i > 0; --i) {
      for (std::int64_t j = 0; j < i; ++j) {
        if (L_[i * count_ + j] != 0) {
          axpy(columns, -L_[i * count_ + j], x + i * columns, x + j * columns);
        }
      }
    }
  }

 private:
  bool take_diagonal() {
    for (std::int64_t i = 0; i < count_; ++i) {
      h_[i] = R_[index_[i]];
      if (!(h_[i] >= 0)) return false;
    }
    return true;
  }
  bool diagonalize() {
    bool diagonal = true;
    for (std::int64_t i = 0; i < count_; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) {
        const Real r = R_[index_[i] * model_.m + index_[j]];
        block_[i * count_ + j] = r;
        diagonal = diagonal && (i == j || r == 0);
      }
    }
    if (!diagonal) return factorize_semidefinite(count_, block_, L_, h_);
    std::fill_n(L_, count_ * count_, Real(0));
    for (std::int64_t i = 0; i < count_; ++i) {
      L_[i * count_ + i] = 1;
      h_[i] = block_[i * count_ + i];
      if (!(h_[i] >= 0)) return false;
    }
    return true;
  }

  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  std::int64_t *index_, *next_, count_ = -1, next_count_ = 0;
  Real *c_, *h_, *e_, *mean_, *L_ = nullptr, *block_ = nullptr;
  const Real *C_ = nullptr, *R_ = nullptr;  // what c_, L_ and h_ were made of
  bool sound_ = false, same_ = false;
};

/// Mean m + X delta and covariance P given delta, X[n][q]; q = 0: no delta.
template <class Real>
struct Moments {
  Real *m, *P, *X = nullptr;
  std::int64_t q = 0;

  Moments(std::int64_t n, bool diffuse, Arena& arena)
      : m(arena.take<Real>(n)), P(arena.take<Real>(n * n)) {
    if (diffuse) X = arena.take<Real>(n * n);
  }
  void copy(std::int64_t n, const Moments& from) {
    std::copy_n(from.m, n, m);
    std::copy_n(from.P, n * n, P);
    q = from.q;
    if (q > 0) std::copy_n(from.X, n * q, X);
  }
};

/// What one observed component did to the moments.
template <class Real>
struct Update {
  Real v = 0;         ///< innovation given delta = 0
  Real f = 0;         ///< its variance given delta
  Real* w = nullptr;  ///< [n]  P c
  Real* k = nullptr;  ///< [n]  gain w / f
  Real* a = nullptr;  ///< [q]  X^T c: the innovation given delta is v - a . delta

  Real log_likelihood() const { return Real(-0.5) * (Real(kLog2Pi) + std::log(f) + v * v / f); }
};

template <class Real>
std::int64_t count_diffuse(const KalmanModel<Real>& model) {
  return model.diffuse == nullptr
             ? 0
             : std::count_if(model.diffuse, model.diffuse + model.n, [](auto d) { return d != 0; });
}

/// Predictions and updates of one sequence's moments.
template <class Real>
class Stepper {
 public:
  Stepper(const KalmanModel<Real>& model, const KalmanData<Real>& data, Arena& arena)
      : model_(model), data_(data), n_(model.n), q_(count_diffuse(model)) {
    scratch_ = arena.take<Real>(2 * n_ * n_);
    vector_ = arena.take<Real>(n_);
    next_ = arena.take<Real>(n_ * n_);
  }

  /// Moments of the state at the first observation. Diffuse components are delta plus noise of some
  /// variance: which one is of no matter under a flat prior, but it keeps f > 0 where R = 0.
  void start(std::int64_t b, Moments<Real>& s) {
    const RowLayout& layout = data_.layout;
    std::fill_n(s.m, n_, Real(0));
    if (model_.m0) std::copy_n(at(model_.m0, layout, 0, b), n_, s.m);
    std::copy_n(at(model_.P0, layout, 0, b), n_ * n_, s.P);
    s.q = q_;
    if (q_ == 0) return;
    const Real variance = start_variance(b);
    std::fill_n(s.X, n_ * q_, Real(0));
    for (std::int64_t i = 0, column = 0; i < n_; ++i) {
      if (model_.diffuse[i] == 0) continue;
      s.m[i] = 0;
      for (std::int64_t j = 0; j < n_; ++j) s.P[i * n_ + j] = s.P[j * n_ + i] = 0;
      s.P[i * n_ + i] = variance;
      s.X[i * q_ + column++] = 1;
    }
  }

  /// m = A m + B u + b
  void predict_mean(std::int64_t t, std::int64_t b, Real* m) {
    multiply_vector(n_, n_, at(model_.A, data_.layout, t, b), m, vector_);
    std::copy_n(vector_, n_, m);
    add_inputs(n_, model_.U, data_.layout, model_.B, model_.state_offset, data_.u, t, b, m);
  }

  /// X = A X
  void predict_factor(std::int64_t t, std::int64_t b, Moments<Real>& s) {
    if (s.q == 0) return;
    multiply(n_, n_, s.q, at(model_.A, data_.layout, t, b), s.X, next_);
    std::copy_n(next_, n_ * s.q, s.X);
  }

  /// Those, and P = A P A^T + Q: from step t - 1 to t.
  void predict(std::int64_t t, std::int64_t b, Moments<Real>& s) {
    const RowLayout& layout = data_.layout;
    predict_mean(t, b, s.m);
    congruence(n_, n_, at(model_.A, layout, t, b), s.P, next_, scratch_);
    const Real* Q = at(model_.Q, layout, t, b);
    for (std::int64_t i = 0; i < n_ * n_; ++i) s.P[i] = next_[i] + Q[i];
    predict_factor(t, b, s);
  }

  /// Conditions on e = c^T z + noise of variance h, P in Joseph's form. False where its variance is
  /// not positive.
  bool update(const Real* c, Real h, Real e, Moments<Real>& s, Update<Real>& u) {
    u.f = condition(n_, c, h, s.P, u.w, u.k);
    return (u.f > 0) && std::isfinite(u.f) && (move(c, e, s, u), true);
  }

  /// What an observed component does to m and X, given its gain.
  void move(const Real* c, Real e, Moments<Real>& s, Update<Real>& u) {
    u.v = e - dot(n_, c, s.m);
    axpy(n_, u.v, u.k, s.m);
    if (s.q == 0) return;
    transposed_multiply_vector(n_, s.q, s.X, c, u.a);
    for (std::int64_t i = 0; i < n_; ++i) axpy(s.q, -u.k[i], u.a, s.X + i * s.q);
  }

 private:
  /// The largest noise variance of the first step, or 1 where there is none.
  Real start_variance(std::int64_t b) const {
    const RowLayout& layout = data_.layout;
    const std::int64_t m = model_.m, stride = model_.diagonal_R ? 1 : m + 1;
    Real most = 0;
    const Real* R = at(model_.R, layout, 0, b);
    for (std::int64_t i = 0; i < m; ++i) most = std::max(most, R[i * stride]);
    const Real* Q = at(model_.Q, layout, 0, b);
    if (model_.Q.step == 0) {  // else that of step 0 is not read
      for (std::int64_t i = 0; i < n_; ++i) most = std::max(most, Q[i * (n_ + 1)]);
    }
    return most > 0 ? most : Real(1);
  }

  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  std::int64_t n_, q_;
  Real *scratch_, *vector_, *next_;
};

}  // namespace seqvae::cpu::kalman

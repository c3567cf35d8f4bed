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
    previous_ = arena.take<std::int64_t>(m);
    c_ = arena.take<Real>(m * n);
    h_ = arena.take<Real>(m);
    e_ = arena.take<Real>(m);
    mean_ = arena.take<Real>(m);
    if (!model.diagonal_R) {
      L_ = arena.take<Real>(m * m);
      block_ = arena.take<Real>(m * m);
    }
  }

  /// False where R is not positive semidefinite.
  bool read(std::int64_t t, std::int64_t b) {
    const RowLayout& layout = data_.layout;
    const std::int64_t n = model_.n, m = model_.m, row = row_of(layout, t, b);
    std::swap(index_, previous_);
    const std::int64_t previous_count = count_;
    count_ = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      if (!data_.mask || data_.mask[row][j] != 0) index_[count_++] = j;
    }
    const Real* C = at(model_.C, layout, t, b);
    const Real* R = at(model_.R, layout, t, b);
    const bool same = C == C_ && R == R_ && count_ == previous_count &&
                      std::equal(index_, index_ + count_, previous_);
    C_ = C, R_ = R;
    std::fill_n(mean_, m, Real(0));
    add_inputs(m, model_.U, layout, model_.D, model_.observation_offset, data_.u, t, b, mean_);
    for (std::int64_t i = 0; i < count_; ++i) e_[i] = data_.y[row][index_[i]] - mean_[index_[i]];
    if (!same) {
      sound_ = model_.diagonal_R ? take_diagonal() : diagonalize();
      for (std::int64_t i = 0; i < count_; ++i) std::copy_n(C + index_[i] * n, n, c_ + i * n);
    }
    if (!model_.diagonal_R) {
      for (std::int64_t i = 1; i < count_; ++i) {
        for (std::int64_t j = 0; j < i; ++j) {
          const Real l = L_[i * count_ + j];
          if (l == 0) continue;
          e_[i] -= l * e_[j];
          if (!same) axpy(n, -l, c_ + j * n, c_ + i * n);
        }
      }
    }
    return sound_;
  }

  std::int64_t count() const { return count_; }
  std::int64_t index(std::int64_t i) const { return index_[i]; }
  const Real* c(std::int64_t i) const { return c_ + i * model_.n; }
  Real h(std::int64_t i) const { return h_[i]; }
  Real e(std::int64_t i) const { return e_[i]; }
  const Real* L() const { return L_; }  ///< [count][count]; null with diagonal_R

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
  std::int64_t *index_, *previous_, count_ = -1;
  Real *c_, *h_, *e_, *mean_, *L_ = nullptr, *block_ = nullptr;
  const Real *C_ = nullptr, *R_ = nullptr;  // what c_, L_ and h_ were made of
  bool sound_ = false;
};

/// Mean m, covariance P + kappa X X^T; X[n][n] in its first `rank` columns.
template <class Real>
struct Moments {
  Real *m, *P, *X = nullptr;
  std::int64_t rank = 0;

  Moments(std::int64_t n, bool diffuse, Arena& arena)
      : m(arena.take<Real>(n)), P(arena.take<Real>(n * n)) {
    if (diffuse) X = arena.take<Real>(n * n);
  }
  void copy(std::int64_t n, const Moments& from) {
    std::copy_n(from.m, n, m);
    std::copy_n(from.P, n * n, P);
    rank = from.rank;
    if (rank > 0) std::copy_n(from.X, n * n, X);
  }
};

/// What one observed component did to the moments.
template <class Real>
struct Update {
  Real v = 0;          ///< innovation
  Real f = 0;          ///< its variance; the finite part where diffuse
  Real f_diffuse = 0;  ///< > 0: variance kappa f_diffuse + f
  Real* w = nullptr;   ///< [n]  P c
  Real* w_diffuse;     ///< [n]  X X^T c
  Real* k = nullptr;   ///< [n]  gain: w / f, or w_diffuse / f_diffuse

  Real log_likelihood() const {
    if (f_diffuse > 0) return Real(-0.5) * (Real(kLog2Pi) + std::log(f_diffuse));
    return Real(-0.5) * (Real(kLog2Pi) + std::log(f) + v * v / f);
  }
};

/// Predictions and updates of one sequence's moments.
template <class Real>
class Stepper {
 public:
  Stepper(const KalmanModel<Real>& model, const KalmanData<Real>& data, Arena& arena)
      : model_(model), data_(data), n_(model.n) {
    scratch_ = arena.take<Real>(2 * n_ * n_);
    vector_ = arena.take<Real>(n_);
    next_ = arena.take<Real>(n_ * n_);
  }

  /// Moments of the state at the first observation.
  void start(std::int64_t b, Moments<Real>& s) {
    const RowLayout& layout = data_.layout;
    std::fill_n(s.m, n_, Real(0));
    if (model_.m0) std::copy_n(at(model_.m0, layout, 0, b), n_, s.m);
    std::copy_n(at(model_.P0, layout, 0, b), n_ * n_, s.P);
    s.rank = 0;
    if (model_.diffuse == nullptr) return;
    std::fill_n(s.X, n_ * n_, Real(0));
    for (std::int64_t i = 0; i < n_; ++i) {
      if (model_.diffuse[i] == 0) continue;
      s.m[i] = 0;
      for (std::int64_t j = 0; j < n_; ++j) s.P[i * n_ + j] = s.P[j * n_ + i] = 0;
      s.X[i * n_ + s.rank++] = 1;
    }
  }

  /// Filtered moments of a row, as the filter stored them.
  void load(std::int64_t row, const KalmanFiltered<Real>& filtered, bool diffuse,
            Moments<Real>& s) {
    std::copy_n(filtered.mean[row], n_, s.m);
    std::copy_n(filtered.covariance[row], n_ * n_, s.P);
    s.rank = 0;
    if (!diffuse) return;
    std::copy_n(filtered.diffuse_factor[row], n_ * n_, s.X);
    for (std::int64_t i = 0; i < n_; ++i) {
      for (std::int64_t j = s.rank; j < n_; ++j) {
        if (s.X[i * n_ + j] != 0) s.rank = j + 1;
      }
    }
  }

  /// m = A m + B u + b, P = A P A^T + Q, X = A X: from step t - 1 to t.
  void predict(std::int64_t t, std::int64_t b, Moments<Real>& s) {
    const RowLayout& layout = data_.layout;
    const Real* A = at(model_.A, layout, t, b);
    multiply_vector(n_, n_, A, s.m, vector_);
    std::copy_n(vector_, n_, s.m);
    add_inputs(n_, model_.U, layout, model_.B, model_.state_offset, data_.u, t, b, s.m);
    congruence(n_, n_, A, s.P, next_, scratch_);
    const Real* Q = at(model_.Q, layout, t, b);
    for (std::int64_t i = 0; i < n_ * n_; ++i) s.P[i] = next_[i] + Q[i];
    if (s.rank > 0) {
      multiply(n_, n_, n_, A, s.X, next_, n_);  // unused columns stay zero
      std::copy_n(next_, n_ * n_, s.X);
    }
  }

  /// Conditions on e = c^T z + noise of variance h. False where its variance is not positive.
  bool update(const Real* c, Real h, Real e, Moments<Real>& s, Update<Real>& u) {
    u.v = e - dot(n_, c, s.m);
    transposed_multiply_vector(n_, n_, s.P, c, u.w);
    u.f = dot(n_, c, u.w) + h;
    u.f_diffuse = s.rank > 0 ? remove_diffuse_direction(c, s, u) : Real(0);
    if (u.f_diffuse == 0) {
      if (!(u.f > 0) || !std::isfinite(u.f)) return false;
      for (std::int64_t i = 0; i < n_; ++i) u.k[i] = u.w[i] / u.f;
    }
    axpy(n_, u.v, u.k, s.m);
    // Joseph: M = (I - k c^T) P, then P = M (I - k c^T)^T + h k k^T.
    for (std::int64_t i = 0; i < n_; ++i) {
      Real* M = s.P + i * n_;
      axpy(n_, -u.k[i], u.w, M);
      axpy(n_, h * u.k[i] - dot(n_, c, M), u.k, M);
    }
    symmetrize(n_, s.P);
    return true;
  }

 private:
  // Reflects the columns of X so that only the first has c^T x != 0, and drops that one. Returns
  // f = |X^T c|^2, or 0 where c sees no diffuse direction.
  Real remove_diffuse_direction(const Real* c, Moments<Real>& s, Update<Real>& u) {
    Real* a = vector_;
    transposed_multiply_vector(n_, n_, s.X, c, a);
    Real f = 0, bound = 0;
    for (std::int64_t j = 0; j < s.rank; ++j) f += a[j] * a[j];
    for (std::int64_t i = 0; i < n_; ++i) {
      bound += std::abs(c[i]) * std::sqrt(dot(s.rank, s.X + i * n_, s.X + i * n_));
    }
    // a is a sum of terms of size `bound`: below this it is their rounding.
    if (!(std::sqrt(f) > Real(1e-10) * bound)) return 0;
    for (std::int64_t i = 0; i < n_; ++i) {
      u.w_diffuse[i] = dot(s.rank, s.X + i * n_, a);
      u.k[i] = u.w_diffuse[i] / f;
    }
    // H = I - beta v v^T with H a = alpha e_1; v = a - alpha e_1.
    const Real alpha = a[0] > 0 ? -std::sqrt(f) : std::sqrt(f);
    const Real beta = 1 / (f - alpha * a[0]);
    for (std::int64_t i = 0; i < n_; ++i) {
      Real* x = s.X + i * n_;
      const Real scaled = beta * (u.w_diffuse[i] - alpha * x[0]);
      for (std::int64_t j = 1; j < s.rank; ++j) x[j - 1] = x[j] - scaled * a[j];
      x[s.rank - 1] = 0;
    }
    --s.rank;
    return f;
  }

  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  std::int64_t n_;
  Real *scratch_, *vector_, *next_;
};

}  // namespace seqvae::cpu::kalman

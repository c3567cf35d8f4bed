// A state's covariance P in the form that the filter keeps it in, as on the CPU
// (host/cpu/kalman_form.hpp has the equations and their sources).
#pragma once
#include "kernels/kalman/lanes.cuh"
#include "kernels/kalman/memory.hpp"

namespace seqvae::cuda::kalman {

/// f(quad number's first column, its entries) of a row of 2 N, from `begin` on, 16 bytes at a time.
template <class Real, int N, class F>
__device__ __forceinline__ void for_each_quad_from(int begin, const Real* row, F f) {
  using Quad = Pack<Real, 2 * N>;
#pragma unroll 2
  for (int p = begin / Quad::kCount * Quad::kCount; p < 2 * N; p += Quad::kCount) {
    f(p, *reinterpret_cast<const Quad*>(row + p));
  }
}

/// The column from i on with a row's largest entry; the first of several.
template <class Real, int N>
__device__ __forceinline__ int largest_from(int i, const Real* row) {
  using Quad = Pack<Real, 2 * N>;
  Real most[Quad::kCount];
  int where[Quad::kCount];
#pragma unroll
  for (int c = 0; c < Quad::kCount; ++c) most[c] = size(row[i]), where[c] = i;  // a NaN stays
  for_each_quad_from<Real, N>(i, row, [&](int p, const Quad& quad) {
#pragma unroll
    for (int c = 0; c < Quad::kCount; ++c) {
      const bool larger = p + c >= i && size(quad.x[c]) > most[c];
      most[c] = larger ? size(quad.x[c]) : most[c];
      where[c] = larger ? p + c : where[c];
    }
  });
#pragma unroll
  for (int c = 1; c < Quad::kCount; ++c) {
    const bool larger = most[c] > most[0] || (most[c] == most[0] && where[c] < where[0]);
    most[0] = larger ? most[c] : most[0];
    where[0] = larger ? where[c] : where[0];
  }
  return where[0];
}

/// start + the product of two rows behind column i, in partial sums.
template <class Real, int N>
__device__ __forceinline__ Real product_behind(int i, const Real* a, const Real* b, Real start) {
  using Quad = Pack<Real, 2 * N>;
  Real sums[Quad::kCount] = {start};
  for_each_quad_from<Real, N>(i + 1, a, [&](int p, const Quad& quad) {
    const Quad other = *reinterpret_cast<const Quad*>(b + p);
#pragma unroll
    for (int c = 0; c < Quad::kCount; ++c) {
      if (p + c > i) sums[c] = multiply_add(quad.x[c], other.x[c], sums[c]);
    }
  });
#pragma unroll
  for (int c = 1; c < Quad::kCount; ++c) sums[0] += sums[c];
  return sums[0];
}

/// M[N][2 N] = [L | 0] times an orthogonal matrix, L lower triangular with a diagonal >= 0, row by
/// row: a reflection makes what stands behind the diagonal zero, and turns the rows below. The
/// largest entry comes to the diagonal first, and the reflection does not cancel it: so a small
/// column keeps its digits beside large ones (Cox and Higham, Numerical Analysis 1997). Rows from n
/// on are zeros. M is everybody's before and after it.
template <class Real, int N>
__device__ __forceinline__ void triangularize(const Lanes<Real, N>& lanes, std::int64_t n,
                                              Real* M) {
  using Quad = Pack<Real, 2 * N>;
  constexpr int W = kRow<Real, 2 * N>;
  const int lane = lanes.lane();
  Real* own = M + lane * W;
  for (int i = 0; i < n; ++i) {
    Real* v = M + i * W;
    const int largest = largest_from<Real, N>(i, v);
    lanes.sync();
    if (lane >= i && largest > i) {
      const Real moved = own[i];
      own[i] = own[largest], own[largest] = moved;
    }
    lanes.sync();
    Real diagonal = v[i];
    const Real rest = product_behind<Real, N>(i, v, v, Real(0));
    if (!(rest <= 0)) {  // a NaN is handed on
      const Real norm = root(multiply_add(diagonal, diagonal, rest));
      const Real first = diagonal < 0 ? diagonal - norm : diagonal + norm;
      const Real scale = 2 / multiply_add(first, first, rest);
      if (lane > i) {
        const Real along = scale * product_behind<Real, N>(i, v, own, first * own[i]);
        own[i] = multiply_add(-along, first, own[i]);
        for_each_quad_from<Real, N>(i + 1, v, [&](int p, const Quad& quad) {
          Quad& mine = *reinterpret_cast<Quad*>(own + p);
          Quad turned = mine;
#pragma unroll
          for (int c = 0; c < Quad::kCount; ++c) {
            if (p + c > i) turned.x[c] = multiply_add(-along, quad.x[c], turned.x[c]);
          }
          mine = turned;
        });
      }
      diagonal = diagonal < 0 ? norm : -norm;
    }
    if (diagonal < 0 && lane > i) own[i] = -own[i];
    lanes.sync();  // all have read v
    if (lane == i) own[i] = size(diagonal);
    for (int p = lane; p < 2 * N; p += N) {
      if (p > i) v[p] = 0;
    }
  }
  lanes.sync();
}

/// M = L diag(sqrt h) with M = L diag(h) L^T, n rows and columns of it, zeros in the others. False,
/// for every lane, where M is not positive semidefinite. M is everybody's before and after it; h is
/// [n].
template <class Real, int N>
[[gnu::noinline]] __device__ bool take_root(Lanes<Real, N> lanes, std::int64_t n, Real* M, int row,
                                            Real* h) {
  if (!factorize_semidefinite(lanes, static_cast<int>(n), row, M, h)) return false;
  const int i = lanes.lane();
  for (int j = 0; j < N; ++j) {
    const Real scale = j < n ? root(h[j]) : Real(0);
    const Real entry = j < i ? M[i * row + j] : j == i ? Real(1) : Real(0);
    M[i * row + j] = i < n ? entry * scale : Real(0);
  }
  lanes.sync();
  return true;
}

template <class Real, int N>
class StateCovariance {
 public:
  __device__ __forceinline__ StateCovariance(const Lanes<Real, N>& lanes, std::int64_t n,
                                             KalmanForm form,
                                             const CovarianceMemory<Real, N>& memory)
      : lanes_(lanes), n_(n), form_(form), at_(memory) {}

  /// False, for every lane, where P0 is not positive semidefinite, of which only the square root
  /// says so; predict likewise of Q.
  __device__ __forceinline__ bool set(const Real* P0) {
    const bool by_root = form_ == KalmanForm::square_root;
    bring(lanes_, n_, P0, at_.P, by_root ? W : S);
    return !by_root || take_root(lanes_, n_, at_.P, W, at_.w);
  }

  /// P = 0
  __device__ __forceinline__ void set_zero() {
    const int row = form_ == KalmanForm::square_root ? W : S;
    for (int r = 0; r < N; ++r) at_.P[r * row + lanes_.lane()] = 0;
    lanes_.sync();
  }

  /// P = A P A^T + Q, A everybody's.
  __device__ __forceinline__ bool predict(const Real* A, const Real* Q) {
    const int i = lanes_.lane();
    if (form_ != KalmanForm::square_root) {
      predict_from(at_.P, A, Q);
      return true;
    }
    if (Q != Q_) {
      Q_ = Q;
      bring(lanes_, n_, Q, at_.next);
      sound_ = take_root(lanes_, n_, at_.next, S, at_.w);
    }
    if (!sound_) return false;
    OwnRow<Real, N> x(at_.rows, i);
    row_times([&](int k) { return A[i * S + k]; }, at_.P, W, x);
    lanes_.sync();
    store(at_.P + i * W, x);
    load(x, at_.next + i * S);
    store(at_.P + i * W + N, x);
    lanes_.sync();
    triangularize(lanes_, n_, at_.P);
    return true;
  }

  /// P = A before A^T + Q, not as a root. A and before are everybody's, and may be read until the
  /// next sync().
  __device__ __forceinline__ void predict_from(const Real* before, const Real* A, const Real* Q) {
    const int i = lanes_.lane();
    congruence(lanes_, A, before, at_.next, at_.rows);
    lanes_.sync();
    for (int r = 0; r < N; ++r) {
      const Real noise = r < n_ && i < n_ ? Q[r * n_ + i] : Real(0);
      at_.P[r * S + i] = at_.next[r * S + i] + noise;
    }
    lanes_.sync();
  }

  /// Undoes a conditioning whose gain was k, everybody's, and whose variance f: P += f k k^T, not
  /// as a root. Ends with sync().
  __device__ __forceinline__ void undo(const Real* k, Real f) {
    const int i = lanes_.lane();
    const Real own = k[i];
    OwnRow<Real, N> x(at_.rows, i);
    load(x, at_.P + i * S);
    for_each_entry<Real, N>(k, [&](int j, Real other) { x[j] += own * other * f; });
    store(at_.P + i * S, x);
    lanes_.sync();
  }

  /// Conditions on c^T z + noise of variance h: w_i = (P c)_i. \return f = c.w + h, in every lane;
  /// nothing changes where that is not positive and finite.
  __device__ __forceinline__ Real condition(const Real* c, Real h, Real& w) {
    return form_ == KalmanForm::square_root ? condition_root(c, h, w) : condition_P(c, h, w);
  }

  /// P, everybody's, and the elements from one of its rows to the next.
  __device__ __forceinline__ const Real* P() {
    if (form_ != KalmanForm::square_root) return at_.P;
    const int i = lanes_.lane();
    OwnRow<Real, N> x(at_.rows, i);
    load(x, at_.P + i * W);
#pragma unroll 1
    for (int j = 0; j < N; ++j) at_.P[i * W + N + j] = dot<Real, N>(x, at_.P + j * W);
    lanes_.sync();
    return at_.P + N;
  }
  __device__ __forceinline__ int row() const { return form_ == KalmanForm::square_root ? W : S; }

 private:
  static constexpr int S = kRow<Real, N>, W = kRow<Real, 2 * N>;

  __device__ __forceinline__ Real condition_P(const Real* c, Real h, Real& w) {
    const int i = lanes_.lane();
    OwnRow<Real, N> x(at_.rows, i);
    load(x, at_.P + i * S);
    w = dot<Real, N>(x, c);
    const Real f = lanes_.sum(c[i] * w) + h;
    if (!(f > 0) || !is_finite(f)) return f;
    const Real k = w / f;
    at_.w[i] = w, at_.k[i] = k;
    lanes_.sync();
    if (form_ == KalmanForm::covariance) {
      const Real over_f = 1 / f;
      for_each_entry<Real, N>(at_.w, [&](int j, Real other) { x[j] -= w * other * over_f; });
      store(at_.P + i * S, x);
      lanes_.sync();
      return f;
    }
    axpy(x, -k, at_.w);  // (I - k c^T) P, then from the right, and h k k^T
    axpy(x, h * k - dot<Real, N>(x, c), at_.k);
    store(at_.P + i * S, x);
    lanes_.sync();
    make_symmetric(lanes_, at_.P, at_.rows);
    return f;
  }

  /// S U with U U^T = I - phi phi^T / f: with a_j = h + phi_1^2 + .. + phi_j^2 and b_j = phi_1 S_1
  /// +
  /// .. + phi_j S_j over the columns of S,
  ///     S_j = sqrt(a_{j-1} / a_j) S_j - phi_j / sqrt(a_{j-1} a_j) b_{j-1}.
  __device__ __forceinline__ Real condition_root(const Real* c, Real h, Real& w) {
    const int i = lanes_.lane();
    Real phi = 0;
    for (int r = 0; r < N; ++r) phi = multiply_add(at_.P[r * W + i], c[r], phi);
    const Real f = lanes_.sum(phi * phi) + h;
    if (!(f > 0) || !is_finite(f)) return f;
    at_.phi[i] = phi;
    lanes_.sync();
    Real before = h;
    for (int j = 0; j < i; ++j) before = multiply_add(at_.phi[j], at_.phi[j], before);
    const Real after = multiply_add(phi, phi, before);
    at_.w[i] = phi == 0 ? Real(1) : root(before / after);
    at_.k[i] = phi == 0 || !(before > 0) ? Real(0) : phi / root(before * after);
    lanes_.sync();
    w = 0;
    Real* row = at_.P + i * W;
#pragma unroll 4
    for (int j = 0; j < N; ++j) {
      const Real s = row[j];
      row[j] = multiply_add(at_.w[j], s, -at_.k[j] * w);
      w = multiply_add(at_.phi[j], s, w);
    }
    lanes_.sync();
    return f;
  }

  Lanes<Real, N> lanes_;
  std::int64_t n_;
  KalmanForm form_;
  CovarianceMemory<Real, N> at_;
  const Real* Q_ = nullptr;  // what next holds the root of
  bool sound_ = false;
};

}  // namespace seqvae::cuda::kalman

// The observed components of a step, made independent: y = C z + r, R = L diag(h) L^T, so that
// c = L^-1 C and e = L^-1 (y - d - D u) have noise h. What hangs on C, R and the mask alone is kept
// from step to step while these stay. Loops over a few components are not unrolled: the code of a
// step is long, and is fetched.
#pragma once
#include "kernels/kalman/memory.hpp"
#include "kernels/kalman/rows.cuh"

namespace seqvae::cuda::kalman {

template <class Real, int N>
class Observation {
 public:
  __device__ __forceinline__ Observation(const Lanes<Real, N>& lanes,
                                         const KalmanModel<Real>& model,
                                         const KalmanData<Real>& data,
                                         const ObservationMemory<Real, N>& memory)
      : lanes_(lanes), model_(model), data_(data), at_(memory) {}

  /// False, for every lane, where R is not positive semidefinite. All else is everybody's after it.
  __device__ __forceinline__ bool read(std::int64_t t, std::int64_t b) {
    lanes_.sync();  // the step before has been read
    const Real *C = at(model_.C, data_.layout, t, b), *R = at(model_.R, data_.layout, t, b);
    const bool mask_changed = data_.mask && read_mask(row_of(data_.layout, t, b));
    if (C != C_ || R != R_ || mask_changed) {
      C_ = C, R_ = R;
      number();
      sound_ = model_.diagonal_R ? take_diagonal() : diagonalize();
      if (sound_) decorrelate_rows();
      lanes_.sync();
    }
    if (sound_) read_values(t, b);
    return sound_;
  }

  __device__ __forceinline__ int count() const { return count_; }
  __device__ __forceinline__ int index(int i) const { return at_.index[i]; }
  __device__ __forceinline__ const Real* c(int i) const { return at_.c + i * kRow<Real, N>; }
  __device__ __forceinline__ Real h(int i) const { return at_.h[i]; }
  __device__ __forceinline__ Real e(int i) const { return at_.e[i]; }
  __device__ __forceinline__ Real L(int i, int j) const {
    return at_.L[i * at_.L_row + j];
  }  ///< j < i; full R

  /// Rows x = L^-T x of x[count][N]: each lane works on its own column.
  __device__ __forceinline__ void decorrelate_transposed(Real* x) const {
    if (at_.L == nullptr) return;
    for (int i = count_ - 1; i > 0; --i) {
      const Real value = x[i * kRow<Real, N> + lanes_.lane()];
#pragma unroll 1
      for (int j = 0; j < i; ++j) {
        Real& entry = x[j * kRow<Real, N> + lanes_.lane()];
        entry = multiply_add(-L(i, j), value, entry);
      }
    }
  }
  /// The same of a vector x[count], everybody's before and after it.
  __device__ __forceinline__ void decorrelate_transposed_vector(Real* x) const {
    if (at_.L == nullptr) return;
    for (int i = count_ - 1; i > 0; --i) {
#pragma unroll 1
      for (int j = lanes_.lane(); j < i; j += N) x[j] = multiply_add(-L(i, j), x[i], x[j]);
      lanes_.sync();
    }
  }

 private:
  /// Whether it is another mask than the one read last.
  __device__ __forceinline__ bool read_mask(std::int64_t row) {
    bool differs = C_ == nullptr;
#pragma unroll 1
    for (std::int64_t j = lanes_.lane(); j < model_.m; j += N) {
      const std::int32_t seen = data_.mask[row][j] != 0;
      if (C_ != nullptr) differs = differs || seen != at_.seen[j];
      at_.seen[j] = seen;
    }
    return lanes_.any(differs);
  }
  __device__ __forceinline__ void number() {
    lanes_.sync();
    count_ = 0;
#pragma unroll 1
    for (int j = 0; j < model_.m; ++j) {
      if (data_.mask && at_.seen[j] == 0) continue;
      if (count_ % N == lanes_.lane()) at_.index[count_] = j;
      ++count_;
    }
    lanes_.sync();
  }
  __device__ __forceinline__ bool take_diagonal() {
    bool sound = true;
    for (int i = 0; i < count_; ++i) {
      const Real h = R_[at_.index[i]];
      sound = sound && h >= 0;
      if (i % N == lanes_.lane()) at_.h[i] = h;
    }
    return sound;
  }
  __device__ __forceinline__ bool diagonalize() {
    for (int i = 0; i < count_; ++i) {
#pragma unroll 1
      for (int j = lanes_.lane(); j <= i; j += N) {
        at_.L[i * at_.L_row + j] = R_[at_.index[i] * model_.m + at_.index[j]];
      }
    }
    lanes_.sync();
    return factorize_semidefinite(lanes_, count_, at_.L_row, at_.L, at_.h);
  }
  /// A column of c a lane.
  __device__ __forceinline__ void decorrelate_rows() {
    const int column = lanes_.lane();
    for (int i = 0; i < count_; ++i) {
      Real value = column < model_.n ? C_[at_.index[i] * model_.n + column] : Real(0);
#pragma unroll 1
      for (int j = 0; at_.L != nullptr && j < i; ++j) {
        value = multiply_add(-L(i, j), at_.c[j * kRow<Real, N> + column], value);
      }
      at_.c[i * kRow<Real, N> + column] = value;
    }
  }
  __device__ __forceinline__ void read_values(std::int64_t t, std::int64_t b) {
    const Real* y = data_.y[row_of(data_.layout, t, b)];
#pragma unroll 1
    for (int i = lanes_.lane(); i < count_; i += N) {
      const int j = at_.index[i];
      at_.e[i] = y[j] - inputs_of(j, model_.U, data_.layout, model_.D, model_.observation_offset,
                                  data_.u, t, b);
    }
    lanes_.sync();
    for (int j = 0; at_.L != nullptr && j + 1 < count_; ++j) {
#pragma unroll 1
      for (int i = j + 1 + lanes_.lane(); i < count_; i += N) {
        at_.e[i] = multiply_add(-L(i, j), at_.e[j], at_.e[i]);
      }
      lanes_.sync();
    }
  }

  Lanes<Real, N> lanes_;
  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  ObservationMemory<Real, N> at_;
  int count_ = 0;
  const Real *C_ = nullptr, *R_ = nullptr;  // what c, L and h were made of
  bool sound_ = false;
};

}  // namespace seqvae::cuda::kalman

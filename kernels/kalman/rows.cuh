// Where a step's rows and the model's matrices lie.
#pragma once
#include <cstdint>

#include "kernels/kalman/lanes.cuh"

namespace seqvae::cuda::kalman {

__device__ __forceinline__ std::int64_t row_of(const RowLayout& layout, std::int64_t t,
                                               std::int64_t b) {
  return layout.offsets != nullptr ? layout.offsets[t] + b : t * layout.B + b;
}

/// Steps of sequence b.
__device__ __forceinline__ std::int64_t length_of(const RowLayout& layout, std::int64_t b) {
  if (layout.offsets == nullptr) {
    if (layout.lengths == nullptr) return layout.T;
    const std::int64_t length = layout.lengths[b];
    return length < 0 ? 0 : length > layout.T ? layout.T : length;
  }
  std::int64_t first = 0, last = layout.T;  // step t has a row of b while its count exceeds b
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

template <class Real>
__device__ __forceinline__ Real* at(const StepArray<Real>& array, const RowLayout& layout,
                                    std::int64_t t, std::int64_t b) {
  if (layout.offsets != nullptr && array.step != 0 && array.sequence != 0) {
    return array.data + row_of(layout, t, b) * array.sequence;
  }
  return array.data + t * array.step + b * array.sequence;
}

/// Row i of M u + offset, each where it is given.
template <class Real>
__device__ __forceinline__ Real inputs_of(std::int64_t i, std::int64_t U, const RowLayout& layout,
                                          const StepArray<const Real>& M,
                                          const StepArray<const Real>& offset,
                                          const Rows<const Real>& u, std::int64_t t,
                                          std::int64_t b) {
  Real sum = offset ? at(offset, layout, t, b)[i] : Real(0);
  if (!M || U == 0) return sum;
  const Real *row = at(M, layout, t, b) + i * U, *of = u[row_of(layout, t, b)];
#pragma unroll 1
  for (std::int64_t j = 0; j < U; ++j) sum = multiply_add(row[j], of[j], sum);
  return sum;
}

/// Component i of the prior's mean; 0 from n on.
template <class Real>
__device__ __forceinline__ Real prior_mean(const KalmanModel<Real>& model, std::int64_t b, int i) {
  return model.m0 && i < model.n ? model.m0.data[b * model.m0.sequence + i] : Real(0);
}

/// The row of a covariance.
__device__ __forceinline__ std::int64_t covariance_row(const RowLayout& layout, bool shared,
                                                       std::int64_t t, std::int64_t b) {
  return shared ? t : row_of(layout, t, b);
}

/// value to the first `count` entries of a row, where there is one.
template <class Real, int N>
__device__ __forceinline__ void fill(const Lanes<Real, N>& lanes, const Rows<Real>& out,
                                     std::int64_t row, std::int64_t count, Real value) {
  if (!out) return;
#pragma unroll 1
  for (std::int64_t i = lanes.lane(); i < count; i += N) out[row][i] = value;
}

}  // namespace seqvae::cuda::kalman

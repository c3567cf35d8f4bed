// Reductions as their equations in index order: what double runs, and what the tuned float is held
// to. Sums over many rows are formed in double, whatever the type of the rows.
#pragma once
#include "seqvae/kernels/reduce.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "host/cpu/plain/math.hpp"

namespace seqvae::cpu::plain {

constexpr std::int64_t kColumns = 256;  // of one block of partial sums
constexpr std::int64_t kSums = 1024;    // partial sums on the stack

template <class Real>
[[gnu::always_inline]] inline void sum_over_time(const SumOverTimeArgs<Real>& a) {
  const RowLayout& layout = a.layout;
  const std::int64_t outputs = layout.B * layout.K;  // row of (t, b, k) = first(t) + b K + k
  double sums[kSums];
  for (std::int64_t d0 = 0; d0 < a.D; d0 += kColumns) {
    const std::int64_t width = std::min(kColumns, a.D - d0), block = kSums / width;
    for (std::int64_t o0 = 0; o0 < outputs; o0 += block) {
      const std::int64_t o1 = std::min(outputs, o0 + block);
      std::fill(sums, sums + (o1 - o0) * width, 0.0);
      for (std::int64_t t = 0; t < layout.T; ++t) {
        const bool packed = layout.offsets != nullptr;
        const std::int64_t first = (packed ? layout.offsets[t] : t * layout.B) * layout.K;
        const std::int64_t last =
            packed ? std::min(o1, layout.offsets[t + 1] * layout.K - first) : o1;
        for (std::int64_t o = o0; o < last; ++o) {
          if (layout.lengths != nullptr && t >= layout.lengths[o / layout.K]) continue;
          const Real* x = a.x[first + o] + d0;
          double* sum = sums + (o - o0) * width;
          for (std::int64_t d = 0; d < width; ++d) sum[d] += static_cast<double>(x[d]);
        }
      }
      for (std::int64_t o = o0; o < o1; ++o) {
        for (std::int64_t d = 0; d < width; ++d) {
          a.y[o][d0 + d] = static_cast<Real>(sums[(o - o0) * width + d]);
        }
      }
    }
  }
}

template <class Real>
[[gnu::always_inline]] inline void sum_over_rows(const SumOverRowsArgs<Real>& a) {
  double sums[kColumns];
  for (std::int64_t d0 = 0; d0 < a.D; d0 += kColumns) {
    const std::int64_t width = std::min(kColumns, a.D - d0);
    for (std::int64_t d = 0; d < width; ++d) {
      sums[d] = a.accumulate ? static_cast<double>(a.y[d0 + d]) : 0.0;
    }
    for (std::int64_t r = 0; r < a.rows; ++r) {
      const Real* x = a.x[r] + d0;
      for (std::int64_t d = 0; d < width; ++d) sums[d] += static_cast<double>(x[d]);
    }
    for (std::int64_t d = 0; d < width; ++d) a.y[d0 + d] = static_cast<Real>(sums[d]);
  }
}

/// max and sum of exp(x - max); a NaN is the max and stays in the sum.
template <class Real>
void max_and_sum(const Real* x, std::int64_t K, Real& largest, Real& sum) {
  largest = -std::numeric_limits<Real>::infinity();
  for (std::int64_t k = 0; k < K; ++k) largest = max_or_nan(largest, x[k]);
  sum = 0;
  for (std::int64_t k = 0; k < K; ++k) sum += std::exp(x[k] - largest);
}

template <class Real>
void log_mean_exp(const LogMeanExpArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    Real largest, sum;
    max_and_sum(a.x + r * a.K, a.K, largest, sum);
    a.y[r] = std::isinf(largest) ? largest : largest + std::log(sum / static_cast<Real>(a.K));
  }
}

template <class Real>
void log_mean_exp_backward(const LogMeanExpBackwardArgs<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Real* x = a.x + r * a.K;
    Real largest, sum;
    max_and_sum(x, a.K, largest, sum);
    const bool none = largest == -std::numeric_limits<Real>::infinity();
    for (std::int64_t k = 0; k < a.K; ++k) {
      a.grad_x[r * a.K + k] = none ? 0 : std::exp(x[k] - largest) / sum * a.grad_y[r];
    }
  }
}

}  // namespace seqvae::cpu::plain

// L lanes a row (kernels/common/rows.cuh), four components a lane; the categorical, whose row is
// one softmax (softmax.cuh), keeps it in registers. Sums over a row are butterflies among its L
// lanes, so their order hangs on D alone. Floor: memory. Forward 8 bytes an element read, 4 more
// with a mask; backward as many, 4 written; mean 4 read, 4 written. Hazards: x l - max(l, 0) before
// the log(1 + e), so that nothing cancels at large |l|; x l is 0 where x is, not 0 * inf; what is
// masked out adds an exact 0; a masked row of classes is not read.
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "kernels/common/softmax.cuh"
#include "seqvae/kernels/likelihood.hpp"

namespace seqvae::cuda {
namespace {

__device__ __forceinline__ float bernoulli_log(float x, float l) {
  return (x * l - (l < 0.0f ? 0.0f : l)) - log1p_unit(expf(-fabsf(l)));
}

/// log x! of a count: up to 4 the logarithm of the product, which is exact, then Stirling's series,
/// whose next term is below 4e-8. What is no count is left to lgammaf.
__device__ __forceinline__ float log_factorial(float x) {
  const bool large = x >= 4.0f;
  const float product = fmaxf(x, 1.0f) * fmaxf(x - 1.0f, 1.0f) * fmaxf(x - 2.0f, 1.0f);
  const float log_of = logf(large ? x : product);
  if (!large && !(x >= 0.0f && x == floorf(x))) return lgammaf(x + 1.0f);
  if (!large) return log_of;
  // (x + 1/2) (log x - 1) + (1 + log 2 pi) / 2 + 1/12x - 1/360x^3 + 1/1260x^5
  const float r = 1.0f / x, r2 = r * r;
  const float series = fmaf(fmaf(1.0f / 1260.0f, r2, -1.0f / 360.0f), r2, 1.0f / 12.0f);
  return fmaf(x + 0.5f, log_of - 1.0f, fmaf(series, r, 1.41893853320467274f));
}

__device__ __forceinline__ float poisson_log(float x, float l) {
  return (x == 0.0f ? 0.0f : x * l) - expf(l) - log_factorial(x);
}

__device__ __forceinline__ float4 mask_quad(Rows<const float> mask, std::int64_t row,
                                            std::int64_t d, std::int64_t D, bool wide) {
  return mask ? load_quad(mask[row], d, D, wide) : make_float4(1.0f, 1.0f, 1.0f, 1.0f);
}

template <class Log>
__device__ __forceinline__ void sum_row(const LikelihoodArgs<float>& a, int lanes, bool wide,
                                        Log log) {
  const auto [row, lane] = row_lane(lanes);
  float sum = 0.0f;
  for (std::int64_t d = 4 * lane; row < a.rows && d < a.D; d += 4 * lanes) {
    float4 term =
        map4([&](float seen, float x, float l) { return seen != 0.0f ? log(x, l) : 0.0f; },
             mask_quad(a.mask, row, d, a.D, wide), load_quad(a.x[row], d, a.D, wide),
             load_quad(a.logits[row], d, a.D, wide));
    if (d + 1 >= a.D) term.y = 0.0f;
    if (d + 2 >= a.D) term.z = 0.0f;
    if (d + 3 >= a.D) term.w = 0.0f;
    sum += (term.x + term.y) + (term.z + term.w);
  }
  sum = group_sum(sum, lanes);
  if (lane == 0 && row < a.rows) a.log_likelihood[row][0] = sum;
}

__global__ void __launch_bounds__(kRowThreads)
    bernoulli_rows(LikelihoodArgs<float> a, int lanes, bool wide) {
  sum_row(a, lanes, wide, bernoulli_log);
}

__global__ void __launch_bounds__(kRowThreads)
    poisson_rows(LikelihoodArgs<float> a, int lanes, bool wide) {
  sum_row(a, lanes, wide, poisson_log);
}

/// A categorical row is observed where the mask of its first component is not 0.
__device__ __forceinline__ bool observed(Rows<const float> mask, std::int64_t row) {
  return !mask || mask[row][0] != 0.0f;
}

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    categorical_rows(LikelihoodArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  const bool exists = row < a.rows && a.D > 0, seen = exists && observed(a.mask, row);
  const LaneQuads<Q> mine(a.D, lane, lanes, wide, seen);
  const KeptRow<Q> l(mine, a.logits[row], -INFINITY), x(mine, a.x[row], 0.0f);
  const float largest = largest_of(mine, l);
  float z = Exponentials<Q>(mine, l, largest).sum, weights = 0.0f, sum = 0.0f;
  mine.for_each([&](int i, auto d) {
    const float4 w = x(i, d);
    weights += sum4(w);
    sum += sum4(
        map4([&](float v, float of) { return v != 0.0f ? v * (of - largest) : 0.0f; }, w, l(i, d)));
  });
  group_sums(lanes, z, weights, sum);
  if (lane == 0 && row < a.rows) {
    a.log_likelihood[row][0] = seen ? sum - weights * logf(z) : 0.0f;
  }
}

__device__ __forceinline__ float mean_of(Likelihood kind, float l) {
  return kind == Likelihood::bernoulli ? sigmoid(l) : expf(l);
}

__global__ void __launch_bounds__(kRowThreads)
    likelihood_gradients(LikelihoodBackwardArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes, [&](std::int64_t row, std::int64_t d) {
    const float grad = a.grad_log_likelihood[row][0];
    store_quad(a.grad_logits[row], d, a.D, wide,
               map4([&](float seen, float x,
                        float l) { return seen != 0.0f ? grad * (x - mean_of(a.kind, l)) : 0.0f; },
                    mask_quad(a.mask, row, d, a.D, wide), load_quad(a.x[row], d, a.D, wide),
                    load_quad(a.logits[row], d, a.D, wide)));
  });
}

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    categorical_gradients(LikelihoodBackwardArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  const bool exists = row < a.rows, seen = exists && a.D > 0 && observed(a.mask, row);
  const LaneQuads<Q> mine(a.D, lane, lanes, wide, seen);
  const KeptRow<Q> l(mine, a.logits[row], -INFINITY), x(mine, a.x[row], 0.0f);
  const Exponentials<Q> e(mine, l, largest_of(mine, l));
  const float scale = 1.0f / group_sum(e.sum, lanes);
  const float grad = seen ? a.grad_log_likelihood[row][0] : 0.0f;
  float* grad_logits = a.grad_logits[row];
  __syncwarp();  // all lanes read the mask's first component, where lane 0 may write
  mine.for_each([&](int i, auto d) {
    const float4 slope = map4(
        [&](float v, float p) { return seen ? grad * (v - p * scale) : 0.0f; }, x(i, d), e(i, d));
    if (exists) mine.store(grad_logits, d, slope);
  });
}

__global__ void __launch_bounds__(kRowThreads)
    mean_rows(LikelihoodMeanArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes, [&](std::int64_t row, std::int64_t d) {
    store_quad(
        a.mean[row], d, a.D, wide,
        map4([&](float l) { return mean_of(a.kind, l); }, load_quad(a.logits[row], d, a.D, wide)));
  });
}

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    categorical_means(LikelihoodMeanArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  store_softmax(LaneQuads<Q>(a.D, lane, lanes, wide, row < a.rows), a.logits[row], a.mean[row]);
}

/// Of classes; two where x is kept too.
constexpr int kMostQuads = 8, kMostQuadsOfPair = 2;

}  // namespace

void likelihood(const LikelihoodArgs<float>& a, Stream stream) {
  check(a);
  if (a.kind == Likelihood::categorical) {
    const int lanes = keeping_lanes_for(a.D);
    return with_quads_kept<kMostQuadsOfPair>(a.D, [&](auto Q) {
      launch(categorical_rows<Q>, row_shape(a.rows, lanes), stream, a, lanes,
             all_fit_float4(a.D, a.x, a.logits));
    });
  }
  const int lanes = lanes_for(a.D);
  launch(a.kind == Likelihood::bernoulli ? bernoulli_rows : poisson_rows, row_shape(a.rows, lanes),
         stream, a, lanes, all_fit_float4(a.D, a.x, a.mask, a.logits));
}

void likelihood_backward(const LikelihoodBackwardArgs<float>& a, Stream stream) {
  check(a);
  if (a.kind == Likelihood::categorical) {
    const int lanes = keeping_lanes_for(a.D);
    return with_quads_kept<kMostQuadsOfPair>(a.D, [&](auto Q) {
      launch(categorical_gradients<Q>, row_shape(a.rows, lanes), stream, a, lanes,
             all_fit_float4(a.D, a.x, a.logits, a.grad_logits));
    });
  }
  const int lanes = lanes_for(a.D);
  launch(likelihood_gradients, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.x, a.mask, a.logits, a.grad_logits));
}

void likelihood_mean(const LikelihoodMeanArgs<float>& a, Stream stream) {
  check(a);
  if (a.kind == Likelihood::categorical) {
    const int lanes = keeping_lanes_for(a.D);
    return with_quads_kept<kMostQuads>(a.D, [&](auto Q) {
      launch(categorical_means<Q>, row_shape(a.rows, lanes), stream, a, lanes,
             all_fit_float4(a.D, a.logits, a.mean));
    });
  }
  const int lanes = lanes_for(a.D);
  launch(mean_rows, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.logits, a.mean));
}

}  // namespace seqvae::cuda

// L lanes a row (kernels/common/rows.cuh), four components a lane, or one for the categorical,
// whose row is one softmax (softmax.cuh); sums over a row are butterflies among its L lanes, so
// their order hangs on D alone. Floor: memory. Forward 8 bytes an element read, 4 more with a mask;
// backward as many, 4 written; mean 4 read, 4 written. Hazards: x l - max(l, 0) before the log1p,
// so that nothing cancels at large |l|; x l is 0 where x is, not 0 * inf; log x! in double; what is
// masked out adds an exact 0.
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "kernels/common/softmax.cuh"
#include "seqvae/kernels/likelihood.hpp"

namespace seqvae::cuda {
namespace {

__device__ __forceinline__ float bernoulli_log(float x, float l) {
  return (x * l - (l < 0.0f ? 0.0f : l)) - log1pf(expf(-fabsf(l)));
}

__device__ __forceinline__ float poisson_log(float x, float l) {
  const float log_factorial = static_cast<float>(lgamma(static_cast<double>(x) + 1.0));
  return (x == 0.0f ? 0.0f : x * l) - expf(l) - log_factorial;
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

__global__ void __launch_bounds__(kRowThreads)
    categorical_rows(LikelihoodArgs<float> a, int lanes) {
  const auto [row, lane] = row_lane(lanes);
  const bool exists = row < a.rows && a.D > 0, seen = exists && observed(a.mask, row);
  const float *l = a.logits[row], *x = a.x[row];
  const MaxAndSum of = max_and_sum_of_exp(l, a.D, seen, lane, lanes);
  const float log_sum = logf(of.sum);
  float sum = 0.0f;
  for (std::int64_t d = lane; seen && d < a.D; d += lanes) {
    if (x[d] != 0.0f) sum += x[d] * ((l[d] - of.largest) - log_sum);
  }
  sum = group_sum(sum, lanes);
  if (lane == 0 && row < a.rows) a.log_likelihood[row][0] = sum;
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

__global__ void __launch_bounds__(kRowThreads)
    categorical_gradients(LikelihoodBackwardArgs<float> a, int lanes) {
  const auto [row, lane] = row_lane(lanes);
  const bool exists = row < a.rows && a.D > 0, seen = exists && observed(a.mask, row);
  const float *l = a.logits[row], *x = a.x[row];
  const MaxAndSum of = max_and_sum_of_exp(l, a.D, seen, lane, lanes);
  const float grad = seen ? a.grad_log_likelihood[row][0] : 0.0f;
  float* grad_logits = a.grad_logits[row];
  __syncwarp();  // all lanes read the mask's first component, where lane 0 may write
  for (std::int64_t d = lane; exists && d < a.D; d += lanes) {
    grad_logits[d] = seen ? grad * (x[d] - expf(l[d] - of.largest) / of.sum) : 0.0f;
  }
}

__global__ void __launch_bounds__(kRowThreads)
    mean_rows(LikelihoodMeanArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes, [&](std::int64_t row, std::int64_t d) {
    store_quad(
        a.mean[row], d, a.D, wide,
        map4([&](float l) { return mean_of(a.kind, l); }, load_quad(a.logits[row], d, a.D, wide)));
  });
}

__global__ void __launch_bounds__(kRowThreads)
    categorical_means(LikelihoodMeanArgs<float> a, int lanes) {
  const auto [row, lane] = row_lane(lanes);
  const bool exists = row < a.rows;
  const float* l = a.logits[row];
  const MaxAndSum of = max_and_sum_of_exp(l, a.D, exists, lane, lanes);
  for (std::int64_t d = lane; exists && d < a.D; d += lanes) {
    a.mean[row][d] = expf(l[d] - of.largest) / of.sum;
  }
}

int class_lanes(std::int64_t D) { return lanes_for(4 * D); }  // a class a lane, not four

}  // namespace

void likelihood(const LikelihoodArgs<float>& a, Stream stream) {
  check(a);
  if (a.kind == Likelihood::categorical) {
    const int lanes = class_lanes(a.D);
    return launch(categorical_rows, row_shape(a.rows, lanes), stream, a, lanes);
  }
  const int lanes = lanes_for(a.D);
  launch(a.kind == Likelihood::bernoulli ? bernoulli_rows : poisson_rows, row_shape(a.rows, lanes),
         stream, a, lanes, all_fit_float4(a.D, a.x, a.mask, a.logits));
}

void likelihood_backward(const LikelihoodBackwardArgs<float>& a, Stream stream) {
  check(a);
  if (a.kind == Likelihood::categorical) {
    const int lanes = class_lanes(a.D);
    return launch(categorical_gradients, row_shape(a.rows, lanes), stream, a, lanes);
  }
  const int lanes = lanes_for(a.D);
  launch(likelihood_gradients, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.x, a.mask, a.logits, a.grad_logits));
}

void likelihood_mean(const LikelihoodMeanArgs<float>& a, Stream stream) {
  check(a);
  if (a.kind == Likelihood::categorical) {
    const int lanes = class_lanes(a.D);
    return launch(categorical_means, row_shape(a.rows, lanes), stream, a, lanes);
  }
  const int lanes = lanes_for(a.D);
  launch(mean_rows, row_shape(a.rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.logits, a.mean));
}

}  // namespace seqvae::cuda

// A group of C classes is served by L neighbouring lanes, L the power of two at or above C, at most
// 32, each lane every L-th class; its maximum and sums are butterflies among them, so their order
// hangs on C alone. Softmax and draws deal (row, group) pairs, the KL deals rows and takes a row's
// groups in turn. A group is read two or three times: from memory once.
// Floor: memory, 8 bytes a class forward, 12 backward; KL 8 forward, 16 backward.
// Hazards: log q - log p is a difference of (l - max) - log sum, never of logs of probabilities; a
// class of probability 0 adds 0, not 0 * inf; groups past the last take part in the butterflies.
#include "kernels/common/noise.cuh"
#include "kernels/common/softmax.cuh"
#include "seqvae/kernels/categorical.hpp"

namespace seqvae::cuda {
namespace {

int class_lanes(std::int64_t C) { return lanes_for(4 * C); }  // a class a lane, not four

/// A pair (row, group) by its number.
struct Group {
  std::int64_t row, first;  ///< first: its first column
  bool exists;
};

__device__ __forceinline__ Group group_of(std::int64_t i, std::int64_t rows, std::int64_t groups,
                                          std::int64_t C) {
  const std::int64_t row = i / groups;
  return {row, (i - row * groups) * C, row < rows};
}

__global__ void __launch_bounds__(kRowThreads) softmax_rows(SoftmaxArgs<float> a, int lanes) {
  const auto [i, lane] = row_lane(lanes);
  const Group group = group_of(i, a.rows, a.groups, a.C);
  const float* l = a.logits[group.row] + group.first;
  const MaxAndSum of = max_and_sum_of_exp(l, a.C, group.exists, lane, lanes);
  float* p = a.p[group.row] + group.first;
  for (std::int64_t c = lane; group.exists && c < a.C; c += lanes) {
    p[c] = expf(l[c] - of.largest) / of.sum;
  }
}

__global__ void __launch_bounds__(kRowThreads)
    softmax_gradients(SoftmaxBackwardArgs<float> a, int lanes) {
  const auto [i, lane] = row_lane(lanes);
  const Group group = group_of(i, a.rows, a.groups, a.C);
  const float *p = a.p[group.row] + group.first, *grad_p = a.grad_p[group.row] + group.first;
  float mean = 0.0f;
  for (std::int64_t c = lane; group.exists && c < a.C; c += lanes) mean += grad_p[c] * p[c];
  mean = group_sum(mean, lanes);
  float* grad_logits = a.grad_logits[group.row] + group.first;
  for (std::int64_t c = lane; group.exists && c < a.C; c += lanes) {
    grad_logits[c] = p[c] * (grad_p[c] - mean);
  }
}

__global__ void __launch_bounds__(kRowThreads) draw_rows(OneHotSampleArgs<float> a, int lanes) {
  const auto [i, lane] = row_lane(lanes);
  const std::int64_t number = i / a.groups, g = i - number * a.groups;
  const RowPlace place = place_of(a.noise.layout, number);
  const bool draws = place.exists && place.valid;
  float u = 0.0f;
  if (draws) {
    u = a.noise.eps ? a.noise.eps[place.row][g] : uniform(noise_word(a.noise, place, a.groups, g));
  }
  const float* p = a.p[place.row] + g * a.C;
  const int chosen = draw_class([&](std::int64_t c) { return p[c]; }, a.C, u, draws, lane, lanes);
  float* y = a.y[place.row] + g * a.C;
  for (std::int64_t c = lane; place.exists && c < a.C; c += lanes) {
    y[c] = !draws ? 0.0f : chosen < 0 ? NAN : c == chosen ? 1.0f : 0.0f;
  }
}

/// One group's log q and log p are l - largest - log sum.
struct Pair {
  const float *l_q, *l_p;
  MaxAndSum of_q, of_p;
  float log_sum_q, log_sum_p;

  __device__ Pair(const float* logits_q, const float* logits_p, std::int64_t C, bool exists,
                  int lane, int lanes)
      : l_q(logits_q),
        l_p(logits_p),
        of_q(max_and_sum_of_exp(l_q, C, exists, lane, lanes)),
        of_p(max_and_sum_of_exp(l_p, C, exists, lane, lanes)),
        log_sum_q(logf(of_q.sum)),
        log_sum_p(logf(of_p.sum)) {}
  __device__ float q(std::int64_t c) const { return expf(l_q[c] - of_q.largest) / of_q.sum; }
  __device__ float p(std::int64_t c) const { return expf((l_p[c] - of_p.largest) - log_sum_p); }
  /// q (log q - log p), which is 0 where q is.
  __device__ float term(std::int64_t c) const {
    const float probability = q(c);
    const float ratio =
        ((l_q[c] - of_q.largest) - log_sum_q) - ((l_p[c] - of_p.largest) - log_sum_p);
    return probability == 0.0f ? 0.0f : probability * ratio;
  }
};

__global__ void __launch_bounds__(kRowThreads) kl_rows(CategoricalKlArgs<float> a, int lanes) {
  const auto [row, lane] = row_lane(lanes);
  const bool exists = row < a.rows;
  float sum = 0.0f;
  for (std::int64_t g = 0; g < a.groups; ++g) {
    const Pair pair(a.logits_q[row] + g * a.C, a.logits_p[row] + g * a.C, a.C, exists, lane, lanes);
    for (std::int64_t c = lane; exists && c < a.C; c += lanes) sum += pair.term(c);
  }
  sum = group_sum(sum, lanes);
  if (exists && lane == 0) a.kl_sum[row][0] = sum;
}

__global__ void __launch_bounds__(kRowThreads)
    kl_gradients(CategoricalKlBackwardArgs<float> a, int lanes) {
  const auto [i, lane] = row_lane(lanes);
  const Group group = group_of(i, a.rows, a.groups, a.C);
  const Pair pair(a.logits_q[group.row] + group.first, a.logits_p[group.row] + group.first, a.C,
                  group.exists, lane, lanes);
  const float grad = group.exists ? a.grad_kl_sum[group.row][0] : 0.0f;
  float kl = 0.0f;
  for (std::int64_t c = lane; group.exists && c < a.C; c += lanes) kl += pair.term(c);
  kl = group_sum(kl, lanes);
  for (std::int64_t c = lane; group.exists && c < a.C; c += lanes) {
    const float q = pair.q(c), p = pair.p(c), term = pair.term(c);
    if (a.grad_logits_q) a.grad_logits_q[group.row][group.first + c] = grad * (term - q * kl);
    if (a.grad_logits_p) a.grad_logits_p[group.row][group.first + c] = grad * (p - q);
  }
}

}  // namespace

void softmax(const SoftmaxArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = class_lanes(a.C);
  launch(softmax_rows, row_shape(a.rows * a.groups, lanes), stream, a, lanes);
}

void softmax_backward(const SoftmaxBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = class_lanes(a.C);
  launch(softmax_gradients, row_shape(a.rows * a.groups, lanes), stream, a, lanes);
}

void one_hot_sample(const OneHotSampleArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = class_lanes(a.C);
  launch(draw_rows, row_shape(a.noise.layout.rows_at_most() * a.groups, lanes), stream, a, lanes);
}

void categorical_kl(const CategoricalKlArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = class_lanes(a.C);
  launch(kl_rows, row_shape(a.rows, lanes), stream, a, lanes);
}

void categorical_kl_backward(const CategoricalKlBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = class_lanes(a.C);
  launch(kl_gradients, row_shape(a.rows * a.groups, lanes), stream, a, lanes);
}

}  // namespace seqvae::cuda

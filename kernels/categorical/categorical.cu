// A group of C classes is a row of its own, kept in registers by L lanes (kernels/common/rows.cuh);
// its maximum and sums are butterflies among them, so their order hangs on C alone. Softmax deals
// (row, group) pairs; a draw up to four groups of a row in turn, whose uniforms are one Philox
// call; the KL deals rows and takes all of a row's groups in turn. Floor: memory, 8 bytes a class
// forward, 12 backward; KL 8 forward, 16 backward. Hazards: log q - log p is a difference of (l -
// max) - log sum, never of logs of probabilities, and 0 where q is p; a class of probability 0 adds
// 0, not 0 * inf; groups past the last take part in the butterflies. A lane alone reads the quads
// that it writes, so outputs may lie over inputs.
#include "kernels/common/noise.cuh"
#include "kernels/common/softmax.cuh"
#include "seqvae/kernels/categorical.hpp"

namespace seqvae::cuda {
namespace {

/// i / n of numbers that are not negative. Most often n is 1, else both fit 32 bits.
__device__ __forceinline__ std::int64_t quotient(std::int64_t i, std::int64_t n) {
  if (n == 1) return i;
  if ((i | n) >> 32 == 0) return static_cast<std::uint32_t>(i) / static_cast<std::uint32_t>(n);
  return i / n;
}

/// A pair (row, group) by its number.
struct Group {
  std::int64_t row, first;  ///< first: its first column
  bool exists;
};

__device__ __forceinline__ Group group_of(std::int64_t i, std::int64_t rows, std::int64_t groups,
                                          std::int64_t C) {
  const std::int64_t row = quotient(i, groups);
  return {row, (i - row * groups) * C, row < rows};
}

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    softmax_rows(SoftmaxArgs<float> a, int lanes, bool wide) {
  const auto [i, lane] = row_lane(lanes);
  const Group group = group_of(i, a.rows, a.groups, a.C);
  store_softmax(LaneQuads<Q>(a.C, lane, lanes, wide, group.exists),
                a.logits[group.row] + group.first, a.p[group.row] + group.first);
}

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    softmax_gradients(SoftmaxBackwardArgs<float> a, int lanes, bool wide) {
  const auto [i, lane] = row_lane(lanes);
  const Group group = group_of(i, a.rows, a.groups, a.C);
  const LaneQuads<Q> mine(a.C, lane, lanes, wide, group.exists);
  const KeptRow<Q> p(mine, a.p[group.row] + group.first, 0.0f);
  const KeptRow<Q> grad_p(mine, a.grad_p[group.row] + group.first, 0.0f);
  float mean = 0.0f;
  mine.for_each([&](int q, auto d) {
    mean += sum4(map4([](float g, float x) { return g * x; }, grad_p(q, d), p(q, d)));
  });
  mean = group_sum(mean, lanes);
  float* grad_logits = a.grad_logits[group.row] + group.first;
  mine.for_each([&](int q, auto d) {
    const float4 grad =
        map4([&](float g, float x) { return x * (g - mean); }, grad_p(q, d), p(q, d));
    if (group.exists) mine.store(grad_logits, d, grad);
  });
}

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    draw_rows(OneHotSampleArgs<float> a, int lanes, bool wide) {
  const auto [i, lane] = row_lane(lanes);
  const std::int64_t fours = (a.groups + 3) / 4, number = quotient(i, fours);
  const std::int64_t first = 4 * (i - number * fours);
  const RowPlace place = place_of(a.noise.layout, number);
  const bool draws = place.exists && place.valid;
  float4 u = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (draws) u = uniform_quad(a.noise, place, first, a.groups, false);
  // As many turns in every lane of the warp, whose shuffles want all of them.
  const int turns = a.groups < 4 ? static_cast<int>(a.groups) : 4;
  for (int turn = 0; turn < turns; ++turn) {
    const std::int64_t g = first + turn;
    const bool exists = place.exists && g < a.groups;
    const LaneQuads<Q> mine(a.C, lane, lanes, wide, draws && exists);
    const KeptRow<Q> p(mine, a.p[place.row] + g * a.C, 0.0f);
    const int chosen = draw_class(mine, p, u.x);
    u = make_float4(u.y, u.z, u.w, 0.0f);
    float* y = a.y[place.row] + g * a.C;
    if (mine.exists) {
      store_one_hot(mine, chosen, y);
    } else if (exists) {
      store_zeros(mine, y);
    }
  }
}

/// One group of q and p. With e = exp(l - max l), z = sum of e, and r = (l_q - max l_q) - (l_p -
/// max l_p), log q - log p is r - log(z_q / z_p), and the KL is sum(e_q r) / z_q - log(z_q / z_p).
template <int Q>
struct Pair {
  using Column = typename LaneQuads<Q>::Column;
  const KeptRow<Q> l_q, l_p;
  float largest_q, largest_p;

  __device__ __forceinline__ Pair(const LaneQuads<Q>& mine, const float* logits_q,
                                  const float* logits_p)
      : l_q(mine, logits_q, -INFINITY),
        l_p(mine, logits_p, -INFINITY),
        largest_q(lane_largest(mine, l_q)),
        largest_p(lane_largest(mine, l_p)) {
    group_maxima(mine.lanes, largest_q, largest_p);
  }
  __device__ __forceinline__ float4 r(int i, Column d) const {
    return map4([&](float q, float p) { return (q - largest_q) - (p - largest_p); }, l_q(i, d),
                l_p(i, d));
  }
};

/// What a group's lanes agree on.
struct Divergence {
  float z_q, z_p, log_ratio, kl;
};

/// w r, which is 0 where the weight is.
__device__ __forceinline__ float weighted(float w, float r) { return w == 0.0f ? 0.0f : w * r; }

template <int Q>
__device__ __forceinline__ Divergence divergence_of(const LaneQuads<Q>& mine, const Pair<Q>& pair,
                                                    const Exponentials<Q>& e_q,
                                                    const Exponentials<Q>& e_p) {
  float z_q = e_q.sum, z_p = e_p.sum, sum = 0.0f;
  mine.for_each([&](int i, auto d) { sum += sum4(map4(weighted, e_q(i, d), pair.r(i, d))); });
  group_sums(mine.lanes, z_q, z_p, sum);
  const float log_ratio = logf(z_q / z_p);
  return {z_q, z_p, log_ratio, sum / z_q - log_ratio};
}

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    kl_rows(CategoricalKlArgs<float> a, int lanes, bool wide) {
  const auto [row, lane] = row_lane(lanes);
  const bool exists = row < a.rows;
  const LaneQuads<Q> mine(a.C, lane, lanes, wide, exists);
  float sum = 0.0f;
  for (std::int64_t g = 0; a.C > 0 && g < a.groups; ++g) {
    const Pair<Q> pair(mine, a.logits_q[row] + g * a.C, a.logits_p[row] + g * a.C);
    const Exponentials<Q> e_q(mine, pair.l_q, pair.largest_q);
    const Exponentials<Q> e_p(mine, pair.l_p, pair.largest_p);
    sum += divergence_of(mine, pair, e_q, e_p).kl;
  }
  if (exists && lane == 0) a.kl_sum[row][0] = sum;
}

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    kl_gradients(CategoricalKlBackwardArgs<float> a, int lanes, bool wide) {
  const auto [i, lane] = row_lane(lanes);
  const Group group = group_of(i, a.rows, a.groups, a.C);
  const float grad = group.exists ? a.grad_kl_sum[group.row][0] : 0.0f;
  const LaneQuads<Q> mine(a.C, lane, lanes, wide, group.exists);
  const Pair<Q> pair(mine, a.logits_q[group.row] + group.first,
                     a.logits_p[group.row] + group.first);
  const Exponentials<Q> e_q(mine, pair.l_q, pair.largest_q);
  const Exponentials<Q> e_p(mine, pair.l_p, pair.largest_p);
  const Divergence of = divergence_of(mine, pair, e_q, e_p);
  const float scale_q = 1.0f / of.z_q, scale_p = 1.0f / of.z_p;
  mine.for_each([&](int n, auto d) {
    const float4 q = map4([&](float e) { return e * scale_q; }, e_q(n, d));
    const float4 p = map4([&](float e) { return e * scale_p; }, e_p(n, d));
    const float4 r = pair.r(n, d);  // read before any of them is written over
    if (!group.exists) return;
    if (a.grad_logits_q) {
      mine.store(
          a.grad_logits_q[group.row] + group.first, d,
          map4([&](float w, float x) { return grad * (weighted(w, x - of.log_ratio) - w * of.kl); },
               q, r));
    }
    if (a.grad_logits_p) {
      mine.store(a.grad_logits_p[group.row] + group.first, d,
                 map4([&](float x, float y) { return grad * (x - y); }, p, q));
    }
  });
}

/// Of a pair of rows no more than two quads a lane are kept, which hold 256 classes.
constexpr int kMostQuads = 8, kMostQuadsOfPair = 2;

}  // namespace

void softmax(const SoftmaxArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = keeping_lanes_for(a.C);
  with_quads_kept<kMostQuads>(a.C, [&](auto Q) {
    launch(softmax_rows<Q>, row_shape(a.rows * a.groups, lanes), stream, a, lanes,
           all_fit_float4(a.C, a.logits, a.p));
  });
}

void softmax_backward(const SoftmaxBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = keeping_lanes_for(a.C);
  with_quads_kept<kMostQuadsOfPair>(a.C, [&](auto Q) {
    launch(softmax_gradients<Q>, row_shape(a.rows * a.groups, lanes), stream, a, lanes,
           all_fit_float4(a.C, a.p, a.grad_p, a.grad_logits));
  });
}

void one_hot_sample(const OneHotSampleArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = keeping_lanes_for(a.C);
  const std::int64_t fours = (a.groups + 3) / 4;
  with_quads_kept<kMostQuadsOfPair>(a.C, [&](auto Q) {
    launch(draw_rows<Q>, row_shape(a.noise.layout.rows_at_most() * fours, lanes), stream, a, lanes,
           all_fit_float4(a.C, a.p, a.y));
  });
}

void categorical_kl(const CategoricalKlArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = keeping_lanes_for(a.C);
  with_quads_kept<kMostQuadsOfPair>(a.C, [&](auto Q) {
    launch(kl_rows<Q>, row_shape(a.rows, lanes), stream, a, lanes,
           all_fit_float4(a.C, a.logits_q, a.logits_p));
  });
}

void categorical_kl_backward(const CategoricalKlBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = keeping_lanes_for(a.C);
  with_quads_kept<kMostQuadsOfPair>(a.C, [&](auto Q) {
    launch(kl_gradients<Q>, row_shape(a.rows * a.groups, lanes), stream, a, lanes,
           all_fit_float4(a.C, a.logits_q, a.logits_p, a.grad_logits_q, a.grad_logits_p));
  });
}

}  // namespace seqvae::cuda

// A softmax over a run of C neighbouring floats, and draws from one, by the lanes of a row's group
// (rows.cuh). Every sum is formed lane by lane in the order of the quads, then among the lanes, so
// that its order hangs on C alone. Groups that stand for nothing take part.
#pragma once
#include "kernels/common/functions.cuh"
#include "kernels/common/rows.cuh"

namespace seqvae::cuda {

/// The sums of several values over a group's lanes, each the bits of group_sum: the shuffles of one
/// do not wait for those of another.
template <class... Floats>
__device__ __forceinline__ void group_sums(int lanes, Floats&... values) {
  for (int apart = lanes / 2; apart > 0; apart /= 2) {
    ((values += __shfl_xor_sync(kFullMask, values, apart)), ...);
  }
}

/// Likewise the largest; NaN if one of them is.
template <class... Floats>
__device__ __forceinline__ void group_maxima(int lanes, Floats&... values) {
  for (int apart = lanes / 2; apart > 0; apart /= 2) {
    ((values = max_or_nan(values, __shfl_xor_sync(kFullMask, values, apart))), ...);
  }
}

/// The largest of this lane's part of a run. l: -infinity beyond C.
template <int Q>
__device__ __forceinline__ float lane_largest(const LaneQuads<Q>& mine, const KeptRow<Q>& l) {
  float largest = -INFINITY;
  mine.for_each([&](int i, auto d) {
    const float4 quad = l(i, d);
    largest =
        max_or_nan(max_or_nan(largest, max_or_nan(quad.x, quad.y)), max_or_nan(quad.z, quad.w));
  });
  return largest;
}

/// exp(l - largest) of a run, kept, and what it adds up to.
template <int Q>
class Exponentials {
 public:
  using Column = typename LaneQuads<Q>::Column;
  float sum = 0.0f;  ///< this lane's, to be added among the lanes

  __device__ __forceinline__ Exponentials(const LaneQuads<Q>& mine, const KeptRow<Q>& l,
                                          float largest)
      : l_(l), largest_(largest) {
    mine.for_each([&](int i, Column d) {
      const float4 quad = of(l(i, d));
      sum += sum4(quad);
      if constexpr (Q > 0) quads_[i] = quad;
    });
  }
  __device__ __forceinline__ float4 operator()(int i, Column d) const {
    if constexpr (Q > 0) return quads_[i];
    return of(l_(i, d));
  }

 private:
  __device__ __forceinline__ float4 of(float4 l) const {
    return map4([&](float x) { return expf(x - largest_); }, l);
  }
  const KeptRow<Q>& l_;
  float largest_;
  float4 quads_[Q > 0 ? Q : 1];
};

/// The largest of a run, the same in every lane.
template <int Q>
__device__ __forceinline__ float largest_of(const LaneQuads<Q>& mine, const KeptRow<Q>& l) {
  return group_max(lane_largest(mine, l), mine.lanes);
}

/// A run's softmax, exp(l - max l) times the reciprocal of their sum: what that rounds more than a
/// quotient does, 2^-24 of p, is within an ulp of the largest p.
template <int Q>
__device__ __forceinline__ void store_softmax(const LaneQuads<Q>& mine, const float* l, float* p) {
  const KeptRow<Q> logits(mine, l, -INFINITY);
  const Exponentials<Q> e(mine, logits, largest_of(mine, logits));
  const float scale = 1.0f / group_sum(e.sum, mine.lanes);
  mine.for_each([&](int i, auto d) {
    const float4 quad = e(i, d);
    if (mine.exists) mine.store(p, d, map4([&](float x) { return x * scale; }, quad));
  });
}

/// The class whose cumulative weight first reaches u times their sum; -1 where there is none with
/// any weight, or a NaN. The same in every lane of the group. weights: 0 beyond C.
template <int Q, class Weights>
__device__ __forceinline__ int draw_class(const LaneQuads<Q>& mine, const Weights& weights,
                                          float u) {
  float before = 0.0f;  // the weight of all classes below this round's
  const auto scan = [&](float4 w, auto take) {
    const float two = w.x + w.y, three = two + w.z, four = three + w.w;
    float through = four;  // inclusive sum over the group's lanes
    for (int apart = 1; apart < mine.lanes; apart *= 2) {
      const float other =
          __shfl_up_sync(kFullMask, through, static_cast<unsigned>(apart), mine.lanes);
      if (mine.lane >= apart) through = other + through;
    }
    const float left = __shfl_up_sync(kFullMask, through, 1u, mine.lanes);
    const float below = before + (mine.lane == 0 ? 0.0f : left);
    take(make_float4(below, below + w.x, below + two, below + three));
    before += __shfl_sync(kFullMask, through, mine.lanes - 1, mine.lanes);
  };
  // The last class with any weight that begins below the target; the first one begins at 0, which
  // rounding may leave the target at.
  int chosen = -1;
  float target = 0.0f;
  const auto choose = [&](float4 w, float4 begin, auto d) {
    const auto one = [&](float weight, float at, int c) {
      if (weight > 0.0f && (at < target || at == 0.0f)) chosen = c;
    };
    one(w.x, begin.x, static_cast<int>(d)), one(w.y, begin.y, static_cast<int>(d) + 1);
    one(w.z, begin.z, static_cast<int>(d) + 2), one(w.w, begin.w, static_cast<int>(d) + 3);
  };
  if constexpr (Q > 0) {
    float4 begins[Q];
    mine.for_each([&](int i, int d) { scan(weights(i, d), [&](float4 b) { begins[i] = b; }); });
    target = u * before;
    mine.for_each([&](int i, int d) { choose(weights(i, d), begins[i], d); });
  } else {
    // Every lane takes part in each round, also where its own quad lies beyond C.
    const auto each_round = [&](auto take) {
      before = 0.0f;
      for (std::int64_t first = 0; first < mine.D; first += 4 * mine.lanes) {
        const std::int64_t d = first + 4 * mine.lane;
        const float4 w = weights(0, d);
        scan(w, [&](float4 begin) { take(w, begin, d); });
      }
    };
    each_round([](float4, float4, std::int64_t) {});
    target = u * before;
    const float sum = before;
    each_round(choose);
    before = sum;
  }
  for (int apart = mine.lanes / 2; apart > 0; apart /= 2) {
    const int other = __shfl_xor_sync(kFullMask, chosen, apart);
    chosen = other > chosen ? other : chosen;
  }
  return before > 0.0f ? chosen : -1;
}

/// y = one-hot of a chosen class, NaN where there is none.
template <int Q>
__device__ __forceinline__ void store_one_hot(const LaneQuads<Q>& mine, int chosen, float* y) {
  mine.for_each([&](int, auto d) {
    const auto of = [&](int c) { return chosen < 0 ? NAN : c == chosen ? 1.0f : 0.0f; };
    const int c = static_cast<int>(d);
    mine.store(y, d, make_float4(of(c), of(c + 1), of(c + 2), of(c + 3)));
  });
}

template <int Q>
__device__ __forceinline__ void store_zeros(const LaneQuads<Q>& mine, float* y) {
  mine.for_each([&](int, auto d) { mine.store(y, d, make_float4(0.0f, 0.0f, 0.0f, 0.0f)); });
}

}  // namespace seqvae::cuda

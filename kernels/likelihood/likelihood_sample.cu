// L lanes a row (kernels/common/rows.cuh), four components a lane; the categorical's row is kept in
// registers. One Philox call makes the four uniforms of a quad. Poisson draws by inversion, a loop
// of as many turns as the count: lanes of a warp wait for their largest. Floor: memory, 8 bytes an
// element (1 read, 1 write). Hazards: padding may hold NaN and is not read; a NaN logit gives NaN,
// not a 0; `step` is read on the device, so that a replayed graph draws afresh. A draw whose
// uniform lies within rounding of its bound may differ from the CPU's.
#include "kernels/common/functions.cuh"
#include "kernels/common/noise.cuh"
#include "kernels/common/softmax.cuh"
#include "seqvae/kernels/likelihood.hpp"

namespace seqvae::cuda {
namespace {

constexpr double kLargestInvertedRate = 64.0;
constexpr int kLargestInverted = 512;  // past it no rate below 64 has any mass

/// The count whose cumulative probability first reaches the uniform.
__device__ __forceinline__ float poisson_draw(float log_rate, float uniform_word, float eps) {
  const double rate = static_cast<double>(expf(log_rate));
  if (!(rate < kLargestInvertedRate)) {
    const double rounded = floor(rate + sqrt(rate) * static_cast<double>(eps) + 0.5);
    return static_cast<float>(rounded < 0.0 ? 0.0 : rounded);
  }
  const double u = static_cast<double>(uniform_word);
  double probability = exp(-rate), cumulative = probability;
  int count = 0;
  while (u > cumulative && count < kLargestInverted) {
    probability *= rate / ++count;
    cumulative += probability;
  }
  return static_cast<float>(count);
}

__global__ void __launch_bounds__(kRowThreads)
    component_draws(LikelihoodSampleArgs<float> a, int lanes, bool wide) {
  const auto [i, lane] = row_lane(lanes);
  const RowPlace place = place_of(a.noise.layout, i);
  if (!place.exists) return;  // nothing below waits for the others
  for (std::int64_t d = 4 * lane; d < a.D; d += 4 * lanes) {
    float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (place.valid) {
      const Words random = noise_words(a.noise, place, a.D, d / 4);
      const float4 l = load_quad(a.logits[place.row], d, a.D, wide);
      const float4 u = make_float4(uniform(random.w[0]), uniform(random.w[1]), uniform(random.w[2]),
                                   uniform(random.w[3]));
      if (a.kind == Likelihood::bernoulli) {
        x = map4(
            [](float logit, float v) {
              const float p = sigmoid(logit);
              return isnan(p) ? p : v < p ? 1.0f : 0.0f;
            },
            l, u);
      } else {
        float4 eps;
        normal_pair(random.w[0], random.w[1], eps.x, eps.y);
        normal_pair(random.w[2], random.w[3], eps.z, eps.w);
        x = map4(poisson_draw, l, u, eps);
      }
    }
    store_quad(a.x[place.row], d, a.D, wide, x);
  }
}

template <int Q>
__global__ void __launch_bounds__(kRowThreads)
    class_draws(LikelihoodSampleArgs<float> a, int lanes, bool wide) {
  const auto [i, lane] = row_lane(lanes);
  const RowPlace place = place_of(a.noise.layout, i);
  const bool draws = place.exists && place.valid;
  const LaneQuads<Q> mine(a.D, lane, lanes, wide, draws);
  const KeptRow<Q> l(mine, a.logits[place.row], -INFINITY);
  const float u = draws ? uniform(noise_words(a.noise, place, a.D, 0).w[0]) : 0.0f;
  const Exponentials<Q> weights(mine, l, largest_of(mine, l));
  const int chosen = draw_class(mine, weights, u);
  float* x = a.x[place.row];
  if (draws) {
    store_one_hot(mine, chosen, x);
  } else if (place.exists) {
    store_zeros(mine, x);
  }
}

}  // namespace

void likelihood_sample(const LikelihoodSampleArgs<float>& a, Stream stream) {
  check(a);
  const std::int64_t rows = a.noise.layout.rows_at_most();
  if (a.kind == Likelihood::categorical) {
    const int lanes = keeping_lanes_for(a.D);
    return with_quads_kept<2>(a.D, [&](auto Q) {
      launch(class_draws<Q>, row_shape(rows, lanes), stream, a, lanes,
             all_fit_float4(a.D, a.logits, a.x));
    });
  }
  const int lanes = lanes_for(a.D);
  launch(component_draws, row_shape(rows, lanes), stream, a, lanes,
         all_fit_float4(a.D, a.logits, a.x));
}

}  // namespace seqvae::cuda

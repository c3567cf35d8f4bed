// Two launches of the same blocks, a block for 2048 elements but at most kMostBlocks: they stride
// over the quads. In the first each leaves a sum of squares of the gradient in double. In the
// second each adds all those in the same order, so all agree on the norm without a third launch,
// and updates its share. Floor: memory, 4 bytes an element read, then 16 read and 12 written.
// Hazards: a norm that is not finite leaves everything as it is; the update's number and the
// learning rate are read on the device, so that a replayed graph goes on; fmaxf would turn a NaN
// into the limit, but where there is one the norm is NaN.
#include <cub/block/block_reduce.cuh>

#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "kernels/common/runtime.hpp"
#include "kernels/optimizer/blocks.hpp"
#include "seqvae/kernels/optimizer.hpp"

namespace seqvae::cuda {
namespace {

constexpr int kThreads = 256;
using Reduce = cub::BlockReduce<double, kThreads>;

/// What an update multiplies by, each formed in double and rounded once.
struct Factors {
  bool finite;
  float scale, limit, beta1, rest1, beta2, rest2, step, root2, epsilon, decay, l2;
};

struct Storage {
  Reduce::TempStorage reduce;
  Factors factors;
};

__global__ void __launch_bounds__(kThreads)
    square_sums(const float* g, std::int64_t count, bool aligned, double* parts) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads * 4;
  double sum = 0.0;
#pragma unroll 4
  for (std::int64_t i = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4; i < count;
       i += stride) {
    const bool wide = aligned && i + 4 <= count;  // but for the last few elements
    const float4 quad = load_quad(g, i, count, wide);
    const double x = quad.x, y = quad.y, z = quad.z, w = quad.w;
    sum += (x * x + y * y) + (z * z + w * w);
  }
  sum = Reduce(shared_storage<Storage>().reduce).Sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__device__ Factors factors_of(const AdamWArgs<float>& a, double norm) {
  const AdamWStep at = *a.step;
  const double n = static_cast<double>(at.update);
  const bool clips = a.clip_norm > 0 && norm + 1e-6 > a.clip_norm;
  Factors f;
  f.finite = isfinite(norm);
  f.scale = static_cast<float>(clips ? a.clip_norm / (norm + 1e-6) : 1.0);
  f.limit = static_cast<float>(a.clip_value);
  f.beta1 = static_cast<float>(a.beta1), f.rest1 = static_cast<float>(1 - a.beta1);
  f.beta2 = static_cast<float>(a.beta2), f.rest2 = static_cast<float>(1 - a.beta2);
  f.step = static_cast<float>(at.learning_rate / (1 - pow(a.beta1, n)));
  f.root2 = static_cast<float>(1 / sqrt(1 - pow(a.beta2, n)));
  f.epsilon = static_cast<float>(a.epsilon);
  f.decay = static_cast<float>(at.learning_rate * a.weight_decay);
  f.l2 = static_cast<float>(a.l2);
  return f;
}

__global__ void __launch_bounds__(kThreads)
    update_quads(AdamWArgs<float> a, bool aligned, const double* parts) {
  Storage& shared = shared_storage<Storage>();
  double sum = 0.0;
  for (unsigned part = threadIdx.x; part < gridDim.x; part += kThreads) sum += parts[part];
  sum = Reduce(shared.reduce).Sum(sum);
  if (threadIdx.x == 0) {
    const double norm = sqrt(sum);
    shared.factors = factors_of(a, norm);
    if (blockIdx.x == 0) *a.norm = norm;
  }
  __syncthreads();
  const Factors f = shared.factors;
  if (!f.finite) return;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads * 4;
  for (std::int64_t i = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4; i < a.count;
       i += stride) {
    const bool wide = aligned && i + 4 <= a.count;
    const float4 p = load_quad(a.parameters, i, a.count, wide);
    const float4 decays = a.decay_mask != nullptr ? load_quad(a.decay_mask, i, a.count, wide)
                                                  : make_float4(1.0f, 1.0f, 1.0f, 1.0f);
    const float4 g = map4(
        [&](float gradient, float d, float parameter) {
          if (f.limit > 0) gradient = fmaxf(-f.limit, fminf(f.limit, gradient));
          return f.scale * gradient + f.l2 * d * parameter;
        },
        load_quad(a.gradients, i, a.count, wide), decays, p);
    const float4 m = map4([&](float old, float x) { return f.beta1 * old + f.rest1 * x; },
                          load_quad(a.m, i, a.count, wide), g);
    const float4 v = map4([&](float old, float x) { return f.beta2 * old + f.rest2 * x * x; },
                          load_quad(a.v, i, a.count, wide), g);
    store_quad(a.m, i, a.count, wide, m);
    store_quad(a.v, i, a.count, wide, v);
    store_quad(a.parameters, i, a.count, wide,
               map4(
                   [&](float parameter, float first, float second, float d) {
                     return parameter - f.step * first / (sqrtf(second) * f.root2 + f.epsilon) -
                            f.decay * d * parameter;
                   },
                   p, m, v, decays));
  }
}

bool fits(const float* data) { return fits_float4({data, 0}, 0); }

}  // namespace

void adamw(const AdamWArgs<float>& a, Stream stream) {
  check(a);
  require_workspace(a.workspace, a.workspace_bytes, adamw_workspace_bytes(), "adamw");
  double* parts = static_cast<double*>(a.workspace);
  const bool aligned =
      fits(a.parameters) && fits(a.gradients) && fits(a.m) && fits(a.v) && fits(a.decay_mask);
  const std::int64_t wanted =
      std::max<std::int64_t>(1, (a.count + kElementsOfBlock - 1) / kElementsOfBlock);
  const LaunchShape shape{static_cast<unsigned>(std::min(wanted, kMostBlocks)), kThreads,
                          sizeof(Storage)};
  launch(square_sums, shape, stream, a.gradients, a.count, aligned, parts);
  launch(update_quads, shape, stream, a, aligned, parts);
}

}  // namespace seqvae::cuda

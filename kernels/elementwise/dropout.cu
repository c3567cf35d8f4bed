// Elementwise; L lanes a row (kernels/common/rows.cuh), four components a lane: one Philox call
// makes the four uniforms of a quad. No barrier.
// Floor: memory, 8 bytes an element (1 read, 1 write).
// Hazards: what is dropped is chosen away, not multiplied by 0 (it may be NaN); padding is not
// read; `step` is read on the device, so that a replayed graph draws afresh.
#include "kernels/common/noise.cuh"
#include "seqvae/kernels/dropout.hpp"

namespace seqvae::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads)
    drop_rows(DropoutArgs<float> a, float factor, int lanes, bool wide) {
  const auto [i, lane] = row_lane(lanes);
  const RowPlace place = place_of(a.noise.layout, i);
  if (!place.exists) return;  // nothing below waits for the others
  for (std::int64_t d = 4 * lane; d < a.D; d += 4 * lanes) {
    float4 y = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (place.valid) {
      y = map4([&](float u, float x) { return u >= a.rate ? factor * x : 0.0f; },
               uniform_quad(a.noise, place, d, a.D, wide), load_quad(a.x[place.row], d, a.D, wide));
    }
    store_quad(a.y[place.row], d, a.D, wide, y);
  }
}

}  // namespace

void dropout(const DropoutArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(drop_rows, row_shape(a.noise.layout.rows_at_most(), lanes), stream, a,
         1.0f / (1.0f - a.rate), lanes, all_fit_float4(a.D, a.noise.eps, a.x, a.y));
}

}  // namespace seqvae::cuda

// Elementwise; L lanes a row (kernels/common/rows.cuh), four components a lane: one Philox call
// makes the four normals of a quad. No barrier. As many rows are dealt as the layout can have;
// how many a packed one has stands in device memory, where only the kernel reads it.
// Floor: memory, 12 bytes an element forward (2 reads, 1 write), 16 backward. A packed row costs
// log2(T) further reads of offsets, which the caches hold.
// Hazards: padding may hold NaN and is not read; `step` is read on the device, so that a replayed
// graph draws afresh.
#include "kernels/common/launch.cuh"
#include "kernels/gaussian/sample.cuh"

namespace seqvae::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads)
    sample_rows(GaussianSampleArgs<float> a, int lanes, bool wide) {
  const auto [i, lane] = row_lane(lanes);
  const RowPlace place = place_of(a.noise.layout, i);
  if (!place.exists) return;  // nothing below waits for the others
  for (std::int64_t d = 4 * lane; d < a.D; d += 4 * lanes) do_quad(a, place, d, wide);
}

__global__ void __launch_bounds__(kRowThreads)
    sample_gradients(GaussianSampleBackwardArgs<float> a, int lanes, bool wide) {
  const auto [i, lane] = row_lane(lanes);
  const RowPlace place = place_of(a.noise.layout, i);
  if (!place.exists) return;
  for (std::int64_t d = 4 * lane; d < a.D; d += 4 * lanes) do_quad(a, place, d, wide);
}

}  // namespace

void gaussian_sample(const GaussianSampleArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(sample_rows, row_shape(a.noise.layout.rows_at_most(), lanes), stream, a, lanes,
         all_fit_float4(a.D, a.noise.eps, a.mu, a.logvar, a.z));
}

void gaussian_sample_backward(const GaussianSampleBackwardArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(sample_gradients, row_shape(a.noise.layout.rows_at_most(), lanes), stream, a, lanes,
         all_fit_float4(a.D, a.noise.eps, a.logvar, a.grad_z, a.grad_mu, a.grad_logvar));
}

}  // namespace seqvae::cuda

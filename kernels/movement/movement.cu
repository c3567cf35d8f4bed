// Rows moved: L lanes serve a row of y (kernels/common/rows.cuh), four components a lane, no
// barrier. Each row of y asks which row of x it is: a row of a packed layout by a search for its
// step, the last row of a sequence by a search for its length (active counts never increase), any
// other at once. The move is one for the whole grid: its branch never parts a warp.
// Floor: memory, 8 bytes an element moved (1 read, 1 write), 4 an element of zeros; offsets come
// from the caches. A sum over particles: 4 (K + 1) bytes an element of y.
// Hazards: offsets lie in device memory and are read in every run, so that a replayed graph goes by
// what they hold then; the grid hangs on sizes alone, so that rows beyond the layout's last are
// met: up to its capacity they are zeros, beyond they are not there. Of x only rows that are moved
// are read. Sums over particles are formed in double, in order of k: the bits of the CPU.
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "kernels/movement/extent.hpp"

namespace seqvae::cuda {
namespace {

enum class Source { x, start, zeros, nothing };  // nothing: y has no such row

/// A row of y and the row that it is.
struct Route {
  std::int64_t to;
  Source source;
  std::int64_t from = 0;  ///< of x or start
};

/// A row of y beyond the layout's last.
__device__ __forceinline__ Route spare_row(const RowLayout& layout, std::int64_t to) {
  return {to, to < layout.capacity ? Source::zeros : Source::nothing};
}

/// Whether sequence row `own` = b K + k has a step t.
__device__ __forceinline__ bool lasts_to(const RowLayout& layout, std::int64_t t,
                                         std::int64_t own) {
  return t < layout.T && own < (layout.offsets[t + 1] - layout.offsets[t]) * layout.K;
}

/// Row i of y that has a row for each (t, b, k) of a packed layout.
__device__ __forceinline__ Route into_steps(const MoveRowsArgs<float>& a, std::int64_t i) {
  const RowLayout& layout = a.layout;
  const auto [to, t, b, k, exists, valid] = place_of(layout, i);
  if (!valid) return spare_row(layout, to);
  const std::int64_t own = b * layout.K + k;
  const Route zeros{to, Source::zeros}, start{to, a.start ? Source::start : Source::zeros, own};
  const Route of_sequence{to, Source::x, own};
  const auto of_step = [&, to = to](std::int64_t step) {
    return Route{to, Source::x, layout.offsets[step] * layout.K + own};
  };
  switch (a.move) {
    case Move::from_step_before:
      return t > 0 ? of_step(t - 1) : start;
    case Move::from_step_after:
      return lasts_to(layout, t + 1, own) ? of_step(t + 1) : start;
    case Move::to_first:
      return t == 0 ? of_sequence : zeros;
    case Move::to_last:
      return lasts_to(layout, t + 1, own) ? zeros : of_sequence;
    case Move::to_packed:
      return {to, Source::x, t * layout.B * layout.K + own};
    default:  // to_steps
      return of_sequence;
  }
}

/// Row i of y that has K rows for each of x, of either layout.
__device__ __forceinline__ Route into_particles(const MoveRowsArgs<float>& a, std::int64_t i) {
  const RowLayout& layout = a.layout;
  const std::int64_t K = layout.K;
  const bool packed = layout.offsets != nullptr;
  const std::int64_t to = packed ? layout.offsets[0] * K + i : i;
  const std::int64_t end = packed ? layout.offsets[layout.T] * K : layout.T * layout.B * K;
  if (to >= end) return spare_row(layout, to);
  const std::uint32_t from = static_cast<std::uint32_t>(to) / static_cast<std::uint32_t>(K);
  if (layout.lengths != nullptr) {
    const std::uint32_t B = static_cast<std::uint32_t>(layout.B), t = from / B;
    if (std::int64_t{t} >= layout.lengths[from - t * B]) return {to, Source::zeros};
  }
  return {to, Source::x, from};
}

/// Row i = b K + k of y that has one for each sequence.
__device__ __forceinline__ Route into_sequences(const MoveRowsArgs<float>& a, std::int64_t i) {
  const RowLayout& layout = a.layout;
  if (!lasts_to(layout, 0, i)) return {i, Source::zeros};
  std::int64_t step = 0;  // the sequence has it
  if (a.move == Move::from_last) {
    std::int64_t beyond = layout.T;
    while (beyond - step > 1) {
      const std::int64_t middle = (step + beyond) / 2;
      (lasts_to(layout, middle, i) ? step : beyond) = middle;
    }
  }
  return {i, Source::x, layout.offsets[step] * layout.K + i};
}

/// Row i of padded y.
__device__ __forceinline__ Route into_padded(const MoveRowsArgs<float>& a, std::int64_t i) {
  const RowLayout& layout = a.layout;
  const std::uint32_t sequences = static_cast<std::uint32_t>(layout.B * layout.K);
  const std::uint32_t t = static_cast<std::uint32_t>(i) / sequences;
  const std::int64_t own = i - std::int64_t{t} * sequences;
  if (!lasts_to(layout, t, own)) return {i, Source::zeros};
  return {i, Source::x, layout.offsets[t] * layout.K + own};
}

__device__ __forceinline__ Route route(const MoveRowsArgs<float>& a, std::int64_t i) {
  switch (a.move) {
    case Move::from_first:
    case Move::from_last:
      return into_sequences(a, i);
    case Move::to_padded:
      return into_padded(a, i);
    case Move::to_particles:
      return into_particles(a, i);
    default:
      return into_steps(a, i);
  }
}

__global__ void __launch_bounds__(kRowThreads)
    route_rows(MoveRowsArgs<float> a, std::int64_t rows, int lanes, bool wide) {
  const auto [i, lane] = row_lane(lanes);
  if (i >= rows) return;  // nothing below waits for the others
  const auto [to, source, from] = route(a, i);
  if (source == Source::nothing) return;
  const float* row = source == Source::start ? a.start[from] : a.x[from];
  for (std::int64_t d = 4 * lane; d < a.D; d += 4 * lanes) {
    float4 quad = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (source != Source::zeros) quad = load_quad(row, d, a.D, wide);
    store_quad(a.y[to], d, a.D, wide, quad);
  }
}

__global__ void __launch_bounds__(kRowThreads)
    particle_sums(SumOverParticlesArgs<float> a, int lanes, bool wide) {
  for_each_quad(a.rows, a.D, lanes, [&](std::int64_t row, std::int64_t d) {
    double x = 0.0, y = 0.0, z = 0.0, w = 0.0;
#pragma unroll 4
    for (std::int64_t k = 0; k < a.K; ++k) {
      const float4 quad = load_quad(a.x[row * a.K + k], d, a.D, wide);
      x += static_cast<double>(quad.x), y += static_cast<double>(quad.y);
      z += static_cast<double>(quad.z), w += static_cast<double>(quad.w);
    }
    store_quad(a.y[row], d, a.D, wide,
               make_float4(static_cast<float>(x), static_cast<float>(y), static_cast<float>(z),
                           static_cast<float>(w)));
  });
}

}  // namespace

void move_rows(const MoveRowsArgs<float>& args, Stream stream) {
  check(args);
  MoveRowsArgs<float> a = args;
  a.layout.t0 = 0, a.layout.origins = nullptr;  // steps are counted from the layout's first
  const std::int64_t rows = moved_rows_at_most(a.move, a.layout);
  const int lanes = lanes_for(a.D);
  launch(route_rows, row_shape(rows, lanes), stream, a, rows, lanes,
         all_fit_float4(a.D, a.x, a.start, a.y));
}

void sum_over_particles(const SumOverParticlesArgs<float>& a, Stream stream) {
  check(a);
  const int lanes = lanes_for(a.D);
  launch(particle_sums, row_shape(a.rows, lanes), stream, a, lanes, all_fit_float4(a.D, a.x, a.y));
}

}  // namespace seqvae::cuda

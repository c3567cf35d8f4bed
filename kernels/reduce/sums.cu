// Sums over time and over rows: a block is 32 neighbouring columns by S slots. A warp reads one
// line of a row; slot s adds rows s, s + S, s + 2 S, ... in double, and the first slot adds the
// slots in order. Over time S is 32 and the columns are those of all sequences, one after the
// other. Over rows, which may be many and narrow, S is 16 and the rows are cut into chunks whose
// sums a second launch adds. Up to 4096 rows are one launch of blocks of 8 columns, two lanes a
// row, all of whose loads are on the way at once. Which it is hangs on rows and D alone, and so do
// the bits. Floor: memory, 4 bytes read an element. Hazards: padding is not read; a sequence's
// steps end at its length, in a packed layout at the first step that lacks it.
#include "kernels/common/launch.cuh"
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "kernels/common/runtime.hpp"
#include "kernels/reduce/chunks.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae::cuda {
namespace {

constexpr int kSlots = 16, kTimeSlots = 32;
constexpr unsigned kThreads = kWarpSize * kSlots, kTimeThreads = kWarpSize * kTimeSlots;

template <int slots>
struct Slots {
  double sums[slots][kWarpSize];
};

/// The slots' sums in order, in the first slot's threads; 0 in the others.
template <int slots>
__device__ __forceinline__ double sum_of_slots(double sum) {
  Slots<slots>& shared = shared_storage<Slots<slots>>();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  shared.sums[threadIdx.x / kWarpSize][lane] = sum;
  __syncthreads();
  if (threadIdx.x >= kWarpSize) return 0.0;
  double total = 0.0;
  for (int slot = 0; slot < slots; ++slot) total += shared.sums[slot][lane];
  return total;
}

__global__ void __launch_bounds__(kTimeThreads) time_sums(SumOverTimeArgs<float> a) {
  const RowLayout& layout = a.layout;
  const std::int64_t column = std::int64_t{blockIdx.x} * kWarpSize + threadIdx.x % kWarpSize;
  const std::int64_t o = column / a.D, d = column - o * a.D, outputs = layout.B * layout.K;
  const std::int64_t slot = threadIdx.x / kWarpSize, b = o / layout.K;
  double sum = 0.0;
  if (o < outputs && layout.offsets == nullptr) {
    std::int64_t T = layout.T;
    if (layout.lengths != nullptr && layout.lengths[b] < T) T = layout.lengths[b];
#pragma unroll 8
    for (std::int64_t t = slot; t < T; t += kTimeSlots) {
      sum += static_cast<double>(a.x[t * outputs + o][d]);
    }
  } else if (o < outputs) {
    for (std::int64_t t = slot; t < layout.T; t += kTimeSlots) {
      const std::int64_t first = layout.offsets[t];
      if (layout.offsets[t + 1] - first <= b) break;
      sum += static_cast<double>(a.x[first * layout.K + o][d]);
    }
  }
  sum = sum_of_slots<kTimeSlots>(sum);
  if (threadIdx.x < kWarpSize && o < outputs) a.y[o][d] = static_cast<float>(sum);
}

/// rows of x in `chunks` runs, the sums of run c to y[c D ..]; added to what y holds where asked.
template <class In, class Out>
struct ColumnSums {
  std::int64_t rows, D, chunks;
  bool accumulate;
  Rows<const In> x;
  Out* y;
};

template <class In, class Out>
__global__ void __launch_bounds__(kThreads) column_sums(ColumnSums<In, Out> a) {
  const unsigned across = static_cast<unsigned>((a.D + kWarpSize - 1) / kWarpSize);
  const std::int64_t chunk = blockIdx.x / across, length = (a.rows + a.chunks - 1) / a.chunks;
  const std::int64_t d = std::int64_t{blockIdx.x % across} * kWarpSize + threadIdx.x % kWarpSize;
  const std::int64_t first = chunk * length + threadIdx.x / kWarpSize;
  const std::int64_t last = (chunk + 1) * length < a.rows ? (chunk + 1) * length : a.rows;
  double sum = 0.0;
  if (d < a.D) {
#pragma unroll 8
    for (std::int64_t r = first; r < last; r += kSlots) sum += static_cast<double>(a.x[r][d]);
  }
  sum = sum_of_slots<kSlots>(sum);
  if (threadIdx.x < kWarpSize && d < a.D) {
    Out* y = a.y + chunk * a.D + d;
    if (a.accumulate) sum += static_cast<double>(*y);
    *y = static_cast<Out>(sum);
  }
}

template <class In, class Out>
void launch_column_sums(const ColumnSums<In, Out>& a, Stream stream) {
  const LaunchShape shape{static_cast<unsigned>(column_blocks(a.D) * a.chunks), kThreads,
                          sizeof(Slots<kSlots>)};
  launch(column_sums<In, Out>, shape, stream, a);
}

constexpr int kFewColumns = 8, kFewThreads = 1024, kFewWarps = kFewThreads / kWarpSize;
constexpr int kLoads = 8;  // of a thread, at a time

struct FewSums {
  double sums[kFewWarps][kFewColumns + 1];  // one more against bank conflicts
};

/// The sums of a warp's lanes of each parity, in every one of them.
__device__ __forceinline__ double sum_of_parity(double sum) {
  for (int apart = kWarpSize / 2; apart > 1; apart /= 2) {
    sum += __shfl_xor_sync(kFullMask, sum, apart);
  }
  return sum;
}

__global__ void __launch_bounds__(kFewThreads) few_row_sums(ColumnSums<float, float> a, bool wide) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const std::int64_t first = std::int64_t{blockIdx.x} * kFewColumns, d = first + 4 * (lane % 2);
  constexpr std::int64_t kRows = kFewThreads / 2;
  double x = 0.0, y = 0.0, z = 0.0, w = 0.0;
  for (std::int64_t r = threadIdx.x / 2; d < a.D && r < a.rows; r += kRows * kLoads) {
    float4 quads[kLoads];
    if (wide) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        quads[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (r + i * kRows < a.rows) quads[i] = load_quad(a.x[r + i * kRows], d, a.D, true);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        quads[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (r + i * kRows < a.rows) quads[i] = load_quad(a.x[r + i * kRows], d, a.D, false);
      }
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      x += static_cast<double>(quads[i].x), y += static_cast<double>(quads[i].y);
      z += static_cast<double>(quads[i].z), w += static_cast<double>(quads[i].w);
    }
  }
  x = sum_of_parity(x), y = sum_of_parity(y), z = sum_of_parity(z), w = sum_of_parity(w);
  FewSums& shared = shared_storage<FewSums>();
  if (lane < 2) {
    double* sums = shared.sums[warp];
    sums[4 * lane] = x, sums[4 * lane + 1] = y, sums[4 * lane + 2] = z, sums[4 * lane + 3] = w;
  }
  __syncthreads();
  if (warp >= kFewColumns) return;  // whole warps leave: the sum below has all its lanes
  double sum = sum_of_parity(shared.sums[lane][warp]);
  sum += __shfl_xor_sync(kFullMask, sum, 1);
  if (lane != 0 || first + warp >= a.D) return;
  float* out = a.y + first + warp;
  if (a.accumulate) sum += static_cast<double>(*out);
  *out = static_cast<float>(sum);
}

}  // namespace

void sum_over_time(const SumOverTimeArgs<float>& a, Stream stream) {
  check(a);
  const std::int64_t columns = a.layout.B * a.layout.K * a.D;
  launch(time_sums, {blocks_for(columns, kWarpSize), kTimeThreads, sizeof(Slots<kTimeSlots>)},
         stream, a);
}

void sum_over_rows(const SumOverRowsArgs<float>& a, Stream stream) {
  check(a);
  require_workspace(a.workspace, a.workspace_bytes, sum_over_rows_workspace_bytes(a.rows, a.D),
                    "sum_over_rows");
  if (a.rows <= kFewRows) {
    const LaunchShape shape{blocks_for(a.D, kFewColumns), kFewThreads, sizeof(FewSums)};
    return launch(few_row_sums, shape, stream,
                  ColumnSums<float, float>{a.rows, a.D, 1, a.accumulate, a.x, a.y},
                  all_fit_float4(a.D, a.x));
  }
  const std::int64_t chunks = chunks_of(a.rows, a.D);
  if (chunks == 1) {
    launch_column_sums(ColumnSums<float, float>{a.rows, a.D, 1, a.accumulate, a.x, a.y}, stream);
    return;
  }
  double* sums = static_cast<double*>(a.workspace);
  launch_column_sums(ColumnSums<float, double>{a.rows, a.D, chunks, false, a.x, sums}, stream);
  launch_column_sums(ColumnSums<double, float>{chunks, a.D, 1, a.accumulate, {sums, a.D}, a.y},
                     stream);
}

}  // namespace seqvae::cuda

// Sums over time and over rows: a block is 32 neighbouring columns by 16 slots. A warp reads one
// line of a row; slot s adds rows s, s + 16, s + 32, ... in double, and the first slot adds the
// slots in order. Over time the columns are those of all sequences, one after the other. Over rows,
// which may be many and narrow, the rows are cut into chunks whose sums a second launch adds: their
// number hangs on rows and D alone, and so do the bits.
// Floor: memory, 4 bytes read an element.
// Hazards: padding is not read; a sequence's steps end at its length, in a packed layout at the
// first step that lacks it.
#include "kernels/common/launch.cuh"
#include "kernels/common/rows.cuh"
#include "kernels/common/runtime.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae::cuda {
namespace {

constexpr int kSlots = 16;
constexpr unsigned kThreads = kWarpSize * kSlots;
constexpr std::int64_t kRowsOfChunk = 512;  // at least
constexpr std::int64_t kBlocks = 1024;      // about as many as a device holds at a time

struct Slots {
  double sums[kSlots][kWarpSize];
};

/// The slots' sums in order, in the first slot's threads; 0 in the others.
__device__ __forceinline__ double sum_of_slots(double sum) {
  Slots& shared = shared_storage<Slots>();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  shared.sums[threadIdx.x / kWarpSize][lane] = sum;
  __syncthreads();
  if (threadIdx.x >= kWarpSize) return 0.0;
  double total = 0.0;
  for (int slot = 0; slot < kSlots; ++slot) total += shared.sums[slot][lane];
  return total;
}

__global__ void __launch_bounds__(kThreads) time_sums(SumOverTimeArgs<float> a) {
  const RowLayout& layout = a.layout;
  const std::int64_t column = std::int64_t{blockIdx.x} * kWarpSize + threadIdx.x % kWarpSize;
  const std::int64_t o = column / a.D, d = column - o * a.D, outputs = layout.B * layout.K;
  const std::int64_t slot = threadIdx.x / kWarpSize, b = o / layout.K;
  double sum = 0.0;
  if (o < outputs && layout.offsets == nullptr) {
    std::int64_t T = layout.T;
    if (layout.lengths != nullptr && layout.lengths[b] < T) T = layout.lengths[b];
#pragma unroll 4
    for (std::int64_t t = slot; t < T; t += kSlots) {
      sum += static_cast<double>(a.x[t * outputs + o][d]);
    }
  } else if (o < outputs) {
    for (std::int64_t t = slot; t < layout.T; t += kSlots) {
      const std::int64_t first = layout.offsets[t];
      if (layout.offsets[t + 1] - first <= b) break;
      sum += static_cast<double>(a.x[first * layout.K + o][d]);
    }
  }
  sum = sum_of_slots(sum);
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

std::int64_t columns_blocks(std::int64_t D) { return (D + kWarpSize - 1) / kWarpSize; }

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
  sum = sum_of_slots(sum);
  if (threadIdx.x < kWarpSize && d < a.D) {
    Out* y = a.y + chunk * a.D + d;
    if (a.accumulate) sum += static_cast<double>(*y);
    *y = static_cast<Out>(sum);
  }
}

template <class In, class Out>
void launch_column_sums(const ColumnSums<In, Out>& a, Stream stream) {
  const LaunchShape shape{static_cast<unsigned>(columns_blocks(a.D) * a.chunks), kThreads,
                          sizeof(Slots)};
  launch(column_sums<In, Out>, shape, stream, a);
}

std::int64_t chunks_of(std::int64_t rows, std::int64_t D) {
  if (D == 0) return 1;
  const std::int64_t room = kBlocks / columns_blocks(D), wanted = rows / kRowsOfChunk;
  return std::max<std::int64_t>(1, std::min(room, wanted));
}

}  // namespace

void sum_over_time(const SumOverTimeArgs<float>& a, Stream stream) {
  check(a);
  const std::int64_t columns = a.layout.B * a.layout.K * a.D;
  launch(time_sums, {blocks_for(columns, kWarpSize), kThreads, sizeof(Slots)}, stream, a);
}

std::size_t sum_over_rows_workspace_bytes(std::int64_t rows, std::int64_t D) {
  const std::int64_t chunks = chunks_of(rows, D);
  return chunks == 1 ? 0 : static_cast<std::size_t>(chunks * D) * sizeof(double);
}

void sum_over_rows(const SumOverRowsArgs<float>& a, Stream stream) {
  check(a);
  require_workspace(a.workspace, a.workspace_bytes, sum_over_rows_workspace_bytes(a.rows, a.D),
                    "sum_over_rows");
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

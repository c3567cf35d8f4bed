// A thread an entry: of one step and sequence to be cleared, or of one step, and sequence where
// they share none, to be summed over sequences and chunks, in their order. No thread waits for
// another.
// Floor: memory, the entries written, or read once a sequence and chunk.
#include "kernels/kalman/gradient_sums.cuh"

#include "kernels/common/runtime.hpp"
#include "kernels/kalman/rows.cuh"

namespace seqvae::cuda::kalman {
namespace {

constexpr int kThreads = 256;

/// Steps that an array has, and sequences that it is cleared for.
template <class Real>
SEQVAE_HOST_DEVICE std::int64_t steps_of(const GradientArray<Real>& array, std::int64_t T) {
  return array.to.step != 0 ? T : 1;
}
template <class Real>
SEQVAE_HOST_DEVICE std::int64_t sequences_of(const GradientArray<Real>& array, std::int64_t B) {
  return array.to.sequence != 0 ? B : 1;
}
template <class Real>
SEQVAE_HOST_DEVICE bool is_apart(const GradientArray<Real>& array) {
  return array.apart.data != array.to.data;
}

/// Sequences with a row at step t, where the step has rows of its own.
__device__ __forceinline__ std::int64_t active_at(const RowLayout& layout, std::int64_t t) {
  return layout.offsets != nullptr ? layout.offsets[t + 1] - layout.offsets[t] : layout.B;
}

template <class Real>
__global__ void __launch_bounds__(kThreads)
    clear_entries(const __grid_constant__ GradientSums<Real> sums) {
  std::int64_t place = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const RowLayout& layout = sums.layout;
  for (int k = 0; k < sums.count; ++k) {
    const GradientArray<Real>& array = sums.arrays[k];
    if (is_apart(array)) continue;
    const std::int64_t sequences = sequences_of(array, layout.B);
    const std::int64_t here = steps_of(array, layout.T) * sequences * array.entries;
    if (place >= here) {
      place -= here;
      continue;
    }
    const std::int64_t entry = place % array.entries, pair = place / array.entries;
    const std::int64_t t = pair / sequences, b = pair % sequences;
    const bool own_rows = array.to.step != 0 && array.to.sequence != 0;
    if (!own_rows || b < active_at(layout, t)) at(array.to, layout, t, b)[entry] = 0;
    return;
  }
}

template <class Real>
__global__ void __launch_bounds__(kThreads)
    add_sequences(const __grid_constant__ GradientSums<Real> sums) {
  std::int64_t place = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const RowLayout& layout = sums.layout;
  for (int k = 0; k < sums.count; ++k) {
    const GradientArray<Real>& array = sums.arrays[k];
    if (!is_apart(array)) continue;
    const std::int64_t sequences = sequences_of(array, layout.B);
    const std::int64_t here = steps_of(array, layout.T) * sequences * array.entries;
    if (place >= here) {
      place -= here;
      continue;
    }
    const std::int64_t entry = place % array.entries, pair = place / array.entries;
    const std::int64_t t = pair / sequences, own = pair % sequences;
    const std::int64_t active = array.to.step != 0 ? active_at(layout, t) : layout.B;
    const std::int64_t parts = (array.to.sequence != 0 ? 1 : active) * array.chunks;
    const Real* const from = at(array.apart, layout, t, own) + entry;  // they follow each other
    Real sum = 0;
#pragma unroll 4
    for (std::int64_t p = 0; p < parts; ++p) sum += from[p * array.entries];
    Real& to = array.to.data[t * array.to.step + own * array.to.sequence + entry];
    to = sums.accumulate ? to + sum : sum;
    return;
  }
}

}  // namespace

template <class Real>
void clear(const GradientSums<Real>& sums, StreamAt stream) {
  if (sums.sums_bytes > 0) {
    cuda::clear(sums.sums, sums.sums_bytes, Stream(stream.stream));
  }
  if (sums.accumulate) return;
  std::int64_t entries = 0;
  for (int k = 0; k < sums.count; ++k) {
    const GradientArray<Real>& array = sums.arrays[k];
    if (is_apart(array)) continue;
    entries += steps_of(array, sums.layout.T) * sequences_of(array, sums.layout.B) * array.entries;
  }
  launch(clear_entries<Real>, {blocks_for(entries, kThreads), kThreads}, stream, sums);
}

template <class Real>
void add(const GradientSums<Real>& sums, StreamAt stream) {
  std::int64_t entries = 0;
  for (int k = 0; k < sums.count; ++k) {
    const GradientArray<Real>& array = sums.arrays[k];
    if (!is_apart(array)) continue;
    entries += steps_of(array, sums.layout.T) * sequences_of(array, sums.layout.B) * array.entries;
  }
  launch(add_sequences<Real>, {blocks_for(entries, kThreads), kThreads}, stream, sums);
}

template void clear(const GradientSums<float>&, StreamAt);
template void clear(const GradientSums<double>&, StreamAt);
template void add(const GradientSums<float>&, StreamAt);
template void add(const GradientSums<double>&, StreamAt);

}  // namespace seqvae::cuda::kalman

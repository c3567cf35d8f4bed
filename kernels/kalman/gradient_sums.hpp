// Where the gradients of sequences stand before they are summed; for the host, which counts bytes,
// too.
#pragma once
#include <algorithm>

#include "kernels/kalman/memory.hpp"

namespace seqvae::cuda::kalman {

/// A gradient of so many entries for each step and sequence, or for fewer.
template <class Real>
struct GradientArray {
  StepArray<Real> to;  ///< the caller's
  /// In the workspace, where several sequences or chunks have one place in `to`: one for each
  /// sequence, and in each of those one for each chunk.
  StepArray<Real> apart;
  std::int64_t entries, chunks;
};

template <class Real>
struct GradientSums {
  static constexpr int kMost = 11;
  KalmanGradient<Real> apart;  ///< where a sequence adds its own
  GradientArray<Real> arrays[kMost];
  int count = 0;
  RowLayout layout;
  bool accumulate;
  ChunkEnds<Real> ends;
  Real* sums;  ///< of all that are apart
  std::size_t sums_bytes, bytes;

  /// `sequence_bytes`: what a chunk's lanes have of the workspace where n > 32, which it begins
  /// with.
  GradientSums(const KalmanBackwardArgs<Real>& a, const Chunks& chunks, std::size_t sequence_bytes)
      : layout(a.data.layout), accumulate(a.accumulate) {
    const KalmanModel<Real>& model = a.model;
    const std::int64_t n = model.n, m = model.m, U = model.U;
    Arena arena(a.workspace, kAlignment);
    const std::int64_t all = layout.B * chunks.count;
    if (n > 32) arena.take<std::byte>(all * static_cast<std::int64_t>(sequence_bytes));
    ends = ChunkEnds<Real>(n, layout.B, chunks, arena);
    sums = arena.take<Real>(0);
    const std::size_t begin = arena.used();
    const auto place_of = [&](const StepArray<Real>& to, std::int64_t entries, std::int64_t parts) {
      if (!to) return to;
      GradientArray<Real>& array = arrays[count++];
      array = {to, to, entries, parts};
      if (parts == 1 && (to.sequence != 0 || layout.B <= 1)) return to;
      const std::int64_t steps = to.step != 0 ? layout.T : 1;
      array.apart = {arena.take<Real>(steps * layout.B * parts * entries),
                     to.step != 0 ? layout.B * entries : 0, parts * entries};
      return array.apart;
    };
    const auto place = [&](const StepArray<Real>& to, std::int64_t entries) {
      return place_of(to, entries, to.step != 0 ? 1 : chunks.count);
    };
    /// The prior's is the first chunk's alone.
    const auto place_first = [&](StepArray<Real> to, std::int64_t entries) {
      to.step = 0;
      return place_of(to, entries, 1);
    };
    apart.A = place(a.grad.A, n * n), apart.Q = place(a.grad.Q, n * n);
    apart.B = place(a.grad.B, n * U), apart.state_offset = place(a.grad.state_offset, n);
    apart.C = place(a.grad.C, m * n), apart.D = place(a.grad.D, m * U);
    apart.observation_offset = place(a.grad.observation_offset, m);
    apart.R = place(a.grad.R, model.diagonal_R ? m : m * m);
    apart.m0 = place_first(a.grad.m0, n), apart.P0 = place_first(a.grad.P0, n * n);
    apart.y = a.grad.y;
    if (a.grad.y) {
      place_of({a.grad.y.data, layout.B * a.grad.y.stride, a.grad.y.stride}, m, 1);
    }
    sums_bytes = arena.used() - begin;
    bytes = std::max(arena.used(), kAlignment);
  }
};

/// Of what a chunk's lanes, or a sequence's, have of the workspace where n > 32.
template <class Real>
std::size_t lane_bytes(const KalmanSampleBackwardArgs<Real>& a) {
  return std::max(bytes_of<FilterMemory>(a.model, KalmanForm::joseph),
                  bytes_of<DrawGradientMemory>(a.model));
}
template <class Real>
std::size_t lane_bytes(const KalmanBackwardArgs<Real>& a) {
  return std::max({bytes_of<BackwardMapMemory>(a.model),
                   ApplyMemory<Real, 64>(Arena(nullptr, kAlignment)).bytes,
                   bytes_of<FilterMemory>(a.model, KalmanForm::joseph),
                   bytes_of<DrawGradientMemory>(a.model),
                   bytes_of<CovarianceGradientMemory>(a.model)});
}

/// Of a reverse pass: the sums of gradients first, then what those of draws, or of smoothed means,
/// and of smoothed covariances keep.
template <class Real>
struct ReverseWorkspace {
  GradientSums<Real> sums;
  Gains<Real> gains;
  KeptDraw<Real> draw;
  Real* D;  ///< [B][T][n][n]
  std::size_t bytes;

  ReverseWorkspace(const KalmanBackwardArgs<Real>& a, const Chunks& chunks)
      : ReverseWorkspace(a, chunks, lane_bytes(a), bool(a.grad_smoothed_mean),
                         bool(a.grad_smoothed_covariance), Arena(a.workspace, kAlignment)) {}
  explicit ReverseWorkspace(const KalmanSampleBackwardArgs<Real>& a)
      : ReverseWorkspace(sums_of(a), Chunks{a.data.layout.T, 1}, lane_bytes(a), true, false,
                         Arena(a.workspace, kAlignment)) {}

 private:
  ReverseWorkspace(const KalmanBackwardArgs<Real>& a, const Chunks& chunks,
                   std::size_t sequence_bytes, bool draws, bool covariances, Arena arena)
      : sums(a, chunks, sequence_bytes),
        gains(a.model, draws || covariances ? a.data.layout : RowLayout(), true,
              behind(sums.bytes, arena)) {
    const std::int64_t n = a.model.n, m = a.model.m, steps = a.data.layout.B * a.data.layout.T;
    const std::int64_t drawn = draws ? steps : 0;
    draw.v = arena.take<Real>(drawn * m), draw.w = arena.take<Real>(drawn * m);
    draw.z = arena.take<Real>(drawn * n), draw.lambda = arena.take<Real>(drawn * n);
    D = arena.take<Real>(covariances ? steps * n * n : 0);
    bytes = std::max(arena.used(), kAlignment);
  }
  static KalmanBackwardArgs<Real> sums_of(const KalmanSampleBackwardArgs<Real>& a) {
    KalmanBackwardArgs<Real> sums;
    sums.model = a.model, sums.data = a.data, sums.grad = a.grad, sums.accumulate = a.accumulate;
    sums.workspace = a.workspace;
    return sums;
  }
  static Arena& behind(std::size_t bytes, Arena& arena) {
    arena.take<std::byte>(static_cast<std::int64_t>(bytes));
    return arena;
  }
};

}  // namespace seqvae::cuda::kalman

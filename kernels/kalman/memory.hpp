// What the Kalman kernels keep for a sequence, and in which sizes they are compiled; for the host,
// which counts it, too.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "seqvae/core/arena.hpp"
#include "seqvae/kernels/kalman.hpp"

namespace seqvae::cuda::kalman {

inline constexpr std::int64_t kMostDimensions = 64;
inline constexpr std::size_t kAlignment = 16;  // of a sequence's arrays

/// Calls f(N), a constant: the least of 2, 4, .., 64 that holds n.
template <class F>
decltype(auto) with_size(std::int64_t n, F f) {
  if (n <= 2) return f(std::integral_constant<int, 2>());
  if (n <= 4) return f(std::integral_constant<int, 4>());
  if (n <= 8) return f(std::integral_constant<int, 8>());
  if (n <= 16) return f(std::integral_constant<int, 16>());
  if (n <= 32) return f(std::integral_constant<int, 32>());
  return f(std::integral_constant<int, 64>());
}

/// Elements from one row of a small matrix to the next: rows of 16 bytes and more start at other
/// banks, 16 bytes apart.
template <class Real, int N>
inline constexpr int kRow = N <= 4 ? N : N + 16 / static_cast<int>(sizeof(Real));

/// A sequence's bytes so that those that share a block's memory start at other banks.
inline std::size_t apart(std::size_t bytes) {
  return bytes / kAlignment % 2 == 1 ? bytes : bytes + kAlignment;
}

/// m components of a state padded to N.
template <class Real, int N>
struct ObservationMemory {
  Real *c, *h, *e;    ///< [m][N], [m], [m]
  Real* L = nullptr;  ///< [m][m]  of a full R
  std::int32_t *index, *seen;
  int L_row;

  SEQVAE_HOST_DEVICE ObservationMemory(std::int64_t m, bool diagonal_R, Arena& arena)
      : L_row(static_cast<int>(m | 1)) {
    c = arena.take<Real>(m * kRow<Real, N>);
    h = arena.take<Real>(m), e = arena.take<Real>(m);
    index = arena.take<std::int32_t>(m), seen = arena.take<std::int32_t>(m);
    if (!diagonal_R) L = arena.take<Real>(m * L_row);
  }
};

/// P, or [A S | L_Q] whose first half is S between predictions, P = S S^T.
template <class Real, int N>
struct CovarianceMemory {
  Real *P, *next;     ///< [N][N], or [N][2 N] and the root of Q
  Real *w, *k, *phi;  ///< [N] each
  Real* rows;         ///< [N][N]  of lanes that have too few registers

  SEQVAE_HOST_DEVICE CovarianceMemory(KalmanForm form, Arena& arena) {
    const bool by_root = form == KalmanForm::square_root;
    P = arena.take<Real>(N * (by_root ? kRow<Real, 2 * N> : kRow<Real, N>));
    next = arena.take<Real>(N * kRow<Real, N>);
    w = arena.take<Real>(N), k = arena.take<Real>(N), phi = arena.take<Real>(N);
    rows = arena.take<Real>(N <= 32 ? 0 : N * kRow<Real, N>);
  }
};

template <class Real, int N>
struct FilterMemory {
  Real* exchange;  ///< [2]
  Real *A, *mean;  ///< [N][N], [N]
  CovarianceMemory<Real, N> covariance;
  ObservationMemory<Real, N> observation;

  SEQVAE_HOST_DEVICE FilterMemory(const KalmanModel<Real>& model, KalmanForm form, Arena arena)
      : exchange(arena.take<Real>(2)),
        A(arena.take<Real>(N * kRow<Real, N>)),
        mean(arena.take<Real>(N)),
        covariance(form, arena),
        observation(model.m, model.diagonal_R, arena),
        bytes(arena.used()) {}
  std::size_t bytes;
};

/// How the filter splits a sequence's T steps.
struct Chunks {
  std::int64_t steps, count;
};

/// What is fastest by a model of the device's latency, where the caller leaves it open. A chunk
/// costs about three times its steps' time, and its map about three steps to be applied, so that
/// there should be about sqrt(T) of sqrt(T) steps, and no more than run side by side: 132
/// multiprocessors with 16 warps each.
inline Chunks choose_chunks(std::int64_t n, std::int64_t T, std::int64_t B) {
  const std::int64_t lanes = with_size(n, [](auto size) { return std::int64_t{size}; });
  const std::int64_t at_once = 132 * 16 * 32 / lanes / (B > 0 ? B : 1);
  std::int64_t steps = 8;
  while (steps * steps < T) ++steps;
  if (at_once < 4) return {T, 1};
  if (steps * at_once < T) steps = (T + at_once - 1) / at_once;
  return 4 * steps > T ? Chunks{T, 1} : Chunks{steps, (T + steps - 1) / steps};
}
/// Of a call of the filter, the smoother or the gradient.
template <class Args>
Chunks chunks_of(const Args& a) {
  const std::int64_t T = a.data.layout.T;
  if constexpr (requires { a.shared_covariance; }) {
    if (a.shared_covariance) return {T, 1};
  }
  if (a.chunk == 0) return choose_chunks(a.model.n, T, a.data.layout.B);
  return a.chunk >= T ? Chunks{T, 1} : Chunks{a.chunk, (T + a.chunk - 1) / a.chunk};
}

template <class Real, int N>
struct SummaryMemory {
  FilterMemory<Real, N> filter;
  Real *map, *J, *along;  ///< [N][N], [N][N], [N]

  SEQVAE_HOST_DEVICE SummaryMemory(const KalmanModel<Real>& model, KalmanForm form, Arena arena)
      : filter(model, form, arena) {
    arena.take<std::byte>(static_cast<std::int64_t>(filter.bytes));
    map = arena.take<Real>(N * kRow<Real, N>), J = arena.take<Real>(N * kRow<Real, N>);
    along = arena.take<Real>(N);
    bytes = arena.used();
  }
  std::size_t bytes;
};

template <class Real, int N>
struct ApplyMemory {
  Real* exchange;
  Real *L, *G, *vector, *rows;  ///< [N][N], [N][N], [N], and as in CovarianceMemory

  SEQVAE_HOST_DEVICE explicit ApplyMemory(Arena arena)
      : exchange(arena.take<Real>(2)),
        L(arena.take<Real>(N * kRow<Real, N>)),
        G(arena.take<Real>(N * kRow<Real, N>)),
        vector(arena.take<Real>(N)),
        rows(arena.take<Real>(N <= 32 ? 0 : N * kRow<Real, N>)),
        bytes(arena.used()) {}
  std::size_t bytes;
};

/// Of all chunks of all sequences.
template <class Real>
struct ChunkWorkspace {
  Real *summaries, *starts;                    ///< [B][chunks] of 3 n^2 + 2 n and of n + n^2
  std::int32_t *summarised, *plan, *bad_step;  ///< [B][chunks]
  std::byte* memory;                           ///< of chunks with more than 32 states
  std::size_t bytes;

  ChunkWorkspace(const KalmanFilterArgs<Real>& a, const Chunks& chunks, std::size_t memory_bytes) {
    const std::int64_t n = a.model.n, all = a.data.layout.B * chunks.count;
    const std::int64_t kept = chunks.count > 1 ? all : 0;
    Arena arena(a.workspace, kAlignment);
    summaries = arena.take<Real>(kept * (3 * n * n + 2 * n));
    starts = arena.take<Real>(kept * (n + n * n));
    summarised = arena.take<std::int32_t>(kept), plan = arena.take<std::int32_t>(kept);
    bad_step = arena.take<std::int32_t>(kept);
    memory = arena.take<std::byte>(n > 32 ? all * static_cast<std::int64_t>(memory_bytes) : 0);
    bytes = arena.used() + kAlignment;
  }
};

/// A step of the filter again: what each component did.
template <class Real, int N>
struct ReplayMemory {
  Real* exchange;
  Real *A, *before;     ///< [N][N]; the filtered covariance of the step before
  Real *k, *f, *v;      ///< [m][N], [m], [m]
  Real *vector, *rows;  ///< [N], free between calls; [N][N] as in CovarianceMemory
  CovarianceMemory<Real, N> covariance;
  ObservationMemory<Real, N> observation;

  SEQVAE_HOST_DEVICE ReplayMemory(const KalmanModel<Real>& model, Arena& arena)
      : exchange(arena.take<Real>(2)),
        A(arena.take<Real>(N * kRow<Real, N>)),
        before(arena.take<Real>(N * kRow<Real, N>)),
        k(arena.take<Real>(model.m * kRow<Real, N>)),
        f(arena.take<Real>(model.m)),
        v(arena.take<Real>(model.m)),
        vector(arena.take<Real>(N)),
        rows(arena.take<Real>(N <= 32 ? 0 : N * kRow<Real, N>)),
        covariance(KalmanForm::joseph, arena),
        observation(model.m, model.diagonal_R, arena) {}
};

template <class Real, int N>
struct SmootherMemory {
  ReplayMemory<Real, N> replay;
  Real *filtered, *N_later, *product;  ///< [N][N]: P of the step, N after it

  SEQVAE_HOST_DEVICE SmootherMemory(const KalmanModel<Real>& model, Arena arena)
      : replay(model, arena),
        filtered(arena.take<Real>(N * kRow<Real, N>)),
        N_later(arena.take<Real>(N * kRow<Real, N>)),
        product(arena.take<Real>(N * kRow<Real, N>)),
        bytes(arena.used()) {}
  std::size_t bytes;
};

/// What a reverse pass over several chunks keeps of them; none of one.
template <class Real>
struct ChunkEnds {
  Real *maps = nullptr, *ends = nullptr;  ///< [B][chunks] of 2 n^2 + 2 n, n + n^2 (chunk_ends.cuh)

  ChunkEnds() = default;
  ChunkEnds(std::int64_t n, std::int64_t B, const Chunks& chunks, Arena& arena) {
    const std::int64_t kept = chunks.count > 1 ? B * chunks.count : 0;
    maps = arena.take<Real>(kept * (2 * n * n + 2 * n));
    ends = arena.take<Real>(kept * (n + n * n));
  }
};

/// Of all chunks of all sequences.
template <class Real>
struct SmootherWorkspace {
  ChunkEnds<Real> ends;
  std::byte* memory;  ///< of chunks with more than 32 states
  std::size_t bytes;

  SmootherWorkspace(const KalmanSmootherArgs<Real>& a, const Chunks& chunks,
                    std::size_t memory_bytes) {
    const std::int64_t n = a.model.n, B = a.data.layout.B, all = B * chunks.count;
    Arena arena(a.workspace, kAlignment);
    ends = ChunkEnds<Real>(n, B, chunks, arena);
    memory = arena.take<std::byte>(n > 32 ? all * static_cast<std::int64_t>(memory_bytes) : 0);
    bytes = arena.used() + kAlignment;
  }
};

template <class Real, int N>
struct BackwardMemory {
  ReplayMemory<Real, N> replay;
  Real *Lambda, *grad_c, *grad_e;   ///< [N][N], [m][N], [m]
  Real *M = nullptr, *W = nullptr;  ///< [m][m] each, of a full R
  Real* of_mean = nullptr;          ///< [m]

  SEQVAE_HOST_DEVICE BackwardMemory(const KalmanModel<Real>& model, Arena arena)
      : replay(model, arena) {
    const std::int64_t m = model.m;
    Lambda = arena.take<Real>(N * kRow<Real, N>);
    grad_c = arena.take<Real>(m * kRow<Real, N>), grad_e = arena.take<Real>(m);
    if (!model.diagonal_R) {
      M = arena.take<Real>(m * (m | 1)), W = arena.take<Real>(m * (m | 1));
      of_mean = arena.take<Real>(m);
    }
    bytes = arena.used();
  }
  std::size_t bytes;
};

template <class Real, int N>
struct BackwardMapMemory {
  BackwardMemory<Real, N> backward;
  Real* map;  ///< [N][N]

  SEQVAE_HOST_DEVICE BackwardMapMemory(const KalmanModel<Real>& model, Arena arena)
      : backward(model, arena) {
    arena.take<std::byte>(static_cast<std::int64_t>(backward.bytes));
    map = arena.take<Real>(N * kRow<Real, N>);
    bytes = arena.used();
  }
  std::size_t bytes;
};

template <class Real, int N>
struct ForecastMemory {
  Real* exchange;
  Real *A, *C, *mean;  ///< [N][N], [m][N], [N]
  CovarianceMemory<Real, N> covariance;

  SEQVAE_HOST_DEVICE ForecastMemory(const KalmanModel<Real>& model, Arena arena)
      : exchange(arena.take<Real>(2)),
        A(arena.take<Real>(N * kRow<Real, N>)),
        C(arena.take<Real>(model.m * kRow<Real, N>)),
        mean(arena.take<Real>(N)),
        covariance(KalmanForm::joseph, arena),
        bytes(arena.used()) {}
  std::size_t bytes;
};

/// A factor of a covariance [k][k], and draws for it.
template <class Real>
struct NoiseMemory {
  Real *L, *h, *draws;  ///< [k][k], [k], [k]
  int row;

  SEQVAE_HOST_DEVICE NoiseMemory(std::int64_t k, Arena& arena) : row(static_cast<int>(k | 1)) {
    L = arena.take<Real>(k * row), h = arena.take<Real>(k), draws = arena.take<Real>(k);
  }
};

template <class Real, int N>
struct PathMemory {
  Real* exchange;
  Real *A, *z;  ///< [N][N], [N]
  NoiseMemory<Real> state, observed;
  Real* vector;  ///< [N]

  SEQVAE_HOST_DEVICE PathMemory(const KalmanModel<Real>& model, Arena arena)
      : exchange(arena.take<Real>(2)),
        A(arena.take<Real>(N * kRow<Real, N>)),
        z(arena.take<Real>(N)),
        state(model.n, arena),
        observed(model.m, arena),
        vector(arena.take<Real>(N)),
        bytes(arena.used()) {}
  std::size_t bytes;
};

/// The filter's gains for all steps, in the workspace (gains.cuh).
template <class Real>
struct Gains {
  std::int32_t* count;      ///< [B][T]  components observed
  Real *c, *k, *e, *h, *f;  ///< [B][T][m][n] twice, [B][T][m] thrice
  Real* P = nullptr;        ///< [B][T][n][n]  filtered covariances, where they are kept

  Gains(const KalmanModel<Real>& model, const RowLayout& layout, bool keep_covariance,
        Arena& arena) {
    const std::int64_t n = model.n, steps = layout.B * layout.T, all = steps * model.m;
    count = arena.take<std::int32_t>(steps);
    c = arena.take<Real>(all * n), k = arena.take<Real>(all * n);
    e = arena.take<Real>(all), h = arena.take<Real>(all), f = arena.take<Real>(all);
    if (keep_covariance) P = arena.take<Real>(steps * n * n);
  }
};

/// What draws keep, in the workspace.
template <class Real>
struct SampleWorkspace {
  Real *v, *mean;     ///< [S][B][T][m], [S][B][T][n]
  std::byte* memory;  ///< of sequences or draws with more than 32 states
  Gains<Real> gains;
  std::size_t bytes;

  SampleWorkspace(const KalmanSampleArgs<Real>& a, std::size_t memory_bytes)
      : SampleWorkspace(a, memory_bytes, Arena(a.workspace, kAlignment)) {}

 private:
  SampleWorkspace(const KalmanSampleArgs<Real>& a, std::size_t memory_bytes, Arena arena)
      : gains(a.model, a.data.layout, false, arena) {
    const RowLayout& layout = a.data.layout;
    const std::int64_t steps = layout.B * layout.T, most = layout.B * (a.S > 1 ? a.S : 1);
    v = arena.take<Real>(a.S * steps * a.model.m), mean = arena.take<Real>(a.S * steps * a.model.n);
    memory =
        arena.take<std::byte>(a.model.n > 32 ? most * static_cast<std::int64_t>(memory_bytes) : 0);
    bytes = arena.used() + kAlignment;
  }
};

/// What the gradient of draws has of a sequence (draw_gradient.cuh).
template <class Real, int N>
struct DrawGradientMemory {
  ObservationMemory<Real, N> observation;
  PathMemory<Real, N> path;
  Real *r, *rho, *r_before, *rho_before;  ///< [N] each
  Real *g, *zeta, *root_h;                ///< [m] each
  Real *of_Q, *of_R = nullptr;            ///< [n][n | 1]; [m][m | 1] of a full R
  Real* scratch;                          ///< the larger of those
  std::size_t bytes;

  SEQVAE_HOST_DEVICE DrawGradientMemory(const KalmanModel<Real>& model, Arena arena)
      : observation(model.m, model.diagonal_R, arena), path(model, arena) {
    const std::int64_t n = model.n, m = model.m, size = n * (n | 1);
    const std::int64_t observed = model.diagonal_R ? 0 : m * (m | 1);
    arena.take<std::byte>(static_cast<std::int64_t>(path.bytes - arena.used()));
    r = arena.take<Real>(N), rho = arena.take<Real>(N);
    r_before = arena.take<Real>(N), rho_before = arena.take<Real>(N);
    g = arena.take<Real>(m), zeta = arena.take<Real>(m), root_h = arena.take<Real>(m);
    of_Q = arena.take<Real>(size);
    if (!model.diagonal_R) of_R = arena.take<Real>(observed);
    scratch = arena.take<Real>(size > observed ? size : observed);
    bytes = arena.used();
  }
};

/// What the gradient of draws keeps for all steps of a sequence, one draw after the other.
template <class Real>
struct KeptDraw {
  Real *v, *w;       ///< [B][T][m] each  innovations of y~, and of the gradient's state
  Real *z, *lambda;  ///< [B][T][n] each  filtered
};

/// What the gradient of smoothed covariances has of a sequence (covariance_gradient.cuh).
template <class Real, int N>
struct CovarianceGradientMemory {
  Real* exchange;
  Real *A, *P, *W, *D, *N_later, *O, *H, *product;  ///< [N][N] each
  Real *r, *rho, *rows;                             ///< [N] twice; as in CovarianceMemory
  Real *k, *a, *kappa;                              ///< [m][N] each
  ObservationMemory<Real, N> observation;
  std::size_t bytes;

  SEQVAE_HOST_DEVICE CovarianceGradientMemory(const KalmanModel<Real>& model, Arena arena)
      : exchange(arena.take<Real>(2)), observation(model.m, model.diagonal_R, arena) {
    for (Real** matrix : {&A, &P, &W, &D, &N_later, &O, &H, &product}) {
      *matrix = arena.take<Real>(N * kRow<Real, N>);
    }
    r = arena.take<Real>(N), rho = arena.take<Real>(N);
    rows = arena.take<Real>(N <= 32 ? 0 : N * kRow<Real, N>);
    for (Real** row : {&k, &a, &kappa}) *row = arena.take<Real>(model.m * kRow<Real, N>);
    bytes = arena.used();
  }
};

/// Bytes of a sequence's memory where it is in the workspace, of more than 32 states.
template <template <class, int> class Memory, class Real, class... More>
std::size_t bytes_of(const KalmanModel<Real>& model, More... more) {
  return Memory<Real, 64>(model, more..., Arena(nullptr, kAlignment)).bytes;
}

/// Bytes of a workspace that holds nothing else; never none.
template <template <class, int> class Memory, class Real, class... More>
std::size_t workspace_bytes(const KalmanModel<Real>& model, std::int64_t sequences, More... more) {
  const std::size_t each = model.n > 32 ? bytes_of<Memory>(model, more...) : 0;
  return static_cast<std::size_t>(sequences) * each + kAlignment;
}

}  // namespace seqvae::cuda::kalman

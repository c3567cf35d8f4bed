// Chunks of a sequence at once, N lanes each (lanes.cuh), in four kernels: each chunk but the last
// is summarised as one map of the state before it (host/cpu/kalman_chunks.hpp has the equations and
// their source), the first as the moments after it; the maps are applied one after the other, N
// lanes a sequence; every chunk is filtered from its own start; what is bad or padding is filled. A
// chunk that is no such map (a component without noise) is filtered in turn with all that follow.
// Floor: latency of two chunks and of T / chunk applications; a summary is 3 n^2 + 2 n numbers.
// Hazards: lanes.cuh; kernels of a stream follow each other, so no chunk waits for another.
#include "kernels/kalman/filter_chunks.cuh"

#include "kernels/kalman/filter.cuh"
#include "kernels/kalman/sequences.cuh"

namespace seqvae::cuda::kalman {
namespace {

enum Plan : std::int32_t { nothing, one_chunk, to_the_end };

/// A, C, J [n][n] and b, eta [n] of one chunk, in the workspace.
template <class Real>
struct Summary {
  Real *A, *C, *J, *b, *eta;
  __device__ __forceinline__ Summary(std::int64_t n, Real* memory)
      : A(memory), C(A + n * n), J(C + n * n), b(J + n * n), eta(b + n) {}
};
template <class Real>
__device__ __forceinline__ Summary<Real> summary_of(const ChunkWorkspace<Real>& w, std::int64_t n,
                                                    std::int64_t i) {
  return {n, w.summaries + i * (3 * n * n + 2 * n)};
}
/// m[n] and P[n][n] before a chunk.
template <class Real>
__device__ __forceinline__ Real* start_of(const ChunkWorkspace<Real>& w, std::int64_t n,
                                          std::int64_t i) {
  return w.starts + i * (n + n * n);
}

/// Given z before a stretch of steps
///     z after it, given its y   ~ N(A z + b, C),        p(y | z) ~ exp(eta.z - z.J z / 2).
template <class Real, int N>
class Summariser {
 public:
  __device__ __forceinline__ Summariser(const KalmanFilterArgs<Real>& a,
                                        const SummaryMemory<Real, N>& memory)
      : a_(a),
        at_(memory),
        lanes_(memory.filter.exchange),
        covariance_(lanes_, a.model.n, a.form, memory.filter.covariance),
        observation_(lanes_, a.model, a.data, memory.filter.observation) {}

  /// Steps begin .. end of sequence b. From the prior on, b and C are the moments after them.
  /// False, for every lane, where they are no such map.
  __device__ __forceinline__ bool run(std::int64_t begin, std::int64_t end, std::int64_t b,
                                      const Summary<Real>& out) {
    const std::int64_t n = a_.model.n;
    const int i = lanes_.lane();
    for (int r = 0; r < N; ++r) {
      at_.map[r * S + i] = r == i && i < n ? Real(1) : Real(0);
      at_.J[r * S + i] = 0;
    }
    if (begin > 0) {
      covariance_.set_zero();
    } else {
      const KalmanModel<Real>& model = a_.model;
      b_ = prior_mean(model, b, i);
      if (!covariance_.set(model.P0.data + b * model.P0.sequence)) return false;
    }
    for (std::int64_t t = begin; t < end; ++t) {
      if (t > 0 && !predict(t, b)) return false;
      if (!observation_.read(t, b)) return false;
      for (int j = 0; j < observation_.count(); ++j) {
        if (!condition(j)) return false;
      }
    }
    lanes_.sync();
    give(lanes_, n, at_.map, out.A);
    give(lanes_, n, at_.J, out.J);
    give(lanes_, n, covariance_.P(), out.C, covariance_.row());
    if (i < n) out.b[i] = b_, out.eta[i] = eta_;
    return true;
  }

 private:
  static constexpr int S = kRow<Real, N>;

  __device__ __forceinline__ bool predict(std::int64_t t, std::int64_t b) {
    const KalmanModel<Real>& model = a_.model;
    const RowLayout& layout = a_.data.layout;
    const int i = lanes_.lane();
    const Real* A = at(model.A, layout, t, b);
    lanes_.sync();
    at_.filter.mean[i] = b_;
    if (A != A_) bring(lanes_, model.n, A_ = A, at_.filter.A);
    lanes_.sync();
    b_ = dot<Real, N>(at_.filter.A + i * S, at_.filter.mean);
    if (i < model.n) {
      b_ += inputs_of(i, model.U, layout, model.B, model.state_offset, a_.data.u, t, b);
    }
    OwnRow<Real, N> x(at_.filter.covariance.rows, i);
    row_times([&](int k) { return at_.filter.A[i * S + k]; }, at_.map, S, x);
    lanes_.sync();
    store(at_.map + i * S, x);
    return covariance_.predict(at_.filter.A, at(model.Q, layout, t, b));  // with a sync()
  }
  __device__ __forceinline__ bool condition(int j) {
    const int i = lanes_.lane();
    const Real* c = observation_.c(j);
    const Real v = observation_.e(j) - lanes_.sum(c[i] * b_);
    Real w;
    const Real f = covariance_.condition(c, observation_.h(j), w);
    if (!(f > 0) || !is_finite(f)) return false;
    const Real k = w / f, over_f = 1 / f;
    b_ = multiply_add(v, k, b_);
    Real along = 0;  // this lane's component of c^T A
    for (int r = 0; r < N; ++r) along = multiply_add(c[r], at_.map[r * S + i], along);
    eta_ = multiply_add(v / f, along, eta_);
    at_.along[i] = along;
    lanes_.sync();
    OwnRow<Real, N> x(at_.filter.covariance.rows, i);
    load(x, at_.map + i * S);
    axpy(x, -k, at_.along);
    store(at_.map + i * S, x);
    load(x, at_.J + i * S);
    for_each_entry<Real, N>(at_.along, [&](int p, Real other) { x[p] += along * other * over_f; });
    store(at_.J + i * S, x);
    lanes_.sync();
    return true;
  }

  const KalmanFilterArgs<Real>& a_;
  SummaryMemory<Real, N> at_;
  Lanes<Real, N> lanes_;
  StateCovariance<Real, N> covariance_;
  Observation<Real, N> observation_;
  Real b_ = 0, eta_ = 0;     // this lane's components
  const Real* A_ = nullptr;  // what stands in memory
};

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    summarise_chunks(const __grid_constant__ KalmanFilterArgs<Real> a, Chunks chunks,
                     const __grid_constant__ ChunkWorkspace<Real> w, Deal deal) {
  const std::int64_t i = my_sequence<N>(deal);
  if (i >= deal.sequences) return;
  const std::int64_t b = i / chunks.count, begin = i % chunks.count * chunks.steps;
  const std::int64_t end = begin + chunks.steps;
  const SummaryMemory<Real, N> memory(a.model, a.form, Arena(my_memory<N>(deal), kAlignment));
  // The last of a sequence need no summary.
  const bool done = end < length_of(a.data.layout, b) &&
                    Summariser<Real, N>(a, memory).run(begin, end, b, summary_of(w, a.model.n, i));
  if (threadIdx.x % N == 0) w.summarised[i] = done ? 1 : 0;
}

/// The same as transposed_congruence: a function of its own, whose rows have all registers.
template <class Real, int N>
[[gnu::noinline]] __device__ void turn(Lanes<Real, N> lanes, const Real* L, Real* J, Real* rows) {
  transposed_congruence(lanes, L, J, rows);
}

/// This lane's component of M M^T x, from its component of x and its own row of M. M is everybody's
/// after it.
template <class Real, int N>
__device__ __forceinline__ Real product_with_transposed(const Lanes<Real, N>& lanes, const Real* M,
                                                        Real x, Real* vector) {
  constexpr int S = kRow<Real, N>;
  const int i = lanes.lane();
  vector[i] = x;
  lanes.sync();
  Real sum = 0;
  for (int k = 0; k < N; ++k) sum = multiply_add(M[k * S + i], vector[k], sum);
  lanes.sync();
  vector[i] = sum;
  lanes.sync();
  return dot<Real, N>(M + i * S, vector);
}

/// m and P before a chunk to those after it. With P = L L^T and G = I + L^T J L = M M^T, whose
/// eigenvalues are 1 or more, P given its y is W W^T, W = L M^-T.
template <class Real, int N>
__device__ __forceinline__ bool apply(const Lanes<Real, N>& lanes, std::int64_t n,
                                      const ApplyMemory<Real, N>& at, const Summary<Real>& s,
                                      const Real* from, Real* to) {
  constexpr int S = kRow<Real, N>;
  const int i = lanes.lane();
  lanes.sync();
  bring(lanes, n, from + n, at.L);
  if (!take_root(lanes, n, at.L, S, at.vector)) return false;
  bring(lanes, n, s.J, at.G);
  Real m = i < n ? from[i] : Real(0);
  at.vector[i] = m;
  lanes.sync();
  const Real rest = (i < n ? s.eta[i] : Real(0)) - dot<Real, N>(at.G + i * S, at.vector);
  lanes.sync();
  turn(lanes, at.L, at.G, at.rows);
  at.G[i * S + i] += 1;
  lanes.sync();
  for (int j = 0; j < n; ++j) {  // Cholesky's factor, in the lower half
    Real pivot = at.G[j * S + j];
    for (int p = 0; p < j; ++p) pivot = multiply_add(-at.G[j * S + p], at.G[j * S + p], pivot);
    if (!(pivot > 0) || !is_finite(pivot)) return false;
    const Real diagonal = root(pivot);
    Real entry = at.G[i * S + j];
    for (int p = 0; p < j; ++p) entry = multiply_add(-at.G[i * S + p], at.G[j * S + p], entry);
    lanes.sync();  // the pivot has been read
    if (i >= j && i < n) at.G[i * S + j] = i == j ? diagonal : entry / diagonal;
    lanes.sync();
  }
  Real* own = at.L + i * S;  // row i of W from that of L
  for (int j = 0; j < n; ++j) {
    Real entry = own[j];
    for (int p = 0; p < j; ++p) entry = multiply_add(-own[p], at.G[j * S + p], entry);
    own[j] = entry / at.G[j * S + j];
  }
  m += product_with_transposed(lanes, at.L, rest, at.vector);  // W W^T (eta - J m)
  lanes.sync();
  bring(lanes, n, s.A, at.G);
  at.vector[i] = m;
  lanes.sync();
  m = (i < n ? s.b[i] : Real(0)) + dot<Real, N>(at.G + i * S, at.vector);
  OwnRow<Real, N> x(at.rows, i);
  row_times([&](int k) { return at.G[i * S + k]; }, at.L, S, x);
  lanes.sync();
  store(at.L + i * S, x);  // A W
  lanes.sync();
  if (i < n) to[i] = m;
  for (int j = 0; j < n; ++j) {
    const Real entry = dot<Real, N>(x, at.L + j * S);
    if (i < n) to[n + j * n + i] = entry + s.C[j * n + i];
  }
  lanes.sync();
  return true;
}

template <class Real, int N>
__device__ __forceinline__ bool copy_moments(const Lanes<Real, N>& lanes, std::int64_t n,
                                             const Summary<Real>& s, Real* to) {
  const int i = lanes.lane();
  if (i < n) to[i] = s.b[i];
  for (int r = 0; i < n && r < n; ++r) to[n + r * n + i] = s.C[r * n + i];
  lanes.sync();
  return true;
}

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    find_starts(const __grid_constant__ KalmanFilterArgs<Real> a, Chunks chunks,
                const __grid_constant__ ChunkWorkspace<Real> w, Deal deal) {
  const std::int64_t b = my_sequence<N>(deal);
  if (b >= deal.sequences) return;
  const std::int64_t n = a.model.n, length = length_of(a.data.layout, b);
  const ApplyMemory<Real, N> memory(Arena(my_memory<N>(deal), kAlignment));
  const Lanes<Real, N> lanes(memory.exchange);
  const std::int64_t first = b * chunks.count;
  bool on = length > 0;  // there is this chunk, and those before it are all maps
  for (std::int64_t k = 0; k < chunks.count; ++k) {
    const std::int64_t i = first + k, end = (k + 1) * chunks.steps;
    const bool exists = on;
    const bool last = k + 1 == chunks.count || end >= length;
    on = exists && !last && w.summarised[i] != 0 &&
         (k > 0 ? apply(lanes, n, memory, summary_of(w, n, i), start_of(w, n, i),
                        start_of(w, n, i + 1))
                : copy_moments(lanes, n, summary_of(w, n, i), start_of(w, n, i + 1)));
    if (lanes.lane() == 0) {
      w.plan[i] = !exists ? nothing : last || on ? one_chunk : to_the_end;
    }
  }
}

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    filter_from_starts(const __grid_constant__ KalmanFilterArgs<Real> a, Chunks chunks,
                       const __grid_constant__ ChunkWorkspace<Real> w, Deal deal) {
  const std::int64_t i = my_sequence<N>(deal);
  if (i >= deal.sequences || w.plan[i] == nothing) return;
  const std::int64_t b = i / chunks.count, n = a.model.n, length = length_of(a.data.layout, b);
  const std::int64_t begin = i % chunks.count * chunks.steps;
  const bool one = w.plan[i] == one_chunk && begin + chunks.steps < length;
  const std::int64_t end = one ? begin + chunks.steps : length;
  const FilterMemory<Real, N> memory(a.model, a.form, Arena(my_memory<N>(deal), kAlignment));
  SequenceFilter<Real, N> filter(a, b, memory);
  const bool sound = begin == 0 || filter.set(start_of(w, n, i), start_of(w, n, i) + n);
  const std::int64_t done = sound ? filter.run(begin, end) : begin;
  if (threadIdx.x % N == 0) w.bad_step[i] = done < end ? static_cast<std::int32_t>(done + 1) : 0;
}

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    conclude(const __grid_constant__ KalmanFilterArgs<Real> a, Chunks chunks,
             const __grid_constant__ ChunkWorkspace<Real> w, Deal deal) {
  const std::int64_t b = my_sequence<N>(deal);
  if (b >= deal.sequences) return;
  std::int64_t end = length_of(a.data.layout, b);
  for (std::int64_t k = chunks.count - 1; k >= 0; --k) {
    const std::int64_t i = b * chunks.count + k;
    if (w.plan[i] != nothing && w.bad_step[i] != 0) end = w.bad_step[i] - 1;
  }
  const FilterMemory<Real, N> memory(a.model, a.form, Arena(my_memory<N>(deal), kAlignment));
  const SequenceFilter<Real, N> filter(a, b, memory);
  filter.give_status(end);
  filter.fill_from(end);
}

}  // namespace

template <class Real>
void filter_chunks(const KalmanFilterArgs<Real>& a, const Chunks& chunks, StreamAt stream) {
  with_size(a.model.n, [&](auto size) {
    const Arena none(nullptr, kAlignment);
    const FilterMemory<Real, size> filter(a.model, a.form, none);
    const SummaryMemory<Real, size> summary(a.model, a.form, none);
    const ApplyMemory<Real, size> application(none);
    const ChunkWorkspace<Real> w(a, chunks, std::max(summary.bytes, application.bytes));
    const std::int64_t B = a.data.layout.B, all = B * chunks.count;
    const char* where = "kalman_filter";
    launch_sequences<size>(summarise_chunks<Real, size>, all, summary.bytes, w.memory, where,
                           stream, a, chunks, w);
    launch_sequences<size>(find_starts<Real, size>, B, application.bytes, w.memory, where, stream,
                           a, chunks, w);
    launch_sequences<size>(filter_from_starts<Real, size>, all, filter.bytes, w.memory, where,
                           stream, a, chunks, w);
    launch_sequences<size>(conclude<Real, size>, B, filter.bytes, w.memory, where, stream, a,
                           chunks, w);
  });
}
template void filter_chunks(const KalmanFilterArgs<float>&, const Chunks&, StreamAt);
template void filter_chunks(const KalmanFilterArgs<double>&, const Chunks&, StreamAt);

}  // namespace seqvae::cuda::kalman

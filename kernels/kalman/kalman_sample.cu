// The simulation smoother (Durbin and Koopman, Biometrika 89, 2002) in two kernels. The first keeps
// the filter's gains of all steps (gains.cu). The second, N lanes a draw of a sequence (lanes.cuh),
// draws a path z+ with observations y+ forward in time, and adds the smoothed mean of z - z+ given
// y - y+ backward.
// Floor: latency, a step of the filter once and two products of N dependent rows a draw; a draw
// reads 2 m n gains and n^2 of a covariance a step, in L2 with those of other draws, and writes n.
// Hazards: lanes.cuh; rows of z are written forward and read again backward by the same lane.
#include "kernels/kalman/gains.cuh"
#include "kernels/kalman/path.cuh"
#include "kernels/kalman/sequences.cuh"

namespace seqvae::cuda {
namespace kalman {
namespace {

template <class Real, int N>
class Draw {
 public:
  __device__ __forceinline__ Draw(const KalmanSampleArgs<Real>& a,
                                  const SampleWorkspace<Real>& kept, std::int64_t b, std::int64_t s,
                                  const Lanes<Real, N>& lanes, const PathMemory<Real, N>& memory)
      : a_(a),
        kept_(kept),
        b_(b),
        s_(s),
        lanes_(lanes),
        at_(memory),
        path_(lanes, a.model, a.data.layout, a.data.u, memory) {}

  /// 0, or 1 + the first step whose noise is not positive semidefinite.
  __device__ __forceinline__ std::int32_t run(std::int64_t rows, std::int64_t length) {
    const RowLayout& layout = a_.data.layout;
    first_row_ = s_ * rows;
    for (std::int64_t t = 0; t < length; ++t) {
      if (!step(t)) return static_cast<std::int32_t>(t + 1);
      if (s_ >= a_.S) return 0;  // no draw was asked for: the prior's alone is looked at
    }
    for (std::int64_t t = length - 1; t >= 0; --t) step_back(t);
    for (std::int64_t t = length; layout.offsets == nullptr && t < layout.T; ++t) {
      fill(lanes_, a_.z, first_row_ + t * layout.B + b_, a_.model.n, Real(0));
    }
    return 0;
  }

 private:
  __device__ __forceinline__ std::int64_t step_of(std::int64_t t) const {
    return b_ * a_.data.layout.T + t;
  }
  /// This draw's place in what draws keep.
  __device__ __forceinline__ std::int64_t own_step_of(std::int64_t t) const {
    return s_ * a_.data.layout.B * a_.data.layout.T + step_of(t);
  }

  __device__ __forceinline__ bool step(std::int64_t t) {
    const RowLayout& layout = a_.data.layout;
    const std::int64_t n = a_.model.n, m = a_.model.m;
    const int i = lanes_.lane();
    RowNoise noise(a_.noise, n + m);
    noise.select(layout, t, b_, s_);
    if (!path_.advance(t, b_, noise, z_)) return false;
    if (s_ >= a_.S) return true;
    if (i < n) a_.z[first_row_ + row_of(layout, t, b_)][i] = z_;
    if (t > 0) {
      lanes_.sync();
      at_.vector[i] = mean_;
      lanes_.sync();
      mean_ = dot<Real, N>(path_.A() + i * kRow<Real, N>, at_.vector);
    }
    const int count = kept_.gains.count[step_of(t)];
    for (int j = 0; j < count; ++j) {
      const std::int64_t place = step_of(t) * m + j;
      const Real c = i < n ? kept_.gains.c[place * n + i] : Real(0);
      const Real k = i < n ? kept_.gains.k[place * n + i] : Real(0);
      const Real y =
          lanes_.sum(c * z_) + root(kept_.gains.h[place]) * static_cast<Real>(noise(n + j));
      const Real v = kept_.gains.e[place] - y - lanes_.sum(c * mean_);
      mean_ = multiply_add(v, k, mean_);
      if (i == 0) kept_.v[own_step_of(t) * m + j] = v;
    }
    if (i < n) kept_.mean[own_step_of(t) * n + i] = mean_;
    return true;
  }

  __device__ __forceinline__ void step_back(std::int64_t t) {
    const RowLayout& layout = a_.data.layout;
    const std::int64_t n = a_.model.n, m = a_.model.m, row = row_of(layout, t, b_);
    const int i = lanes_.lane();
    lanes_.sync();
    at_.vector[i] = r_;
    lanes_.sync();
    if (i < n) {
      const Real* P =
          a_.filtered.covariance[covariance_row(layout, a_.filtered.shared_covariance, t, b_)];
      Real z = a_.z[first_row_ + row][i] + kept_.mean[own_step_of(t) * n + i];
      for (std::int64_t j = 0; j < n; ++j) z = multiply_add(P[j * n + i], at_.vector[j], z);
      a_.z[first_row_ + row][i] = z;
    }
    if (t == 0) return;
    for (int j = kept_.gains.count[step_of(t)] - 1; j >= 0; --j) {
      const std::int64_t place = step_of(t) * m + j;
      const Real c = i < n ? kept_.gains.c[place * n + i] : Real(0);
      const Real k = i < n ? kept_.gains.k[place * n + i] : Real(0);
      const Real v = kept_.v[own_step_of(t) * m + j];
      r_ = multiply_add(v / kept_.gains.f[place] - lanes_.sum(k * r_), c, r_);
    }
    path_.bring_A(t, b_);
    r_ = transposed_times(lanes_, path_.A(), r_, at_.vector);
  }

  const KalmanSampleArgs<Real>& a_;
  const SampleWorkspace<Real>& kept_;
  std::int64_t b_, s_, first_row_ = 0;
  Lanes<Real, N> lanes_;
  PathMemory<Real, N> at_;
  StatePath<Real, N> path_;
  Real z_ = 0, mean_ = 0, r_ = 0;  // this lane's components
};

template <class Real, int N>
__global__ void __launch_bounds__(kBlockThreads<N>, 1)
    draw_paths(const __grid_constant__ KalmanSampleArgs<Real> a,
               const __grid_constant__ SampleWorkspace<Real> kept, Deal deal) {
  const std::int64_t draw = my_sequence<N>(deal);
  if (draw >= deal.sequences) return;
  const RowLayout& layout = a.data.layout;
  const PathMemory<Real, N> memory(a.model, Arena(my_memory<N>(deal), kAlignment));
  const Lanes<Real, N> lanes(memory.exchange);
  const std::int64_t b = draw % layout.B, s = draw / layout.B;
  const std::int64_t rows =
      layout.offsets != nullptr ? layout.offsets[layout.T] : layout.T * layout.B;
  const std::int32_t status =
      Draw<Real, N>(a, kept, b, s, lanes, memory).run(rows, length_of(layout, b));
  if (s == 0 && lanes.lane() == 0) a.status[b] = status;
}

}  // namespace
}  // namespace kalman

template <class Real>
void kalman_sample(const KalmanSampleArgs<Real>& a, Stream stream) {
  cuda::check(a);
  kalman::with_size(a.model.n, [&](auto size) {
    using namespace kalman;
    const FilterMemory<Real, size> filter(a.model, KalmanForm::joseph, Arena(nullptr, kAlignment));
    const PathMemory<Real, size> path(a.model, Arena(nullptr, kAlignment));
    const SampleWorkspace<Real> kept(a, std::max(filter.bytes, path.bytes));
    find_gains(a.model, a.data, kept.gains, kept.memory, "kalman_sample", stream);
    launch_sequences<size>(draw_paths<Real, size>, a.data.layout.B * std::max<std::int64_t>(a.S, 1),
                           path.bytes, kept.memory, "kalman_sample", stream, a, kept);
  });
}
template void kalman_sample(const KalmanSampleArgs<float>&, Stream);
template void kalman_sample(const KalmanSampleArgs<double>&, Stream);

}  // namespace seqvae::cuda

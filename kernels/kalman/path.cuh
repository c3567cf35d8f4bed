// A path of the state: z_0 from the prior, then the transitions, with the noise that belongs to the
// row whoever draws it.
#pragma once
#include "kernels/kalman/lanes.cuh"
#include "kernels/kalman/rows.cuh"
#include "seqvae/core/random.hpp"

namespace seqvae::cuda::kalman {

/// Standard normals of one row of width n + m.
struct RowNoise {
  const KalmanNoise& noise;
  std::int64_t width, t = 0;
  std::uint64_t drawn_at;
  std::uint32_t id = 0, draw = 0;

  __device__ __forceinline__ RowNoise(const KalmanNoise& noise_, std::int64_t width_)
      : noise(noise_), width(width_), drawn_at(noise_.step != nullptr ? *noise_.step : 0) {}
  /// Without sequences' numbers there is no noise: a path is its mean.
  __device__ __forceinline__ bool given() const { return noise.sequence_id != nullptr; }
  __device__ __forceinline__ void select(const RowLayout& layout, std::int64_t step, std::int64_t b,
                                         std::int64_t draw_) {
    if (!given()) return;
    t = layout.t0 + step + (layout.origins != nullptr ? layout.origins[b] : 0);
    id = noise.sequence_id[b];
    draw = static_cast<std::uint32_t>(draw_);
    if (noise.first_draw != nullptr) draw += noise.first_draw[b];
  }
  __device__ __forceinline__ float operator()(std::int64_t component) const {
    if (!given()) return 0;
    const Words words = philox(
        noise_counter(noise.key.site, drawn_at, id, draw, t, width, component / 4), noise.key.seed);
    const bool later = (component & 2) != 0;  // selected, since an index would need memory
    float first, second;
    normal_pair(later ? words.w[2] : words.w[0], later ? words.w[3] : words.w[1], first, second);
    return (component & 1) != 0 ? second : first;
  }
};

/// L diag(sqrt h) eps for a covariance L diag(h) L^T.
template <class Real, int N>
class NoiseFactor {
 public:
  __device__ __forceinline__ NoiseFactor(const Lanes<Real, N>& lanes, std::int64_t k,
                                         const NoiseMemory<Real>& memory)
      : lanes_(lanes), k_(static_cast<int>(k)), at_(memory) {}

  /// False, for every lane, where the covariance S, or its diagonal, is not positive semidefinite.
  /// Nothing to do where it is that of the call before. The factor is everybody's after sync().
  __device__ __forceinline__ bool follow(const Real* S, bool diagonal) {
    if (S == source_) return sound_;
    source_ = S;
    lanes_.sync();
    bool sound = true;
#pragma unroll 1
    for (int i = lanes_.lane(); i < k_; i += N) {
#pragma unroll 1
      for (int j = 0; j <= i; ++j) {
        at_.L[i * at_.row + j] = !diagonal ? S[i * k_ + j] : i == j ? S[i] : Real(0);
      }
      if (diagonal) at_.h[i] = S[i], sound = sound && S[i] >= 0;
    }
    lanes_.sync();
    sound_ =
        diagonal ? !lanes_.any(!sound) : factorize_semidefinite(lanes_, k_, at_.row, at_.L, at_.h);
#pragma unroll 1
    for (int i = lanes_.lane(); sound_ && i < k_; i += N) at_.h[i] = root(at_.h[i]);
    return sound_;
  }
  __device__ __forceinline__ const Real* source() const { return source_; }  ///< what it followed

  /// Draws components first .. first + k of the row. Everybody's after it.
  __device__ __forceinline__ void draw(const RowNoise& noise, std::int64_t first) {
    lanes_.sync();
#pragma unroll 1
    for (int i = lanes_.lane(); i < k_; i += N) {
      at_.draws[i] = at_.h[i] == 0 ? Real(0) : at_.h[i] * static_cast<Real>(noise(first + i));
    }
    lanes_.sync();
  }
  /// x plus row i of what was drawn.
  __device__ __forceinline__ Real add(int i, Real x) const {
    for (int j = 0; j < i; ++j) x = multiply_add(at_.L[i * at_.row + j], at_.draws[j], x);
    return x + at_.draws[i];
  }

 private:
  Lanes<Real, N> lanes_;
  int k_;
  NoiseMemory<Real> at_;
  const Real* source_ = nullptr;
  bool sound_ = false;
};

template <class Real, int N>
class StatePath {
 public:
  __device__ __forceinline__ StatePath(const Lanes<Real, N>& lanes, const KalmanModel<Real>& model,
                                       const RowLayout& layout, const Rows<const Real>& u,
                                       const PathMemory<Real, N>& memory)
      : lanes_(lanes),
        model_(model),
        layout_(layout),
        u_(u),
        at_(memory),
        noise_(lanes, model.n, memory.state) {}

  /// z of step t from that of step t - 1: this lane's component, and all of it in z(). False, for
  /// every lane, where the noise is not positive semidefinite.
  __device__ __forceinline__ bool advance(std::int64_t t, std::int64_t b, const RowNoise& noise,
                                          Real& z) {
    const std::int64_t n = model_.n;
    const int i = lanes_.lane();
    const Real* S = t == 0 ? model_.P0.data + b * model_.P0.sequence : at(model_.Q, layout_, t, b);
    if (noise.given() && !noise_.follow(S, false)) return false;
    if (t == 0) {
      z = prior_mean(model_, b, i);
    } else {
      bring_A(t, b);
      z = dot<Real, N>(at_.A + i * kRow<Real, N>, at_.z);
      if (i < n) z += inputs_of(i, model_.U, layout_, model_.B, model_.state_offset, u_, t, b);
    }
    if (noise.given()) {
      noise_.draw(noise, 0);
      if (i < n) z = noise_.add(i, z);
    } else {
      lanes_.sync();
    }
    at_.z[i] = z;  // all have met: nobody reads the step before
    lanes_.sync();
    return true;
  }
  /// The path goes through z, of which this is the lane's component.
  __device__ __forceinline__ void go_to(Real z) {
    lanes_.sync();
    at_.z[lanes_.lane()] = z;
    lanes_.sync();
  }
  __device__ __forceinline__ const Real* z() const { return at_.z; }
  __device__ __forceinline__ NoiseFactor<Real, N>& noise() { return noise_; }
  __device__ __forceinline__ const Real* A() const { return at_.A; }  ///< of the last step >= 1
  /// A of step t to A(), where it is not there.
  __device__ __forceinline__ void bring_A(std::int64_t t, std::int64_t b) {
    const Real* A = at(model_.A, layout_, t, b);
    if (A == A_) return;
    lanes_.sync();
    bring(lanes_, model_.n, A_ = A, at_.A);
  }

 private:
  Lanes<Real, N> lanes_;
  const KalmanModel<Real>& model_;
  const RowLayout& layout_;
  const Rows<const Real>& u_;
  PathMemory<Real, N> at_;
  NoiseFactor<Real, N> noise_;
  const Real* A_ = nullptr;
};

}  // namespace seqvae::cuda::kalman

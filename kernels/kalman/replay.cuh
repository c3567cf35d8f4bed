// One step of the filter again, from the stored moments of the step before, keeping what each
// observed component did: what the reverse passes need of it. In Joseph's form, whatever the
// filter's was.
#pragma once
#include "kernels/kalman/covariance.cuh"
#include "kernels/kalman/observation.cuh"

namespace seqvae::cuda::kalman {

template <class Real, int N>
class Replay {
 public:
  __device__ __forceinline__ Replay(const Lanes<Real, N>& lanes, const KalmanModel<Real>& model,
                                    const KalmanData<Real>& data,
                                    const KalmanFiltered<Real>& filtered,
                                    const ReplayMemory<Real, N>& memory)
      : lanes_(lanes),
        model_(model),
        data_(data),
        filtered_(filtered),
        at_(memory),
        covariance_(lanes, model.n, KalmanForm::joseph, memory.covariance),
        observation_(lanes, model, data, memory.observation) {}

  /// The filtered covariance of step t to M, nobody's before and everybody's after it.
  __device__ __forceinline__ void bring_covariance(std::int64_t t, std::int64_t b, Real* M) const {
    const std::int64_t row = covariance_row(data_.layout, filtered_.shared_covariance, t, b);
    bring(lanes_, model_.n, filtered_.covariance[row], M);
  }
  __device__ __forceinline__ Real filtered_mean(std::int64_t t, std::int64_t b) const {
    const int i = lanes_.lane();
    return i < model_.n ? filtered_.mean[row_of(data_.layout, t, b)][i] : Real(0);
  }

  /// Step t: its prediction, then its observation. `before` is the filtered covariance of step
  /// t - 1, everybody's; not read at t = 0. All that the functions below give is everybody's.
  __device__ __forceinline__ void run(std::int64_t t, std::int64_t b, const Real* before) {
    const int i = lanes_.lane();
    if (t == 0) {
      mean_ = prior_mean(model_, b, i);
      covariance_.set(model_.P0.data + b * model_.P0.sequence);
    } else {
      predict(t, b, before);
    }
    observation_.read(t, b);
    for (int j = 0; j < observation_.count(); ++j) {
      const Real* c = observation_.c(j);
      const Real v = observation_.e(j) - lanes_.sum(c[i] * mean_);
      Real w;
      const Real f = covariance_.condition(c, observation_.h(j), w);
      const Real k = w / f;
      mean_ = multiply_add(k, v, mean_);
      at_.k[j * kRow<Real, N> + i] = k;
      if (i == 0) at_.f[j] = f, at_.v[j] = v;
    }
    lanes_.sync();
  }

  __device__ __forceinline__ int count() const { return observation_.count(); }
  __device__ __forceinline__ const Real* c(int j) const { return observation_.c(j); }
  __device__ __forceinline__ const Real* k(int j) const { return at_.k + j * kRow<Real, N>; }
  __device__ __forceinline__ Real f(int j) const { return at_.f[j]; }
  __device__ __forceinline__ Real v(int j) const { return at_.v[j]; }
  __device__ __forceinline__ const Observation<Real, N>& observation() const {
    return observation_;
  }
  __device__ __forceinline__ const Real* A() const { return at_.A; }  ///< t >= 1
  /// x L A, a row of a lane's own, in registers and, after it, in memory: L is the product of the
  /// components' I - k c^T, A the step's. So states after the observation hang on those before.
  __device__ __forceinline__ void turn(OwnRow<Real, N>& x, Real* own) const {
    for (int j = count() - 1; j >= 0; --j) axpy(x, -dot<Real, N>(x, k(j)), c(j));
    store(own, x);
    row_times([&](int r) { return own[r]; }, A(), kRow<Real, N>, x);
    store(own, x);
  }
  /// This lane's component of the mean after all components, and the covariance then.
  __device__ __forceinline__ Real mean() const { return mean_; }
  __device__ __forceinline__ StateCovariance<Real, N>& covariance() { return covariance_; }

 private:
  __device__ __forceinline__ void predict(std::int64_t t, std::int64_t b, const Real* before) {
    const int i = lanes_.lane();
    const Real* A = at(model_.A, data_.layout, t, b);
    lanes_.sync();  // the step after has been read
    at_.vector[i] = filtered_mean(t - 1, b);
    if (A != A_) bring(lanes_, model_.n, A_ = A, at_.A);
    lanes_.sync();
    mean_ = dot<Real, N>(at_.A + i * kRow<Real, N>, at_.vector);
    if (i < model_.n) {
      mean_ += inputs_of(i, model_.U, data_.layout, model_.B, model_.state_offset, data_.u, t, b);
    }
    covariance_.predict_from(before, at_.A, at(model_.Q, data_.layout, t, b));
  }

  Lanes<Real, N> lanes_;
  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  const KalmanFiltered<Real>& filtered_;
  ReplayMemory<Real, N> at_;
  StateCovariance<Real, N> covariance_;
  Observation<Real, N> observation_;
  Real mean_ = 0;
  const Real* A_ = nullptr;  // what stands in at_.A
};

}  // namespace seqvae::cuda::kalman

// What draws and smoothed moments give to gradients, which stand where they add to: each sequence's
// own, `grad` of the arguments. `memory`: of the lanes of each sequence, where n > 32.
// \throws InvalidArgument where a block's shared memory is too small for a sequence.
#pragma once
#include "kernels/common/launch.cuh"
#include "kernels/kalman/gradient_sums.hpp"

namespace seqvae::cuda::kalman {

/// Of draws; without noise of a smoothed mean as the one draw.
template <class Real>
void add_draw_gradient(const KalmanSampleBackwardArgs<Real>& a, const Gains<Real>& gains,
                       const KeptDraw<Real>& kept, void* memory, const char* where, StreamAt at);

/// Of smoothed covariances. D: [B][T][n][n].
template <class Real>
void add_covariance_gradient(const KalmanBackwardArgs<Real>& a, const Gains<Real>& gains, Real* D,
                             void* memory, const char* where, StreamAt at);

}  // namespace seqvae::cuda::kalman

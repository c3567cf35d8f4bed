// What stands before and comes after a backward pass's own kernel: zeros where sequences add, and
// the sums over sequences of what they share.
#pragma once
#include "kernels/common/launch.cuh"
#include "kernels/kalman/gradient_sums.hpp"

namespace seqvae::cuda::kalman {

template <class Real>
void clear(const GradientSums<Real>& sums, StreamAt at);
template <class Real>
void add(const GradientSums<Real>& sums, StreamAt at);

}  // namespace seqvae::cuda::kalman

// The filter's gains of all steps, for passes that need no more of it: of draws and their
// gradients.
#pragma once
#include "kernels/common/launch.cuh"
#include "kernels/kalman/memory.hpp"

namespace seqvae::cuda::kalman {

/// `memory`: of the lanes of each sequence, FilterMemory in Joseph's form, where n > 32.
/// \throws InvalidArgument where a block's shared memory is too small for a sequence.
template <class Real>
void find_gains(const KalmanModel<Real>& model, const KalmanData<Real>& data,
                const Gains<Real>& gains, void* memory, const char* where, StreamAt at);

}  // namespace seqvae::cuda::kalman

// The filter of sequences whose chunks are filtered at once.
#pragma once
#include "kernels/common/launch.cuh"
#include "kernels/kalman/memory.hpp"

namespace seqvae::cuda::kalman {

/// \throws CudaError
template <class Real>
void filter_chunks(const KalmanFilterArgs<Real>& a, const Chunks& chunks, StreamAt at);

}  // namespace seqvae::cuda::kalman

// Kernels start here and nowhere else.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <source_location>

#include "seqvae/core/stream.hpp"

namespace seqvae::cuda {

/// Throws CudaError with the call's place where the error is one.
void check_cuda(cudaError_t error, const char* call,
                std::source_location place = std::source_location::current());

/// A stream, and the place that it was named at, which is the launch's.
struct StreamAt {
  cudaStream_t stream;
  std::source_location place;
  StreamAt(Stream s, std::source_location p = std::source_location::current())
      : stream(static_cast<cudaStream_t>(s.handle())), place(p) {}
};

/// Blocks that hold `count` things, `per_block` each. A grid has at most 2^31 - 1 along x; the
/// contracts bound their rows so that this holds.
inline unsigned blocks_for(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

/// A launch's shape: blocks and threads along x, bytes of dynamic shared memory a block.
struct LaunchShape {
  unsigned blocks, threads;
  std::size_t shared_bytes = 0;
};

/// Enqueues kernel(arguments...) on the stream; nothing where there is no block.
/// \throws CudaError where CUDA refuses the launch.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), LaunchShape shape, StreamAt at,
            Arguments&&... arguments) {
  if (shape.blocks == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(shape.blocks);
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = at.stream;
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Arguments&&>(arguments)...),
             "cudaLaunchKernelEx", at.place);
}

/// A block's dynamic shared memory as the kernel's one struct of it.
template <class Storage>
__device__ Storage& shared_storage() {
#if defined(__CUDACC__)
  extern __shared__ __align__(16) unsigned char storage[];
  return *reinterpret_cast<Storage*>(storage);
#else
  return *static_cast<Storage*>(emulation::shared_memory());
#endif
}

}  // namespace seqvae::cuda

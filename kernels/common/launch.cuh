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

/// A launch's shape: blocks and threads along x, bytes of dynamic shared memory a block. `cluster`
/// blocks along x form a cluster and divide `blocks`; more than 1 needs sm_90, more than 8 luck.
struct LaunchShape {
  unsigned blocks, threads;
  std::size_t shared_bytes = 0;
  unsigned cluster = 1;
};

/// A cudaLaunchConfig_t and the attribute that it points to; so it is not copied.
class LaunchConfig {
 public:
  LaunchConfig(LaunchShape shape, cudaStream_t stream) {
    config_.gridDim = dim3(shape.blocks);
    config_.blockDim = dim3(shape.threads);
    config_.dynamicSmemBytes = shape.shared_bytes;
    config_.stream = stream;
    if (shape.cluster == 1) return;
    cluster_.id = cudaLaunchAttributeClusterDimension;
    cluster_.val.clusterDim.x = shape.cluster;
    cluster_.val.clusterDim.y = cluster_.val.clusterDim.z = 1;
    config_.attrs = &cluster_;
    config_.numAttrs = 1;
  }
  LaunchConfig(const LaunchConfig&) = delete;
  LaunchConfig& operator=(const LaunchConfig&) = delete;
  const cudaLaunchConfig_t* get() const { return &config_; }

 private:
  cudaLaunchAttribute cluster_{};
  cudaLaunchConfig_t config_{};
};

/// Lets the kernel have more shared memory or larger clusters than a kernel has unasked. Enqueues
/// nothing, so it is legal while a stream is captured. \throws CudaError
template <class... Parameters>
void allow(void (*kernel)(Parameters...), LaunchShape shape, std::source_location place) {
  constexpr std::size_t kUnasked = 48 << 10;  // bytes of shared memory
  constexpr unsigned kPortable = 8;           // blocks a cluster
  if (shape.shared_bytes > kUnasked) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shape.shared_bytes)),
               "cudaFuncSetAttribute", place);
  }
  if (shape.cluster > kPortable) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
               "cudaFuncSetAttribute", place);
  }
}

/// Enqueues kernel(arguments...) on the stream; nothing where there is no block.
/// \throws CudaError where CUDA refuses the launch.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), LaunchShape shape, StreamAt at,
            Arguments&&... arguments) {
  if (shape.blocks == 0) return;
  allow(kernel, shape, at.place);
  const LaunchConfig config(shape, at.stream);
  check_cuda(cudaLaunchKernelEx(config.get(), kernel, static_cast<Arguments&&>(arguments)...),
             "cudaLaunchKernelEx", at.place);
}

/// Clusters of shape.cluster blocks that the device holds side by side; asks the current device.
/// \throws CudaError
template <class... Parameters>
int max_active_clusters(void (*kernel)(Parameters...), LaunchShape shape,
                        std::source_location place = std::source_location::current()) {
  shape.blocks = shape.cluster;
  allow(kernel, shape, place);
  const LaunchConfig config(shape, nullptr);
  int count = 0;
  check_cuda(cudaOccupancyMaxActiveClusters(&count, kernel, config.get()),
             "cudaOccupancyMaxActiveClusters", place);
  return count;
}

/// What the current device has of something. \throws CudaError
inline int device_limit(cudaDeviceAttr what,
                        std::source_location place = std::source_location::current()) {
  int device = 0, value = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice", place);
  check_cuda(cudaDeviceGetAttribute(&value, what, device), "cudaDeviceGetAttribute", place);
  return value;
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

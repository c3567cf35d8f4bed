// The part of CUDA's runtime and device language that the kernels use, on the emulator. What is
// missing here (float atomics, static __shared__ variables) the kernels do not use.
#pragma once
#include <math.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// ---- Host side ------------------------------------------------------------------------------

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDevice = 101,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorInvalidClusterSize = 912,
  cudaErrorLaunchFailure = 719,
  cudaErrorNotSupported = 801
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
using cudaStream_t = struct CUstream_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal };
constexpr unsigned cudaStreamNonBlocking = 1;
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributeNonPortableClusterSizeAllowed = 13
};
enum cudaLaunchAttributeID {
  cudaLaunchAttributeCooperative = 2,  // refused
  cudaLaunchAttributeClusterDimension = 4
};
union cudaLaunchAttributeValue {
  struct {
    unsigned x, y, z;
  } clusterDim;
  int cooperative;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
/// An H100's.
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrComputeCapabilityMajor,
};
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMalloc(void** pointer, std::size_t bytes);
cudaError_t cudaFree(void* pointer);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int byte, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGetLastError();
/// After a fault in a kernel: the emulator's report.
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
/// Always 8.
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* kernel,
                                           const cudaLaunchConfig_t* config);
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, Kernel* kernel,
                                           const cudaLaunchConfig_t* config) {
  return cudaOccupancyMaxActiveClusters(clusters, reinterpret_cast<const void*>(kernel), config);
}

namespace seqvae::emulation {

/// A kernel with its arguments, as the device sees them.
template <class... Parameters>
struct Call {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> arguments;
  static void enter(void* self) {
    const Call& call = *static_cast<const Call*>(self);
    std::apply(call.kernel, call.arguments);
  }
};

/// Runs, or records where the stream is captured, a Call of this many bytes.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, void (*enter)(void*),
                   const void* call, std::size_t call_bytes);

void* shared_memory();
unsigned lane_index();
enum class Collective { shuffle, ballot, sync };
std::uint64_t collective(Collective kind, unsigned mask, std::uint64_t value, unsigned source);

}  // namespace seqvae::emulation

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...));
  using Call = seqvae::emulation::Call<Parameters...>;
  const Call call{kernel, {static_cast<Arguments&&>(arguments)...}};
  return seqvae::emulation::launch(*config, reinterpret_cast<const void*>(kernel), &Call::enter,
                                   &call, sizeof call);
}

#include "emulated_ptx.h"

// ---- Device side ----------------------------------------------------------------------------

// Set by the scheduler whenever a thread resumes: one launch runs at a time.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

void __syncthreads();

__forceinline__ void __syncwarp(unsigned mask = 0xFFFFFFFFu) {
  seqvae::emulation::collective(seqvae::emulation::Collective::sync, mask, 0, 0);
}

namespace seqvae::emulation {
template <class T>
__forceinline__ T shuffle(unsigned mask, T value, unsigned source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  return std::bit_cast<T>(
      static_cast<Bits>(collective(Collective::shuffle, mask, std::bit_cast<Bits>(value), source)));
}
}  // namespace seqvae::emulation

// A lane's source stays within its segment of `width` lanes; where it would leave it, the lane
// keeps its own value.
template <class T>
__forceinline__ T __shfl_sync(unsigned mask, T value, int source, int width = warpSize) {
  const unsigned lane = seqvae::emulation::lane_index(), w = static_cast<unsigned>(width);
  return seqvae::emulation::shuffle(mask, value, lane / w * w + static_cast<unsigned>(source) % w);
}
template <class T>
__forceinline__ T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize) {
  const unsigned lane = seqvae::emulation::lane_index(), w = static_cast<unsigned>(width);
  const unsigned source = lane ^ static_cast<unsigned>(lanes);
  return seqvae::emulation::shuffle(mask, value, source / w > lane / w ? lane : source);
}
template <class T>
__forceinline__ T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  const unsigned lane = seqvae::emulation::lane_index(), w = static_cast<unsigned>(width);
  return seqvae::emulation::shuffle(mask, value, lane % w + delta < w ? lane + delta : lane);
}
template <class T>
__forceinline__ T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  const unsigned lane = seqvae::emulation::lane_index(), w = static_cast<unsigned>(width);
  return seqvae::emulation::shuffle(mask, value, lane % w >= delta ? lane - delta : lane);
}
__forceinline__ unsigned __ballot_sync(unsigned mask, int predicate) {
  return static_cast<unsigned>(seqvae::emulation::collective(seqvae::emulation::Collective::ballot,
                                                             mask, predicate != 0, 0));
}
__forceinline__ int __any_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) != 0;
}
__forceinline__ int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}
// The device's fast functions err more than these.
#define __expf expf  // a name that <math.h> has taken
inline float __fdividef(float x, float y) {
  return fabsf(y) > 0x1p126f && !isinf(y) ? (isinf(x) ? NAN : 0.0f * x) : x / y;
}
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline int __popc(unsigned value) { return std::popcount(value); }
inline int __clz(int value) { return std::countl_zero(static_cast<unsigned>(value)); }
inline int __ffs(int value) {
  return value == 0 ? 0 : std::countr_zero(static_cast<unsigned>(value)) + 1;
}

int atomicAdd(int* to, int value);
unsigned atomicAdd(unsigned* to, unsigned value);
unsigned long long atomicAdd(unsigned long long* to, unsigned long long value);
int atomicMax(int* to, int value);
unsigned atomicMax(unsigned* to, unsigned value);
int atomicMin(int* to, int value);
unsigned atomicMin(unsigned* to, unsigned value);
int atomicExch(int* to, int value);
unsigned atomicExch(unsigned* to, unsigned value);
int atomicCAS(int* to, int expected, int value);
unsigned atomicCAS(unsigned* to, unsigned expected, unsigned value);
unsigned atomicOr(unsigned* to, unsigned value);
unsigned atomicAnd(unsigned* to, unsigned value);

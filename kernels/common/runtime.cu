#include "kernels/common/runtime.hpp"

#include "kernels/common/launch.cuh"

namespace seqvae::cuda {
namespace {

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream.handle()); }

}  // namespace

void check_cuda(cudaError_t error, const char* call, std::source_location place) {
  if (error != cudaSuccess) throw_cuda_error(call, cudaGetErrorString(error), place);
}

int device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

void* allocate(std::size_t bytes) {
  void* pointer = nullptr;
  if (bytes > 0) check_cuda(cudaMalloc(&pointer, bytes), "cudaMalloc");
  return pointer;
}

void release(void* pointer) noexcept { cudaFree(pointer); }

void copy(void* to, const void* from, std::size_t bytes, Stream stream) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, native(stream)),
             "cudaMemcpyAsync");
}

void clear(void* data, std::size_t bytes, Stream stream) {
  check_cuda(cudaMemsetAsync(data, 0, bytes, native(stream)), "cudaMemsetAsync");
}

void use_device(int index) { check_cuda(cudaSetDevice(index), "cudaSetDevice"); }

Stream create_stream() {
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
             "cudaStreamCreateWithFlags");
  return Stream(stream);
}

void destroy_stream(Stream stream) noexcept { cudaStreamDestroy(native(stream)); }

void synchronize(Stream stream) {
  check_cuda(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize");
}

void Graph::begin() {
  check_cuda(cudaStreamBeginCapture(native(stream_), cudaStreamCaptureModeThreadLocal),
             "cudaStreamBeginCapture");
}

void Graph::abandon() noexcept {
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(native(stream_), &graph) == cudaSuccess) cudaGraphDestroy(graph);
}

void Graph::end() {
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamEndCapture(native(stream_), &graph), "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check_cuda(error, "cudaGraphInstantiate");
  executable_ = executable;
}

Graph::~Graph() { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_)); }

void Graph::replay() {
  check_cuda(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), native(stream_)),
             "cudaGraphLaunch");
}

}  // namespace seqvae::cuda

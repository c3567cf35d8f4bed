// The host side of the emulated runtime: memory, streams, captured graphs, launches, reports.
// Work is done when it is issued: the stream's order is the order of issue.
#include "tests/emulation/engine/runtime.hpp"

#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "tests/emulation/engine/memory.hpp"
#include "tests/emulation/engine/place.hpp"

struct CUgraph_st {
  std::vector<std::function<cudaError_t()>> work;
};
struct CUgraphExec_st {
  std::vector<std::function<cudaError_t()>> work;
};
struct CUstream_st {
  std::unique_ptr<CUgraph_st> captured;  // while it captures
};

namespace seqvae::emulation {
namespace {

/// What a kernel may ask for beyond what every kernel may.
struct Allowed {
  int shared_bytes = 48 << 10;
  unsigned cluster = 8;
};

std::recursive_mutex device;  // one launch at a time
std::unordered_map<const void*, Allowed> allowed;
std::uint64_t schedule = 0;
std::vector<Report> reports;
std::vector<Counted> counts;
std::string last_text;
cudaError_t last_error = cudaSuccess;

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

/// Does the work, or keeps it where the stream is being captured.
cudaError_t issue(cudaStream_t stream, std::function<cudaError_t()> work) {
  const std::lock_guard lock(device);
  if (stream != nullptr && stream->captured != nullptr) {
    stream->captured->work.push_back(std::move(work));
    return cudaSuccess;
  }
  return result(work());
}

/// A device address must lie in a live allocation; any other is the host's.
bool usable(const void* pointer, std::size_t bytes) {
  Memory& memory = Memory::instance();
  return !memory.contains(reinterpret_cast<std::uintptr_t>(pointer)) ||
         memory.valid(pointer, bytes);
}

void host_wrote(const void* pointer, std::size_t bytes) {
  Memory& memory = Memory::instance();
  if (memory.contains(reinterpret_cast<std::uintptr_t>(pointer))) {
    memory.mark_written(pointer, bytes);
  }
}

Index3 index3(dim3 d) { return {d.x, d.y, d.z}; }

/// Blocks of a cluster, along x; 0 where an attribute is not supported.
unsigned cluster_of(const cudaLaunchConfig_t& config) {
  unsigned cluster = 1;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = config.attrs[i];
    const auto size = attribute.val.clusterDim;
    if (attribute.id != cudaLaunchAttributeClusterDimension || size.y != 1 || size.z != 1) return 0;
    cluster = size.x;
  }
  return cluster;
}

}  // namespace

void set_schedule(std::uint64_t seed) { schedule = seed; }
std::vector<Report> take_reports() { return std::exchange(reports, {}); }
std::vector<Traffic> take_traffic() {
  std::vector<Traffic> list;
  for (const Counted& c : std::exchange(counts, {})) {
    list.push_back(
        {function_at(reinterpret_cast<std::uintptr_t>(c.kernel)), c.bytes_read, c.bytes_written});
  }
  return list;
}
void record(const Counted& counted) {
  constexpr std::size_t most = 1 << 16;  // nobody asks: do not grow for ever
  if (counts.size() == most) counts.clear();
  counts.push_back(counted);
}
void record(const Report& report) {
  reports.push_back(report);
  last_text = report.text;
}

Report make_report(const Launch& launch, Fault fault, const std::string& what, std::uintptr_t place,
                   std::uintptr_t other) {
  const Index3 b = launch.block_index(), t = launch.fiber().index;
  Report report{
      fault, launch.kernel_name(), {b.x, b.y, b.z}, {t.x, t.y, t.z}, line_of(place), line_of(other),
      {}};
  report.text =
      fmt::format("{}, block ({},{},{}) thread ({},{},{}){}{}: {}", report.kernel, b.x, b.y, b.z,
                  t.x, t.y, t.z, report.place.empty() ? "" : " at ", report.place, what);
  if (!report.other.empty()) report.text += " (" + report.other + ")";
  return report;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, void (*enter)(void*),
                   const void* call, std::size_t call_bytes) {
  const dim3 grid = config.gridDim, threads = config.blockDim;
  const std::uint64_t thread_count = std::uint64_t{threads.x} * threads.y * threads.z;
  const bool valid = grid.x >= 1 && grid.x <= 0x7FFFFFFFu && grid.y >= 1 && grid.y <= 65535 &&
                     grid.z >= 1 && grid.z <= 65535 && thread_count >= 1 && thread_count <= 1024 &&
                     threads.z <= 64;
  if (!valid) return result(cudaErrorInvalidConfiguration);
  const unsigned cluster = cluster_of(config);
  if (cluster == 0) return result(cudaErrorNotSupported);
  const std::lock_guard lock(device);
  const Allowed& most = allowed[kernel];
  if (cluster > most.cluster || grid.x % cluster != 0) return result(cudaErrorInvalidClusterSize);
  if (config.dynamicSmemBytes > static_cast<std::size_t>(most.shared_bytes) ||
      call_bytes > Memory::kParameters) {
    return result(cudaErrorInvalidValue);
  }
  const Shape shape{index3(grid), index3(threads), config.dynamicSmemBytes, cluster};
  const auto* first = static_cast<const std::byte*>(call);
  const std::vector<std::byte> bytes(first, first + call_bytes);
  return issue(config.stream, [=] {
    void* parameters = Memory::instance().open_parameters(bytes.size());
    std::memcpy(parameters, bytes.data(), bytes.size());
    Launch work(kernel, enter, parameters, shape, schedule);
    return work.run() ? cudaSuccess : cudaErrorLaunchFailure;
  });
}

}  // namespace seqvae::emulation

using namespace seqvae::emulation;

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int index) {
  return result(index == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int* index) {
  *index = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 132;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = 227 << 10;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
  }
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  const std::lock_guard lock(device);
  *pointer = bytes == 0 ? nullptr : Memory::instance().allocate(bytes);
  return result(bytes == 0 || *pointer != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* pointer) {
  const std::lock_guard lock(device);
  const bool freed = pointer == nullptr || Memory::instance().release(pointer);
  return result(freed ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return issue(stream, [=] {
    if (bytes == 0) return cudaSuccess;
    if (!usable(to, bytes) || !usable(from, bytes)) return cudaErrorInvalidValue;
    std::memcpy(to, from, bytes);
    host_wrote(to, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaMemsetAsync(void* to, int byte, std::size_t bytes, cudaStream_t stream) {
  return issue(stream, [=] {
    if (bytes == 0) return cudaSuccess;
    if (!Memory::instance().valid(to, bytes)) return cudaErrorInvalidValue;
    std::memset(to, byte, bytes);
    host_wrote(to, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const bool captures = stream != nullptr && stream->captured != nullptr;
  return result(captures ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || stream->captured != nullptr) {
    return result(cudaErrorStreamCaptureUnsupported);
  }
  stream->captured = std::make_unique<CUgraph_st>();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = stream->captured.release();
  return result(*graph != nullptr ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return issue(stream, [work = exec->work] {
    for (const auto& node : work) {
      const cudaError_t error = node();
      if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const std::lock_guard lock(device);
  if (attribute == cudaFuncAttributeNonPortableClusterSizeAllowed) {
    allowed[kernel].cluster = value != 0 ? Memory::kCluster : 8;
    return cudaSuccess;
  }
  if (value < 0 || static_cast<std::size_t>(value) > Memory::kShared) {
    return result(cudaErrorInvalidValue);
  }
  allowed[kernel].shared_bytes = std::max(value, 48 << 10);
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void*, const cudaLaunchConfig_t*) {
  *clusters = 8;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted on a capturing stream";
    case cudaErrorInvalidClusterSize:
      return "cluster misconfiguration";
    case cudaErrorLaunchFailure:
      return last_text.c_str();
    case cudaErrorNotSupported:
      return "operation not supported by the emulator";
  }
  return "unrecognized error code";
}

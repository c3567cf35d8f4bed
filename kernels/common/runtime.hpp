// What the host needs of CUDA's runtime, without its header.
#pragma once
#include <cstddef>
#include <source_location>

#include "seqvae/core/stream.hpp"

namespace seqvae::cuda {

/// Throws CudaError; apart, because nvcc cannot read the header that formats it.
[[noreturn]] void throw_cuda_error(const char* call, const char* message,
                                   std::source_location place);

/// \throws InvalidArgument where the workspace of a call is too small or not aligned to 16 bytes
void require_workspace(const void* workspace, std::size_t bytes, std::size_t needed,
                       const char* where);

/// \throws InvalidArgument: a call needs more shared memory than a block of the device has
[[noreturn]] void throw_no_room(const char* where);

/// How many CUDA devices there are; 0 also where the driver is missing or too old.
int device_count();

/// Device memory, aligned to 256 bytes; nullptr for 0 bytes. \throws CudaError
void* allocate(std::size_t bytes);
void release(void* pointer) noexcept;

/// Copies between host and device in any direction, in the stream's order. Host memory must stay
/// until the stream got there. \throws CudaError
void copy(void* to, const void* from, std::size_t bytes, Stream stream);

/// Zero bytes, in the stream's order. \throws CudaError
void clear(void* data, std::size_t bytes, Stream stream);

/// The device of all that this thread asks for from here on. \throws CudaError
void use_device(int index);

/// A stream that does not wait for the default stream. \throws CudaError
Stream create_stream();
void destroy_stream(Stream stream) noexcept;
/// Waits for all work of the stream. \throws CudaError, also of earlier kernels
void synchronize(Stream stream);

/// Work that was recorded once and can be enqueued many times. \throws CudaError
class Graph {
 public:
  /// Records what `record(stream)` enqueues, without doing it.
  template <class Record>
  Graph(Stream stream, Record&& record) : stream_(stream) {
    begin();
    try {
      record(stream);
    } catch (...) {
      abandon();
      throw;
    }
    end();
  }
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void replay();

 private:
  void begin();
  void end();
  void abandon() noexcept;
  Stream stream_;
  void* executable_ = nullptr;
};

}  // namespace seqvae::cuda

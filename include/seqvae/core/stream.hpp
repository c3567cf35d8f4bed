/// \file  An opaque handle of the queue that device work goes to; no CUDA header reaches callers.
#pragma once

namespace seqvae {

/// A cudaStream_t as an opaque pointer. Default-constructed: CUDA's default stream. On the CPU a
/// stream has no meaning: work is done when the call returns.
class Stream {
 public:
  Stream() = default;
  explicit Stream(void* handle) : handle_(handle) {}
  void* handle() const { return handle_; }
  friend bool operator==(Stream, Stream) = default;

 private:
  void* handle_ = nullptr;
};

}  // namespace seqvae

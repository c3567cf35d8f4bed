/// \file  A device's memory, and the order in which it does what it is given.
///
/// On a CUDA device work is enqueued and done later, in order; on the CPU it is done when the call
/// returns. Code that is written for the one runs on the other.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <type_traits>
#include <vector>

#include "seqvae/core/device.hpp"
#include "seqvae/core/stream.hpp"

namespace seqvae {

/// A stream of its own on a CUDA device; no more than a name of the CPU.
class Queue {
 public:
  /// \throws CudaError where the device gives no stream.
  explicit Queue(Device device);
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  Device device() const { return device_; }
  Stream stream() const { return stream_; }

  /// Between host and device in any direction. Host memory must stay until the queue got there.
  void copy(void* to, const void* from, std::size_t bytes) const;
  /// Zero bytes.
  void clear(void* data, std::size_t bytes) const;
  /// Waits for all that was enqueued. \throws CudaError, also of what failed on the way
  void synchronize() const;

 private:
  Device device_;
  Stream stream_;
};

/// Work that is enqueued again and again without being spelled out again: a CUDA graph. On the CPU
/// the function itself, called again.
class Recording {
 public:
  /// `work` enqueues on `queue` and does not wait for it. Recording does nothing of it. Both must
  /// outlive the recording. \throws CudaError
  Recording(const Queue& queue, std::function<void()> work);
  ~Recording();
  Recording(Recording&&) noexcept;
  Recording& operator=(Recording&&) noexcept;
  void replay();

 private:
  struct Captured;
  std::function<void()> work_;
  std::unique_ptr<Captured> captured_;
};

/// Memory of the queue's device, without values (on the CPU: NaN), given back with its last owner,
/// after what was enqueued until then. \throws CudaError where the device has no room
std::shared_ptr<void> allocate(const Queue& queue, std::size_t bytes);

/// Elements in a device's memory, 64-byte aligned at least. The queue must outlive it.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit Buffer(const Queue& queue) : queue_(&queue) {}
  Buffer(const Queue& queue, std::size_t count) : queue_(&queue) { resize(count); }

  T* data() const { return static_cast<T*>(memory_.get()); }
  std::size_t count() const { return count_; }

  /// Room for `count` elements; what was there is gone, once all work enqueued is done.
  void resize(std::size_t count) {
    memory_.reset();
    memory_ = allocate(*queue_, count * sizeof(T));
    count_ = count;
  }
  void upload(const std::vector<T>& values) {
    if (count_ != values.size()) resize(values.size());
    queue_->copy(data(), values.data(), count_ * sizeof(T));
    queue_->synchronize();
  }
  void download(std::vector<T>& values) const {
    values.resize(count_);
    queue_->copy(values.data(), data(), count_ * sizeof(T));
    queue_->synchronize();
  }

 private:
  const Queue* queue_;
  std::shared_ptr<void> memory_;
  std::size_t count_ = 0;
};

}  // namespace seqvae

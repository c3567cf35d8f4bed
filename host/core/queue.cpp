#include "seqvae/core/queue.hpp"

#include <cstring>
#include <new>
#include <utility>

#include "kernels/common/runtime.hpp"

namespace seqvae {

Queue::Queue(Device device) : device_(device) {
  if (device_.is_cpu()) return;
  cuda::use_device(device_.index());
  stream_ = cuda::create_stream();
}

Queue::~Queue() {
  if (!device_.is_cpu()) cuda::destroy_stream(stream_);
}

void Queue::copy(void* to, const void* from, std::size_t bytes) const {
  if (bytes == 0) return;
  if (device_.is_cpu()) {
    std::memcpy(to, from, bytes);
  } else {
    cuda::copy(to, from, bytes, stream_);
  }
}

void Queue::clear(void* data, std::size_t bytes) const {
  if (bytes == 0) return;
  if (device_.is_cpu()) {
    std::memset(data, 0, bytes);
  } else {
    cuda::clear(data, bytes, stream_);
  }
}

void Queue::synchronize() const {
  if (!device_.is_cpu()) cuda::synchronize(stream_);
}

struct Recording::Captured {
  cuda::Graph graph;
  Captured(Stream stream, const std::function<void()>& work)
      : graph(stream, [&](Stream) { work(); }) {}
};

Recording::Recording(const Queue& queue, std::function<void()> work) {
  if (queue.device().is_cpu()) {
    work_ = std::move(work);
  } else {
    captured_ = std::make_unique<Captured>(queue.stream(), work);
  }
}
Recording::~Recording() = default;
Recording::Recording(Recording&&) noexcept = default;
Recording& Recording::operator=(Recording&&) noexcept = default;

void Recording::replay() { captured_ ? captured_->graph.replay() : work_(); }

std::shared_ptr<void> allocate(const Queue& queue, std::size_t bytes) {
  if (bytes == 0) return nullptr;
  std::shared_ptr<void> memory;
  if (queue.device().is_cpu()) {
    memory = {::operator new (bytes, std::align_val_t{64}),
              [](void* p) { ::operator delete (p, std::align_val_t{64}); }};
    std::memset(memory.get(), 0xff, bytes);
  } else {
    memory = {cuda::allocate(bytes), cuda::release};  // cudaFree waits for the device
  }
  return memory;
}

}  // namespace seqvae

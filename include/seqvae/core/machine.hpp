/// \file  What models run on.
#pragma once
#include "seqvae/core/queue.hpp"
#include "seqvae/core/threads.hpp"

namespace seqvae {

/// A device's queue, and threads of the CPU: they do the work where that is the device.
struct Machine {
  Queue queue;
  ThreadPool pool;

  /// threads 0: as many as this process may use. \throws CudaError where the device gives no stream
  explicit Machine(Device device = Device::cpu(), int threads = 0) : queue(device), pool(threads) {}
};

}  // namespace seqvae

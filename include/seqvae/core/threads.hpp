/// \file  A pool of threads with static shares: task i of a call always runs on the same thread.
#pragma once
#include <functional>
#include <memory>

namespace seqvae {

class ThreadPool {
 public:
  /// threads >= 1, the caller being one of them. 0: as many as this process may use.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  /// Calls task(i) for i = 0 .. size() - 1, task(0) on the caller's thread, and returns when all
  /// have. The first exception of the lowest i is thrown again. Allocates nothing.
  void run(const std::function<void(int)>& task);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace seqvae

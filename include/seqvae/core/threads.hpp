/// \file  A small pool of threads with static shares.
///
/// Work is cut into numbered shares by the caller and share i runs on thread i % count(), so that
/// who does what is the same in every run. No OpenMP: its runtime hides races from
/// ThreadSanitizer.
#pragma once
#include <functional>
#include <memory>

namespace seqvae {

class ThreadPool {
 public:
  /// `threads` of them, the calling one included; 0: as many as this process may use.
  /// \throws InvalidArgument outside 0..4096.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int count() const;

  /// Calls share(0) .. share(shares - 1) and returns when all are done. What one of them throws is
  /// thrown here, of several the one of the lowest thread. One run at a time: not from two
  /// threads, nor from within a share.
  void run(int shares, const std::function<void(int)>& share);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The same on `pool`, or on the calling thread where there is none.
void run_shares(ThreadPool* pool, int shares, const std::function<void(int)>& share);

}  // namespace seqvae

#include "seqvae/core/threads.hpp"

#include <sched.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "seqvae/core/error.hpp"

namespace seqvae {

namespace {

/// Cores that this process may use: fewer than the machine's where it is confined.
int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

struct ThreadPool::Impl {
  std::mutex mutex;
  std::condition_variable begin, done;
  const std::function<void(int)>* share = nullptr;
  int shares = 0;
  long run = 0;     // numbers the runs, so that a worker knows a new one
  int working = 0;  // workers that have not finished this run
  bool stop = false;
  std::vector<std::exception_ptr> failures;  // [threads]
  std::vector<std::jthread> workers;         // threads 1 .. count() - 1

  int count() const { return static_cast<int>(workers.size()) + 1; }

  void run_own(int thread) {
    try {
      for (int i = thread; i < shares; i += count()) (*share)(i);
    } catch (...) {
      failures[static_cast<std::size_t>(thread)] = std::current_exception();
    }
  }

  void work(int thread) {
    long seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex);
        begin.wait(lock, [&] { return stop || run != seen; });
        if (stop) return;
        seen = run;
      }
      run_own(thread);
      const std::lock_guard lock(mutex);
      if (--working == 0) done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>()) {
  require(threads >= 0 && threads <= 4096, "ThreadPool", "threads", threads, "in 0..4096");
  if (threads == 0) threads = usable_cores();
  impl_->failures.resize(static_cast<std::size_t>(threads));
  const std::lock_guard lock(impl_->mutex);  // count() is read when all workers stand
  for (int i = 1; i < threads; ++i) {
    impl_->workers.emplace_back([impl = impl_.get(), i] { impl->work(i); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stop = true;
  }
  impl_->begin.notify_all();
  impl_->workers.clear();
}

int ThreadPool::count() const { return impl_->count(); }

void ThreadPool::run(int shares, const std::function<void(int)>& share) {
  Impl& impl = *impl_;
  {
    const std::lock_guard lock(impl.mutex);
    impl.share = &share;
    impl.shares = shares;
    impl.working = impl.count() - 1;
    std::fill(impl.failures.begin(), impl.failures.end(), nullptr);
    ++impl.run;
  }
  impl.begin.notify_all();
  impl.run_own(0);
  std::unique_lock lock(impl.mutex);
  impl.done.wait(lock, [&] { return impl.working == 0; });
  for (const std::exception_ptr& failure : impl.failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

void run_shares(ThreadPool* pool, int shares, const std::function<void(int)>& share) {
  if (pool != nullptr) return pool->run(shares, share);
  for (int i = 0; i < shares; ++i) share(i);
}

}  // namespace seqvae

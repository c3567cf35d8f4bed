#include "seqvae/core/threads.hpp"

#include <sched.h>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "seqvae/core/error.hpp"

namespace seqvae {
namespace {

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
  return 1;
}

}  // namespace

struct ThreadPool::Impl {
  std::mutex mutex;
  std::condition_variable start, done;
  const std::function<void(int)>* task = nullptr;
  std::uint64_t round = 0;  // a worker runs once a round
  int running = 0;
  bool stopping = false;
  std::vector<std::exception_ptr> errors;
  std::vector<std::jthread> workers;

  void work(int i) {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      start.wait(lock, [&] { return stopping || round != seen; });
      if (stopping) return;
      seen = round;
      const auto* mine = task;
      lock.unlock();
      call(*mine, i);
      lock.lock();
      if (--running == 0) done.notify_one();
    }
  }

  void call(const std::function<void(int)>& body, int i) {
    try {
      body(i);
    } catch (...) {
      errors[static_cast<std::size_t>(i)] = std::current_exception();
    }
  }
};

ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>()) {
  require(threads >= 0 && threads <= 4096, "ThreadPool", "threads", threads, "in 0..4096");
  if (threads == 0) threads = usable_cores();
  impl_->errors.resize(static_cast<std::size_t>(threads));
  for (int i = 1; i < threads; ++i) impl_->workers.emplace_back([this, i] { impl_->work(i); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->start.notify_all();
}

int ThreadPool::size() const { return static_cast<int>(impl_->errors.size()); }

void ThreadPool::run(const std::function<void(int)>& task) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->task = &task;
    impl_->running = size() - 1;
    for (auto& error : impl_->errors) error = nullptr;
    ++impl_->round;
  }
  impl_->start.notify_all();
  impl_->call(task, 0);
  std::unique_lock lock(impl_->mutex);
  impl_->done.wait(lock, [&] { return impl_->running == 0; });
  lock.unlock();
  for (const auto& error : impl_->errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace seqvae

// Work of a call dealt to the threads of a pool, each with scratch of its own in the workspace.
#pragma once
#include <algorithm>
#include <cstddef>
#include <functional>

#include "host/cpu/kalman_step.hpp"
#include "seqvae/core/threads.hpp"

namespace seqvae::cpu::kalman {

template <class Scratch>
class Threads {
 public:
  using Make = std::function<Scratch(Arena&)>;

  /// The calling thread alone where there is no pool.
  Threads(ThreadPool* pool, Make make, Arena& arena)
      : pool_(pool), make_(std::move(make)), begin_(arena.used()) {
    make_(arena);
    bytes_ = arena.used() - begin_;
    for (int i = 1; i < count(); ++i) arena.template take<std::byte>(std::int64_t(bytes_));
  }

  int count() const { return pool_ != nullptr ? pool_->count() : 1; }

  /// Calls work(i, scratch) for i < items, dealt in turn.
  template <class Work>
  void deal(void* workspace, std::int64_t items, const Work& work) const {
    const auto shares = static_cast<int>(std::min<std::int64_t>(items, count()));
    run_shares(pool_, shares, [&](int thread) {
      Arena arena(static_cast<char*>(workspace) + begin_ + std::size_t(thread) * bytes_);
      Scratch scratch = make_(arena);
      for (std::int64_t i = thread; i < items; i += shares) work(i, scratch);
    });
  }

 private:
  ThreadPool* pool_;
  Make make_;
  std::size_t begin_, bytes_;
};

/// The sequences in parts of `size`, the last of what is left.
struct Parts {
  std::int64_t sequences, size;

  std::int64_t count() const { return (sequences + size - 1) / size; }
  std::int64_t begin(std::int64_t part) const { return part * size; }
  std::int64_t end(std::int64_t part) const { return std::min(sequences, (part + 1) * size); }
};

/// Parts of fewer sequences that share their covariances do not pay: each part finds these anew.
constexpr std::int64_t kFewestTogether = 32;

inline Parts make_parts(std::int64_t sequences, std::int64_t size) {
  return {sequences, std::max<std::int64_t>(std::min(size, sequences), 1)};
}

/// Work for threads: each part is a sequence, or of those that are taken together a thread's share.
inline Parts parts_for(std::int64_t sequences, bool together, int threads) {
  const std::int64_t each = (sequences + threads - 1) / threads;
  return make_parts(sequences, together ? std::max(each, kFewestTogether) : 1);
}

/// Parts that hang on the sequences alone, so that sums over them have the same bits on any number
/// of threads.
inline Parts parts_to_sum(std::int64_t sequences, bool together) {
  const std::int64_t each = (sequences + 15) / 16;
  return make_parts(sequences, together ? std::max(each, kFewestTogether) : each);
}

}  // namespace seqvae::cpu::kalman

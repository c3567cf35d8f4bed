// The pool of threads: who runs which share, what a failing share does.
#include "seqvae/core/threads.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "seqvae/core/error.hpp"

namespace seqvae::test {
namespace {

TEST(ThreadPool, RunsEachShareOnceOnTheThreadOfItsNumber) {
  ThreadPool pool(3);
  ASSERT_EQ(pool.count(), 3);
  for (int run = 0; run < 200; ++run) {
    std::vector<int> calls(8);
    std::vector<std::thread::id> threads(8);
    pool.run(8, [&](int i) {
      ++calls[static_cast<std::size_t>(i)];
      threads[static_cast<std::size_t>(i)] = std::this_thread::get_id();
    });
    EXPECT_THAT(calls, testing::Each(1));
    EXPECT_EQ(threads[0], std::this_thread::get_id());
    for (std::size_t i = 3; i < 8; ++i) EXPECT_EQ(threads[i], threads[i - 3]);
    EXPECT_NE(threads[0], threads[1]);
    EXPECT_NE(threads[1], threads[2]);
  }
}

TEST(ThreadPool, RunsNoShares) {
  ThreadPool pool(2);
  pool.run(0, [](int) { FAIL(); });
}

TEST(ThreadPool, ThrowsWhatAShareThrowsAndRunsOn) {
  ThreadPool pool(2);
  for (const int failing : {0, 1}) {
    EXPECT_THROW(pool.run(2,
                          [&](int i) {
                            if (i == failing) throw std::runtime_error("share");
                          }),
                 std::runtime_error);
    std::atomic<int> done = 0;
    pool.run(2, [&](int) { ++done; });
    EXPECT_EQ(done, 2);
  }
}

TEST(ThreadPool, TakesAsManyThreadsAsTheMachineHasUnlessTold) {
  EXPECT_GE(ThreadPool().count(), 1);
  EXPECT_THAT([] { ThreadPool pool(-1); }, testing::ThrowsMessage<InvalidArgument>(
                                               "ThreadPool: threads = -1, must be in 0..4096"));
}

TEST(RunShares, NeedsNoPool) {
  int sum = 0;
  run_shares(nullptr, 4, [&](int i) { sum += i; });
  EXPECT_EQ(sum, 6);
}

}  // namespace
}  // namespace seqvae::test

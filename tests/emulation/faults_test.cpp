// Each fault that the emulator claims to find, planted, and the same kernel without it: the
// report names the kernel, the block, the thread and the line.
#include "tests/emulation/faults/faults.hpp"

#include <gmock/gmock.h>

#include <numeric>

#include "tests/emulation/under_schedules.hpp"
#include "tests/support/device_array.hpp"

namespace seqvae::test {
namespace {

using emulation::Fault;
using testing::HasSubstr;
using testing::MatchesRegex;

constexpr std::size_t kThreads = 128;

std::vector<float> count_up() {
  std::vector<float> x(kThreads);
  std::iota(x.begin(), x.end(), 0.0f);
  return x;
}

TEST(Emulator, FindsAMissingBarrier) {
  const DeviceArray<float> x(count_up()), sum(1);
  expect_clean([&] { sum_block(Planted::nothing, x.data(), sum.data()); });
  EXPECT_EQ(sum.read()[0], 127.0f * 64.0f);
  const auto report =
      report_of(Fault::race, [&] { sum_block(Planted::fault, x.data(), sum.data()); });
  EXPECT_EQ(report.kernel, "sum_numbers");
  EXPECT_THAT(report.place, MatchesRegex(".*/faults\\.cu:[0-9]+"));
  EXPECT_THAT(report.other, MatchesRegex(".*/faults\\.cu:[0-9]+"));
  EXPECT_THAT(report.text, HasSubstr("shared memory"));
}

TEST(Emulator, FindsAWriteThatOvertakesReads) {
  const DeviceArray<float> x(count_up()), y(kThreads);
  expect_clean([&] { read_after_total(Planted::nothing, x.data(), y.data()); });
  const auto report =
      report_of(Fault::race, [&] { read_after_total(Planted::fault, x.data(), y.data()); });
  EXPECT_EQ(report.kernel, "subtract_twice");
}

TEST(Emulator, FindsReuseOfCubStorageWithoutABarrier) {
  const DeviceArray<float> x(count_up()), sums(2);
  expect_clean([&] { reuse_storage(Planted::nothing, x.data(), sums.data()); });
  EXPECT_THAT(sums.read(), testing::Each(127.0f * 64.0f));
  report_of(Fault::race, [&] { reuse_storage(Planted::fault, x.data(), sums.data()); });
}

TEST(Emulator, FindsAMissingSyncwarp) {
  const DeviceArray<float> y(kThreads);
  expect_clean([&] { share_in_warp(Planted::nothing, y.data()); });
  EXPECT_EQ(y.read()[31], 0.0f);
  // Which of the two it is hangs on who came first, the reader or the writer.
  const auto report = report_of(testing::AnyOf(Fault::race, Fault::uninitialised),
                                [&] { share_in_warp(Planted::fault, y.data()); });
  EXPECT_EQ(report.kernel, "rotate_in_warp");
}

TEST(Emulator, FindsARaceBetweenBlocks) {
  const DeviceArray<unsigned> total(std::vector<unsigned>{0});
  add_between_blocks(Planted::nothing, total.data());
  EXPECT_EQ(total.read()[0], 5u);
  const auto report =
      report_of(Fault::race, [&] { add_between_blocks(Planted::fault, total.data()); });
  EXPECT_THAT(report.text, HasSubstr("global memory"));
}

TEST(Emulator, FindsAnAccessPastTheEnd) {
  const DeviceArray<float> y(50);
  expect_clean([&] { write_past_end(Planted::nothing, y.data(), 50); });
  const auto report =
      report_of(Fault::out_of_range, [&] { write_past_end(Planted::fault, y.data(), 50); });
  EXPECT_EQ(report.thread[0], 50u);
  EXPECT_EQ(report.block[0], 0u);
  EXPECT_THAT(report.text, HasSubstr("writes 4 bytes: 0 bytes past the end of an allocation of "
                                     "200 bytes"));
  EXPECT_THAT(report.place, HasSubstr("faults.cu:"));
}

TEST(Emulator, FindsAReadOfWhatNothingWrote) {
  const DeviceArray<float> y(kThreads);
  expect_clean([&] { read_unwritten(Planted::nothing, y.data()); });
  const auto report =
      report_of(Fault::uninitialised, [&] { read_unwritten(Planted::fault, y.data()); });
  EXPECT_LT(report.thread[0], kThreads / 2);
}

TEST(Emulator, FindsABarrierThatSomeDoNotReach) {
  const DeviceArray<float> y(kThreads);
  expect_clean([&] { wait_in_branch(Planted::nothing, y.data()); });
  const auto report =
      report_of(Fault::divergence, [&] { wait_in_branch(Planted::fault, y.data()); });
  EXPECT_EQ(report.kernel, "wait_somewhere");
  EXPECT_THAT(report.text, HasSubstr("waits at __syncthreads while block (0,0,0) thread (64,0,0) "
                                     "has returned"));
  EXPECT_THAT(report.place, HasSubstr("faults.cu:"));
}

TEST(Emulator, FindsAShuffleThatSomeDoNotReach) {
  const DeviceArray<float> y(kThreads);
  expect_clean([&] { shuffle_in_branch(Planted::nothing, y.data()); });
  const auto report =
      report_of(Fault::divergence, [&] { shuffle_in_branch(Planted::fault, y.data()); });
  EXPECT_THAT(report.place, HasSubstr("faults.cu:"));
}

TEST(Emulator, FindsAValueFromOutsideTheMask) {
  const DeviceArray<float> y(kThreads);
  expect_clean([&] { shuffle_outside_mask(Planted::nothing, y.data()); });
  EXPECT_EQ(y.read()[3], 11.0f);
  const auto report =
      report_of(Fault::warp_misuse, [&] { shuffle_outside_mask(Planted::fault, y.data()); });
}

TEST(Emulator, FindsAnIndexBeyondAnArrayInsideItsStruct) {
  const DeviceArray<float> y(1);
  expect_clean([&] { index_beyond_array(Planted::nothing, y.data()); });
  const auto report =
      report_of(Fault::out_of_bounds, [&] { index_beyond_array(Planted::fault, y.data()); });
  EXPECT_THAT(report.text, HasSubstr("faults.cu"));
}

TEST(Emulator, FindsAMisalignedVector) {
  const DeviceArray<float> x(count_up()), y(1);
  expect_clean([&] { read_misaligned(Planted::nothing, x.data(), y.data()); });
  EXPECT_EQ(y.read()[0], 6.0f);
  const auto report =
      report_of(Fault::misaligned, [&] { read_misaligned(Planted::fault, x.data(), y.data()); });
}

TEST(Emulator, FindsAUseAfterFree) {
  const DeviceArray<float> y(kThreads);
  expect_clean([&] { use_freed(Planted::nothing, y.data()); });
  const auto report = report_of(Fault::out_of_range, [&] { use_freed(Planted::fault, y.data()); });
  EXPECT_THAT(report.text, HasSubstr("freed before"));
}

TEST(Emulator, FindsAPointerToAnotherThreadsLocalMemory) {
  const DeviceArray<float> y(kThreads);
  expect_clean([&] { point_to_neighbour(Planted::nothing, y.data()); });
  const auto report =
      report_of(Fault::out_of_range, [&] { point_to_neighbour(Planted::fault, y.data()); });
  EXPECT_THAT(report.text, HasSubstr("local memory of another thread"));
}

TEST(Emulator, LetsOthersRunWhileAThreadPolls) {
  const DeviceArray<float> y(1);
  expect_clean([&] {
    const DeviceArray<unsigned> flag(std::vector<unsigned>{0});
    poll(flag.data(), y.data());
  });
  EXPECT_EQ(y.read()[0], 1.0f);
}

TEST(Emulator, CountsTheBytesOfGlobalMemory) {
  const DeviceArray<float> x(count_up()), sum(1);
  emulation::take_traffic();
  sum_block(Planted::nothing, x.data(), sum.data());
  const auto traffic = emulation::take_traffic();
  ASSERT_EQ(traffic.size(), 1u);
  EXPECT_EQ(traffic[0].kernel, "sum_numbers");
  EXPECT_EQ(traffic[0].bytes_read, 4 * 128);
  EXPECT_EQ(traffic[0].bytes_written, 4);
}

}  // namespace
}  // namespace seqvae::test

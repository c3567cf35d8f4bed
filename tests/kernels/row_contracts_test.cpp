// What every row-wise contract promises, over all of them: float errs at most twice as much as the
// plain float loop; a row's bits depend on neither its place, its stride, its alignment nor the
// instruction set; nothing is read or written outside the rows.
#include "tests/kernels/row_contracts.hpp"

#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <stdexcept>

#include "hwy/targets.h"
#include "seqvae/core/random.hpp"

namespace seqvae::test {
namespace {

constexpr std::int64_t kAllTargets = 0;
// No instruction set with fma: the plain loops run.
constexpr std::int64_t kPlain = HWY_STATIC_TARGET;

/// Restricts the float twins to some instruction sets as long as it lives.
class Targets {
 public:
  explicit Targets(std::int64_t targets) { hwy::SetSupportedTargetsForTest(targets); }
  ~Targets() { hwy::SetSupportedTargetsForTest(kAllTargets); }
};

template <class Real>
std::vector<Matrix<Real>> computed(const Contract& contract, std::int64_t rows, std::int64_t D) {
  const auto inputs = inputs_of<Real>(contract, rows, D);
  auto outputs = outputs_of<Real>(contract, rows, D);
  run(contract, rows, D, 0, inputs, outputs);
  return outputs;
}

double largest_error(const Matrix<float>& actual, const Matrix<double>& expected) {
  double largest = 0;
  for (std::int64_t r = 0; r < actual.rows(); ++r) {
    for (std::int64_t d = 0; d < actual.D(); ++d) {
      const double error = std::abs(actual(r, d) - expected(r, d));
      if (std::isnan(error)) return error;  // fails any bound
      largest = std::max(largest, error);
    }
  }
  return largest;
}

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

void expect_same_bits(const Matrix<float>& actual, const Matrix<float>& expected,
                      std::int64_t expected_row = 0) {
  for (std::int64_t r = 0; r < actual.rows(); ++r) {
    for (std::int64_t d = 0; d < actual.D(); ++d) {
      ASSERT_TRUE(same_bits(actual(r, d), expected(expected_row + r, d)))
          << "[" << r << "][" << d << "]: " << actual(r, d) << " and "
          << expected(expected_row + r, d);
    }
  }
}

class RowContract : public testing::TestWithParam<std::size_t> {
 protected:
  const Contract& contract() const { return row_contracts()[GetParam()]; }
};

TEST_P(RowContract, FloatErrsAtMostTwiceAsMuchAsThePlainLoop) {
  constexpr std::int64_t rows = 40, D = 75;
  const auto oracle = computed<double>(contract(), rows, D);
  const auto actual = computed<float>(contract(), rows, D);
  const Targets only(kPlain);
  const auto plain = computed<float>(contract(), rows, D);
  for (std::size_t i = 0; i < oracle.size(); ++i) {
    EXPECT_LE(largest_error(actual[i], oracle[i]), 2 * largest_error(plain[i], oracle[i]))
        << "output " << i;
  }
}

TEST_P(RowContract, HasTheSameBitsWhateverTheInstructionSet) {
  constexpr std::int64_t rows = 5;
  const std::int64_t supported = hwy::SupportedTargets();
  if ((supported & HWY_AVX3) == 0) GTEST_SKIP() << "this CPU has no AVX-512";
  for (const std::int64_t D : {1, 7, 8, 9, 16, 33, 600}) {
    const auto wide = computed<float>(contract(), rows, D);
    const Targets only(HWY_AVX2);
    const auto narrow = computed<float>(contract(), rows, D);
    for (std::size_t i = 0; i < wide.size(); ++i) expect_same_bits(narrow[i], wide[i]);
  }
}

TEST_P(RowContract, HasTheSameBitsWhateverItsPlace) {
  constexpr std::int64_t rows = 3;
  for (std::int64_t D = 1; D <= 70; ++D) {
    const auto expected = computed<float>(contract(), rows, D);
    for (const Placement place : {Placement{D % 16, 0}, {3, 1}, {D % 5, 16}, {0, 37}}) {
      const auto inputs = inputs_of<float>(contract(), rows, D, 0, place);
      auto outputs = outputs_of<float>(contract(), rows, D, {place.offset + 1, place.gap});
      run(contract(), rows, D, 0, inputs, outputs);
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        ASSERT_NO_FATAL_FAILURE(expect_same_bits(outputs[i], expected[i])) << "D = " << D;
        outputs[i].expect_surroundings_untouched();
      }
    }
    for (std::int64_t r = 0; r < rows; ++r) {  // a row by itself
      const auto inputs = inputs_of<float>(contract(), 1, D, r, {r, 0});
      auto outputs = outputs_of<float>(contract(), 1, D);
      run(contract(), 1, D, r, inputs, outputs);
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        ASSERT_NO_FATAL_FAILURE(expect_same_bits(outputs[i], expected[i], r)) << "D = " << D;
      }
    }
  }
}

/// Memory whose last float is the last of a page, the next page being out of reach.
class EndOfPage {
 public:
  explicit EndOfPage(std::size_t floats)
      : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))),
        bytes_((floats * sizeof(float) + page_ - 1) / page_ * page_),
        floats_(floats) {
    base_ =
        mmap(nullptr, bytes_ + page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED ||
        mprotect(static_cast<char*>(base_) + bytes_, page_, PROT_NONE) != 0) {
      throw std::runtime_error("no guarded page");
    }
  }
  ~EndOfPage() { munmap(base_, bytes_ + page_); }
  EndOfPage(const EndOfPage&) = delete;
  float* data() const { return static_cast<float*>(base_) + (bytes_ / sizeof(float) - floats_); }

 private:
  std::size_t page_, bytes_, floats_;
  void* base_;
};

TEST_P(RowContract, TouchesNothingPastTheEnd) {
  for (const std::int64_t targets : {kAllTargets, std::int64_t{HWY_AVX2}}) {
    const Targets only(targets);
    for (const std::int64_t D : {1, 7, 9, 15, 17, 31}) {
      std::deque<EndOfPage> memory;
      std::vector<Rows<const float>> in;
      std::vector<Rows<float>> out;
      const auto inputs = inputs_of<float>(contract(), 1, D);
      for (const auto& m : inputs) {
        memory.emplace_back(static_cast<std::size_t>(m.D()));
        std::copy_n(m.view().data, m.D(), memory.back().data());
        in.emplace_back(memory.back().data(), m.D());
      }
      for (const int factor : contract().outputs) {
        memory.emplace_back(static_cast<std::size_t>(width(factor, D)));
        out.emplace_back(memory.back().data(), width(factor, D));
      }
      contract().run_float(1, D, 0, in, out);  // a fault ends the test
    }
  }
}

TEST_P(RowContract, ReadsOneRowForAllWhereTheStrideIsZero) {
  constexpr std::int64_t rows = 4;
  const bool one_hot = contract().inputs[0].values == Filling::one_hot;
  for (const std::int64_t D : {1, 16, 35}) {
    for (std::size_t shared = one_hot ? 1 : 0; shared < contract().inputs.size(); ++shared) {
      auto inputs = inputs_of<float>(contract(), rows, D);
      inputs[shared].fill([&](auto, auto c) { return inputs[shared](0, c); });
      auto expected = outputs_of<float>(contract(), rows, D);
      run(contract(), rows, D, 0, inputs, expected);

      std::vector<Rows<const float>> in;
      for (const auto& m : inputs) in.push_back(std::as_const(m).view());
      in[shared].stride = 0;
      auto outputs = outputs_of<float>(contract(), rows, D);
      std::vector<Rows<float>> out;
      for (auto& m : outputs) out.push_back(m.view());
      contract().run_float(rows, D, 0, in, out);
      for (std::size_t i = 0; i < outputs.size(); ++i) expect_same_bits(outputs[i], expected[i]);
    }
  }
}

TEST_P(RowContract, MayWriteOverAnInputOfTheSameWidth) {
  constexpr std::int64_t rows = 3, D = 37;
  const auto expected = computed<float>(contract(), rows, D);
  for (std::size_t i = 0; i < contract().inputs.size(); ++i) {
    for (std::size_t o = 0; o < contract().outputs.size(); ++o) {
      if (contract().inputs[i].factor != 1 || contract().outputs[o] != 1) continue;
      auto inputs = inputs_of<float>(contract(), rows, D);
      auto outputs = outputs_of<float>(contract(), rows, D);
      std::vector<Rows<const float>> in;
      std::vector<Rows<float>> out;
      for (const auto& m : inputs) in.push_back(std::as_const(m).view());
      for (auto& m : outputs) out.push_back(m.view());
      out[o] = inputs[i].view();
      contract().run_float(rows, D, 0, in, out);
      expect_same_bits(inputs[i], expected[o]);
    }
  }
}

TEST_P(RowContract, HasNothingToDoWithoutRowsOrColumns) {
  std::vector<Rows<const float>> in(contract().inputs.size());
  std::vector<Rows<float>> out(contract().outputs.size());
  contract().run_float(0, 5, 0, in, out);
  Matrix<float> sums(2, 1);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (contract().outputs[i] == 0) out[i] = sums;
  }
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (contract().inputs[i].factor == 0) {
      sums.fill([](auto, auto) { return 1.0; });
      in[i] = std::as_const(sums).view();
    }
  }
  contract().run_float(2, 0, 0, in, out);
  if (testing::Matcher<std::vector<int>>(testing::Contains(0)).Matches(contract().outputs)) {
    EXPECT_EQ(sums(0, 0), 0) << "an empty sum";
    EXPECT_EQ(sums(1, 0), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, RowContract, testing::Range<std::size_t>(0, row_contracts().size()),
                         [](const auto& info) { return row_contracts()[info.param].name; });

}  // namespace
}  // namespace seqvae::test

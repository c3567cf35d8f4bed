// mma.sync, ldmatrix and the packing of bfloat16 on the emulator, against plain loops; and what can
// be done wrong with them.
#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <random>

#include "tests/emulation/faults/cluster_faults.hpp"
#include "tests/emulation/under_schedules.hpp"
#include "tests/support/device_array.hpp"

namespace seqvae::test {
namespace {

using emulation::Fault;
using testing::AnyOf;
using testing::HasSubstr;

std::vector<float> random_floats(std::size_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

/// The nearest float with this many bits of mantissa; of two, the even one.
float round_mantissa(float x, int bits) {
  int exponent;
  const double scaled = std::ldexp(std::frexp(double{x}, &exponent), bits + 1);
  return static_cast<float>(std::ldexp(std::nearbyint(scaled), exponent - bits - 1));
}
float truncate_mantissa(float x) {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & 0xFFFFE000u);
}

/// C [16][8] = A [16][K] B [K][8] in double, rounded once.
template <class Round>
std::vector<float> product(std::vector<float> A, std::vector<float> B, Round round) {
  const std::size_t K = A.size() / 16;
  std::vector<float> C(16 * 8);
  for (std::size_t i = 0; i < C.size(); ++i) {
    double sum = 0.0;
    for (std::size_t k = 0; k < K; ++k) {
      sum += double{round(A[i / 8 * K + k])} * round(B[k * 8 + i % 8]);
    }
    C[i] = static_cast<float>(sum);
  }
  return C;
}

TEST(EmulatedMatrix, MultipliesInBf16) {
  const auto a = random_floats(16 * 16, 1), b = random_floats(16 * 8, 2);
  const DeviceArray<float> A(a), B(b), C(16 * 8);
  expect_clean([&] { multiply_in_bf16(MatrixFault::nothing, A.data(), B.data(), C.data()); });
  EXPECT_EQ(C.read(), product(a, b, [](float x) { return round_mantissa(x, 7); }));
}

TEST(EmulatedMatrix, MultipliesInTf32) {
  const auto a = random_floats(16 * 8, 3), b = random_floats(8 * 8, 4);
  const DeviceArray<float> A(a), B(b), C(16 * 8);
  expect_clean([&] { multiply_in_tf32(A.data(), B.data(), C.data()); });
  EXPECT_EQ(C.read(), product(a, b, truncate_mantissa));
}

TEST(EmulatedMatrix, LoadsMatrices) {
  for (const unsigned matrices : {2u, 4u}) {
    std::vector<std::uint16_t> x(matrices * 64);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::uint16_t>(i * 7 + 1);
    const DeviceArray<std::uint16_t> X(x);
    const DeviceArray<unsigned> y(matrices * 32);
    expect_clean([&] { load_matrices_of(static_cast<int>(matrices), X.data(), y.data()); });
    for (unsigned matrix = 0; matrix < matrices; ++matrix) {
      for (unsigned lane = 0; lane < 32; ++lane) {
        const std::uint16_t* two = &x[(matrix * 8 + lane / 4) * 8 + 2 * (lane % 4)];
        EXPECT_EQ(y.read()[matrix * 32 + lane], two[0] | unsigned{two[1]} << 16);
      }
    }
  }
}

TEST(EmulatedMatrix, PacksBf16) {
  std::vector<float> x = random_floats(64, 5);
  const float above_one = 1.0f + 0x1p-8f;  // halfway between 1 and the next: to the even one
  x[0] = above_one, x[1] = 1.0f + 3 * 0x1p-8f, x[2] = std::nextafter(above_one, 2.0f);
  x[3] = NAN, x[4] = INFINITY, x[5] = -INFINITY, x[6] = 3.4e38f, x[7] = -0.0f, x[8] = 1e-45f;
  x[9] = -NAN;
  const DeviceArray<float> X(x);
  const DeviceArray<unsigned> y(32);
  pack(X.data(), y.data());
  const auto words = y.read();
  const auto value = [&](std::size_t i) {
    return std::bit_cast<float>(words[i / 2] >> i % 2 * 16 << 16);
  };
  EXPECT_EQ(value(0), 1.0f);
  EXPECT_EQ(value(1), 1.0f + 0x1p-6f);
  EXPECT_EQ(value(2), 1.0f + 0x1p-7f);
  EXPECT_TRUE(std::isnan(value(3)) && std::isnan(value(9)));
  EXPECT_EQ(value(4), INFINITY);
  EXPECT_EQ(value(5), -INFINITY);
  EXPECT_EQ(value(6), INFINITY);
  EXPECT_TRUE(value(7) == 0.0f && std::signbit(value(7)));
  EXPECT_EQ(value(8), 0.0f);
  for (std::size_t i = 10; i < 64; ++i) EXPECT_EQ(value(i), round_mantissa(x[i], 7));
}

TEST(EmulatedMatrix, FindsWhatIsDoneWrong) {
  const DeviceArray<float> A(random_floats(16 * 16, 1)), B(random_floats(16 * 8, 2)), C(16 * 8);
  const auto found = [&](testing::Matcher<Fault> fault, MatrixFault planted) {
    const auto report =
        report_of(fault, [&] { multiply_in_bf16(planted, A.data(), B.data(), C.data()); });
    EXPECT_EQ(report.kernel, "multiply_bf16");
    EXPECT_THAT(report.place, HasSubstr("matrix_faults.cu:"));
    return report;
  };
  const auto row = found(Fault::misaligned, MatrixFault::misaligned_row);
  EXPECT_THAT(row.text, HasSubstr("ldmatrix: not aligned to 16 bytes"));
  EXPECT_EQ(row.thread[0], 3u);
  EXPECT_THAT(found(Fault::out_of_range, MatrixFault::global_row).text,
              HasSubstr("ldmatrix: not in this block's shared memory"));
  found(AnyOf(Fault::race, Fault::uninitialised), MatrixFault::no_sync);
  EXPECT_THAT(
      found(Fault::divergence, MatrixFault::missing_lane).text,
      HasSubstr("waits at a warp operation while block (0,0,0) thread (17,0,0) has returned"));
  found(Fault::warp_misuse, MatrixFault::other_operation);
  EXPECT_THAT(found(Fault::warp_misuse, MatrixFault::lanes_apart).text,
              HasSubstr("__syncwarp first"));
}

}  // namespace
}  // namespace seqvae::test

#include "tests/emulation/engine/matrix.hpp"

#include <bit>
#include <cstring>

namespace seqvae::emulation {
namespace {

constexpr unsigned kWarp = 32, kRows = 16, kColumns = 8;

template <class Operands>
const Operands& of(const std::uint64_t* lanes, unsigned lane) {
  return *reinterpret_cast<const Operands*>(lanes[lane]);
}

float from_bf16(unsigned bits) { return std::bit_cast<float>(bits << 16); }
float from_tf32(unsigned bits) { return std::bit_cast<float>(bits & 0xFFFFE000u); }

/// Fills A[kRows][K] and B[K][kColumns] from the fragments.
template <unsigned K, class Unpack>
void multiply(const std::uint64_t* lanes, Unpack unpack) {
  double a[kRows][K], b[K][kColumns], c[kRows][kColumns];
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    const auto& operands = of<MultiplyOperands>(lanes, lane);
    const unsigned g = lane / 4, q = lane % 4;
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = g + i % 2 * 8, k = i / 2 * (K / 2);
      unpack(operands.a[i], q, [&](unsigned at, float value) { a[row][k + at] = value; });
      c[g + i / 2 * 8][2 * q + i % 2] = operands.c[i];
    }
    for (unsigned i = 0; i < 2; ++i) {
      unpack(operands.b[i], q, [&](unsigned at, float value) { b[i * (K / 2) + at][g] = value; });
    }
  }
  for (unsigned row = 0; row < kRows; ++row) {
    for (unsigned k = 0; k < K; ++k) {
      for (unsigned n = 0; n < kColumns; ++n) c[row][n] += a[row][k] * b[k][n];
    }
  }
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    const unsigned g = lane / 4, q = lane % 4;
    float* out = of<MultiplyOperands>(lanes, lane).c;
    for (unsigned i = 0; i < 4; ++i) {
      out[i] = static_cast<float>(c[g + i / 2 * 8][2 * q + i % 2]);
    }
  }
}

}  // namespace

void load_matrices(unsigned count, const std::uint64_t* lanes) {
  for (unsigned matrix = 0; matrix < count; ++matrix) {
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      const std::uintptr_t row = of<LoadOperands>(lanes, matrix * 8 + lane / 4).row;
      std::memcpy(&of<LoadOperands>(lanes, lane).fragments[matrix],
                  reinterpret_cast<const void*>(row + lane % 4 * 4), 4);
    }
  }
}

void multiply_bf16(const std::uint64_t* lanes) {
  multiply<16>(lanes, [](unsigned bits, unsigned q, auto put) {
    put(2 * q, from_bf16(bits & 0xFFFFu));
    put(2 * q + 1, from_bf16(bits >> 16));
  });
}

void multiply_tf32(const std::uint64_t* lanes) {
  multiply<8>(lanes, [](unsigned bits, unsigned q, auto put) { put(q, from_tf32(bits)); });
}

}  // namespace seqvae::emulation

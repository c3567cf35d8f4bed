// Rates of mma.sync with A held in registers, as persistent recurrent kernels hold their weights,
// and of FFMA and DFMA.
#include "constants.hpp"

namespace seqvae::bench::gpu {
namespace {

constexpr int kTilesM = 6;  // per warp; 6 accumulators of 4 registers

/// One pass: kTilesM x kTilesK mma a warp. A is kTilesM * kTilesK * 4 registers a thread; B comes
/// by ldmatrix.x4, two tiles of K at a time, from the two buffers in turn, or stays what it was.
template <bool kTf32, int kTilesK, bool kLoadB>
__global__ void __launch_bounds__(kThreads, 1) mma_rate(int n, const uint4* weights, float* sink) {
  __shared__ __align__(128) unsigned b_tiles[2][4][kTilesK * 64];  // [buffer][part of K][word]
  auto* words = &b_tiles[0][0][0];
  for (unsigned i = threadIdx.x; i < sizeof b_tiles / 4; i += kThreads) {
    words[i] = reinterpret_cast<const unsigned*>(weights)[i];
  }
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  unsigned a[kTilesM][kTilesK][4];
#pragma unroll
  for (int m = 0; m < kTilesM; ++m) {
#pragma unroll
    for (int k = 0; k < kTilesK; ++k) {
      load_fragment(a[m][k], weights + ((warp * kTilesM + m) * kTilesK + k) * 32 + lane);
    }
  }
  const unsigned row = shared_address(b_tiles[0][warp / 2]) + static_cast<unsigned>(lane) * 16;
  float c[kTilesM][4] = {};
  unsigned b[4];
  ldmatrix_x4(b, row);
  for (int t = 0; t < n; ++t) {
    const unsigned from = row + static_cast<unsigned>(t & 1) * (sizeof b_tiles / 2);
#pragma unroll
    for (int k = 0; k < kTilesK; k += 2) {
      if constexpr (kLoadB) ldmatrix_x4(b, from + static_cast<unsigned>(k) * 256);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int m = 0; m < kTilesM; ++m) {
          mma<kTf32>(c[m], a[m][k + half], b[2 * half], b[2 * half + 1]);
        }
      }
    }
  }
  float sum = 0;
#pragma unroll
  for (int m = 0; m < kTilesM; ++m) sum += c[m][0] + c[m][1] + c[m][2] + c[m][3];
  sink[blockIdx.x * kThreads + threadIdx.x] = sum;
}

/// Two bf16, or one float that tf32 truncates, each of magnitude 2^-7 to 2^-6 and random sign.
__global__ void fill_random(unsigned* words, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) words[i] = 0x3c003c00u | (hash(i) & 0x807f807fu);
}

constexpr int kFmaThreads = 1024, kChains = 16;

template <class Real>
__global__ void __launch_bounds__(kFmaThreads, 1) fma_rate(int n, Real a, Real b, Real* sink) {
  Real x[kChains];
#pragma unroll
  for (int i = 0; i < kChains; ++i) x[i] = static_cast<Real>(threadIdx.x + i);
#pragma unroll 4
  for (int t = 0; t < n; ++t) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) x[i] = x[i] * a + b;
  }
  Real sum = 0;
#pragma unroll
  for (int i = 0; i < kChains; ++i) sum += x[i];
  sink[blockIdx.x * kFmaThreads + threadIdx.x] = sum;
}

template <bool kTf32, int kTilesK, bool kLoadB>
void measure_mma(Bench& bench, const uint4* weights, float* sink) {
  const std::string name = std::string(kTf32 ? "mma_tf32_a" : "mma_bf16_a") +
                           std::to_string(kTilesM * kTilesK * 4) + (kLoadB ? "" : "_no_loads");
  const std::string what = std::string(kTf32 ? "m16n8k8 tf32" : "m16n8k16 bf16") +
                           ", 8 warps an SM, " + std::to_string(kTilesM * kTilesK * 4) +
                           " registers of A a thread, B " +
                           (kLoadB ? "by ldmatrix from shared memory each pass" : "in registers");
  bench.measure(name, "TFLOP/s", what, [&] {
    const double us = bench.slope_us(4096, [&](int n) {
      launch(mma_rate<kTf32, kTilesK, kLoadB>, {bench.sms}, bench.stream, n, weights, sink);
    });
    const double flop = 2.0 * 16 * 8 * (kTf32 ? 8 : 16) * kTilesM * kTilesK * 8 * bench.sms;
    return flop / us * 1e-6;
  });
}

template <class Real>
void measure_fma(Bench& bench, const char* name, const char* what) {
  const auto count = static_cast<std::size_t>(bench.sms) * kFmaThreads;
  const DeviceArray<Real> sink(count);
  bench.measure(name, "TFLOP/s", what, [&] {
    const double us = bench.slope_us(8192, [&](int n) {
      launch(fma_rate<Real>, {bench.sms, kFmaThreads}, bench.stream, n, Real(0.999), Real(0.001),
             sink.get());
    });
    return 2.0 * kChains * static_cast<double>(count) / us * 1e-6;
  });
}

}  // namespace

void measure_math(Bench& bench) {
  const DeviceArray<uint4> weights(8 * kTilesM * 8 * 32);
  const DeviceArray<float> sink(static_cast<std::size_t>(bench.sms) * kThreads);
  const unsigned words = static_cast<unsigned>(weights.count()) * 4;
  launch(fill_random, {static_cast<int>(words / 256), 256}, bench.stream,
         reinterpret_cast<unsigned*>(weights.get()), words);
  measure_mma<false, 4, true>(bench, weights.get(), sink.get());
  measure_mma<false, 8, true>(bench, weights.get(), sink.get());
  measure_mma<false, 4, false>(bench, weights.get(), sink.get());
  measure_mma<false, 8, false>(bench, weights.get(), sink.get());
  measure_mma<true, 4, true>(bench, weights.get(), sink.get());
  measure_mma<true, 8, true>(bench, weights.get(), sink.get());
  measure_mma<true, 4, false>(bench, weights.get(), sink.get());
  measure_mma<true, 8, false>(bench, weights.get(), sink.get());
  measure_fma<float>(bench, "ffma",
                     "float fused multiply-adds, 1024 threads an SM, 16 chains each");
  measure_fma<double>(bench, "dfma",
                      "double fused multiply-adds, 1024 threads an SM, 16 chains each");
}

}  // namespace seqvae::bench::gpu

// What this machine can do at most, on --threads N threads: float32 and float64 multiply-adds that
// never leave the registers, and a triad over arrays that no cache holds. Prints one line of JSON;
// rates of the other programs are read against it (bench/compare.py --peak).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <new>
#include <string>

#include "bench/serve.hpp"
#include "host/cpu/vector_targets.hpp"
#include "seqvae/core/threads.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/peak_bench.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace seqvae::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Independent chains: latency times multiply-adds a cycle is at most 4 * 4, and all must fit the
// registers beside two operands: 16 of them up to AVX2, else 32.
#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3
constexpr int kChains = 12;
#else
constexpr int kChains = 16;
#endif

/// FLOP of `times` multiply-adds of each chain; x <- a x + b has a fixed point, so nothing
/// overflows.
template <class Real>
double multiply_adds(std::int64_t times, Real start, Real* sum) {
  const hn::ScalableTag<Real> d;
  const auto a = hn::Set(d, Real(0.5)), b = hn::Set(d, start);
  hn::Vec<decltype(d)> x[kChains];
  HWY_UNROLL(kChains)
  for (int i = 0; i < kChains; ++i) x[i] = hn::Set(d, start * static_cast<Real>(i));
  for (std::int64_t t = 0; t < times; ++t) {
    HWY_UNROLL(kChains)
    for (int i = 0; i < kChains; ++i) x[i] = hn::MulAdd(a, x[i], b);
  }
  HWY_UNROLL(kChains)
  for (int i = 1; i < kChains; ++i) x[0] = hn::Add(x[0], x[i]);
  *sum = hn::GetLane(hn::SumOfLanes(d, x[0]));
  return 2.0 * kChains * static_cast<double>(hn::Lanes(d)) * static_cast<double>(times);
}

double float_multiply_adds(std::int64_t times, float start, float* sum) {
  return multiply_adds(times, start, sum);
}
double double_multiply_adds(std::int64_t times, double start, double* sum) {
  return multiply_adds(times, start, sum);
}

/// x = y + 3 z; count is a multiple of any vector's lanes.
void triad(std::int64_t count, float* x, const float* y, const float* z) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto three = hn::Set(d, 3.0f);
  for (std::int64_t i = 0; i < count; i += lanes) {
    hn::StoreU(hn::MulAdd(three, hn::LoadU(d, z + i), hn::LoadU(d, y + i)), d, x + i);
  }
}

const char* target() { return hwy::TargetName(HWY_TARGET); }

}  // namespace seqvae::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::bench {
HWY_EXPORT(float_multiply_adds);
HWY_EXPORT(double_multiply_adds);
HWY_EXPORT(triad);
HWY_EXPORT(target);

namespace {

/// The best of the turns in 0.3 s: each is some milliseconds, so that one of them is undisturbed.
template <class Real, class MultiplyAdds>
double flop_per_second(ThreadPool& pool, MultiplyAdds multiply_adds) {
  constexpr std::int64_t times = 1 << 20;
  std::vector<double> flop(static_cast<std::size_t>(pool.count()));
  double best = 0;
  for (double spent = 0; spent < 0.3;) {
    const double seconds = seconds_of([&] {
      pool.run(pool.count(), [&](int share) {
        Real sum;
        const Real start = 1 + static_cast<Real>(share);
        flop[static_cast<std::size_t>(share)] = multiply_adds(times, start, &sum);
        if (!std::isfinite(sum)) std::abort();  // and sum is used
      });
    });
    double all = 0;
    for (double f : flop) all += f;
    best = std::max(best, all / seconds);
    spent += seconds;
  }
  return best;
}

/// The best of nine turns over three arrays of 256 MiB. Counts two reads and one write an element,
/// and not the line that the write fetches first: as the programs count their bytes.
double bytes_per_second(ThreadPool& pool) {
  constexpr std::int64_t count = std::int64_t{1} << 26, block = 1024;
  const auto array = [] {
    return std::unique_ptr<float[]>(new float[static_cast<std::size_t>(count)]);
  };
  const auto x = array(), y = array(), z = array();
  const auto in_shares = [&](const auto& call) {
    const std::int64_t shares = pool.count(), blocks = count / block;
    pool.run(pool.count(), [&](int share) {
      const std::int64_t first = blocks * share / shares * block;
      call(first, blocks * (share + 1) / shares * block - first);
    });
  };
  in_shares([&](std::int64_t first, std::int64_t size) {  // each thread touches its own first
    for (float* to : {x.get(), y.get(), z.get()}) std::fill_n(to + first, size, 1.0f);
  });
  double best = 0;
  for (int turn = 0; turn < 9; ++turn) {
    const double seconds = seconds_of([&] {
      in_shares([&](std::int64_t first, std::int64_t size) {
        HWY_DYNAMIC_DISPATCH(triad)(size, x.get() + first, y.get() + first, z.get() + first);
      });
    });
    best = std::max(best, 12.0 * static_cast<double>(count) / seconds);
  }
  if (x[count - 1] != 4.0f) std::abort();
  return best;
}

}  // namespace
}  // namespace seqvae::bench

int main(int argc, char** argv) {
  using namespace seqvae::bench;
  const bool chosen = argc == 3 && std::string(argv[1]) == "--threads";
  if (argc != 1 && !chosen) {
    std::cerr << "usage: bench_peak [--threads N]\n";
    return 2;
  }
  seqvae::ThreadPool pool(chosen ? std::atoi(argv[2]) : 0);
  // One after the other.
  const double flop = flop_per_second<float>(pool, HWY_DYNAMIC_DISPATCH(float_multiply_adds));
  const double flop64 = flop_per_second<double>(pool, HWY_DYNAMIC_DISPATCH(double_multiply_adds));
  const double bytes = bytes_per_second(pool);
  std::cout << seqvae::io::Json{{"threads", pool.count()},
                                {"instructions", HWY_DYNAMIC_DISPATCH(target)()},
                                {"flop_per_second", std::round(flop)},
                                {"float64_flop_per_second", std::round(flop64)},
                                {"bytes_per_second", std::round(bytes)}}
                   .dump()
            << std::endl;
}
#endif  // HWY_ONCE

// Bandwidth of HBM and L2, and latencies of loads and of a few instructions that sit on the
// dependent chain of a recurrent step.
#include "constants.hpp"

namespace seqvae::bench::gpu {
namespace {

constexpr std::size_t kGiB = std::size_t{1} << 30;
constexpr int kUnroll = 4, kChunk = kUnroll * kThreads;  // float4 a thread, a block

__device__ float4 sum(float4 a, float4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }

__global__ void __launch_bounds__(kThreads) copy(float4* to, const float4* from) {
  const std::size_t first = std::size_t{blockIdx.x} * kChunk + threadIdx.x;
  float4 v[kUnroll];
#pragma unroll
  for (int i = 0; i < kUnroll; ++i) v[i] = from[first + i * kThreads];
#pragma unroll
  for (int i = 0; i < kUnroll; ++i) to[first + i * kThreads] = v[i];
}

__global__ void __launch_bounds__(kThreads) fill(float4* to, float value) {
  const std::size_t first = std::size_t{blockIdx.x} * kChunk + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kUnroll; ++i) to[first + i * kThreads] = {value, value, value, value};
}

/// Sums passes * count float4 (count a power of two), never from L1; one partial sum a thread.
__global__ void __launch_bounds__(kThreads)
    read(const float4* from, std::size_t count, int passes, float4* partial) {
  constexpr int unroll = 8;
  const std::size_t threads = std::size_t{gridDim.x} * kThreads;
  const std::size_t me = std::size_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::size_t end = count * static_cast<std::size_t>(passes);
  float4 total[unroll] = {};
  for (std::size_t i = me; i < end; i += unroll * threads) {
#pragma unroll
    for (int k = 0; k < unroll; ++k) {
      total[k] = sum(total[k], __ldcg(from + ((i + k * threads) & (count - 1))));
    }
  }
#pragma unroll
  for (int k = 1; k < unroll; ++k) total[0] = sum(total[0], total[k]);
  partial[me] = total[0];
}

struct Link {
  const Link* next;
};

/// hops places, stride links apart, each naming another; 1613 and a power of two share no factor.
__global__ void link(Link* links, unsigned hops, unsigned stride) {
  for (unsigned i = threadIdx.x; i < hops; i += blockDim.x) {
    links[i * stride].next = links + (i + 1613) % hops * stride;
  }
}

__global__ void chase(const Link* at, int hops, long long* cycles, const Link** sink) {
  const long long start = clock64();
  for (int i = 0; i < hops; ++i) {
    at = reinterpret_cast<const Link*>(
        __ldcg(reinterpret_cast<const unsigned long long*>(&at->next)));
  }
  *sink = at;  // before the clock: the last load must have come back
  *cycles = clock64() - start;
}

__device__ unsigned load_shared(unsigned address) {
  unsigned value;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(address));
  return value;
}

enum class Chain { shared, exp, tanh, shuffle, barrier, mma_bf16, mma_tf32, ldmatrix };

/// n dependent operations, timed by thread 0.
template <Chain kChain>
__global__ void __launch_bounds__(kThreads) chain(int n, long long* cycles, float* sink) {
  __shared__ __align__(128) unsigned ring[kThreads];  // its own addresses, for the loads
  const unsigned first = shared_address(ring);
  for (unsigned i = threadIdx.x; i < kThreads; i += blockDim.x) {
    ring[i] = kChain == Chain::shared ? first + (i + 33) % kThreads * 4 : first;
  }
  __syncthreads();
  float x = 0.5f + static_cast<float>(threadIdx.x) / 512, c[4] = {x, x, x, x};
  unsigned at = threadIdx.x, address = first + threadIdx.x % 32 * 4, b[4] = {first};
  const unsigned a[4] = {at, at, at, at};
  const long long start = clock64();
#pragma unroll 8
  for (int i = 0; i < n; ++i) {
    if constexpr (kChain == Chain::shared) address = load_shared(address);
    if constexpr (kChain == Chain::exp) x = expf(-x);
    if constexpr (kChain == Chain::tanh) x = tanhf(2 * x);
    if constexpr (kChain == Chain::shuffle) at = __shfl_xor_sync(~0u, at, 1 + i % 2);
    if constexpr (kChain == Chain::barrier) __syncthreads();
    if constexpr (kChain == Chain::mma_bf16) mma<false>(c, a, at, at);
    if constexpr (kChain == Chain::mma_tf32) mma<true>(c, a, at, at);
    if constexpr (kChain == Chain::ldmatrix) ldmatrix_x4(b, b[0]);
  }
  sink[threadIdx.x] = x + static_cast<float>(at + address + b[0]) + c[0] + c[1] + c[2] + c[3];
  if (threadIdx.x == 0) *cycles = clock64() - start;
}

template <Chain kChain>
double chain_cycles(Bench& bench, int threads) {
  constexpr int n = 4096;
  const DeviceArray<long long> cycles(1);
  const DeviceArray<float> sink(kThreads);
  const auto of = [&](int count) {
    launch(chain<kChain>, {1, threads}, bench.stream, count, cycles.get(), sink.get());
    bench.wait();
    return static_cast<double>(cycles.read()[0]);
  };
  std::vector<double> values(7);
  of(n);
  for (double& v : values) v = (of(2 * n) - of(n)) / n;
  return median(values);
}

/// Cycles of a hop. With other, all of it is written first, so that L2 holds none of the links;
/// else the links are chased once before.
double chase_cycles(Bench& bench, const DeviceArray<float4>& memory, unsigned stride,
                    const DeviceArray<float4>* other) {
  constexpr int hops = 4096;
  const DeviceArray<long long> cycles(1);
  const DeviceArray<const Link*> sink(1);
  auto* links = reinterpret_cast<Link*>(memory.get());
  launch(link, {}, bench.stream, links, hops, stride);
  std::vector<double> values(7);
  for (double& v : values) {
    if (other != nullptr) {
      check(cudaMemsetAsync(other->get(), 0, other->bytes(), bench.stream));
    } else {
      launch(chase, {1, 1}, bench.stream, links, hops, cycles.get(), sink.get());
    }
    launch(chase, {1, 1}, bench.stream, links, hops, cycles.get(), sink.get());
    bench.wait();
    v = static_cast<double>(cycles.read()[0]) / hops;
  }
  return median(values);
}

}  // namespace

void measure_memory(Bench& bench) {
  const DeviceArray<float4> a(kGiB / sizeof(float4)), b(kGiB / sizeof(float4));
  const int chunks = static_cast<int>(a.count() / kChunk), readers = 8 * bench.sms;
  const DeviceArray<float4> partial(static_cast<std::size_t>(readers) * kThreads);
  const auto gb_per_s = [](double bytes, double us) { return bytes / us * 1e-3; };
  constexpr double gib = static_cast<double>(kGiB);

  bench.measure("hbm_copy_kernel", "GB/s", "1 GiB copied by float4 loads; bytes read + written",
                [&] {
                  return gb_per_s(2 * gib, bench.slope_us(8, [&](int n) {
                    for (int i = 0; i < n; ++i) {
                      launch(copy, {chunks}, bench.stream, a.get(), b.get());
                    }
                  }));
                });
  bench.measure("hbm_copy_memcpy", "GB/s", "1 GiB by cudaMemcpyAsync; bytes read + written", [&] {
    return gb_per_s(2 * gib, bench.slope_us(8, [&](int n) {
      for (int i = 0; i < n; ++i) {
        check(cudaMemcpyAsync(a.get(), b.get(), a.bytes(), cudaMemcpyDeviceToDevice, bench.stream));
      }
    }));
  });
  bench.measure("hbm_read", "GB/s", "1 GiB summed, one partial sum a thread", [&] {
    return gb_per_s(gib, bench.slope_us(8, [&](int n) {
      launch(read, {readers}, bench.stream, a.get(), a.count(), n, partial.get());
    }));
  });
  bench.measure("hbm_write", "GB/s", "1 GiB filled by float4 stores", [&] {
    return gb_per_s(gib, bench.slope_us(8, [&](int n) {
      for (int i = 0; i < n; ++i) launch(fill, {chunks}, bench.stream, a.get(), 1.0f);
    }));
  });
  for (const int mib : {4, 16, 32}) {
    const std::size_t bytes = static_cast<std::size_t>(mib) << 20;
    bench.measure("l2_read_" + std::to_string(mib) + "_mib", "GB/s",
                  "the buffer summed again and again by all SMs, past L1", [&] {
                    const double us = bench.slope_us(512, [&](int n) {
                      launch(read, {readers}, bench.stream, a.get(), bytes / sizeof(float4), n,
                             partial.get());
                    });
                    return gb_per_s(static_cast<double>(bytes), us);
                  });
  }
  bench.measure("load_l2_latency", "cycles", "dependent loads that miss L1 and hit L2 (1 MiB)",
                [&] { return chase_cycles(bench, a, 32, nullptr); });
  bench.measure("load_hbm_latency", "cycles", "dependent loads that miss L2 (over 32 MiB)",
                [&] { return chase_cycles(bench, a, 1024, &b); });
  bench.measure("load_shared_latency", "cycles", "dependent loads from shared memory, one warp",
                [&] { return chain_cycles<Chain::shared>(bench, 32); });
  bench.measure("ldmatrix_x4_latency", "cycles", "dependent ldmatrix.x4, one warp",
                [&] { return chain_cycles<Chain::ldmatrix>(bench, 32); });
  bench.measure("expf_latency", "cycles", "chain of expf(-x), one warp",
                [&] { return chain_cycles<Chain::exp>(bench, 32); });
  bench.measure("tanhf_latency", "cycles", "chain of tanhf(2 x), |2 x| > 0.55, one warp",
                [&] { return chain_cycles<Chain::tanh>(bench, 32); });
  bench.measure("shuffle_latency", "cycles", "chain of __shfl_xor_sync, one warp",
                [&] { return chain_cycles<Chain::shuffle>(bench, 32); });
  bench.measure("syncthreads_256", "cycles", "__syncthreads of 256 threads",
                [&] { return chain_cycles<Chain::barrier>(bench, kThreads); });
  bench.measure("mma_bf16_latency", "cycles", "chain of m16n8k16 bf16 through C, one warp",
                [&] { return chain_cycles<Chain::mma_bf16>(bench, 32); });
  bench.measure("mma_tf32_latency", "cycles", "chain of m16n8k8 tf32 through C, one warp",
                [&] { return chain_cycles<Chain::mma_tf32>(bench, 32); });
}

}  // namespace seqvae::bench::gpu

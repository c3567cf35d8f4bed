/// \file  What the parts of bench/gpu/constants share: the report, the timer, launches, and one
/// wrapper for each PTX instruction that is measured. The program stands alone: it includes
/// nothing of the library, so that it can be carried to a machine by itself.
///
/// No measurement may hang. A device loop that waits gives up after kPatience cycles, counts the
/// failure, and from then on waits for nothing, so its kernel still comes to its end. The host
/// gives a kernel kHangSeconds, then prints what it has and leaves.
#pragma once
#include <cuda_runtime.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>
#include <vector>

namespace seqvae::bench::gpu {

constexpr int kThreads = 256;
constexpr int kSequences = 8;               // one mma tile of N
constexpr int kOneCtaPerSm = 120 * 1024;    // dynamic shared bytes that keep a second CTA out
constexpr long long kPatience = 1LL << 26;  // cycles, about 35 ms
constexpr double kHangSeconds = 3, kAllSeconds = 25;

// ---------------------------------------------------------------- host

/// \throws std::runtime_error with the line and CUDA's own text.
void check(cudaError_t status, std::source_location at = std::source_location::current());

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) : count_(count) {
    check(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)));
    check(cudaMemset(data_, 0, count * sizeof(T)));
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }
  T* get() const { return data_; }
  std::size_t count() const { return count_; }
  std::size_t bytes() const { return count_ * sizeof(T); }
  std::vector<T> read() const {
    std::vector<T> host(count_);
    check(cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDefault));
    return host;
  }

 private:
  std::size_t count_;
  T* data_ = nullptr;
};

/// Counted on the device; Bench reads them after the first run and the last.
struct Failures {
  unsigned timeouts = 0, mismatches = 0;
};

struct Shape {
  int grid = 1, threads = kThreads, shared_bytes = 0, cluster = 1;
  bool cooperative = false, programmatic = false;
};

/// A cudaLaunchConfig_t and the attributes that it points to; so it is not copied.
class LaunchConfig {
 public:
  LaunchConfig(const Shape& shape, cudaStream_t stream);
  LaunchConfig(const LaunchConfig&) = delete;
  LaunchConfig& operator=(const LaunchConfig&) = delete;
  const cudaLaunchConfig_t* get() const { return &config_; }

 private:
  cudaLaunchAttribute attributes_[3];
  cudaLaunchConfig_t config_{};
};

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const Shape& shape, cudaStream_t stream,
            Arguments... arguments) {
  check(cudaLaunchKernelEx(LaunchConfig(shape, stream).get(), kernel, Parameters(arguments)...));
}

/// Lets the kernel have clusters of 16 and `shared_bytes` of dynamic shared memory.
template <class... Parameters>
void allow(void (*kernel)(Parameters...), int shared_bytes) {
  const auto* f = reinterpret_cast<const void*>(kernel);
  check(cudaFuncSetAttribute(f, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
  check(cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
}

/// Clusters of shape.cluster CTAs that the device holds side by side.
template <class... Parameters>
int clusters_that_fit(void (*kernel)(Parameters...), Shape shape) {
  shape.grid = shape.cluster;
  int count = 0;
  check(cudaOccupancyMaxActiveClusters(&count, reinterpret_cast<const void*>(kernel),
                                       LaunchConfig(shape, nullptr).get()));
  return count;
}

class Bench {
 public:
  Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  /// One entry of the report. A throw, a timeout or a mismatch on the device becomes its reason.
  void measure(const std::string& name, const char* unit, const std::string& what,
               const std::function<double()>& value);

  /// Microseconds of what body enqueues: median of 7, after a first run.
  double median_us(const std::function<void()>& body);

  /// Microseconds of one of the n iterations that body(n) enqueues: the slope between n and n / 2,
  /// so that launches and set-up cancel.
  double slope_us(int n, const std::function<void(int)>& body);

  /// Waits for the stream; on a hang prints the report and leaves the process.
  void wait();
  void print() const;
  double seconds() const;

  cudaStream_t stream{};
  Failures* failures = nullptr;  ///< on the device
  int sms = 0;
  std::string device_json;

 private:
  void require_no_failures() const;
  double once_us(const std::function<void()>& body);
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  cudaEvent_t start_{}, stop_{};
  std::string current_, what_;
  std::vector<std::string> entries_;
};

double median(std::vector<double> values);

void measure_memory(Bench& bench);    // constants_memory.cu: bandwidth and latency
void measure_math(Bench& bench);      // constants_math.cu: mma.sync, FFMA, DFMA
void measure_launches(Bench& bench);  // constants_launch.cu
void measure_barriers(Bench& bench);  // constants_barrier.cu: grid, group and cluster barriers
void measure_exchange(Bench& bench);  // constants_exchange.cu: st.async within a cluster
void measure_gru(Bench& bench);       // constants_gru.cu: whole steps of a recurrence

// ---------------------------------------------------------------- device

__device__ inline unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

/// The same place in the shared memory of CTA `rank` of the cluster.
__device__ inline unsigned map_to(unsigned address, unsigned rank) {
  unsigned remote;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
  return remote;
}

__device__ inline unsigned cluster_rank() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

template <bool kRelease>
__device__ inline void cluster_barrier() {
  if constexpr (kRelease) {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  } else {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  }
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/// 16 bytes to another CTA's shared memory; they count on the mbarrier there once they are in.
__device__ inline void st_async(unsigned remote, uint4 v, unsigned remote_mbarrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1,%2,%3,%4}, [%5];" ::
          "r"(remote),
      "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(remote_mbarrier)
      : "memory");
}

__device__ inline void mbarrier_init(unsigned address) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address) : "memory");
}

__device__ inline void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// The one arrival of a phase, which also says how many bytes the phase waits for.
__device__ inline void mbarrier_arm(unsigned address, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes)
               : "memory");
}

/// kClusterScope asks for what the memory model wants where another CTA's data is read next; the
/// default of the instruction is the scope of the CTA, which common libraries use.
template <bool kClusterScope>
__device__ inline bool mbarrier_try_wait(unsigned address, unsigned parity) {
  unsigned done;
  if constexpr (kClusterScope) {
    asm volatile(
        "{.reg .pred p;\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;}"
        : "=r"(done)
        : "r"(address), "r"(parity)
        : "memory");
  } else {
    asm volatile(
        "{.reg .pred p;\n"
        "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;}"
        : "=r"(done)
        : "r"(address), "r"(parity)
        : "memory");
  }
  return done != 0;
}

/// False if the phase did not end within kPatience.
template <bool kClusterScope>
__device__ inline bool mbarrier_wait(unsigned address, unsigned parity) {
  if (mbarrier_try_wait<kClusterScope>(address, parity)) return true;
  const long long start = clock64();
  while (!mbarrier_try_wait<kClusterScope>(address, parity)) {
    if (clock64() - start > kPatience) return false;
  }
  return true;
}

__device__ inline void st_release(unsigned* p, unsigned value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
}

__device__ inline unsigned ld_acquire(const unsigned* p) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(p) : "memory");
  return value;
}

/// Four 8 x 8 matrices of 2-byte elements; lane l gives the address of row l % 8 of matrix l / 8.
__device__ inline void ldmatrix_x4(unsigned (&b)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
               : "r"(address)
               : "memory");
}

/// c += a b. bf16: 16 x 8 x 16; tf32: 16 x 8 x 8. Lane l holds c[l/4 + {0,8}][2 (l%4) + {0,1}].
template <bool kTf32>
__device__ inline void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  if constexpr (kTf32) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

/// Volatile, so that what is loaded stays in registers: it cannot be loaded a second time.
__device__ inline void load_fragment(unsigned (&a)[4], const uint4* p) {
  asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "l"(p));
}

__host__ __device__ inline unsigned hash(unsigned i) {
  i = (i ^ (i >> 16)) * 0x7feb352du;
  i = (i ^ (i >> 15)) * 0x846ca68bu;
  return i ^ (i >> 16);
}

}  // namespace seqvae::bench::gpu

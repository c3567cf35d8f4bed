// Steady state allocates nothing: every allocation of this program is counted while a scan runs
// over batches of shapes that it has seen, or whose row counts it has.
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "tests/graph/models.hpp"
#include "tests/graph/small_scan.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SEQVAE_COUNTS_ALLOCATIONS 0  // sanitizers have an allocator of their own
#else
#define SEQVAE_COUNTS_ALLOCATIONS 1
#endif

namespace {
std::atomic<bool> counting{false};
std::atomic<std::int64_t> allocations{0};
}  // namespace

#if SEQVAE_COUNTS_ALLOCATIONS
namespace {
void count() {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1);
}
}  // namespace

// operator new comes down to these.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) {
  count();
  return __libc_malloc(bytes);
}
void* calloc(std::size_t n, std::size_t bytes) {
  count();
  return __libc_calloc(n, bytes);
}
void* realloc(void* p, std::size_t bytes) {
  count();
  return __libc_realloc(p, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  count();
  return __libc_memalign(alignment, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) {
  count();
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t bytes) {
  count();
  *out = __libc_memalign(alignment, bytes);
  return *out == nullptr ? ENOMEM : 0;
}
}
#endif

namespace seqvae::test {
namespace {

class Allocations : public testing::TestWithParam<NamedConfiguration> {
 protected:
  void SetUp() override {
    if (!SEQVAE_COUNTS_ALLOCATIONS) GTEST_SKIP() << "a sanitizer allocates here";
  }

  template <class Body>
  static std::int64_t of(const Body& body) {
    allocations = 0, counting = true;
    body();
    counting = false;
    return allocations;
  }

  template <class Real>
  static void expect_none(int threads, bool given_noise) {
    ThreadPool pool(threads);
    const auto model = make_model(GetParam().model, GetParam().configuration,
                                  {.x_width = kX, .controls_width = kControls});
    const auto values = parameter_values<Real>(model->parameters());
    ScanOptions options;
    options.gradient = true;
    Executor<Real> executor(model->scan(options), model->parameters(), pool);
    std::vector<Real> gradients(values.size()), noise(4000, Real(0.5)), bound(6);
    SmallBatch<Real> one({50, 33, 33, 20, 7, 1}), other({9, 70, 12, 38, 38, 3});
    // T, B and R as neither has, and yet each thread has rows as it had, and no more steps.
    SmallBatch<Real> fresh({5, 35, 48, 34, 19});
    if (given_noise)
      one.batch.noise = other.batch.noise = fresh.batch.noise = {{"z", noise.data()}};
    const auto step = [&](const SmallBatch<Real>& batch) {
      executor.set_parameters(values.data());
      executor.run(batch.batch, gradients.data());
      bound.resize(batch.lengths.size());
      executor.copy_output("bound", bound);
    };
    step(one), step(other), step(one), step(other);
    EXPECT_EQ(of([&] { step(other), step(other); }), 0) << "one shape";
    EXPECT_EQ(of([&] { step(one), step(other), step(one), step(other); }), 0) << "two in turn";
    const std::int64_t plans = executor.plan_count();
    EXPECT_EQ(of([&] { step(fresh); }), 0) << "a new shape";
    EXPECT_EQ(executor.plan_count(), plans);
  }
};

TEST_P(Allocations, AreNoneInSteadyState) {
  expect_none<float>(1, false);
  expect_none<double>(1, false);
}
TEST_P(Allocations, AreNoneInSteadyStateOnThreeThreads) { expect_none<float>(3, false); }
TEST_P(Allocations, AreNoneInSteadyStateWithGivenNoise) { expect_none<double>(2, true); }

INSTANTIATE_TEST_SUITE_P(Models, Allocations, testing::ValuesIn(small_models()),
                         [](const auto& info) {
                           std::string name = info.param.label;
                           for (char& c : name) {
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           }
                           return name;
                         });

// The count itself works.
TEST(Counter, SeesNewAndMalloc) {
  if (!SEQVAE_COUNTS_ALLOCATIONS) GTEST_SKIP();
  allocations = 0, counting = true;
  std::vector<double> v(100, 1.0);
  std::free(std::malloc(8));
  counting = false;
  EXPECT_EQ(allocations, 2);
  EXPECT_EQ(v.back(), 1.0);
}

}  // namespace
}  // namespace seqvae::test

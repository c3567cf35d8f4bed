// The constants of a Hopper GPU that decide how persistent recurrent kernels are designed:
// bandwidth, latency, launches, barriers, the exchange of a state through distributed shared
// memory, mma.sync from registers, and whole GRU steps. Prints one JSON object.
//
//     nvcc -std=c++20 -arch=sm_90a -lineinfo -o constants bench/gpu/constants*.cu
//     constants [memory] [math] [launch] [barrier] [exchange] [gru]      none named: all
//
// An illegal access ends the process' CUDA context and so every later entry; the groups that this
// hits can be run by name.
#include "constants.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <utility>

namespace seqvae::bench::gpu {
namespace {

constexpr int kRepeats = 7;

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out + '"';
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

__global__ void spin(int n) {
  const long long start = clock64();
  while (clock64() - start < 1024LL * n) continue;
}

int attribute(cudaDeviceAttr name) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, name, 0));
  return value;
}

std::string describe() {
  cudaDeviceProp device{};
  int driver = 0, runtime = 0;
  check(cudaGetDeviceProperties(&device, 0));
  check(cudaDriverGetVersion(&driver));
  check(cudaRuntimeGetVersion(&runtime));
  const std::pair<const char*, int> numbers[] = {
      {"sms", device.multiProcessorCount},
      {"l2_bytes", device.l2CacheSize},
      {"shared_bytes_per_block_optin", static_cast<int>(device.sharedMemPerBlockOptin)},
      {"clock_khz", attribute(cudaDevAttrClockRate)},
      {"memory_clock_khz", attribute(cudaDevAttrMemoryClockRate)},
      {"driver", driver},
      {"runtime", runtime},
  };
  std::string json = "\"name\": " + quoted(device.name) + ", \"compute_capability\": \"" +
                     std::to_string(device.major) + "." + std::to_string(device.minor) + "\"";
  for (const auto& [name, value] : numbers) {
    json += ", " + quoted(name) + ": " + std::to_string(value);
  }
  return json;
}

}  // namespace

void check(cudaError_t status, std::source_location at) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // what is not fatal must not show up in the next measurement
  throw std::runtime_error(std::string(at.file_name()) + ":" + std::to_string(at.line()) + ": " +
                           cudaGetErrorName(status) + ", " + cudaGetErrorString(status));
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

LaunchConfig::LaunchConfig(const Shape& shape, cudaStream_t stream) {
  config_.gridDim = dim3(static_cast<unsigned>(shape.grid));
  config_.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config_.dynamicSmemBytes = static_cast<std::size_t>(shape.shared_bytes);
  config_.stream = stream;
  config_.attrs = attributes_;
  if (shape.cluster > 1) {
    auto& a = attributes_[config_.numAttrs++];
    a.id = cudaLaunchAttributeClusterDimension;
    a.val.clusterDim.x = static_cast<unsigned>(shape.cluster);
    a.val.clusterDim.y = a.val.clusterDim.z = 1;
  }
  if (shape.cooperative) {
    auto& a = attributes_[config_.numAttrs++];
    a.id = cudaLaunchAttributeCooperative;
    a.val.cooperative = 1;
  }
  if (shape.programmatic) {
    auto& a = attributes_[config_.numAttrs++];
    a.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    a.val.programmaticStreamSerializationAllowed = 1;
  }
}

Bench::Bench() {
  check(cudaSetDevice(0));
  device_json = describe();
  sms = attribute(cudaDevAttrMultiProcessorCount);
  check(cudaStreamCreate(&stream));
  check(cudaEventCreate(&start_));
  check(cudaEventCreate(&stop_));
  check(cudaMalloc(reinterpret_cast<void**>(&failures), sizeof(Failures)));
  check(cudaMemset(failures, 0, sizeof(Failures)));
  launch(spin, {sms}, stream, 200'000);  // about 0.1 s, in which the clocks rise
  wait();
  const double us = slope_us(2048, [&](int n) { launch(spin, {sms}, stream, n); });
  device_json += ", \"measured_clock_mhz\": " + number(1024 / us);
}

void Bench::measure(const std::string& name, const char* unit, const std::string& what,
                    const std::function<double()>& value) {
  current_ = name, what_ = what;
  std::string entry = quoted(name) + ": {";
  std::string result;
  try {
    if (seconds() > kAllSeconds) throw std::runtime_error("out of time");
    check(cudaMemset(failures, 0, sizeof(Failures)));
    const double measured = value();
    wait();
    require_no_failures();
    if (!std::isfinite(measured) || measured < 0) throw std::runtime_error("no sane value");
    entry += "\"value\": " + number(measured) + ", \"unit\": " + quoted(unit);
    result = number(measured) + " " + unit;
  } catch (const std::exception& error) {
    entry += "\"failed\": " + quoted(error.what());
    result = std::string("FAILED ") + error.what();
  }
  entries_.push_back(entry + ", \"what\": " + quoted(what) + "}");
  std::fprintf(stderr, "[%5.1f s] %s: %s\n", seconds(), name.c_str(), result.c_str());
}

void Bench::require_no_failures() const {
  Failures seen;
  check(cudaMemcpy(&seen, failures, sizeof seen, cudaMemcpyDefault));
  if (seen.timeouts > 0) throw std::runtime_error(std::to_string(seen.timeouts) + " timeouts");
  if (seen.mismatches > 0) {
    throw std::runtime_error(std::to_string(seen.mismatches) + " mismatches");
  }
}

double Bench::once_us(const std::function<void()>& body) {
  float ms = 0;
  check(cudaEventRecord(start_, stream));
  body();
  check(cudaEventRecord(stop_, stream));
  wait();
  check(cudaEventElapsedTime(&ms, start_, stop_));
  return 1e3 * static_cast<double>(ms);
}

double Bench::median_us(const std::function<void()>& body) {
  std::vector<double> us(kRepeats);
  once_us(body);
  require_no_failures();  // each further run would wait as long
  for (double& u : us) u = once_us(body);
  return median(us);
}

double Bench::slope_us(int n, const std::function<void(int)>& body) {
  const double half = median_us([&] { body(n / 2); });
  const double whole = median_us([&] { body(n); });
  return (whole - half) / (n - n / 2);
}

void Bench::wait() {
  const double late = seconds() + kHangSeconds;
  for (;;) {
    const cudaError_t status = cudaStreamQuery(stream);
    if (status != cudaErrorNotReady) return check(status);
    if (seconds() > late) break;
  }
  entries_.push_back(quoted(current_) +
                     ": {\"failed\": \"the kernel did not end\", \"what\": " + quoted(what_) + "}");
  print();
  std::fflush(nullptr);
  std::_Exit(3);  // destructors would wait for the kernel
}

void Bench::print() const {
  std::printf("{\n  \"device\": {%s},\n  \"constants\": {", device_json.c_str());
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    std::printf("%s\n    %s", i == 0 ? "" : ",", entries_[i].c_str());
  }
  std::printf("\n  }\n}\n");
}

double Bench::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

}  // namespace seqvae::bench::gpu

int main(int argc, char** argv) {
  using namespace seqvae::bench::gpu;
  const std::pair<const char*, void (*)(Bench&)> groups[] = {
      {"memory", measure_memory},    {"math", measure_math},         {"launch", measure_launches},
      {"barrier", measure_barriers}, {"exchange", measure_exchange}, {"gru", measure_gru},
  };
  try {
    Bench bench;
    for (const auto& [name, run] : groups) {
      const auto named = [name = name](const char* a) { return std::string(a) == name; };
      if (argc > 1 && std::none_of(argv + 1, argv + argc, named)) continue;
      try {
        run(bench);
      } catch (const std::exception& error) {
        const std::string reason = error.what();
        bench.measure(std::string(name) + "_rest", "", "what this group had still to measure",
                      [&]() -> double { throw std::runtime_error(reason); });
      }
    }
    bench.print();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "constants: %s\n", error.what());
    return 1;
  }
  return 0;
}

#include "seqvae/core/device.hpp"

#include <charconv>

#include "kernels/common/runtime.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae {

int Device::cuda_count() { return cuda::device_count(); }

Device Device::cuda(int index) {
  require(index >= 0 && index < cuda_count(), "Device::cuda", "index", index,
          fmt::format("below the number of CUDA devices, {}", cuda_count()));
  return Device(Kind::cuda, index);
}

Device Device::best() { return cuda_count() > 0 ? cuda(0) : cpu(); }

Device Device::parse(std::string_view text) {
  if (text == "auto") return best();
  if (text == "cpu") return cpu();
  if (text == "cuda") return cuda(0);
  int index = -1;
  const bool is_cuda = text.starts_with("cuda:");
  if (is_cuda) {
    const auto [end, error] = std::from_chars(text.data() + 5, text.data() + text.size(), index);
    if (error == std::errc() && end == text.data() + text.size()) return cuda(index);
  }
  throw InvalidArgument(fmt::format("device = {}, must be auto, cpu, cuda or cuda:N", text));
}

std::string Device::name() const { return is_cpu() ? "cpu" : "cuda:" + std::to_string(index_); }

}  // namespace seqvae

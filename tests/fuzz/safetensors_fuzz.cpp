#include "seqvae/io/safetensors.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t count) {
  using namespace seqvae;
  return fuzz::read(data, count,
                    [](std::string_view bytes) { io::parse_safetensors(bytes, "fuzz"); });
}

// An .npz as a data set: the zip, its arrays, and what they say about each other.
#include "host/data/read.hpp"
#include "seqvae/io/npy.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t count) {
  using namespace seqvae;
  return fuzz::read(data, count, [](std::string_view bytes) {
    data::dataset_from_arrays(io::parse_npz(bytes, "fuzz"), "fuzz");
  });
}

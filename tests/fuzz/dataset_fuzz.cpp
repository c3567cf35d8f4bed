// What the arrays of a data set say about each other, past the zip and its checksums: the input is
// pieces of [which name | length | an .npy].
#include "host/data/read.hpp"
#include "seqvae/io/npy.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t count) {
  using namespace seqvae;
  return fuzz::read(data, count, [](std::string_view bytes) {
    constexpr std::string_view prefixes[] = {"", "train_", "valid_", "test_"};
    constexpr std::string_view pieces[] = {"values", "lengths", "mask", "controls",
                                           "times",  "reset",   "x",    ""};
    io::NamedArrays arrays;
    while (bytes.size() >= 2) {
      const auto name = static_cast<unsigned char>(bytes[0]) % 32u;
      const std::size_t length = static_cast<unsigned char>(bytes[1]);
      bytes.remove_prefix(2);
      const std::string_view array = bytes.substr(0, length);
      bytes.remove_prefix(array.size());
      arrays[std::string(prefixes[name / 8]) + std::string(pieces[name % 8])] =
          io::parse_npy(array, "fuzz");
    }
    const data::Dataset dataset = data::dataset_from_arrays(arrays, "fuzz");
    for (const auto& [part, set] : dataset.parts) data::windows_of(set, 2, 1);
  });
}

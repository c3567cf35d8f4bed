// safetensors: a file of the reference implementation, round trips, and what must be refused.
#include "seqvae/io/safetensors.hpp"

#include <gmock/gmock.h>

#include "tests/support/files.hpp"

namespace seqvae::test {
namespace {

using testing::ElementsAre;

TEST(ReadSafetensors, YieldsWhatTheReferenceImplementationWrote) {
  const io::Safetensors file = io::read_safetensors(reference("io/weights.safetensors"));
  EXPECT_THAT(file.metadata,
              ElementsAre(std::pair("model", "vrnn"), std::pair("note", "a \"quote\"")));
  ASSERT_EQ(file.tensors.size(), 5u);
  const io::Array& weight = file.tensors.at("layer.weight");
  EXPECT_THAT(weight.shape, ElementsAre(3, 4));
  for (std::size_t i = 0; i < 12; ++i) {
    EXPECT_EQ(weight.as<float>()[i], static_cast<float>(static_cast<double>(i) / 3));
  }
  EXPECT_THAT(file.tensors.at("layer.bias").as<double>(), ElementsAre(1.5, -2.5));
  EXPECT_THAT(file.tensors.at("step").as<std::int64_t>(), ElementsAre(7));
  EXPECT_THAT(file.tensors.at("scalar").shape, testing::IsEmpty());
  EXPECT_THAT(file.tensors.at("scalar").as<float>(), ElementsAre(3));
  EXPECT_THAT(file.tensors.at("empty").shape, ElementsAre(0, 2));
}

TEST(WriteSafetensors, RoundTripsAndAlignsTheData) {
  const TemporaryFolder folder;
  const io::Safetensors file = io::read_safetensors(reference("io/weights.safetensors"));
  io::write_safetensors(folder / "a", file);
  const io::Safetensors again = io::read_safetensors(folder / "a");
  EXPECT_EQ(again.metadata, file.metadata);
  for (const auto& [name, tensor] : file.tensors) {
    EXPECT_EQ(again.tensors.at(name).shape, tensor.shape) << name;
    EXPECT_EQ(again.tensors.at(name).bytes, tensor.bytes) << name;
  }
  const std::string bytes = io::read_file(folder / "a");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ(header % 8, 0u);
  // The format fixes the order by alignment, and the reference breaks ties as we do by name; only
  // I64 and F64 stand the other way round.
  EXPECT_EQ(bytes.size() - 8 - header, 76u);
  const std::string theirs = io::read_file(reference("io/weights.safetensors"));
  EXPECT_EQ(bytes.substr(bytes.size() - 52), theirs.substr(theirs.size() - 52));
}

std::string file_of(const std::string& header, const std::string& data) {
  std::string bytes(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(bytes.data(), &size, 8);
  return bytes + header + data;
}

std::string tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"a\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets +
         "}}";
}

struct BadSafetensors {
  std::string name, bytes, message;
  friend void PrintTo(const BadSafetensors& m, std::ostream* out) { *out << m.name; }
};

class MalformedSafetensors : public testing::TestWithParam<BadSafetensors> {};

TEST_P(MalformedSafetensors, IsRefusedWithPlaceAndRule) {
  EXPECT_THAT([&] { io::parse_safetensors(GetParam().bytes, "f"); },
              testing::ThrowsMessage<InputError>("f: " + GetParam().message));
}

const std::string kEightBytes(8, '\0');

INSTANTIATE_TEST_SUITE_P(
    Cases, MalformedSafetensors,
    testing::Values(
        BadSafetensors{"empty", "", "byte 0: ends before the header's length"},
        BadSafetensors{"lying_length", std::string(8, '\xff') + "{}",
                       "byte 0: the header's length is 18446744073709551615, only 2 bytes follow"},
        BadSafetensors{"no_object", file_of("[1]", ""), "byte 8: the header must begin with {"},
        BadSafetensors{"twice", file_of(R"({"a":{},"a":{}})", ""), "header: a: is there twice"},
        BadSafetensors{"no_dtype", file_of(R"({"a":{}})", ""), "header: a.dtype: is missing"},
        BadSafetensors{
            "dtype", file_of(tensor("F16", "[4]", "[0,8]"), kEightBytes),
            "header: a.dtype: 'F16' is not supported; F64, F32, I64 to I8, U64 to U8 and "
            "BOOL are"},
        BadSafetensors{"negative_extent", file_of(tensor("F32", "[-2]", "[0,8]"), kEightBytes),
                       "header: a.shape[0]: is -2, must be >= 0"},
        BadSafetensors{"overflow",
                       file_of(tensor("F32", "[4611686018427387904,4]", "[0,8]"), kEightBytes),
                       "header: a.shape: has more than 2^63 - 1 bytes"},
        BadSafetensors{"offsets_of_three", file_of(tensor("F32", "[2]", "[0,8,9]"), kEightBytes),
                       "header: a.data_offsets: has 3 numbers, must have 2"},
        BadSafetensors{"beyond_the_end", file_of(tensor("F32", "[3]", "[0,12]"), kEightBytes),
                       "header: a.data_offsets: [0, 12] lies outside the 8 bytes of data"},
        BadSafetensors{"backwards", file_of(tensor("F32", "[2]", "[8,0]"), kEightBytes),
                       "header: a.data_offsets: [8, 0] lies outside the 8 bytes of data"},
        BadSafetensors{"lying_shape", file_of(tensor("F32", "[3]", "[0,8]"), kEightBytes),
                       "header: a: shape [3] of float32 needs 12 bytes, data_offsets hold 8"},
        BadSafetensors{"hole", file_of(tensor("F32", "[1]", "[4,8]"), kEightBytes),
                       "header: a: data_offsets begin at 4, must begin at 0"},
        BadSafetensors{"overlap",
                       file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                               R"("b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                               kEightBytes),
                       "header: b: data_offsets begin at 4, must begin at 8"},
        BadSafetensors{"rest", file_of(tensor("F32", "[1]", "[0,4]"), kEightBytes),
                       "header: describes 4 bytes of data, 8 follow"},
        BadSafetensors{"metadata", file_of(R"({"__metadata__":{"a":1}})", ""),
                       "header: __metadata__.a: is 1, must be a string"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace seqvae::test

// .npy and .npz: files that NumPy wrote, our own bytes against NumPy's, and what must be refused.
#include "seqvae/io/npy.hpp"

#include <gmock/gmock.h>
#include <zip.h>

#include <fstream>
#include <numeric>

#include "tests/support/files.hpp"

namespace seqvae::test {
namespace {

using io::Array;
using testing::ElementsAre;

std::string bytes_of(const std::filesystem::path& path) { return io::read_file(path); }

/// A .npy of version 1.0 with this header text and these data.
std::string npy(const std::string& header, const std::string& data) {
  std::string bytes = "\x93NUMPY";
  bytes += {1, 0, static_cast<char>(header.size() % 256), static_cast<char>(header.size() / 256)};
  return bytes + header + data;
}

TEST(ReadNpz, YieldsEveryTypeAsNumPyWroteIt) {
  const io::NamedArrays arrays = io::read_npz(reference("io/types.npz"));
  const std::pair<const char*, DType> types[] = {
      {"float32", DType::float32}, {"float64", DType::float64}, {"int8", DType::int8},
      {"int16", DType::int16},     {"int32", DType::int32},     {"int64", DType::int64},
      {"uint8", DType::uint8},     {"uint16", DType::uint16},   {"uint32", DType::uint32},
      {"uint64", DType::uint64},   {"bool", DType::boolean}};
  EXPECT_EQ(arrays.size(), std::size(types) + 3);
  for (const auto& [name, dtype] : types) {
    ASSERT_TRUE(arrays.contains(name)) << name;
    EXPECT_EQ(arrays.at(name).dtype, dtype) << name;
    EXPECT_THAT(arrays.at(name).shape, ElementsAre(3, 4)) << name;
  }
  for (int i = 0; i < 12; ++i) {
    const auto at = [&](const char* name) { return arrays.at(name).to_double()[std::size_t(i)]; };
    EXPECT_EQ(at("float32"), static_cast<double>(static_cast<float>(i / 3.0)));
    EXPECT_EQ(at("float64"), i / 3.0);
    EXPECT_EQ(at("int8"), i - 6);
    EXPECT_EQ(at("int16"), i * 1000);
    EXPECT_EQ(at("int32"), i * 100'000);
    EXPECT_EQ(at("int64"), i * 1e10);
    EXPECT_EQ(at("uint8"), i + 240);
    EXPECT_EQ(at("uint16"), i * 5000);
    EXPECT_EQ(at("uint32"), i * 3e8);
    EXPECT_EQ(at("uint64"), i * 1e18);
    EXPECT_EQ(at("bool"), i % 2 == 0);
    EXPECT_EQ(at("fortran"), i);
  }
  EXPECT_THAT(arrays.at("scalar").shape, testing::IsEmpty());
  EXPECT_THAT(arrays.at("scalar").to_double(), ElementsAre(2.5));
  EXPECT_THAT(arrays.at("empty").shape, ElementsAre(0, 3));
}

TEST(ReadNpy, TransposesFortranOrder) {
  const Array array = io::read_npy(reference("io/fortran.npy"));
  EXPECT_THAT(array.shape, ElementsAre(2, 3, 4));
  std::vector<std::int16_t> expected(24);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_THAT(array.as<std::int16_t>(), testing::ElementsAreArray(expected));
}

TEST(ReadNpy, KnowsVersionTwo) {
  EXPECT_THAT(io::read_npy(reference("io/version2.npy")).to_double(), ElementsAre(0, 1, 2));
}

TEST(WriteNpy, WritesTheBytesOfNumPy) {
  const TemporaryFolder folder;
  std::vector<float> values(24);
  std::iota(values.begin(), values.end(), 0.0f);
  io::write_npy(folder / "cube.npy", Array::of({2, 3, 4}, values));
  EXPECT_EQ(bytes_of(folder / "cube.npy"), bytes_of(reference("io/cube.npy")));
}

TEST(WriteNpz, RoundTripsTheArraysOfNumPyAndIsTheSameEachTime) {
  const TemporaryFolder folder;
  const io::NamedArrays arrays = io::read_npz(reference("io/types.npz"));
  io::write_npz(folder / "a.npz", arrays);
  io::write_npz(folder / "b.npz", arrays);
  EXPECT_EQ(bytes_of(folder / "a.npz"), bytes_of(folder / "b.npz"));
  const io::NamedArrays again = io::read_npz(folder / "a.npz");
  ASSERT_EQ(again.size(), arrays.size());
  for (const auto& [name, array] : arrays) {
    EXPECT_EQ(again.at(name).dtype, array.dtype) << name;
    EXPECT_EQ(again.at(name).shape, array.shape) << name;
    EXPECT_EQ(again.at(name).bytes, array.bytes) << name;
  }
}

TEST(WriteNpz, IsAZipThatPythonFindsWhole) {
  const TemporaryFolder folder;
  const Array ones = Array::of({3}, std::vector<std::int32_t>{1, 1, 1});
  io::write_npz(folder / "a.npz", {{"lengths", ones}, {"mask", Array::booleans({1}, {{1}})}});
  io::write_npy(folder / "lengths.npy", ones);
  const std::string command =
      "python3 -c 'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); "
      "assert z.testzip() is None; assert z.namelist() == [\"lengths.npy\", \"mask.npy\"]; "
      "assert z.read(\"lengths.npy\") == open(sys.argv[2], \"rb\").read()' " +
      (folder / "a.npz").string() + " " + (folder / "lengths.npy").string();
  EXPECT_EQ(std::system(command.c_str()), 0);
}

TEST(WriteNpz, RefusesToWriteNothing) {
  EXPECT_THAT(
      [] { io::write_npz("none.npz", {}); },
      testing::ThrowsMessage<InvalidArgument>("write_npz: arrays = 0, must be at least one"));
}

struct BadNpy {
  std::string name, bytes, message;
  friend void PrintTo(const BadNpy& m, std::ostream* out) { *out << m.name; }
};

class MalformedNpy : public testing::TestWithParam<BadNpy> {};

TEST_P(MalformedNpy, IsRefusedWithPlaceAndRule) {
  EXPECT_THAT([&] { io::parse_npy(GetParam().bytes, "f.npy"); },
              testing::ThrowsMessage<InputError>("f.npy: " + GetParam().message));
}

const std::string kGood = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
const std::string kEight(8, '\0');
const std::string kTypes =
    "' is not supported; float32, float64, int8 to int64, uint8 to uint64 and bool are";

std::string with(const std::string& from, const std::string& to) {
  std::string header = kGood;
  return npy(header.replace(header.find(from), from.size(), to), kEight);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, MalformedNpy,
    testing::Values(
        BadNpy{"empty", "", "byte 0: must begin with \\x93NUMPY"},
        BadNpy{"other_magic", "PK\3\4 and more", "byte 0: must begin with \\x93NUMPY"},
        BadNpy{"no_version", "\x93NUMPY\1", "byte 6: ends before the version"},
        BadNpy{"version_9", std::string("\x93NUMPY\x09\0\0\0", 10),
               "byte 6: format version 9 is not supported; 1, 2 and 3 are"},
        BadNpy{"no_length", std::string("\x93NUMPY\1\0\0", 9),
               "byte 8: ends before the header's length"},
        BadNpy{"no_length_2", std::string("\x93NUMPY\2\0\0\0\0", 11),
               "byte 8: ends before the header's length"},
        BadNpy{"lying_length", std::string("\x93NUMPY\2\0\xff\xff\xff\xff{}", 14),
               "byte 8: the header's length is 4294967295, only 2 bytes follow"},
        BadNpy{"no_dictionary", npy("hello", ""),
               "header: is no dictionary of NumPy's: '{' expected"},
        BadNpy{"empty_header", npy("", ""), "header: is no dictionary of NumPy's: '{' expected"},
        BadNpy{"open_string", npy("{'descr", ""),
               "header: is no dictionary of NumPy's: a string does not end"},
        BadNpy{"no_string", npy("{7: 8}", ""),
               "header: is no dictionary of NumPy's: a string expected"},
        BadNpy{"no_keys", npy("{}", ""), "header: must have descr, fortran_order and shape"},
        BadNpy{"key_twice", with("'shape'", "'descr': '<f4', 'shape'"),
               "header: key 'descr' is not expected"},
        BadNpy{"unknown_key", with("'shape'", "'form'"), "header: key 'form' is not expected"},
        BadNpy{"text_behind", with("}", "} x"),
               "header: ends after its dictionary, must hold nothing else"},
        BadNpy{"order", with("False", "Maybe"), "header: fortran_order must be True or False"},
        BadNpy{"negative_extent", with("(2,)", "(-2,)"),
               "header: shape must hold integers from 0 to 2^63 - 1"},
        BadNpy{"extent_beyond", with("(2,)", "(99999999999999999999,)"),
               "header: shape must hold integers from 0 to 2^63 - 1"},
        BadNpy{"overflowing_shape", with("(2,)", "(4294967296, 4294967296)"),
               "header: shape [4294967296, 4294967296] has more than 2^63 - 1 bytes"},
        BadNpy{"overflow_hidden_by_zero", with("(2,)", "(4294967296, 4294967296, 0)"),
               "header: shape [4294967296, 4294967296, 0] has more than 2^63 - 1 bytes"},
        BadNpy{"lying_shape", with("(2,)", "(1000000000000,)"),
               "header: shape [1000000000000] of float32 needs 4000000000000 bytes, 8 follow"},
        BadNpy{"truncated", npy(kGood, "\0\0\0"),
               "header: shape [2] of float32 needs 8 bytes, "
               "0 follow"},
        BadNpy{"too_long", npy(kGood, kEight + "x"),
               "header: shape [2] of float32 needs 8 bytes, 9 follow"},
        BadNpy{"many_dimensions",
               with("(2,)",
                    "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
                    "1,1,1,1,1,1,1,1,1,1)"),
               "header: shape has more than 32 dimensions"},
        BadNpy{"complex", with("<f4", "<c8"), "header: dtype '<c8" + kTypes},
        BadNpy{"bad_bool", npy("{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", "\1\2"),
               "element 1: a bool must be 0 or 1"}),
    [](const auto& info) { return info.param.name; });

TEST(ReadNpy, RefusesWhatNumPyWritesButWeDoNotRead) {
  const auto refuses = [](const std::string& name, const std::string& message) {
    const std::string file = reference("io/" + name).string();
    EXPECT_THAT([&] { io::read_npy(file); }, testing::ThrowsMessage<InputError>(file + message));
  };
  refuses("records.npy", ": header: holds records, must hold numbers");
  refuses("big_endian.npy", ": header: dtype '>f4' is big endian, must be little endian");
  refuses("half.npy", ": header: dtype '<f2" + kTypes);
  refuses("pickled.npy", ": header: dtype '|O" + kTypes);
}

// --- .npz ---

std::string zip_of(const std::vector<std::pair<std::string, std::string>>& members) {
  const TemporaryFolder folder;
  const std::string path = (folder / "z.zip").string();
  int code = 0;
  zip_t* archive = zip_open(path.c_str(), ZIP_CREATE, &code);
  for (const auto& [name, data] : members) {
    zip_source_t* source = zip_source_buffer(archive, data.data(), data.size(), 0);
    const auto index = zip_file_add(archive, name.c_str(), source, 0);
    zip_set_file_compression(archive, static_cast<zip_uint64_t>(index), ZIP_CM_STORE, 0);
  }
  zip_close(archive);
  return io::read_file(path);
}

std::string refusal(const std::string& bytes) {
  try {
    io::parse_npz(bytes, "f.npz");
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

/// Overwrites 4 bytes at `offset` behind the first `signature`.
std::string patched(std::string bytes, const std::string& signature, std::size_t offset,
                    std::uint32_t value) {
  std::memcpy(bytes.data() + bytes.find(signature) + offset, &value, 4);
  return bytes;
}

TEST(ParseNpz, RefusesWhatIsBroken) {
  const std::string good = zip_of({{"values.npy", npy(kGood, kEight)}});
  EXPECT_EQ(refusal(good), "accepted");
  EXPECT_EQ(refusal(""), "f.npz: zip: the file is empty");
  EXPECT_EQ(refusal("{\"json\": 1}"), "f.npz: zip: Not a zip archive");
  EXPECT_EQ(refusal(good.substr(0, good.size() / 2)), "f.npz: zip: Not a zip archive");
  std::string flipped = good;
  flipped[flipped.find("NUMPY") + 70] ^= 1;
  EXPECT_EQ(refusal(flipped), "f.npz: values: CRC error");
  EXPECT_EQ(refusal(zip_of({{"values.npy", "text"}})),
            "f.npz: values, byte 0: must begin with \\x93NUMPY");
  EXPECT_EQ(refusal(zip_of({{"values.npy", npy(kGood, "")}})),
            "f.npz: values, header: shape [2] of float32 needs 8 bytes, 0 follow");
  EXPECT_EQ(refusal(zip_of({{"readme.txt", "text"}})), "accepted");
  // The directory's claim of the uncompressed size: "PK\1\2" + 24.
  EXPECT_EQ(refusal(patched(good, "PK\1\2", 24, 4'000'000'000)),
            "f.npz: values: the zip claims 4000000000 bytes, more than the file can hold");
}

TEST(ParseNpz, RefusesANameThatIsThereTwice) {
  std::string bytes = zip_of({{"a.npy", npy(kGood, kEight)}, {"b.npy", npy(kGood, kEight)}});
  for (std::size_t at; (at = bytes.find("b.npy")) != std::string::npos;) bytes[at] = 'a';
  EXPECT_EQ(refusal(bytes), "f.npz: a: is there twice");
}

TEST(ParseNpz, ReadsNoMoreThanTheZipClaims) {
  // One byte less than there is, in the directory and before the data: stored, so both sizes.
  std::string bytes = zip_of({{"values.npy", npy(kGood, kEight)}});
  const auto size = static_cast<std::uint32_t>(npy(kGood, kEight).size() - 1);
  for (const auto& [signature, offset] :
       {std::pair<std::string, std::size_t>{"PK\1\2", 20}, {"PK\3\4", 18}}) {
    bytes = patched(patched(bytes, signature, offset, size), signature, offset + 4, size);
  }
  EXPECT_THAT(refusal(bytes), testing::StartsWith("f.npz: "));
  EXPECT_NE(refusal(bytes), "accepted");
}

}  // namespace
}  // namespace seqvae::test

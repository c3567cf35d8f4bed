// The format: numpy.lib.format, "Format Version 1.0" to "3.0".
#include "seqvae/io/npy.hpp"

#include <fmt/format.h>

#include <charconv>

#include "host/io/npy_bytes.hpp"

namespace seqvae::io {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

struct NpyType {
  std::string_view descr;
  DType dtype;
};

constexpr NpyType kNpyTypes[] = {
    {"<f4", DType::float32}, {"<f8", DType::float64}, {"|i1", DType::int8},
    {"<i2", DType::int16},   {"<i4", DType::int32},   {"<i8", DType::int64},
    {"|u1", DType::uint8},   {"<u2", DType::uint16},  {"<u4", DType::uint32},
    {"<u8", DType::uint64},  {"|b1", DType::boolean}};

// The header is a Python literal {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::string_view file, std::string place)
      : rest_(text), file_(file), place_(std::move(place)) {}

  void parse() {
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !has_descr_) {
        has_descr_ = true;
        skip_blanks();
        if (rest_.starts_with('[')) fail("holds records, must hold numbers");
        descr_ = quoted();
      } else if (key == "fortran_order" && !has_order_) {
        has_order_ = true;
        fortran_order = boolean();
      } else if (key == "shape" && !has_shape_) {
        has_shape_ = true;
        tuple();
      } else {
        fail(fmt::format("key '{}' is not expected", key));
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_blanks();
    if (!rest_.empty()) fail("ends after its dictionary, must hold nothing else");
    if (!has_descr_ || !has_order_ || !has_shape_) fail("must have descr, fortran_order and shape");
    find_type();
  }

  DType dtype = DType::float64;
  bool fortran_order = false;
  std::vector<std::int64_t> shape;

 private:
  [[noreturn]] void fail(std::string_view rule) const { throw InputError(file_, place_, rule); }
  void skip_blanks() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n')) rest_.remove_prefix(1);
  }
  bool accept(char c) {
    skip_blanks();
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(fmt::format("is no dictionary of NumPy's: '{}' expected", c));
  }
  std::string quoted() {
    skip_blanks();
    const char quote = rest_.empty() ? '\0' : rest_[0];
    if (quote != '\'' && quote != '"') fail("is no dictionary of NumPy's: a string expected");
    const std::size_t end = rest_.find(quote, 1);
    if (end == std::string_view::npos) fail("is no dictionary of NumPy's: a string does not end");
    std::string text(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return text;
  }
  bool boolean() {
    skip_blanks();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (rest_.starts_with(word)) {
        rest_.remove_prefix(word.size());
        return value;
      }
    }
    fail("fortran_order must be True or False");
  }
  void tuple() {
    expect('(');
    while (!accept(')')) {
      skip_blanks();
      std::int64_t extent = 0;
      const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), extent);
      if (error != std::errc() || extent < 0) fail("shape must hold integers from 0 to 2^63 - 1");
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
      accept('L');  // written by Python 2
      shape.push_back(extent);
      if (shape.size() > 32) fail("shape has more than 32 dimensions");
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
  }
  void find_type() {
    for (const NpyType& type : kNpyTypes) {
      const bool one_byte = type.descr[0] == '|' && descr_.size() == 3 && descr_[0] != '>';
      if (descr_ == type.descr || (one_byte && descr_.substr(1) == type.descr.substr(1))) {
        dtype = type.dtype;
        return;
      }
    }
    if (descr_.starts_with('>')) {
      fail(fmt::format("dtype '{}' is big endian, must be little endian", descr_));
    }
    fail(
        fmt::format("dtype '{}' is not supported; float32, float64, int8 to int64, uint8 to "
                    "uint64 and bool are",
                    descr_));
  }

  std::string_view rest_, file_;
  std::string place_, descr_;
  bool has_descr_ = false, has_order_ = false, has_shape_ = false;
};

// out[i0][i1]... = in[...][i1][i0]: walks the output in order and steps through the input.
std::vector<std::byte> from_fortran(std::string_view in, const std::vector<std::int64_t>& shape,
                                    std::int64_t element) {
  std::vector<std::byte> out(in.size());
  const std::size_t rank = shape.size();
  std::vector<std::int64_t> stride(rank), index(rank, 0);
  std::int64_t step = element;
  for (std::size_t d = 0; d < rank; ++d) stride[d] = step, step *= shape[d];
  std::int64_t from = 0;
  for (std::size_t to = 0; to < in.size(); to += static_cast<std::size_t>(element)) {
    std::memcpy(out.data() + to, in.data() + from, static_cast<std::size_t>(element));
    for (std::size_t d = rank; d-- > 0;) {
      from += stride[d];
      if (++index[d] < shape[d]) break;
      from -= stride[d] * shape[d];
      index[d] = 0;
    }
  }
  return out;
}

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

}  // namespace

Array parse_npy_member(std::string_view bytes, std::string_view file, std::string_view array) {
  const auto place = [&](std::string_view within) {
    return array.empty() ? std::string(within) : fmt::format("{}, {}", array, within);
  };
  if (!bytes.starts_with(kMagic)) {
    throw InputError(file, place("byte 0"), "must begin with \\x93NUMPY");
  }
  if (bytes.size() < 8) throw InputError(file, place("byte 6"), "ends before the version");
  const int major = static_cast<unsigned char>(bytes[6]);
  if (major < 1 || major > 3) {
    throw InputError(file, place("byte 6"),
                     fmt::format("format version {} is not supported; 1, 2 and 3 are", major));
  }
  const std::size_t width = major == 1 ? 2 : 4;
  if (bytes.size() < 8 + width) {
    throw InputError(file, place("byte 8"), "ends before the header's length");
  }
  const std::uint64_t header_bytes = little_endian(bytes.substr(8, width));
  const std::string_view body = bytes.substr(8 + width);
  if (header_bytes > body.size()) {
    throw InputError(
        file, place("byte 8"),
        fmt::format("the header's length is {}, only {} bytes follow", header_bytes, body.size()));
  }
  HeaderParser header(body.substr(0, header_bytes), file, place("header"));
  header.parse();
  const std::string_view elements = body.substr(header_bytes);
  const std::int64_t element = bytes_of(header.dtype);
  const std::int64_t count = element_count(header.shape, element);
  if (count < 0) {
    throw InputError(file, place("header"),
                     fmt::format("shape {} has more than 2^63 - 1 bytes", text_of(header.shape)));
  }
  if (static_cast<std::uint64_t>(count) * static_cast<std::uint64_t>(element) != elements.size()) {
    throw InputError(file, place("header"),
                     fmt::format("shape {} of {} needs {} bytes, {} follow", text_of(header.shape),
                                 name_of(header.dtype), count * element, elements.size()));
  }
  Array result{header.dtype, header.shape, {}};
  if (header.fortran_order && header.shape.size() > 1) {
    result.bytes = from_fortran(elements, header.shape, element);
  } else {
    const auto* data = reinterpret_cast<const std::byte*>(elements.data());
    result.bytes.assign(data, data + elements.size());
  }
  if (result.dtype == DType::boolean) {
    for (std::size_t i = 0; i < result.bytes.size(); ++i) {
      if (result.bytes[i] > std::byte{1}) {
        throw InputError(file, place(fmt::format("element {}", i)), "a bool must be 0 or 1");
      }
    }
  }
  return result;
}

std::string npy_header(const Array& array) {
  std::string_view descr;
  for (const NpyType& type : kNpyTypes) {
    if (type.dtype == array.dtype) descr = type.descr;
  }
  std::string shape;
  for (const std::int64_t extent : array.shape) shape += fmt::format("{}, ", extent);
  if (array.shape.size() > 1) shape.resize(shape.size() - 2);  // (3,) but (3, 4)
  if (array.shape.size() == 1) shape.pop_back();
  std::string text =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", descr, shape);
  text.append(63 - (10 + text.size()) % 64, ' ');  // the data start at a multiple of 64
  text += '\n';
  std::string header(kMagic);
  header +=
      {'\x01', '\0', static_cast<char>(text.size() % 256), static_cast<char>(text.size() / 256)};
  return header + text;
}

Array parse_npy(std::string_view bytes, std::string_view file) {
  return parse_npy_member(bytes, file, "");
}

Array read_npy(const Path& path) { return parse_npy(read_file(path), path.string()); }

void write_npy(const Path& path, const Array& array) {
  std::string bytes = npy_header(array);
  bytes.append(reinterpret_cast<const char*>(array.bytes.data()), array.bytes.size());
  write_file(path, bytes);
}

}  // namespace seqvae::io

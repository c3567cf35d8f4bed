#include "seqvae/io/safetensors.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <vector>

#include "seqvae/io/json.hpp"

namespace seqvae::io {
namespace {

constexpr std::string_view kMetadata = "__metadata__";
constexpr std::uint64_t kHeaderMost = kJsonBytes;

struct Named {
  std::string_view name;
  DType dtype;
};

constexpr Named kStoredTypes[] = {
    {"F64", DType::float64}, {"F32", DType::float32}, {"I64", DType::int64},
    {"I32", DType::int32},   {"I16", DType::int16},   {"I8", DType::int8},
    {"U64", DType::uint64},  {"U32", DType::uint32},  {"U16", DType::uint16},
    {"U8", DType::uint8},    {"BOOL", DType::boolean}};

struct Extent {
  std::uint64_t begin, end;
  std::string name;
};

DType dtype_named(const JsonView& json) {
  const std::string text = json.string();
  for (const Named& type : kStoredTypes) {
    if (type.name == text) return type.dtype;
  }
  json.fail(
      fmt::format("'{}' is not supported; F64, F32, I64 to I8, U64 to U8 and BOOL are", text));
}

}  // namespace

Safetensors parse_safetensors(std::string_view bytes, std::string_view file) {
  if (bytes.size() < 8) throw InputError(file, "byte 0", "ends before the header's length");
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  if (header_bytes > std::min<std::uint64_t>(bytes.size() - 8, kHeaderMost)) {
    throw InputError(file, "byte 0",
                     fmt::format("the header's length is {}, only {} bytes follow", header_bytes,
                                 bytes.size() - 8));
  }
  const std::string_view text = bytes.substr(8, header_bytes);
  if (!text.starts_with('{')) throw InputError(file, "byte 8", "the header must begin with {");
  const std::string_view data = bytes.substr(8 + header_bytes);
  const std::string where = fmt::format("{}: header", file);
  const Json header = parse_json(text, where);
  Safetensors contents;
  std::vector<Extent> extents;
  for (const auto& member : header.items()) {
    const std::string& name = member.key();
    const JsonView entry(member.value(), where, name);
    if (name == kMetadata) {
      for (const auto& [key, text_value] : entry.value().items()) {
        contents.metadata[key] = JsonView(text_value, where, name + "." + key).string();
      }
      continue;
    }
    Array array;
    array.dtype = dtype_named(entry.at("dtype"));
    for (const JsonView& extent : entry.at("shape").elements()) {
      array.shape.push_back(extent.integer(0));
    }
    const JsonView range = entry.at("data_offsets");
    const std::vector<JsonView> ends = range.elements();
    if (ends.size() != 2) range.fail(fmt::format("has {} numbers, must have 2", ends.size()));
    const auto begin = static_cast<std::uint64_t>(ends[0].integer(0));
    const auto end = static_cast<std::uint64_t>(ends[1].integer(0));
    if (begin > end || end > data.size()) {
      range.fail(
          fmt::format("[{}, {}] lies outside the {} bytes of data", begin, end, data.size()));
    }
    const std::int64_t count = element_count(array.shape, bytes_of(array.dtype));
    if (count < 0) entry.at("shape").fail("has more than 2^63 - 1 bytes");
    const auto needed = static_cast<std::uint64_t>(count * bytes_of(array.dtype));
    if (needed != end - begin) {
      entry.fail(fmt::format("shape {} of {} needs {} bytes, data_offsets hold {}",
                             text_of(array.shape), name_of(array.dtype), needed, end - begin));
    }
    extents.push_back({begin, end, name});
    contents.tensors.emplace(name,
                             std::move(array));  // its bytes: once no two are known to overlap
  }
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  std::uint64_t at = 0;
  for (const Extent& extent : extents) {
    if (extent.begin != at) {
      throw InputError(where, extent.name,
                       fmt::format("data_offsets begin at {}, must begin at {}", extent.begin, at));
    }
    at = extent.end;
  }
  if (at != data.size()) {
    throw InputError(file, "header",
                     fmt::format("describes {} bytes of data, {} follow", at, data.size()));
  }
  for (const Extent& extent : extents) {
    const auto* from = reinterpret_cast<const std::byte*>(data.data());
    contents.tensors[extent.name].bytes.assign(from + extent.begin, from + extent.end);
  }
  return contents;
}

Safetensors read_safetensors(const Path& path) {
  return parse_safetensors(read_file(path), path.string());
}

void write_safetensors(const Path& path, const Safetensors& contents) {
  std::vector<const NamedArrays::value_type*> order;
  for (const auto& entry : contents.tensors) order.push_back(&entry);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return bytes_of(a->second.dtype) > bytes_of(b->second.dtype);
  });
  Json header = Json::object();
  if (!contents.metadata.empty()) header[std::string(kMetadata)] = contents.metadata;
  std::uint64_t at = 0;
  for (const auto* entry : order) {
    const auto& [name, array] = *entry;
    std::string_view dtype;
    for (const Named& type : kStoredTypes) {
      if (type.dtype == array.dtype) dtype = type.name;
    }
    header[name] = {
        {"dtype", dtype}, {"shape", array.shape}, {"data_offsets", {at, at + array.bytes.size()}}};
    at += array.bytes.size();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // the data start at a multiple of 8
  const std::uint64_t header_bytes = text.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &header_bytes, 8);
  bytes.reserve(8 + text.size() + at);
  bytes += text;
  for (const auto* entry : order) {
    bytes.append(reinterpret_cast<const char*>(entry->second.bytes.data()),
                 entry->second.bytes.size());
  }
  write_file(path, bytes);
}

}  // namespace seqvae::io

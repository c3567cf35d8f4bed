#include <fmt/format.h>
#include <zip.h>

#include <algorithm>
#include <memory>

#include "host/io/npy_bytes.hpp"
#include "seqvae/io/npy.hpp"

namespace seqvae::io {
namespace {

constexpr std::string_view kSuffix = ".npy";
constexpr std::uint64_t kChunk = 16 << 20;
// Deflate cannot yield more than 1032 bytes a byte (RFC 1951: 258 bytes of a match in 2 bits).
constexpr std::uint64_t kDeflateMost = 1032;

struct Discard {
  void operator()(zip_t* archive) const { zip_discard(archive); }
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};
using Archive = std::unique_ptr<zip_t, Discard>;
using Member = std::unique_ptr<zip_file_t, Discard>;

std::string message_of(zip_error_t* error) { return zip_error_strerror(error); }

Archive open_bytes(std::string_view bytes, std::string_view file) {
  if (bytes.empty()) throw InputError(file, "zip", "the file is empty");  // libzip: no members
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
  zip_t* archive = source == nullptr ? nullptr : zip_open_from_source(source, ZIP_RDONLY, &error);
  if (archive == nullptr) {
    const std::string message = message_of(&error);
    if (source != nullptr) zip_source_free(source);
    zip_error_fini(&error);
    throw InputError(file, "zip", message);
  }
  zip_error_fini(&error);
  return Archive(archive);
}

std::string read_member(zip_t* archive, const zip_stat_t& status, std::uint64_t file_bytes,
                        std::string_view file, std::string_view name) {
  if (status.comp_size > file_bytes || status.size / kDeflateMost > status.comp_size) {
    throw InputError(
        file, name,
        fmt::format("the zip claims {} bytes, more than the file can hold", status.size));
  }
  const Member member(zip_fopen_index(archive, status.index, 0));
  if (member == nullptr) throw InputError(file, name, message_of(zip_get_error(archive)));
  std::string bytes;
  while (true) {  // to the end, where libzip compares the checksum
    const std::size_t done = bytes.size();
    const std::uint64_t left = status.size - std::min<std::uint64_t>(done, status.size);
    bytes.resize(done + std::clamp<std::uint64_t>(left, 1, kChunk));
    const zip_int64_t got = zip_fread(member.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0) throw InputError(file, name, message_of(zip_file_get_error(member.get())));
    bytes.resize(done + static_cast<std::size_t>(got));
    if (got == 0) break;
    if (bytes.size() > status.size) {
      throw InputError(
          file, name, fmt::format("holds more than the {} bytes that the zip claims", status.size));
    }
  }
  if (bytes.size() != status.size) {
    throw InputError(file, name,
                     fmt::format("ends after {} of {} bytes", bytes.size(), status.size));
  }
  return bytes;
}

[[noreturn]] void fail_write(const Path& path, zip_t* archive) {
  throw Error(
      fmt::format("{}: cannot be written: {}", path.string(), message_of(zip_get_error(archive))));
}

}  // namespace

NamedArrays parse_npz(std::string_view bytes, std::string_view file) {
  const Archive archive = open_bytes(bytes, file);
  NamedArrays arrays;
  const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t status;
    if (zip_stat_index(archive.get(), static_cast<zip_uint64_t>(i), 0, &status) != 0) {
      throw InputError(file, "zip", message_of(zip_get_error(archive.get())));
    }
    constexpr zip_uint64_t needed = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE;
    if ((status.valid & needed) != needed) {
      throw InputError(file, "zip", fmt::format("entry {} has no name or size", i));
    }
    std::string_view name = status.name;
    if (!name.ends_with(kSuffix)) continue;
    name.remove_suffix(kSuffix.size());
    if (arrays.contains(std::string(name))) throw InputError(file, name, "is there twice");
    const std::string member = read_member(archive.get(), status, bytes.size(), file, name);
    arrays.emplace(name, parse_npy_member(member, file, name));
  }
  return arrays;
}

NamedArrays read_npz(const Path& path) { return parse_npz(read_file(path), path.string()); }

void write_npz(const Path& path, const NamedArrays& arrays) {
  require(!arrays.empty(), "write_npz", "arrays", arrays.size(), "at least one");  // libzip's rule
  Replacement replacement(path);
  std::map<std::string, std::string> headers;
  for (const auto& [name, array] : arrays) headers[name] = npy_header(array);
  int code = 0;
  Archive archive(zip_open(replacement.aside().c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code));
  if (archive == nullptr) throw Error(fmt::format("{}: cannot be written", path.string()));
  for (const auto& [name, array] : arrays) {
    std::string& header = headers[name];
    zip_buffer_fragment_t pieces[2] = {
        {reinterpret_cast<zip_uint8_t*>(header.data()), header.size()},
        {const_cast<zip_uint8_t*>(reinterpret_cast<const zip_uint8_t*>(array.bytes.data())),
         array.bytes.size()}};
    zip_source_t* source = zip_source_buffer_fragment(archive.get(), pieces, 2, 0);
    if (source == nullptr) fail_write(path, archive.get());
    const zip_int64_t index =
        zip_file_add(archive.get(), (name + ".npy").c_str(), source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
      zip_source_free(source);
      fail_write(path, archive.get());
    }
    const auto entry = static_cast<zip_uint64_t>(index);
    zip_set_file_compression(archive.get(), entry,
                             is_floating(array.dtype) ? ZIP_CM_STORE : ZIP_CM_DEFLATE, 0);
    zip_file_set_dostime(archive.get(), entry, 0, 0x21, 0);  // 1980-01-01: the same bytes each time
  }
  if (zip_close(archive.get()) != 0) fail_write(path, archive.get());
  archive.release();  // zip_close has freed it
  replacement.commit();
}

}  // namespace seqvae::io

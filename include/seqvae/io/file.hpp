/// \file  Whole files in, whole files out: nothing is left half-written.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

namespace seqvae::io {

using Path = std::filesystem::path;

/// The bytes of a regular file.
/// \throws InputError where it does not exist, is a folder or cannot be read.
std::string read_file(const Path& path);

/// Writes `bytes` aside, fsyncs, renames over `path` and fsyncs the folder: at any moment, also
/// after a power cut, `path` holds its old contents or all of the new ones.
/// \throws InputError where the place cannot be written to; Error where the writing fails.
void write_file(const Path& path, std::string_view bytes);

/// Removes what writers of `path` that were killed have left aside. Nobody may write to it
/// meanwhile.
void remove_asides(const Path& path);

/// The same as write_file for a writer that wants a path: it writes `aside()`, then `commit()` puts
/// the file in its place. Without commit the aside file is removed.
class Replacement {
 public:
  /// \throws InputError where the folder does not exist or cannot be written to, or where
  /// `target` is something other than a regular file.
  explicit Replacement(const Path& target);
  ~Replacement();
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  const Path& aside() const { return aside_; }
  /// \throws Error "file: cannot be written: ..." where the disk does not take it.
  void commit();

 private:
  Path target_, aside_;
  bool committed_ = false;
};

}  // namespace seqvae::io

// metrics.jsonl: one JSON object a line, appended; resume cuts it back to its checkpoint.
#pragma once
#include <cstdint>
#include <filesystem>

#include "seqvae/io/json.hpp"

namespace seqvae {

class MetricsFile {
 public:
  explicit MetricsFile(std::filesystem::path path);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  /// Keeps the first `lines` lines and returns the last one's seconds (0 where there is none).
  /// \throws InputError where there are fewer.
  double cut_to(std::int64_t lines);
  void append(const io::Json& line);  ///< \throws Error where the disk does not take it
  void sync();                        ///< on the disk when it returns
  std::int64_t lines() const { return lines_; }

 private:
  void open();
  std::filesystem::path path_;
  int file_ = -1;
  std::int64_t lines_ = 0;
};

}  // namespace seqvae

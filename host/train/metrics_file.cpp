#include "host/train/metrics_file.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstring>

#include "seqvae/core/error.hpp"

namespace seqvae {

MetricsFile::MetricsFile(std::filesystem::path path) : path_(std::move(path)) {}

MetricsFile::~MetricsFile() {
  if (file_ >= 0) ::close(file_);
}

void MetricsFile::open() {
  file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file_ < 0)
    throw Error(fmt::format("{}: cannot be written: {}", path_.string(), std::strerror(errno)));
}

double MetricsFile::cut_to(std::int64_t lines) {
  std::string kept;
  double seconds = 0;
  if (lines > 0) {
    const std::string all = io::read_file(path_);
    std::size_t end = 0;
    for (std::int64_t i = 0; i < lines; ++i) {
      const std::size_t newline = all.find('\n', end);
      if (newline == std::string::npos) {
        throw InputError(path_.string(), fmt::format("line {}", i + 1),
                         "is not there; the checkpoint counts it");
      }
      if (i + 1 == lines) {
        const io::Json line = io::parse_json(all.substr(end, newline - end), path_.string());
        seconds = io::JsonView(line, path_.string()).at("seconds").number();
      }
      end = newline + 1;
    }
    kept = all.substr(0, end);
  }
  io::write_file(path_, kept);
  if (file_ >= 0) ::close(file_);
  open();
  lines_ = lines;
  return seconds;
}

void MetricsFile::append(const io::Json& line) {
  const std::string text = line.dump() + "\n";
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(file_, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      throw Error(fmt::format("{}: cannot be written: {}", path_.string(), std::strerror(errno)));
    done += static_cast<std::size_t>(n);
  }
  ++lines_;
}

void MetricsFile::sync() {
  if (::fsync(file_) != 0)
    throw Error(fmt::format("{}: cannot be written: {}", path_.string(), std::strerror(errno)));
}

}  // namespace seqvae

#include "seqvae/io/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "seqvae/core/error.hpp"

namespace seqvae::io {
namespace {

std::string reason(int code) { return std::strerror(code); }

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

Path folder_of(const Path& path) { return path.has_parent_path() ? path.parent_path() : Path("."); }

[[noreturn]] void fail_write(const Path& path, int code) {
  throw Error(fmt::format("{}: cannot be written: {}", path.string(), reason(code)));
}

void fsync_path(const Path& path, int flags, const Path& blamed) {
  const Descriptor file(::open(path.c_str(), flags | O_CLOEXEC));
  // A file system may have no fsync of folders (EINVAL): nothing to wait for then.
  if (file.get() < 0 || (::fsync(file.get()) != 0 && errno != EINVAL)) fail_write(blamed, errno);
}

/// ".NAME." of a file aside, before the writer's process and a number: ".NAME.PID.N".
std::string aside_prefix(const Path& target) {
  return fmt::format(".{}.", target.filename().string().substr(0, 200));
}

}  // namespace

std::string read_file(const Path& path) {
  // O_NONBLOCK: opening a pipe without a writer would wait for ever.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) {
    throw InputError(path.string(), "", "cannot be opened: " + reason(errno));
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) {
    throw InputError(path.string(), "", "cannot be read: " + reason(errno));
  }
  if (S_ISDIR(status.st_mode)) throw InputError(path.string(), "", "is a folder, must be a file");
  if (!S_ISREG(status.st_mode)) throw InputError(path.string(), "", "must be a regular file");
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw InputError(path.string(), "", "cannot be read: " + reason(errno));
    if (got == 0) break;  // it has shrunk since
    done += static_cast<std::size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

Replacement::Replacement(const Path& target) {
  static std::atomic<unsigned> counter{0};
  std::error_code ignored;
  // A link stays a link: what it points to is replaced.
  target_ = std::filesystem::is_symlink(target, ignored)
                ? std::filesystem::weakly_canonical(target, ignored)
                : target;
  if (target_.empty()) throw InputError(target.string(), "", "cannot be written to");
  struct stat status {};
  if (::stat(target_.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) throw InputError(target.string(), "", "is a folder");
    if (!S_ISREG(status.st_mode)) {
      throw InputError(target.string(), "", "must be a regular file to be written");
    }
  }
  int made = -1;
  do {  // a killed process of the same number, in a container say, may have left its aside
    aside_ =
        folder_of(target_) / fmt::format("{}{}.{}", aside_prefix(target_), ::getpid(), counter++);
    made = ::open(aside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (made < 0 && errno == EEXIST);
  const int code = errno;
  const Descriptor file(made);
  if (file.get() < 0) {
    if (code == ENOENT || code == ENOTDIR || code == EACCES || code == EPERM || code == EROFS) {
      throw InputError(target.string(), "", "cannot be written to: " + reason(code));
    }
    fail_write(target, code);
  }
}

Replacement::~Replacement() {
  if (!committed_) ::unlink(aside_.c_str());
}

void Replacement::commit() {
  fsync_path(aside_, O_RDONLY, target_);
  if (::rename(aside_.c_str(), target_.c_str()) != 0) fail_write(target_, errno);
  committed_ = true;
  fsync_path(folder_of(target_), O_RDONLY | O_DIRECTORY, target_);
}

void remove_asides(const Path& path) {
  const std::string prefix = aside_prefix(path);
  std::error_code ignored;  // an aside that stays is in nobody's way
  for (const auto& entry : std::filesystem::directory_iterator(folder_of(path), ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix) &&
        name.find_first_not_of("0123456789.", prefix.size()) == std::string::npos) {
      std::filesystem::remove(entry.path(), ignored);
    }
  }
}

void write_file(const Path& path, std::string_view bytes) {
  Replacement replacement(path);
  {
    const Descriptor file(::open(replacement.aside().c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
    if (file.get() < 0) fail_write(path, errno);
    while (!bytes.empty()) {
      const ssize_t put = ::write(file.get(), bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) fail_write(path, errno);
      bytes.remove_prefix(static_cast<std::size_t>(put));
    }
  }
  replacement.commit();
}

}  // namespace seqvae::io

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
  aside_ = folder_of(target_) / fmt::format(".{}.{}.{}", target_.filename().string().substr(0, 200),
                                            ::getpid(), counter++);
  const Descriptor file(::open(aside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (file.get() < 0) {
    const int code = errno;
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

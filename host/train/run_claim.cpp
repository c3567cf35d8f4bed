#include "host/train/run_claim.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "seqvae/core/error.hpp"
#include "seqvae/io/file.hpp"

namespace seqvae {

RunClaim::RunClaim(const std::filesystem::path& run)
    : folder_(::open(run.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (folder_ < 0) {
    throw InputError(run.string(), "", fmt::format("cannot be opened: {}", std::strerror(errno)));
  }
  // A file system without locks (ENOLCK and the like) is trained on all the same.
  if (::flock(folder_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(folder_);
    throw InputError(run.string(), "", "another process trains in this folder");
  }
  for (const char* name : {"best.safetensors", "config.json", "last.safetensors", "metrics.jsonl"})
    io::remove_asides(run / name);
}

RunClaim::~RunClaim() { ::close(folder_); }

}  // namespace seqvae

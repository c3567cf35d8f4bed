// Whole files: what cannot be opened, and that nothing is left half-written.
#include "seqvae/io/file.hpp"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "seqvae/core/error.hpp"
#include "seqvae/io/npy.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {
namespace {

std::size_t entries(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

/// While it lives, no file may grow beyond `bytes`: a full disk.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_;
  void (*handler_)(int);
};

TEST(ReadFile, NamesWhatIsWrong) {
  const TemporaryFolder folder;
  const auto refuses = [](const std::string& path, const std::string& rule) {
    EXPECT_THAT([&] { io::read_file(path); }, testing::ThrowsMessage<InputError>(path + rule));
  };
  refuses((folder / "none").string(), ": cannot be opened: No such file or directory");
  refuses(folder.path().string(), ": is a folder, must be a file");
  refuses("/dev/null", ": must be a regular file");
  mkfifo((folder / "pipe").c_str(), 0600);
  refuses((folder / "pipe").string(), ": must be a regular file");
  io::write_file(folder / "secret", "x");
  chmod((folder / "secret").c_str(), 0);
  if (geteuid() != 0) {  // root may read all
    refuses((folder / "secret").string(), ": cannot be opened: Permission denied");
  }
}

TEST(WriteFile, ReplacesTheWholeFileAndLeavesNothingElse) {
  const TemporaryFolder folder;
  io::write_file(folder / "a", "a longer text");
  io::write_file(folder / "a", std::string("with\0zero", 9));
  EXPECT_EQ(io::read_file(folder / "a"), std::string("with\0zero", 9));
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(WriteFile, KeepsALinkAndReplacesWhatItPointsTo) {
  const TemporaryFolder folder;
  io::write_file(folder / "real", "old");
  std::filesystem::create_symlink("real", folder / "link");
  io::write_file(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(io::read_file(folder / "real"), "new");
}

TEST(WriteFile, NamesAPlaceThatCannotBeWrittenTo) {
  const TemporaryFolder folder;
  const auto refuses = [](const std::string& path, const std::string& rule) {
    EXPECT_THAT([&] { io::write_file(path, "x"); },
                testing::ThrowsMessage<InputError>(path + rule));
  };
  refuses((folder / "none/a").string(), ": cannot be written to: No such file or directory");
  refuses(folder.path().string(), ": is a folder");
  refuses("/dev/null", ": must be a regular file to be written");
  io::write_file(folder / "file", "x");
  refuses((folder / "file/a").string(), ": cannot be written to: Not a directory");
}

TEST(WriteFile, KeepsTheOldFileWhenTheDiskIsFull) {
  const TemporaryFolder folder;
  const std::string path = (folder / "a").string();
  io::write_file(path, "old");
  std::string message;
  {
    const FullDisk full(1000);
    try {
      io::write_file(path, std::string(100'000, 'x'));
    } catch (const InputError&) {
      ADD_FAILURE() << "a full disk is no fault of the input";
    } catch (const Error& error) {
      message = error.what();
    }
  }
  EXPECT_EQ(message, path + ": cannot be written: File too large");
  EXPECT_EQ(io::read_file(path), "old");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(WriteNpz, KeepsTheOldFileWhenTheDiskIsFull) {
  const TemporaryFolder folder;
  const std::string path = (folder / "a.npz").string();
  io::write_file(path, "old");
  std::string message;
  {
    const FullDisk full(1000);
    try {
      io::write_npz(path, {{"values", io::Array::of({20'000}, std::vector<double>(20'000, 0.1))}});
    } catch (const Error& error) {
      message = error.what();
    }
  }
  EXPECT_EQ(message, path + ": cannot be written: Write error: File too large");
  EXPECT_EQ(io::read_file(path), "old");
  EXPECT_EQ(entries(folder.path()), 1u);
}

// A killed process leaves its asides, and the next one may have its number.
TEST(WriteFile, PassesByAndRemovesAsidesOfTheKilled) {
  const TemporaryFolder folder;
  for (int i = 0; i < 2000; ++i) {
    std::ofstream(folder / fmt::format(".a.{}.{}", ::getpid(), i)) << "half";
  }
  for (const char* other : {".a.txt", ".a.1.b", ".b.1.2"}) std::ofstream(folder / other) << "x";
  io::write_file(folder / "a", "new");
  EXPECT_EQ(io::read_file(folder / "a"), "new");
  EXPECT_EQ(entries(folder.path()), 2004u);
  io::remove_asides(folder / "a");
  EXPECT_EQ(entries(folder.path()), 4u);
}

TEST(Replacement, RemovesWhatWasNotCommitted) {
  const TemporaryFolder folder;
  {
    const io::Replacement replacement(folder / "a");
    std::ofstream(replacement.aside()) << "half";
  }
  EXPECT_EQ(entries(folder.path()), 0u);
}

}  // namespace
}  // namespace seqvae::test

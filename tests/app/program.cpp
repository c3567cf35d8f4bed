#include "tests/app/program.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <stdexcept>
#include <thread>

#include "seqvae/io/file.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {
namespace {

pid_t start(const std::vector<std::string>& arguments, const std::filesystem::path& folder,
            const std::filesystem::path& out, const std::filesystem::path& err) {
  std::vector<std::string> words{SEQVAE_PROGRAM_PATH};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    const int to_out = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int to_err = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(to_out, STDOUT_FILENO);
    ::dup2(to_err, STDERR_FILENO);
    if (::chdir(folder.c_str()) != 0) ::_exit(126);
    ::execv(argv.front(), argv.data());
    ::_exit(127);
  }
  return child;
}

Outcome finish(pid_t child, const std::filesystem::path& out, const std::filesystem::path& err) {
  int status = 0;
  ::waitpid(child, &status, 0);
  Outcome outcome;
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = io::read_file(out);
  outcome.err = io::read_file(err);
  return outcome;
}

}  // namespace

Outcome run(const std::vector<std::string>& arguments, const std::filesystem::path& folder) {
  const TemporaryFolder streams;
  return finish(start(arguments, folder, streams / "out", streams / "err"), streams / "out",
                streams / "err");
}

Outcome run_and_signal(const std::vector<std::string>& arguments, int signal,
                       const std::filesystem::path& file) {
  using namespace std::chrono_literals;
  const TemporaryFolder streams;
  const pid_t child = start(arguments, ".", streams / "out", streams / "err");
  for (int i = 0; i < 3000 && !std::filesystem::exists(file); ++i)
    std::this_thread::sleep_for(10ms);
  ::kill(child, signal);
  return finish(child, streams / "out", streams / "err");
}

std::vector<std::string> files_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace seqvae::test

#include "host/app/errors.hpp"

#include <fmt/format.h>

#include <csignal>
#include <new>

#include "seqvae/core/error.hpp"

namespace seqvae::app {
namespace {

constexpr int kFailed = 1, kUsage = 2;

int fail(int status, std::string line) {
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  fmt::print(stderr, "seqvae: {}\n", line);
  return status;
}

}  // namespace

Interrupted::Interrupted(int number)
    : std::runtime_error(number == SIGINT ? "interrupted" : "terminated"), signal(number) {}

void note(const std::string& what) { fmt::print(stderr, "seqvae: note: {}\n", one_line(what)); }

int report_failure() {
  try {
    throw;
  } catch (const Interrupted& error) {
    return fail(128 + error.signal, error.what());
  } catch (const InputError& error) {
    return fail(kUsage, error.what());
  } catch (const InvalidArgument& error) {
    return fail(kUsage, error.what());
  } catch (const std::bad_alloc&) {
    return fail(kFailed, "out of memory");
  } catch (const std::exception& error) {
    return fail(kFailed, error.what());
  }
}

}  // namespace seqvae::app

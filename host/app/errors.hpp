// What a failure looks like outside: one line on stderr, and the exit status.
#pragma once
#include <stdexcept>
#include <string>

namespace seqvae::app {

/// Stopped by a signal: exit status 128 + signal.
struct Interrupted : std::runtime_error {
  explicit Interrupted(int signal);
  int signal;
};

/// Prints "seqvae: note: what" as one line on stderr.
void note(const std::string& what);

/// Prints "seqvae: what" as one line and returns the status: 2 bad input or usage, 128 + signal
/// after an interruption, 1 for all else. Called inside a catch block.
int report_failure();

}  // namespace seqvae::app

#include "host/app/signals.hpp"

#include <csignal>

#include "host/app/errors.hpp"

namespace seqvae::app {
namespace {

volatile std::sig_atomic_t received = 0;

extern "C" void remember(int signal) { received = signal; }

}  // namespace

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESETHAND | SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of a write, not our end
  std::signal(SIGXFSZ, SIG_IGN);  // and so is a limit on the size of files
}

int signal_received() { return received; }

void stop_if_asked() {
  if (received != 0) throw Interrupted(received);
}

}  // namespace seqvae::app

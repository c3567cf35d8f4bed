#include "host/app/progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "host/app/signals.hpp"

namespace seqvae::app {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBar = 24;
constexpr auto kRedraw = 100ms;  // on a terminal
constexpr auto kNextLine = 10s;  // in a log

std::size_t columns_of_terminal() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string text_of_seconds(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02} min", s / 60, s % 60);
  return fmt::format("{}:{:02} h", s / 3600, s % 3600 / 60);
}

ProgressBar::ProgressBar(std::string what, bool shown)
    : what_(std::move(what)),
      shown_(shown),
      terminal_(::isatty(STDERR_FILENO) != 0),
      started_(Clock::now()),
      next_(started_ + (terminal_ ? Clock::duration(kRedraw) : Clock::duration(kNextLine))) {}

ProgressBar::~ProgressBar() { clear(); }

void ProgressBar::clear() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
  drawn_ = false;
}

bool ProgressBar::is_due() const { return shown_ && Clock::now() >= next_; }

double ProgressBar::seconds() const {
  return std::chrono::duration<double>(Clock::now() - started_).count();
}

void ProgressBar::update(std::int64_t done, std::int64_t all, const std::string& text) {
  if (first_ < 0) first_ = std::max<std::int64_t>(done - 1, 0);
  if (!is_due()) return;
  next_ = Clock::now() + (terminal_ ? Clock::duration(kRedraw) : Clock::duration(kNextLine));
  const double share =
      static_cast<double>(done) / static_cast<double>(std::max<std::int64_t>(all, 1));
  const double left = seconds() * static_cast<double>(all - done) /
                      static_cast<double>(std::max<std::int64_t>(done - first_, 1));
  const std::string numbers = fmt::format("{}/{}{}{}  {} left", done, all, text.empty() ? "" : "  ",
                                          text, text_of_seconds(left));
  if (!terminal_) {
    fmt::print(stderr, "{} {}\n", what_, numbers);
    return;
  }
  const auto full = static_cast<std::size_t>(share * kBar);
  std::string line = fmt::format("{} [{:=<{}}{:{}}] {:3.0f} %  {}", what_, "", full, "",
                                 kBar - full, 100 * share, numbers);
  line.resize(std::min(line.size(), columns_of_terminal() - 1));
  fmt::print(stderr, "\r{}\x1b[K", line);
  std::fflush(stderr);
  drawn_ = true;
}

Progress watched(ProgressBar& bar) {
  return [&bar](std::int64_t done, std::int64_t all) {
    stop_if_asked();
    bar.update(done, all);
  };
}

}  // namespace seqvae::app

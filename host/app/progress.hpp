// How far the work is: a bar on a terminal, plain lines now and then elsewhere.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

#include "seqvae/inference/predictor.hpp"

namespace seqvae::app {

/// Writes to stderr; nothing where not `shown`.
class ProgressBar {
 public:
  ProgressBar(std::string what, bool shown);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `text` stands behind the bar: the bound, sequences/s.
  void update(std::int64_t done, std::int64_t all, const std::string& text = "");
  /// True where an update would be seen: what is costly to say need not be said in between.
  bool is_due() const;
  double seconds() const;  ///< since the start

  /// Takes the bar off the terminal.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  bool shown_, terminal_, drawn_ = false;
  Clock::time_point started_, next_;
  std::int64_t first_ = -1;  // done at the first update: what a resumed run had already
};

/// For the work of a predictor: moves the bar, and throws Interrupted where a signal came.
Progress watched(ProgressBar& bar);

/// "45 s", "3:07 min", "2:15 h"
std::string text_of_seconds(double seconds);

}  // namespace seqvae::app

// What happened before: for every thread of a cluster, how far it had come.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace seqvae::emulation {

/// A clock for each thread, then the full barriers each CTA has passed, then the phases that are
/// over of each mbarrier. Whoever knows such a count knows all that was known when it was reached;
/// so a set of clocks need not be joined a second time.
class Clocks {
 public:
  std::uint32_t operator[](std::size_t i) const { return i < at_.size() ? at_[i] : 0; }
  void raise(std::size_t i, std::uint32_t value) {
    if (i >= at_.size()) at_.resize(i + 1);
    at_[i] = std::max(at_[i], value);
  }
  void join(const Clocks& other) {
    if (other.at_.size() > at_.size()) at_.resize(other.at_.size());
    for (std::size_t i = 0; i < other.at_.size(); ++i) at_[i] = std::max(at_[i], other.at_[i]);
  }

 private:
  std::vector<std::uint32_t> at_;
};

/// What a thread knows from an mbarrier, beyond what its whole CTA knows.
struct Learnt {
  unsigned mbarrier;
  std::uint32_t phases;  ///< of it that are over
  std::shared_ptr<const Clocks> clocks;
};

}  // namespace seqvae::emulation

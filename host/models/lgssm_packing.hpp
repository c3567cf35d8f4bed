// Sequences that a Kalman contract takes at once, on a queue's device.
#pragma once
#include <cstdint>
#include <vector>

#include "seqvae/core/queue.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae::lgssm {

/// Room for so many elements at least.
template <class T>
T* room(Buffer<T>& buffer, std::int64_t count) {
  if (buffer.count() < static_cast<std::size_t>(count)) {
    buffer.resize(static_cast<std::size_t>(count));
  }
  return buffer.data();
}

/// A sequence whose rows stand one after the other in host arrays, from `first_row` on.
struct Member {
  std::int64_t sequence = 0;  ///< its number
  std::int64_t first_row = 0, length = 0;
  std::int64_t origin = 0;  ///< time of the first row
  std::uint32_t id = 0;     ///< what draws follow
};

/// Packed (kernels/rows.hpp): longest first, a step's rows together. Memory only grows.
class Packing {
 public:
  explicit Packing(const Queue& queue)
      : queue_(&queue), offsets_on_device_(queue), origins_(queue), ids_(queue) {}

  /// \throws InvalidArgument where there are more rows than a packed layout numbers.
  void take(std::vector<Member> members);

  const std::vector<Member>& members() const { return members_; }
  std::int64_t count() const { return static_cast<std::int64_t>(members_.size()); }
  std::int64_t rows() const { return offsets_.back(); }
  /// Of step t of the b-th member.
  std::int64_t row(std::int64_t t, std::int64_t b) const {
    return offsets_[static_cast<std::size_t>(t)] + b;
  }
  RowLayout layout() const;
  const std::uint32_t* ids() const { return ids_.data(); }

  /// Rows of so many elements, from host arrays to the device and back.
  void bring(const double* host, std::int64_t width, double* device) const;
  void fetch(const double* device, std::int64_t width, double* host) const;

 private:
  /// Calls f(member, t, row) for each row, in their order.
  template <class F>
  void for_each_row(F f) const {
    for (std::size_t t = 0; t + 1 < offsets_.size(); ++t) {
      for (std::int64_t row = offsets_[t]; row < offsets_[t + 1]; ++row) {
        f(members_[static_cast<std::size_t>(row - offsets_[t])], static_cast<std::int64_t>(t), row);
      }
    }
  }

  const Queue* queue_;
  std::vector<Member> members_;
  std::vector<std::int32_t> offsets_ = {0};
  Buffer<std::int32_t> offsets_on_device_, origins_;
  Buffer<std::uint32_t> ids_;
};

}  // namespace seqvae::lgssm

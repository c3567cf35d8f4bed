// The sequences of a recurrent contract in packed order: step t owns rows first(t) .. first(t + 1),
// the place of a sequence among them is the same at each step, longest first. Steps are counted in
// the order in which the recurrence takes them: step_at(s), s = 0 .. T - 1.
#pragma once
#include <algorithm>
#include <cstdint>
#include <numeric>

#include "host/kernels/recurrence_memory.hpp"

namespace seqvae::cpu {

class Sequences {
 public:
  /// Of any layout; `copies` lends memory for offsets, order and reset.
  template <class Args, class Real>
  Sequences(const Args& a, const PackedCopies<Real>& copies)
      : T(a.layout.T), B(a.layout.B), reverse(a.reverse) {
    if (a.layout.offsets != nullptr) {
      offsets_ = a.layout.offsets;
      reset_ = a.reset;
      return;
    }
    offsets_ = copies.offsets;
    if (a.layout.lengths == nullptr) {
      for (std::int64_t t = 0; t <= T; ++t) {
        copies.offsets[t] = static_cast<std::int32_t>(t * B);
      }
      reset_ = a.reset;
      return;
    }
    order_ = copies.order;
    std::iota(copies.order, copies.order + B, 0);
    const auto length = [&](std::int32_t b) {
      return std::clamp<std::int64_t>(a.layout.lengths[b], 0, T);
    };
    // Ties keep their order; insertion into a heap would not, nor would std::sort.
    std::sort(copies.order, copies.order + B, [&](std::int32_t left, std::int32_t right) {
      return length(left) != length(right) ? length(left) > length(right) : left < right;
    });
    copies.offsets[0] = 0;
    std::int64_t active = B;
    for (std::int64_t t = 0; t < T; ++t) {
      while (active > 0 && length(copies.order[active - 1]) <= t) --active;
      copies.offsets[t + 1] = copies.offsets[t] + static_cast<std::int32_t>(active);
    }
    if (a.reset == nullptr) return;
    for (std::int64_t t = 0; t < T; ++t) {
      for (std::int64_t i = 0; i < at(t); ++i) copies.reset[first(t) + i] = a.reset[row(t, i)];
    }
    reset_ = copies.reset;
  }

  const std::int64_t T, B;
  const bool reverse;

  std::int64_t rows() const { return offsets_[T]; }
  std::int64_t first(std::int64_t t) const { return offsets_[t]; }
  std::int64_t at(std::int64_t t) const { return offsets_[t + 1] - offsets_[t]; }
  bool reordered() const { return order_ != nullptr; }
  std::int64_t sequence(std::int64_t place) const { return reordered() ? order_[place] : place; }
  /// The caller's row of a place at step t, of sequences that stand reordered.
  std::int64_t row(std::int64_t t, std::int64_t place) const { return t * B + order_[place]; }

  std::int64_t step_at(std::int64_t s) const { return reverse ? T - 1 - s : s; }
  /// Places below this one were also there at the step taken before, or will be at the next.
  std::int64_t from_before(std::int64_t s) const {
    return s == 0 ? 0 : std::min(at(step_at(s)), at(step_at(s - 1)));
  }
  std::int64_t into_next(std::int64_t s) const { return s + 1 == T ? 0 : from_before(s + 1); }
  /// Whether a place begins an episode at the s-th step taken, so that its carry is a start value.
  bool restarts(std::int64_t s, std::int64_t place) const {
    if (place >= from_before(s)) return true;
    return reset_ != nullptr && reset_[first(std::max(step_at(s), step_at(s - 1))) + place] != 0;
  }
  /// Whether any of the places begin..end does.
  bool any_restarts(std::int64_t s, std::int64_t begin, std::int64_t end) const {
    if (end > from_before(s)) return true;
    for (std::int64_t i = begin; reset_ != nullptr && i < end; ++i) {
      if (restarts(s, i)) return true;
    }
    return false;
  }
  std::int64_t length(std::int64_t place) const {
    std::int64_t t = 0, end = T;  // at(t) falls with t
    while (t < end) {
      const std::int64_t middle = (t + end) / 2;
      if (at(middle) > place) {
        t = middle + 1;
      } else {
        end = middle;
      }
    }
    return t;
  }

  /// Places cut(i, n) .. cut(i + 1, n) are share i of n: as many rows each, as nearly as may be.
  std::int64_t cut(std::int64_t share, std::int64_t shares) const {
    if (share == shares) return B;
    std::int64_t place = 0, sum = 0;
    while (place < B && sum * shares < rows() * share) sum += length(place++);
    return place;
  }

 private:
  const std::int32_t* offsets_ = nullptr;
  const std::int32_t* order_ = nullptr;
  const std::uint8_t* reset_ = nullptr;
};

/// Rows begin..end of share i of n, cut at multiples of 120, the block of `dense`.
inline std::int64_t row_cut(std::int64_t rows, std::int64_t share, std::int64_t shares) {
  const std::int64_t blocks = (rows + 119) / 120;
  return std::min(rows, blocks * share / shares * 120);
}

template <class Real>
void copy_row(const Real* from, std::int64_t width, Real* to) {
  std::copy_n(from, width, to);
}

/// The caller's rows in packed order: as they lie, or copied to `copy`.
template <class Real>
Rows<const Real> packed_rows(const Sequences& sequences, Rows<const Real> given, std::int64_t width,
                             Real* copy) {
  if (!sequences.reordered()) return given;
  for (std::int64_t t = 0; t < sequences.T; ++t) {
    for (std::int64_t i = 0; i < sequences.at(t); ++i) {
      copy_row(given[sequences.row(t, i)], width, copy + (sequences.first(t) + i) * width);
    }
  }
  return {copy, width};
}

/// And back: adds to what is there, or overwrites it, padding with zeros.
template <class Real>
void unpack_rows(const Sequences& sequences, Rows<const Real> packed, std::int64_t width,
                 bool accumulate, Rows<Real> out) {
  for (std::int64_t t = 0; t < sequences.T; ++t) {
    for (std::int64_t i = 0; i < sequences.B; ++i) {
      Real* to = out[sequences.row(t, i)];
      if (i < sequences.at(t)) {
        const Real* from = packed[sequences.first(t) + i];
        for (std::int64_t d = 0; d < width; ++d) to[d] = accumulate ? to[d] + from[d] : from[d];
      } else if (!accumulate) {
        std::fill_n(to, width, Real{0});
      }
    }
  }
}

/// One row a sequence, in packed order; zeros where none is given.
template <class Real>
void gather_states(const Sequences& sequences, Rows<const Real> given, std::int64_t width,
                   Real* to) {
  for (std::int64_t i = 0; i < sequences.B; ++i, to += width) {
    if (given) {
      copy_row(given[sequences.sequence(i)], width, to);
    } else {
      std::fill_n(to, width, Real{0});
    }
  }
}

template <class Real>
void scatter_states(const Sequences& sequences, const Real* from, std::int64_t width,
                    bool accumulate, Rows<Real> out) {
  for (std::int64_t i = 0; out && i < sequences.B; ++i, from += width) {
    Real* to = out[sequences.sequence(i)];
    for (std::int64_t d = 0; d < width; ++d) to[d] = accumulate ? to[d] + from[d] : from[d];
  }
}

/// The carry into the s-th step taken of places begin..end: the rows `states` of the step before
/// where they lie, or put together in `space` with start values where an episode begins.
template <class Real>
Rows<const Real> carry_into(const Sequences& sequences, std::int64_t s, std::int64_t begin,
                            std::int64_t end, Rows<const Real> states, const Real* start,
                            std::int64_t width, Real* space) {
  const std::int64_t before = s == 0 ? 0 : sequences.first(sequences.step_at(s - 1));
  if (!sequences.any_restarts(s, begin, end)) return {states[before + begin], states.stride};
  for (std::int64_t i = begin; i < end; ++i) {
    const bool restart = sequences.restarts(s, i);
    copy_row(restart ? start + i * width : states[before + i], width, space + (i - begin) * width);
  }
  return {space, width};
}

}  // namespace seqvae::cpu

// Ragged batches for the tests of moves of rows, and what the header says of each Move, written out
// place by place.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "seqvae/kernels/movement.hpp"

namespace seqvae::test {

constexpr Move kMoves[] = {Move::from_step_before, Move::from_step_after, Move::from_first,
                           Move::from_last,        Move::to_first,        Move::to_last,
                           Move::to_steps,         Move::to_particles,    Move::to_padded,
                           Move::to_packed};

/// Sequences of these lengths, longest first, over steps first .. T of which a call is made.
struct RaggedBatch {
  std::vector<std::int32_t> lengths;
  std::int64_t T, K;
  std::int64_t first = 0;   ///< steps before it are another call's
  std::int64_t spare = -1;  ///< rows between the last and the capacity; -1: no capacity is given

  std::int64_t B() const { return static_cast<std::int64_t>(lengths.size()); }
  std::int64_t steps() const { return T - first; }
  std::int64_t length(std::int64_t b) const { return lengths[static_cast<std::size_t>(b)]; }
  /// Sequences that have step t, of all T.
  std::int64_t active(std::int64_t t) const {
    std::int64_t count = 0;
    for (const std::int32_t length : lengths) count += length > t;
    return count;
  }
  std::vector<std::int32_t> offsets() const {
    std::vector<std::int32_t> offsets = {0};
    for (std::int64_t t = 0; t < T; ++t) {
      offsets.push_back(offsets.back() + static_cast<std::int32_t>(active(t)));
    }
    return offsets;
  }
  std::int64_t rows() const { return offsets().back() * K; }
  std::int64_t capacity() const { return spare < 0 ? 0 : rows() + spare; }
  /// `offsets`: of all T steps, on the host or on the device.
  RowLayout layout(const std::int32_t* offsets) const {
    RowLayout layout;
    layout.T = steps(), layout.B = B(), layout.K = K, layout.offsets = offsets + first;
    layout.capacity = capacity();
    return layout;
  }
  std::string name() const {
    return fmt::format("lengths {}, steps {} to {}, K {}, spare {}", fmt::join(lengths, " "), first,
                       T, K, spare);
  }
};

/// What a matrix has a row for.
enum class RowsOf { steps, sequences, steps_without_particles, padded_steps };

inline RowsOf rows_of_x(Move move) {
  if (move == Move::to_first || move == Move::to_last || move == Move::to_steps) {
    return RowsOf::sequences;
  }
  if (move == Move::to_particles) return RowsOf::steps_without_particles;
  return move == Move::to_packed ? RowsOf::padded_steps : RowsOf::steps;
}
inline RowsOf rows_of_y(Move move) {
  if (move == Move::from_first || move == Move::from_last) return RowsOf::sequences;
  return move == Move::to_padded ? RowsOf::padded_steps : RowsOf::steps;
}

/// A place by what it stands for; t counted from the call's first step.
struct MovePlace {
  std::int64_t t, b, k;
};

inline std::int64_t row_of(RowsOf kind, const RaggedBatch& batch, const MovePlace& place) {
  const auto [t, b, k] = place;
  std::int64_t before = 0;  // (t, b) in packed order
  for (std::int64_t s = 0; s < batch.first + t; ++s) before += batch.active(s);
  switch (kind) {
    case RowsOf::sequences:
      return b * batch.K + k;
    case RowsOf::padded_steps:
      return (t * batch.B() + b) * batch.K + k;
    case RowsOf::steps_without_particles:
      return before + b;
    case RowsOf::steps:
      break;
  }
  return (before + b) * batch.K + k;
}

inline std::int64_t row_count(RowsOf kind, const RaggedBatch& batch, bool spare) {
  if (kind == RowsOf::sequences) return batch.B() * batch.K;
  if (kind == RowsOf::padded_steps) return batch.steps() * batch.B() * batch.K;
  if (kind == RowsOf::steps_without_particles) return batch.rows() / batch.K;
  return batch.rows() + (spare ? std::max<std::int64_t>(batch.spare, 0) : 0);
}

/// A row of y and where its values come from; neither: zeros.
struct ExpectedRow {
  std::int64_t y;
  std::optional<std::int64_t> x, start;
};

/// Every row that y has for a call, as the header words it.
inline std::vector<ExpectedRow> expected_rows(Move move, const RaggedBatch& batch) {
  std::vector<ExpectedRow> rows;
  const auto length = [&](std::int64_t b) {  // within the call's steps
    return std::max<std::int64_t>(batch.length(b) - batch.first, 0);
  };
  const auto x = [&](std::int64_t t, std::int64_t b, std::int64_t k) {
    return row_of(rows_of_x(move), batch, {t, b, k});
  };
  const auto each_sequence = [&](auto visit) {
    for (std::int64_t b = 0; b < batch.B(); ++b) {
      for (std::int64_t k = 0; k < batch.K; ++k) visit(b, k);
    }
  };
  if (rows_of_y(move) == RowsOf::sequences) {
    each_sequence([&](std::int64_t b, std::int64_t k) {
      ExpectedRow row{b * batch.K + k, {}, {}};
      if (length(b) > 0) row.x = x(move == Move::from_first ? 0 : length(b) - 1, b, k);
      rows.push_back(row);
    });
    return rows;
  }
  for (std::int64_t t = 0; t < batch.steps(); ++t) {
    each_sequence([&](std::int64_t b, std::int64_t k) {
      ExpectedRow row{row_of(rows_of_y(move), batch, {t, b, k}), {}, {}};
      const bool last = t == length(b) - 1;
      if (t >= length(b)) {
        if (move == Move::to_padded) rows.push_back(row);
        return;
      }
      switch (move) {
        case Move::from_step_before:
          if (t > 0)
            row.x = x(t - 1, b, k);
          else
            row.start = b * batch.K + k;
          break;
        case Move::from_step_after:
          if (!last)
            row.x = x(t + 1, b, k);
          else
            row.start = b * batch.K + k;
          break;
        case Move::to_first:
          if (t == 0) row.x = x(t, b, k);
          break;
        case Move::to_last:
          if (last) row.x = x(t, b, k);
          break;
        default:
          row.x = x(t, b, k);
      }
      rows.push_back(row);
    });
  }
  if (move == Move::to_padded) return rows;
  for (std::int64_t r = 0; r < batch.spare; ++r) rows.push_back({batch.rows() + r, {}, {}});
  return rows;
}

inline std::vector<RaggedBatch> ragged_batches() {
  std::vector<RaggedBatch> batches;
  for (const std::int64_t K : {1, 3}) {
    batches.insert(batches.end(), {{{}, 0, K},
                                   {{}, 0, K, 0, 2},
                                   {{}, 3, K, 0, 5},
                                   {{0, 0}, 0, K, 0, 4},
                                   {{0, 0}, 2, K, 0, 4},
                                   {{1}, 1, K},
                                   {{4, 4, 2, 1}, 4, K},
                                   {{5, 3, 3, 1, 0, 0}, 5, K},
                                   {{5, 3, 3, 1, 0, 0}, 5, K, 0, 0},
                                   {{5, 3, 3, 1, 0, 0}, 7, K, 0, 1},
                                   {{5, 3, 3, 1, 0, 0}, 5, K, 0, 19},
                                   {{3, 3, 3}, 3, K, 0, 7},
                                   {{6, 5, 5, 3, 1}, 6, K, 2},
                                   {{6, 5, 5, 3, 1}, 6, K, 2, 8}});
  }
  return batches;
}

}  // namespace seqvae::test

// The rules that the contracts over rows share. Each is a few compares; the message is built only
// where one fails.
#pragma once
#include <cstdint>
#include <limits>
#include <string>

#include "seqvae/core/error.hpp"
#include "seqvae/kernels/gaussian.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae {

/// Sizes below 2^31, so that no product of two overflows and rows fit one grid.
inline void require_size(std::int64_t value, const char* where, const char* argument) {
  if (value < 0 || value > std::numeric_limits<std::int32_t>::max()) {
    require(false, where, argument, value, "from 0 to 2^31 - 1");
  }
}

/// A matrix that is read: given, unless there is nothing to read.
template <class Real>
void require_input(const Rows<Real>& matrix, bool some, const char* where, const char* argument) {
  if (matrix.data == nullptr) {
    if (some) require_pointer(nullptr, where, argument);
  } else if (matrix.stride < 0) {
    require(false, where, std::string(argument) + ".stride", matrix.stride, ">= 0");
  }
}

/// An input that may be left out.
template <class Real>
void require_optional_input(const Rows<Real>& matrix, const char* where, const char* argument) {
  require_input(matrix, false, where, argument);
}

/// A matrix that is written: its rows may not overlap.
template <class Real>
void require_optional_output(const Rows<Real>& matrix, std::int64_t rows, std::int64_t D,
                             const char* where, const char* argument) {
  if (matrix.data != nullptr && rows > 1 && matrix.stride < D) {
    require(false, where, std::string(argument) + ".stride", matrix.stride,
            fmt::format(">= its width {}", D));
  }
}

template <class Real>
void require_output(const Rows<Real>& matrix, std::int64_t rows, std::int64_t D, const char* where,
                    const char* argument) {
  if (matrix.data == nullptr && rows > 0 && D > 0) require_pointer(nullptr, where, argument);
  require_optional_output(matrix, rows, D, where, argument);
}

/// Sizes of a layout; what lies in lengths, offsets and origins is not read.
inline void require_layout(const RowLayout& layout, const char* where) {
  require_size(layout.T, where, "layout.T");
  require_size(layout.B, where, "layout.B");
  if (layout.K < 1 || layout.K >= 1 << 24) {
    require(false, where, "layout.K", layout.K, "from 1 to 2^24 - 1");
  }
  if (layout.lengths != nullptr && layout.offsets != nullptr) {
    throw InvalidArgument(
        std::string(where) +
        ": layout.lengths and layout.offsets are both given, must be one of them");
  }
}

/// As many rows as the rules tell apart: none, one, or several (2). offsets may be device memory,
/// so how many rows a packed layout really has is not asked.
inline std::int64_t rows_to_check(const RowLayout& layout) {
  if (layout.T == 0 || layout.B == 0) return 0;
  return layout.T > 1 || layout.B > 1 || layout.K > 1 ? 2 : 1;
}

/// What a draw needs. `some`: there is a row to draw for.
template <class Real>
void require_noise(const NoiseArgs<Real>& noise, std::int64_t D, bool some, const char* where) {
  if (noise.eps) {
    require_input(noise.eps, some, where, "noise.eps");
    return;
  }
  if (noise.key.site >= 256) require(false, where, "noise.key.site", noise.key.site, "below 256");
  const RowLayout& layout = noise.layout;
  if (layout.t0 < 0) require(false, where, "noise.layout.t0", layout.t0, ">= 0");
  // The counter has 32 bits for t * ceil(D / 4) + d / 4.
  constexpr std::int64_t counters = std::int64_t{1} << 32;
  if (layout.t0 > counters || (layout.t0 + layout.T) * ((D + 3) / 4) > counters) {
    require(false, where, "noise.layout.T", layout.T, "at most 2^32 / ceil(D / 4) - t0");
  }
  if (!some) return;
  if (noise.sequence_id == nullptr) require_pointer(nullptr, where, "noise.sequence_id");
  if (noise.step == nullptr) require_pointer(nullptr, where, "noise.step");
}

}  // namespace seqvae

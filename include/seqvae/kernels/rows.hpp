/// \file  How the contracts see memory: matrices of rows, and which (t, b, k) a row stands for.
#pragma once
#include <cstdint>
#include <type_traits>

#include "seqvae/core/host_device.hpp"

namespace seqvae {

/// A matrix by its rows: row r starts at data + r * stride. Stride 0: one row serves for all (to be
/// read; where there are several rows to write, they may not overlap). A default-constructed one is
/// "not given". Any alignment of elements will do.
///
/// An elementwise output may be an input of the same place and stride; apart from that outputs
/// overlap nothing. Rows do not hang on each other: a call may be split by its rows, and each row's
/// values are the same bits whatever its place, its stride and its neighbours.
template <class Real>
struct Rows {
  Real* data = nullptr;
  std::int64_t stride = 0;  ///< elements from one row to the next

  Rows() = default;
  Rows(Real* data_, std::int64_t stride_) : data(data_), stride(stride_) {}
  /// A matrix that may be written may be read.
  template <class Writable>
  requires(std::is_same_v<Real, const Writable> && !std::is_const_v<Writable>)
      Rows(const Rows<Writable>& matrix)
      : data(matrix.data), stride(matrix.stride) {}
  SEQVAE_HOST_DEVICE Real* operator[](std::int64_t row) const { return data + row * stride; }
  SEQVAE_HOST_DEVICE explicit operator bool() const { return data != nullptr; }
};

/// Sequences over time, in one of two layouts (times K particles: row = (row of t, b) * K + k).
/// Steps first .. last of a packed layout are {T = last - first, offsets + first, t0 + first}, over
/// the same matrices: rows are counted from offsets' own origin.
///
///     padded  [T][B]  with lengths[B] (optional): row t * B + b
///     packed  [R]     with offsets[T + 1], sequences sorted by length, longest first: step t owns
///                     rows offsets[t] .. offsets[t + 1], sequence b of it stands at offsets[t] + b
struct RowLayout {
  std::int64_t T = 0;                     ///< steps; >= 0
  std::int64_t B = 0;                     ///< sequences; >= 0
  std::int64_t K = 1;                     ///< particles a sequence; >= 1
  const std::int32_t* lengths = nullptr;  ///< [B]  padded only; clamped to 0..T; null: all T
  const std::int32_t* offsets = nullptr;  ///< [T + 1]  given: packed; null: padded
  std::int64_t t0 = 0;                    ///< time of step 0, where a call is a part of a sequence
  const std::int32_t* origins = nullptr;  ///< [B]  added to a sequence's times; null: zeros
  std::int64_t capacity = 0;              ///< packed: rows of the matrices, at least offsets[T] K;
                                          ///<   draws leave zeros in those that are to spare. 0:
                                          ///<   T B K at most, of which the others are left alone

  /// Rows at most, from the sizes alone: packed, the true number stands in memory.
  std::int64_t rows_at_most() const { return capacity > 0 ? capacity : T * B * K; }
  /// On the host: reads offsets.
  std::int64_t rows() const { return (offsets != nullptr ? offsets[T] : T * B) * K; }
};

}  // namespace seqvae

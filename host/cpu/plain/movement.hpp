// Moves of rows, as runs of neighbouring rows: what float and double run. Sequences stand longest
// first, so those of step t that are there at another step are the first of both.
#pragma once
#include "seqvae/kernels/movement.hpp"

#include <algorithm>

namespace seqvae::cpu::plain {

/// n rows; where `from` has stride 0, its one row n times.
template <class Real>
void copy_rows(std::int64_t n, std::int64_t D, Rows<const Real> from, Rows<Real> to) {
  if (from.stride == D && to.stride == D) {
    std::copy_n(from.data, n * D, to.data);
  } else if (D == 1) {
    for (std::int64_t r = 0; r < n; ++r) *to[r] = *from[r];
  } else {
    for (std::int64_t r = 0; r < n; ++r) std::copy_n(from[r], D, to[r]);
  }
}

template <class Real>
void clear_rows(std::int64_t n, std::int64_t D, Rows<Real> rows) {
  if (rows.stride == D) {
    std::fill_n(rows.data, n * D, Real{0});
  } else {
    for (std::int64_t r = 0; r < n; ++r) std::fill_n(rows[r], D, Real{0});
  }
}

/// The runs of one call; rows are counted from the first of each matrix.
template <class Real>
class RowMover {
 public:
  explicit RowMover(const MoveRowsArgs<Real>& args)
      : a_(args), T_(a_.layout.T), K_(a_.layout.K), sequences_(a_.layout.B * K_) {}

  void from_step_before() const {
    for (std::int64_t t = 0; t < T_; ++t) {
      const std::int64_t beside = t > 0 ? active(t) : 0;
      if (beside > 0) copy(beside, first(t - 1), first(t));
      begin(beside, t);
    }
  }
  void from_step_after() const {
    for (std::int64_t t = 0; t < T_; ++t) {
      const std::int64_t beside = active(t + 1);
      if (beside > 0) copy(beside, first(t + 1), first(t));
      begin(beside, t);
    }
  }
  void from_first() const {
    copy(active(0), first(0), 0);
    clear(sequences_ - active(0), active(0));
  }
  void from_last() const {
    for (std::int64_t t = 0; t < T_; ++t) {
      const std::int64_t beyond = active(t + 1);
      copy(active(t) - beyond, first(t) + beyond, beyond);
    }
    clear(sequences_ - active(0), active(0));
  }
  void to_first() const {
    copy(active(0), 0, first(0));
    clear(first(T_) - first(0) - active(0), first(0) + active(0));
  }
  void to_last() const {
    for (std::int64_t t = 0; t < T_; ++t) {
      const std::int64_t beyond = active(t + 1);
      clear(beyond, first(t));
      copy(active(t) - beyond, beyond, first(t) + beyond);
    }
  }
  void to_steps() const {
    for (std::int64_t t = 0; t < T_; ++t) copy(active(t), 0, first(t));
  }
  void to_particles() const {
    const std::int32_t* lengths = a_.layout.lengths;
    for (std::int64_t row = first(0), end = first(T_); row < end; row += K_) {
      const std::int64_t from = row / K_;
      if (lengths != nullptr && from / a_.layout.B >= lengths[from % a_.layout.B]) {
        clear(K_, row);
      } else {
        copy_rows<Real>(K_, a_.D, {a_.x[from], 0}, {a_.y[row], a_.y.stride});
      }
    }
  }
  void to_padded() const {
    for (std::int64_t t = 0; t < T_; ++t) {
      copy(active(t), first(t), t * sequences_);
      clear(sequences_ - active(t), t * sequences_ + active(t));
    }
  }
  void to_packed() const {
    for (std::int64_t t = 0; t < T_; ++t) copy(active(t), t * sequences_, first(t));
  }
  /// What lies between the layout's last row and its capacity.
  void clear_spare_rows() const {
    if (a_.layout.capacity > first(T_)) clear(a_.layout.capacity - first(T_), first(T_));
  }

 private:
  /// The row that step t begins at.
  std::int64_t first(std::int64_t t) const {
    return a_.layout.offsets != nullptr ? a_.layout.offsets[t] * K_ : t * sequences_;
  }
  /// Rows of step t; none beyond the last.
  std::int64_t active(std::int64_t t) const { return t < T_ ? first(t + 1) - first(t) : 0; }

  void copy(std::int64_t n, std::int64_t from, std::int64_t to) const {
    copy_rows<Real>(n, a_.D, {a_.x[from], a_.x.stride}, {a_.y[to], a_.y.stride});
  }
  void clear(std::int64_t n, std::int64_t row) const {
    clear_rows<Real>(n, a_.D, {a_.y[row], a_.y.stride});
  }
  /// The rows of step t that have none beside them, of its sequences from row `beside` on.
  void begin(std::int64_t beside, std::int64_t t) const {
    const std::int64_t n = active(t) - beside, to = first(t) + beside;
    if (a_.start) {
      copy_rows<Real>(n, a_.D, {a_.start[beside], a_.start.stride}, {a_.y[to], a_.y.stride});
    } else {
      clear(n, to);
    }
  }

  const MoveRowsArgs<Real>& a_;
  const std::int64_t T_, K_, sequences_;
};

template <class Real>
void move_rows(const MoveRowsArgs<Real>& a) {
  const RowMover<Real> mover(a);
  switch (a.move) {
    case Move::from_first:
      return mover.from_first();
    case Move::from_last:
      return mover.from_last();
    case Move::to_padded:
      return mover.to_padded();
    case Move::from_step_before:
      mover.from_step_before();
      break;
    case Move::from_step_after:
      mover.from_step_after();
      break;
    case Move::to_first:
      mover.to_first();
      break;
    case Move::to_last:
      mover.to_last();
      break;
    case Move::to_steps:
      mover.to_steps();
      break;
    case Move::to_particles:
      mover.to_particles();
      break;
    case Move::to_packed:
      mover.to_packed();
  }
  mover.clear_spare_rows();
}

constexpr std::int64_t kNarrow = 8;        // columns of rows that are added one by one
constexpr std::int64_t kSumsAtOnce = 256;  // on the stack

/// The sums are formed in double, whatever the type of the rows.
template <class Real>
[[gnu::always_inline]] inline void sum_over_particles(const SumOverParticlesArgs<Real>& a) {
  double sums[kSumsAtOnce];
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Rows<const Real> x(a.x[r * a.K], a.x.stride);
    if (a.D < kNarrow) {
      for (std::int64_t d = 0; d < a.D; ++d) {
        double sum = 0;
        for (std::int64_t k = 0; k < a.K; ++k) sum += static_cast<double>(x[k][d]);
        a.y[r][d] = static_cast<Real>(sum);
      }
      continue;
    }
    for (std::int64_t d0 = 0; d0 < a.D; d0 += kSumsAtOnce) {
      const std::int64_t width = std::min(kSumsAtOnce, a.D - d0);
      std::fill_n(sums, width, 0.0);
      for (std::int64_t k = 0; k < a.K; ++k) {
        const Real* from = x[k] + d0;
        for (std::int64_t d = 0; d < width; ++d) sums[d] += static_cast<double>(from[d]);
      }
      for (std::int64_t d = 0; d < width; ++d) a.y[r][d0 + d] = static_cast<Real>(sums[d]);
    }
  }
}

}  // namespace seqvae::cpu::plain
